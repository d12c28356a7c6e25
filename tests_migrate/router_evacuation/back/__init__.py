"""The way back: every router comes home."""
