"""Programs that send packets from a host's namespaces: standard library only, sent over standard input."""
