"""Who installs OVN: one module each."""
