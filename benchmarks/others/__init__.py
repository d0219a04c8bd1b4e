"""Adapters to other people's code, which is imported from the folder that the user names and is not changed."""
