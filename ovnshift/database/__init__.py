"""Neutron's rows: read, and back up."""
