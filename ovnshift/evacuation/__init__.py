"""Routers moved from one L3 agent to others, so that its host can be taken down (the second scenario)."""
