"""5 Late-comers: what landed on the agent meanwhile."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.evacuation import Emptied
from fixtures.window import Run
from ovnshift.evacuation.steps import LATE, SetAgent, hosted_now
from ovnshift.migration.window import Window


def test_the_agent_is_disabled(
    request: pytest.FixtureRequest, run: Run, window: Window, emptied: Emptied, check: Check
) -> None:
    """The agent is disabled now that its routers are gone, where that was asked for."""
    if not request.config.getoption("disable_agent"):
        check.note("--disable-agent was not asked for")
        return
    run(SetAgent(window, emptied.source, enabled=False, chapter=LATE))


def test_nothing_has_landed_on_the_agent(window: Window, emptied: Emptied, check: Check) -> None:
    """The agent has no routers but those that stay there by plan."""
    staying = {stay.router_id for stay in emptied.evacuation.stays}
    moving = {move.router_id for move in emptied.evacuation.moves}
    late = [id_ for id_ in hosted_now(window, emptied.source) if id_ not in staying | moving]
    check.demand_none(
        late,
        "routers came to the agent while others left",
        remedy="--disable-agent keeps new ones away; move these in a change of their own: pytest -m pre --change=ANOTHER",
    )
    check.note(f"{len(staying)} routers stay there by plan")
