"""0 Guard: whether the window may be opened at all, in any scenario."""

from __future__ import annotations

import datetime

import pytest

from fixtures.checks import Check
from ovnshift.hosts.inventory import look_everywhere
from ovnshift.journal import Journal, State
from ovnshift.migration import guard
from ovnshift.migration.window import Window


def test_the_window_is_open(window: Window, check: Check) -> None:
    """The maintenance window of the site file is open."""
    problem = guard.window_problem(window.site, datetime.datetime.now(datetime.UTC))
    check.demand(problem is None, str(problem), remedy="wait for it, or change [window] in the site file")
    check.note(
        "no [window] in the site file"
        if window.site.window is None
        else f"until {window.site.window.closes.isoformat()}"
    )


def test_nobody_else_migrates_this_cloud(window: Window, journal: Journal, check: Check) -> None:
    """Nobody else's migration or sync is running; this run has the cloud's lock."""
    found, errors = look_everywhere(window.fleet, window.site.cloud_hosts)
    for error in errors.values():
        raise error
    check.demand_none(
        [f"{name}: {command}" for name, inventory in found.items() for command in inventory.foreign_runs],
        "of the hosts run a sync or a migration now",
        remedy="wait until it has ended, or ask who runs it",
    )
    check.note(f"{len(journal.entries())} steps are in the journal of this change")


def test_it_is_not_on_its_way_back(journal: Journal, check: Check) -> None:
    """Nobody has begun to undo this change."""
    check.demand_none(
        [
            entry.title
            for entry in journal.entries()
            if entry.chapter.startswith("back ") and entry.state is not State.UNDONE
        ],
        "of the steps back were done already",
        remedy="pytest tests_migrate --rollback carries on with that; the window can be opened again afterwards",
    )


def test_the_baseline_is_of_this_cloud_and_fresh(window: Window, check: Check) -> None:
    """There is a baseline: whole, unchanged, of this cloud, fresh, and it knows every instance."""
    problems, facts = guard.baseline_problems(window)
    for fact in facts:
        check.note(fact)
    if window.resumed:
        check.note("this change was begun before; the baseline is the one that it began with")
        return
    check.demand_none(problems, "reasons speak against this baseline", remedy="record it anew: pytest -m pre")


def test_the_cloud_was_ready(request: pytest.FixtureRequest, window: Window, check: Check) -> None:
    """The readiness checks of this change were all run, lately, and nothing stood in the way."""
    if window.resumed:
        check.note("this change was begun before")
        return
    check.demand_none(
        guard.readiness_problems(window, str(request.config.getoption("scenario"))),
        "reasons speak against opening the window",
        remedy="pytest -m pre, and mend what it names",
    )
