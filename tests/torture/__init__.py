"""Torture: the run is killed before, during and after every step, and has to come to the same end."""
