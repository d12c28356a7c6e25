"""What the window needs besides logins: room, the database's rights, a deployer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.database import backup
from ovnshift.deployments.deployer import deployer_of
from ovnshift.site import Site

pytestmark = pytest.mark.pre


def test_there_is_room_for_backups(inventories: Inventories, site: Site, reports: Path, check: Check) -> None:
    """Every host has room for what OVN's packages bring, and this machine for the backups that are kept with the reports."""
    check.demand_none(
        [
            f"{name}: {free} MB at {path}"
            for name, inventory in inventories.found.items()
            for path, free in inventory.free_megabytes.items()
            if free < site.limits.free_megabytes
        ],
        f"of the disks have less than {site.limits.free_megabytes} MB free",
        remedy="make room, or change limits.free_megabytes in the site file",
    )
    place = next(each for each in (reports, *reports.parents) if each.exists())
    here = shutil.disk_usage(place).free // 10**6
    check.demand(
        here >= site.limits.free_megabytes,
        f"{reports}: {here} MB free for dumps and hosts' configuration, of {site.limits.free_megabytes} that there should be",
        remedy="make room, or change limits.free_megabytes in the site file",
    )


def test_the_database_may_be_changed(site: Site, check: Check) -> None:
    """Neutron's database is there, and its login may read, update, insert and delete."""
    check.demand_none(
        backup.may_change(site),
        "of the rights are missing",
        remedy=f"GRANT SELECT, INSERT, UPDATE, DELETE ON {site.database.neutron}.* to the login in [database]",
    )


def test_the_deployer_is_here(site: Site, check: Check, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What installs OVN is on this machine, and understands its playbook and inventory."""
    deployer = deployer_of(site)
    hosts = deployer.check(tmp_path_factory.mktemp("ansible"))
    for command in deployer.commands():
        check.note(str(command))
    if hosts is None:
        check.note("it does not say which hosts it deploys to")
        return
    # A deployer may know hosts by their short names, and Nova by their full ones.
    known = {name.partition(".")[0] for name in hosts}
    check.demand_none(
        [host for host in site.chassis if host not in hosts and host.partition(".")[0] not in known],
        "of the hosts that become chassis are not among the deployer's",
        remedy="see its inventory, and [groups] in the site file",
    )
    check.note(f"{len(hosts)} hosts in its inventory")


def test_the_deployer_makes_the_chassis(site: Site, check: Check) -> None:
    """The hosts that the deployer makes chassis of are those that the site file expects to be."""
    made = deployer_of(site).chassis()
    if made is None:
        check.note("it does not say which hosts become chassis; the window looks at what comes of it")
        return
    short = {name.partition(".")[0] for name in made}
    expected = {name.partition(".")[0]: name for name in site.chassis}
    check.demand_none(
        [
            *(f"{name} is expected, and becomes none" for each, name in expected.items() if each not in short),
            *(f"{each} becomes one, and is not expected" for each in sorted(short - set(expected))),
        ],
        "of the hosts differ",
        remedy="groups.chassis in the site file names those that are expected; the deployer's groups decide which become one",
    )
    check.note(f"{len(made)} hosts become chassis")


def test_neutrons_server_is_where_the_deployer_has_it(site: Site, check: Check) -> None:
    """The control hosts of the site file are the hosts or containers that the deployer put Neutron's server into."""
    found = deployer_of(site).api_hosts()
    if found is None:
        check.note("it does not say where Neutron's server is; the next chapter looks at the control hosts themselves")
        return
    check.demand_none(
        [
            *(f"{name}: has it, and is not in groups.control" for name in found if name not in site.group("control")),
            *(f"{name}: is in groups.control, and has it not" for name in site.group("control") if name not in found),
        ],
        "of the hosts differ",
        remedy="name each in [hosts] and groups.control as the deployer's inventory has it, a container by its own name "
        "(ansible://… reaches it)",
    )
    check.note(", ".join(found))


def test_the_deployers_files_are_staged(site: Site, reports: Path, check: Check) -> None:
    """Where the deployer has files of its own, they say OVN already; the window does not open without."""
    check.warn_of(
        deployer_of(site).drift(reports),
        "of the deployer's files don't say what the window needs",
        remedy="pytest -m stage, before the window; with the same --change",
    )
