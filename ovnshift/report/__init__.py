"""What people read afterwards; made from finished data only."""
