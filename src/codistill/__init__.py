"""codistill: a group of networks that teach each other, and one better network at the end."""

__version__ = "0.1.0"
