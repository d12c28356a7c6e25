"""OpenStack-Ansible: its six files on the deploy host, in the order in which they are edited."""
