"""1 Guard: whether the window may be opened at all."""

from __future__ import annotations

import datetime

import pytest

from fixtures.checks import Check
from fixtures.options import planning
from ovnshift.hosts.inventory import look_everywhere
from ovnshift.journal import Journal, State
from ovnshift.migration import guard, meanwhile
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


def test_the_site_file_says_enough(window: Window, check: Check) -> None:
    """The site file names the control hosts, where Neutron's server and its sync tool are, and a deployer that this can run."""
    site = window.site
    check.demand(
        site.group("control"), "groups.control is empty", remedy="name the hosts that Neutron's server runs on"
    )
    check.demand(
        site.deployment.kind == "packages",
        f"deployment.kind {site.deployment.kind} can't be run yet",
        remedy='deploy with kind = "packages" and a playbook of your own',
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


def test_the_cloud_was_ready(window: Window, check: Check) -> None:
    """The readiness checks of this change were all run, lately, and nothing stood in the way."""
    if window.resumed:
        check.note("this change was begun before")
        return
    check.demand_none(
        guard.readiness_problems(window),
        "reasons speak against opening the window",
        remedy="pytest -m pre, and mend what it names",
    )


def test_what_changed_meanwhile_is_known(
    request: pytest.FixtureRequest, window: Window, journal: Journal, check: Check
) -> None:
    """What users made or deleted, and hosts that restarted, since this window was opened, is named."""
    entries = journal.entries()
    if not window.resumed or not entries or planning(request.config):
        check.note("the window is opened now")
        return
    found = meanwhile.restarted(window, entries[0].intended_at)
    if meanwhile.api_is_held(journal):
        check.note("Neutron's server is held back: nobody can make or delete anything")
    else:
        found += meanwhile.changes(window.before, window.discover())
    check.warn_of(
        found,
        "things are not as they were when this window was opened",
        remedy="see whether they work afterwards: what was made since is in no baseline",
    )


def test_every_instance_can_be_stopped(window: Window, check: Check) -> None:
    """No instance is paused, suspended, rescued or on the move: these hold on to the old driver's interfaces."""
    check.demand_none(
        guard.held_instances(window.before),
        "of the instances can't be stopped in an orderly way",
        remedy="openstack server unpause, resume, unrescue, resize confirm; or shelve it",
    )
