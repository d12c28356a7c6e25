"""After the window: nothing is worse, nothing is left of the old driver, and life goes on."""
