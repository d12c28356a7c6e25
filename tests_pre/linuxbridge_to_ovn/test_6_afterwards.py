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


def test_routers_join_networks_of_one_mtu(topology: Topology, check: Check) -> None:
    """No router takes larger packets from one network than another carries: OVN's drop them, and tell nobody."""
    joined: dict[str, list[Network]] = {}
    for network in topology.networks:
        for id_ in topology.routers_of_network.get(network.id, ()):
            joined.setdefault(id_, []).append(network)
    unlike = []
    for router in topology.routers:
        inside = joined.get(router.id, [])
        external = topology.network.get(router.external_network_id or "")
        outside = [external] if external else []
        if len({each.mtu for each in (*inside, *outside)} - {0}) > 1:
            sizes = [*(f"{each.label} {each.mtu}" for each in inside), *(f"outside {each.mtu}" for each in outside)]
            unlike.append(f"{router.label}: {', '.join(sizes)}")
    check.warn_of(
        unlike,
        "routers join networks of different MTU: where agents answer that a packet is too large, OVN's drop it "
        "and the sender is not told (TCP is safe: both ends name their size)",
        remedy="know who sends large UDP; [ovn] ovn_emit_need_to_frag = true tells senders inside what is too large for outside, "
        "and those outside, too, with Neutron 2025.1 or a later 2024.1 (LP#2032817)",
    )


def test_guests_take_the_networks_mtu(measured: Baseline, check: Check) -> None:
    """Guests take their MTU from DHCP; one that pins it would lose large packets when its network's MTU is lowered."""
    check.warn_of(
        [f"{label}: {fact}" for label, fact in measured.pinned_mtu.items()],
        "guests pin their MTU",
        remedy="take the mtu line out of their network configuration (netplan, ifcfg), before the window",
    )
