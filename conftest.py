"""pytest's entrance."""
