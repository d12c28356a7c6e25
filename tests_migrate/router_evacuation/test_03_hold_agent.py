"""3 Hold the agent: no new router comes while others leave."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.evacuation import Emptied
from fixtures.window import Run
from ovnshift.evacuation.holding import serves_when_disabled
from ovnshift.evacuation.steps import HOLD, SetAgent
from ovnshift.migration.window import Window


def test_the_agent_gets_no_new_routers(
    request: pytest.FixtureRequest, run: Run, window: Window, emptied: Emptied, check: Check
) -> None:
    """The agent is disabled first, where that was asked for and does not take its routers down at once."""
    if not request.config.getoption("disable_agent"):
        check.note("--disable-agent was not asked for: what lands on the agent meanwhile is looked for at the end")
        return
    harmless, why = serves_when_disabled(window)
    check.note(why)
    if harmless:
        run(SetAgent(window, emptied.source, enabled=False, chapter=HOLD))
    else:
        check.note("a disabled agent would drop its routers: it is disabled when they are gone")
