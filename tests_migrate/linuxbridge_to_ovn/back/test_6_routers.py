"""Routers are as they were, before instances start."""

from __future__ import annotations

import pytest

from fixtures.options import planning
from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration import back, hosting
from ovnshift.migration.window import Window


def test_routers_are_ha_again(run: Run, window: Window, journal: Journal) -> None:
    """Routers that were HA are so again, each with one active agent."""
    done = back.of_chapter(journal, "3 networks/plain/")
    steps = [back.RouterBack(window, entry) for entry in done]
    run(steps, what="of the routers", parallel=window.site.limits.parallel_routers)


def test_routers_are_served(request: pytest.FixtureRequest, run: Run, window: Window, journal: Journal) -> None:
    """Routers that are not HA are with an L3 agent: with the one that they had, if they had one."""
    stopped = back.of_chapter(journal, "5 retire agents/agents")
    now = window.before if planning(request.config) else window.discover()
    run(hosting.routers_served(window, now) if stopped else [], what="of the routers")
