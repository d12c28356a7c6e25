"""What only a migration from LinuxBridge to OVN needs."""
