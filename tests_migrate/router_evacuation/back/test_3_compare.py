"""The baseline once more."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.connectivity import demand_as_it_was
from fixtures.options import planning
from ovnshift.journal import Journal


def test_everything_is_as_it_was(request: pytest.FixtureRequest, check: Check) -> None:
    """Every cell of the baseline is measured again, and is as it was."""
    if planning(request.config):
        check.note("measure the cells of the baseline again, and compare")
        return
    demand_as_it_was(request.getfixturevalue("comparison"), check, "before")


def test_the_change_is_closed(request: pytest.FixtureRequest, journal: Journal, check: Check) -> None:
    """The journal says that all of it is undone, so that the routers may be moved again some night."""
    if planning(request.config):
        check.note("mark every step of the journal as undone")
        return
    journal.undo_all()
    check.note(f"{len(journal.entries())} steps are undone")
