"""pytest's entrance: which fixture modules load, nothing else."""

pytest_plugins = (
    "fixtures.options",
    "fixtures.progress",
    "fixtures.checks",
    "fixtures.cloud",
    "fixtures.connectivity",
    "fixtures.staging",
    "fixtures.order",
    "fixtures.readiness",
    "fixtures.evacuation",
    "fixtures.window",
    "fixtures.page",
)
