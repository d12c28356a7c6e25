"""The library that the phases are written in."""
