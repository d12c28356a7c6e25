"""What was measured can be measured again on OVN."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.cloud import Topology
from ovnshift.cloud.topology import OWNER_DHCP, Network
from ovnshift.connectivity.baseline import Baseline
from ovnshift.migration import name_servers
from ovnshift.site import Site

pytestmark = pytest.mark.pre


def test_every_cell_has_a_vantage_afterwards(measured: Baseline, check: Check) -> None:
    """Every cell can be measured again on OVN, where DHCP namespaces are gone and ovnmeta reaches its own chassis only."""
    labels = {record.cell.id: str(record.cell) for record in measured.cells}
    check.warn_of(
        [f"{labels[id_]}: {reason}" for id_, reason in measured.without_vantage_afterwards.items()],
        "cells will have no vantage after the migration",
        remedy="give the instance a floating IP, or a neighbour that can be logged in to; else look at it by hand",
    )


def test_name_servers_stay(topology: Topology, inventories: Inventories, site: Site, check: Check) -> None:
    """No guest asks a DHCP agent for names: they go with the agents."""
    agents = {
        fixed.ip_address: port.network_id
        for port in topology.ports
        if port.device_owner == OWNER_DHCP
        for fixed in port.fixed_ips
    }
    check.warn_of(
        [
            f"{subnet.label} {subnet.cidr}: {server}"
            for subnet in topology.subnets
            for server in subnet.dns_nameservers
            if agents.get(server) == subnet.network_id
        ],
        "subnets name a DHCP agent as their name server, which is gone after the migration",
        remedy="name another one: openstack subnet set --no-dns-nameservers --dns-nameserver …; guests take it with a new lease",
    )
    told = name_servers.of_neutrons_hosts(inventories.found, site.group("control"))
    check.warn_of(
        [f"{each.label} {each.cidr}" for each in name_servers.asking_agents(topology)],
        "subnets name no name server: guests ask the DHCP agents, and on OVN what [ovn] dns_servers of neutron.conf names; "
        f"else what /etc/resolv.conf of Neutron's hosts does: {told}",
        remedy="openstack subnet set --dns-nameserver …, or your deployer's dns_servers; neither knows instances' names",
    )


def test_routers_need_not_fragment(topology: Topology, check: Check) -> None:
    """No router takes larger packets from outside than the networks behind it carry: OVN's do not fragment."""
    behind: dict[str, list[Network]] = {}
    for network in topology.networks:
        for id_ in topology.routers_of_network.get(network.id, ()):
            behind.setdefault(id_, []).append(network)
    smaller = []
    for router in topology.routers:
        external = topology.network.get(router.external_network_id or "")
        narrow = [each for each in behind.get(router.id, ()) if external and 0 < each.mtu < external.mtu]
        if external and narrow:
            inside = ", ".join(f"{each.label} {each.mtu}" for each in narrow)
            smaller.append(f"{router.label}: MTU {external.mtu} outside, inside {inside}")
    check.warn_of(
        smaller,
        "routers drop larger packets from outside on OVN without a word to the sender (TCP is safe: guests name their size)",
        remedy="know who sends large UDP to floating IPs; give networks inside and outside one MTU where the underlay allows it",
    )


def test_guests_take_the_networks_mtu(measured: Baseline, check: Check) -> None:
    """Guests take their MTU from DHCP; one that pins it would lose large packets when its network's MTU is lowered."""
    check.warn_of(
        [f"{label}: {fact}" for label, fact in measured.pinned_mtu.items()],
        "guests pin their MTU",
        remedy="take the mtu line out of their network configuration (netplan, ifcfg), before the window",
    )
