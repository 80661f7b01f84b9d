"""Postroom: an email gateway whose processing queue you can see into."""

__version__ = "0.1.0"
