"""What only moving routers needs."""
