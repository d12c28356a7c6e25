"""The way back, from wherever the window stopped."""
