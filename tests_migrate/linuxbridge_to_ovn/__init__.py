"""The runbook from LinuxBridge to OVN: chapters in the order in which they run."""
