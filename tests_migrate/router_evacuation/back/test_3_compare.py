"""The baseline once more."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.options import planning
from ovnshift.connectivity.comparison import Comparison, Fate
from ovnshift.journal import Journal


def test_everything_is_as_it_was(request: pytest.FixtureRequest, check: Check) -> None:
    """Every cell of the baseline is measured again, and is as it was."""
    if planning(request.config):
        check.note("measure the cells of the baseline again, and compare")
        return
    comparison: Comparison = request.getfixturevalue("comparison")
    check.note(", ".join(f"{count} {fate}" for fate, count in comparison.counts().items()))
    check.demand(comparison.counts()[Fate.KEPT], "no cell of the baseline is kept", remedy="see the notes of the sweep")
    check.demand_none(
        [
            f"{each.cell}: {each.fate}, {each.reason}"
            for each in comparison.with_fate(Fate.REGRESSED, Fate.NEWLY_OPEN, Fate.NO_VANTAGE)
        ],
        "of the cells are worse than before",
        remedy="run this again in a minute: agents may still be building; then see their logs",
    )


def test_the_change_is_closed(request: pytest.FixtureRequest, journal: Journal, check: Check) -> None:
    """The journal says that all of it is undone, so that the routers may be moved again some night."""
    if planning(request.config):
        check.note("mark every step of the journal as undone")
        return
    journal.undo_all()
    check.note(f"{len(journal.entries())} steps are undone")
