"""The steps from LinuxBridge to OVN, cold: a module a chapter."""
