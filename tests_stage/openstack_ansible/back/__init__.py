"""The way back: every file as it was."""
