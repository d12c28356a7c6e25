"""The library that the phases are written in."""

__version__ = "0.1.0"
