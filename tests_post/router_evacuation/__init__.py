"""Whether the host can be taken down."""
