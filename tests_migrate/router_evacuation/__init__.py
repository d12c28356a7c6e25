"""Routers are moved from one L3 agent to others."""
