"""What there is to undo, and what has come since."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from ovnshift.journal import Journal
from ovnshift.migration import back
from ovnshift.migration.rows import CHAPTER as ROWS
from ovnshift.migration.window import Window


def test_there_is_something_to_undo(window: Window, journal: Journal, check: Check) -> None:
    """The journal of this change says that something was done, and its backups are there."""
    begun = back.of_chapter(journal, "")
    check.demand(
        begun,
        "nothing was done in this change",
        remedy="see --change; pytest tests_migrate --status says what was done",
    )
    check.demand(window.resumed, "the cloud as it was is not in backups/", remedy="bring that file back")
    check.note(f"{len(begun)} steps are in the journal")


def test_what_came_since_is_known(window: Window, journal: Journal, check: Check) -> None:
    """What was made or deleted since the window opened is named, with what becomes of it."""
    if not back.of_chapter(journal, "9 sync/api") or back.of_chapter(journal, f"{back.OFF}/"):
        check.note("Neutron's server has not run with OVN, or is off by now: nothing could be made")
        return
    check.warn_of(
        back.strangers(window, window.discover()),
        "things are not as they were when the window opened",
        remedy="nothing, if what is said there is right for them; else handle them first",
    )


def test_no_row_is_in_the_way(window: Window, journal: Journal, check: Check, request: pytest.FixtureRequest) -> None:
    """Rows that the window has changed are still what it made of them, or it was said what becomes of them."""
    if not back.of_chapter(journal, ROWS):
        check.note("no row was changed")
        return
    found = back.RevertRows(window, force=False).sorted()
    check.note(f"{len(found.ours)} rows are ours, {len(found.back)} back already, {len(found.gone)} gone")
    changed = [str(change) for change in found.changed]
    if request.config.getoption("conflicts") == "overwrite":
        check.warn_of(
            changed, "rows were changed by somebody since, and will be overwritten", remedy="as --conflicts says"
        )
    else:
        check.demand_none(
            changed,
            "of the rows were changed by somebody since",
            remedy="look at them; --conflicts=overwrite puts them back all the same",
        )
