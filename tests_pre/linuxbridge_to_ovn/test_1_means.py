"""What the window needs besides logins: room, the database's rights, a deployer."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.database import backup
from ovnshift.site import Site

pytestmark = pytest.mark.pre


def test_there_is_room_for_backups(inventories: Inventories, site: Site, check: Check) -> None:
    """Every host has room for copies of its configuration, and for what OVN's packages bring."""
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


def test_the_database_may_be_changed(site: Site, check: Check) -> None:
    """Neutron's database is there, and its login may read, update, insert and delete."""
    check.demand_none(
        backup.may_change(site),
        "of the rights are missing",
        remedy=f"GRANT SELECT, INSERT, UPDATE, DELETE ON {site.database.neutron}.* to the login in [database]",
    )


def test_the_deployer_is_here(site: Site, check: Check, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What installs OVN is on this machine, and understands its playbook and inventory."""
    from ovnshift.deployments import packages  # noqa: PLC0415, only where the site has it

    check.demand(
        site.deployment.kind == "packages",
        f"deployment.kind {site.deployment.kind} can't be checked yet",
        remedy='deploy with kind = "packages" and a playbook of your own',
    )
    hosts = packages.check_playbook(site, tmp_path_factory.mktemp("ansible"))
    check.demand_none(
        [host for host in [*site.group("network"), *site.group("compute")] if host not in hosts],
        "of the network and compute hosts are not among the playbook's hosts",
        remedy=f"see {site.deployment.inventory}",
    )
    check.note(f"{len(hosts)} hosts in {site.deployment.playbook}")
