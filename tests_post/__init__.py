"""Phase 3: the same measured again, compared, and the final state."""
