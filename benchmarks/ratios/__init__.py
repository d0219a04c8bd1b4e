"""Ratios of times that take turns in one run, suite by suite; `run.py` is the command line."""
