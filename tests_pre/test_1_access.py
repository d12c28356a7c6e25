"""Everything that the window needs can be reached, with the rights that it needs."""

from __future__ import annotations

from typing import Any

import pytest
from openstack.connection import Connection

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.cloud import Topology
from ovnshift.hosts import Fleet
from ovnshift.site import Site

pytestmark = pytest.mark.pre


def test_every_host_lets_us_in(fleet: Fleet, site: Site, check: Check) -> None:
    """Every host lets us in, and gives root's rights where the site file asks for them."""
    identities, errors = fleet.each(site.hosts, lambda host: host.check("id", "-u").strip())
    check.demand_none(
        [f"{error.place}: {error.problem} (next: {error.next_step})" for error in errors.values()],
        "of the hosts can't be used",
        remedy="each host is logged in to as [hosts] and [ssh] of the site file say; mend those named above",
    )
    check.demand_none(
        [f"{host}: user {identity}" for host, identity in identities.items() if site.ssh.sudo and identity != "0"],
        "of the hosts give no root's rights",
        remedy="let the login use sudo without a password",
    )
    check.note(f"{len(identities)} hosts")


def test_hosts_have_what_probes_need(inventories: Inventories, check: Check) -> None:
    """Every host has Python 3 and iproute2, which is all that the probes need."""
    check.demand_none(
        [f"{error.place}: {error.problem}" for error in inventories.errors.values()],
        "of the hosts could not be looked at",
        remedy="see the check of logins; then install python3 and iproute2 on them",
    )
    old = [
        f"{name}: Python {inventory.python}"
        for name, inventory in inventories.found.items()
        if tuple(int(part) for part in inventory.python.split(".")[:2]) < (3, 8)
    ]
    check.demand_none(old, "of the hosts have a Python that is too old", remedy="install Python 3.8 or later on them")


def test_the_login_is_an_administrators(connection: Connection, check: Check) -> None:
    """The cloud's login is an administrator's: it sees agents, other projects' ports and bindings."""
    plugin: Any = connection.session.auth
    roles = plugin.get_access(connection.session).role_names
    check.note(f"roles: {', '.join(roles)}")
    check.demand(
        {"admin"} & {role.lower() for role in roles},
        f"the login has the roles {', '.join(roles) or 'none'}, not admin",
        remedy="name a clouds.yaml entry of an administrator in cloud.name of the site file",
    )


def test_every_host_of_the_cloud_is_in_the_site_file(topology: Topology, site: Site, check: Check) -> None:
    """Every host that has a Neutron agent or a hypervisor is in the site file, by the name that the cloud gives it."""
    hosts = {agent.host: agent.name for agent in topology.agents}
    hosts |= {hypervisor.name: "hypervisor" for hypervisor in topology.hypervisors}
    check.demand_none(
        [f"{host} ({what})" for host, what in hosts.items() if host not in site.hosts],
        "of the cloud's hosts are not in the site file, so that they would not be migrated",
        remedy="add them to [hosts] and [groups]; delete agents of hosts that are gone: openstack network agent delete",
    )
    check.demand_none(
        [name for name in site.group("compute") if name not in {each.name for each in topology.hypervisors}],
        "of the hosts in groups.compute are no hypervisor of Nova's",
        remedy="name hosts as openstack compute service list does",
    )


def test_clocks_agree(inventories: Inventories, site: Site, check: Check) -> None:
    """The hosts' clocks agree with this machine's, so that times in journals, leases and tokens fit."""
    limit = site.limits.clock_skew_seconds
    check.demand_none(
        [
            f"{name}: {inventory.clock_error:+.2f} s (known to {inventory.clock_bound:.2f} s)"
            for name, inventory in inventories.found.items()
            if abs(inventory.clock_error) - inventory.clock_bound > limit
        ],
        f"of the clocks are more than {limit} s off",
        remedy="see chrony or timesyncd there",
    )
    worst = max((abs(each.clock_error) for each in inventories.found.values()), default=0.0)
    check.note(f"at most {worst:.2f} s apart")
