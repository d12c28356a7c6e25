"""1 Guard: whether the window may be opened at all."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.options import planning
from ovnshift.journal import Journal
from ovnshift.migration import guard, meanwhile
from ovnshift.migration.window import Window


def test_the_site_file_says_enough(window: Window, check: Check) -> None:
    """The site file names the control hosts, where Neutron's server and its sync tool are, and a deployer that this can run."""
    check.demand(
        window.site.group("control"), "groups.control is empty", remedy="name the hosts that Neutron's server runs on"
    )
    for command in window.deployer.commands():
        check.note(f"{command.program()}: {command}")


def test_the_deployers_files_are_staged(window: Window, check: Check) -> None:
    """Where the deployer has files of its own, they say what was staged for this change, and nobody has touched them since."""
    check.demand_none(
        window.deployer.drift(window.reports),
        "of the deployer's files don't say what this window needs",
        remedy="pytest -m stage stages them; what somebody has changed since, see with pytest -m stage --plan",
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
