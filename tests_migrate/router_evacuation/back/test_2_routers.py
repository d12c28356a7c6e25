"""Routers come home."""

from __future__ import annotations

import pytest

from fixtures.evacuation import Emptied
from fixtures.window import Run
from ovnshift.evacuation.announcements import Announcements
from ovnshift.evacuation.steps import HOME, MoveRouter, begun_by_us
from ovnshift.journal import Journal
from ovnshift.migration.window import Window


def test_routers_come_home(
    request: pytest.FixtureRequest,
    run: Run,
    window: Window,
    emptied: Emptied,
    journal: Journal,
    announcements: Announcements | None,
) -> None:
    """Every router that was moved is on the agent that it came from, the last one first."""
    begun = begun_by_us(journal, "move/")
    steps = [
        MoveRouter(
            window,
            emptied.cloud.router[move.router_id],
            emptied.agent(move.target_id),
            emptied.source,
            chapter=HOME,
            announcements=announcements,
        )
        for move in reversed(emptied.evacuation.moves)
        if move.router_id in begun
    ]
    run(
        steps,
        what="of the routers",
        parallel=request.config.getoption("parallel"),
        stop_at_first=not request.config.getoption("keep_going"),
    )
