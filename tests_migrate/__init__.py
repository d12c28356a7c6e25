"""Phase 2: the window."""
