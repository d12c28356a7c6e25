"""What there is to undo."""

from __future__ import annotations

from fixtures.checks import Check
from fixtures.evacuation import Emptied
from ovnshift.evacuation.steps import agent_now
from ovnshift.journal import Journal
from ovnshift.migration.back import of_chapter
from ovnshift.migration.window import Window


def test_there_is_something_to_undo(window: Window, journal: Journal, check: Check) -> None:
    """The journal of this change says that something was done, and its backups are there."""
    begun = of_chapter(journal, "")
    check.demand(
        begun,
        "nothing was done in this change",
        remedy="see --change; pytest tests_migrate --status says what was done",
    )
    check.demand(window.resumed, "the cloud as it was is not in backups/", remedy="bring that file back")
    check.note(f"{len(begun)} steps are in the journal")


def test_the_agent_is_back(window: Window, emptied: Emptied, check: Check) -> None:
    """The L3 agent that routers come home to is alive."""
    check.demand(
        agent_now(window, emptied.source).is_alive,
        f"the L3 agent on {emptied.source.host} is dead",
        remedy="bring the host back first: systemctl start neutron-l3-agent there",
    )
