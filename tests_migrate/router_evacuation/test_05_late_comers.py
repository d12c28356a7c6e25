"""5 Late-comers: what landed on the agent meanwhile."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.evacuation import Emptied
from fixtures.window import Run
from ovnshift.evacuation.steps import LATE, NothingLanded, SetAgent
from ovnshift.migration.window import Window


def test_the_agent_is_disabled(
    request: pytest.FixtureRequest, run: Run, window: Window, emptied: Emptied, check: Check
) -> None:
    """The agent is disabled now that its routers are gone, where that was asked for."""
    if not request.config.getoption("disable_agent"):
        check.note("--disable-agent was not asked for")
        return
    run(SetAgent(window, emptied.source, enabled=False, chapter=LATE))


def test_nothing_has_landed_on_the_agent(run: Run, window: Window, emptied: Emptied) -> None:
    """The agent has no routers but those that stay there by plan."""
    run(NothingLanded(window, emptied.source, emptied.evacuation))
