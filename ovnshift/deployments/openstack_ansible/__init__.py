"""OpenStack-Ansible: the files that its deploy host has, and what has to change in them for OVN."""
