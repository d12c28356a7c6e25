"""The agent takes routers again."""

from __future__ import annotations

from fixtures.evacuation import Emptied
from fixtures.window import Run
from ovnshift.evacuation.steps import RELEASE, SetAgent, begun_by_us
from ovnshift.journal import Journal
from ovnshift.migration.window import Window


def test_the_agent_is_enabled(run: Run, window: Window, emptied: Emptied, journal: Journal) -> None:
    """The L3 agent is enabled, if this change has disabled it."""
    disabled = begun_by_us(journal, "disable/")
    run([SetAgent(window, emptied.source, enabled=True, chapter=RELEASE)] if disabled else [], what="of the agents")
