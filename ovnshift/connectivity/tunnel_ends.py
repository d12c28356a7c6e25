"""Which hosts LinuxBridge agents know at the other ends of each VXLAN tunnel, where they send what is for everybody (ARP, say).

Neutron tells agents with l2population of them once, when an end comes. An agent looks whether its kernel has an entry yet, and
then adds the first or appends another; where it handles two such messages at once, the kernel refuses the second first entry, and
the agent says nothing (linuxbridge_neutron_agent.py, ``add_fdb_entries``; bridge_lib.py, ``catch_exceptions``). Instances on
these two hosts don't find each other from then on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ovnshift.cloud.topology import AGENT_LINUXBRIDGE, Topology
from ovnshift.connectivity.underlay import tunnel_addresses
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Connection, Fleet

EVERYBODY = "00:00:00:00:00:00"
# linuxbridge/agent/linuxbridge_neutron_agent.py, VXLAN_INTERFACE_PREFIX
PREFIX = "vxlan-"


@dataclass(frozen=True)
class Unknown:
    """An end of a network's tunnel that a host does not know: another host, by its tunnel address."""

    host: str
    network: str
    interface: str
    other: str
    address: str

    def __str__(self) -> str:
        return f"{self.network}: {self.host} does not know {self.other} ({' '.join(self.command)})"

    @property
    def command(self) -> tuple[str, ...]:
        """What the agent would have done, and removes itself once the other host has nothing of the network any more."""
        return ("bridge", "fdb", "append", EVERYBODY, "dev", self.interface, "dst", self.address)


@dataclass(frozen=True)
class Ends:
    """What was looked at.

    Attributes:
        networks: how many networks have tunnels, by name of their interface.
        unknown: ends that hosts don't know.
    """

    networks: int
    unknown: tuple[Unknown, ...]


def look(topology: Topology, fleet: Fleet) -> Ends:
    """Ask every host whose agent uses l2population what it knows; the others flood with multicast.

    Args:
        topology: the cloud; an end is a host to which an ACTIVE port is bound.
        fleet: connections.

    Raises:
        OvnshiftError: a host can't be asked.
    """
    told = [
        agent.host
        for agent in topology.agents_of(AGENT_LINUXBRIDGE)
        if agent.alive and agent.configurations.get("l2_population")
    ]
    addresses = tunnel_addresses(topology, told)
    hosts_of: dict[str, set[str]] = {}
    for port in topology.ports:
        if port.status == "ACTIVE" and port.host in addresses:
            hosts_of.setdefault(port.network_id, set()).add(port.host)
    tunnels = {
        f"{PREFIX}{segment.segmentation_id}": network
        for network in topology.networks
        if len(hosts_of.get(network.id, ())) > 1
        for segment in network.segments
        if segment.network_type == "vxlan"
    }
    known = fleet.every(addresses, _known) if tunnels else {}
    unknown = tuple(
        Unknown(host, network.label, interface, other, addresses[other])
        for interface, network in sorted(tunnels.items())
        for host in sorted(hosts_of[network.id])
        # An interface that its agent has not made yet has no entries at all.
        if interface in known[host]
        for other in sorted(hosts_of[network.id] - {host})
        if addresses[other] not in known[host][interface]
    )
    return Ends(len(tunnels), unknown)


def add(fleet: Fleet, unknown: Sequence[Unknown]) -> None:
    """Add ends that hosts don't know; look again afterwards, since the kernel refuses what an agent has added meanwhile.

    Raises:
        HostError: a host can't be asked.
    """
    for each in unknown:
        fleet[each.host].run(*each.command)


def _known(host: Connection) -> dict[str, set[str]]:
    """Addresses to which a host sends what is for everybody, by interface; its interfaces of tunnels without any, too."""
    return parse(host.name, host.check("bridge", "-json", "fdb", "show"))


def parse(host: str, text: str) -> dict[str, set[str]]:
    """What ``bridge -json fdb show`` says.

    Raises:
        OvnshiftError: it says something else.
    """
    found: dict[str, set[str]] = {}
    try:
        for row in json.loads(text or "[]"):
            if row["ifname"].startswith(PREFIX):
                known = found.setdefault(row["ifname"], set())
                if row["mac"] == EVERYBODY and "dst" in row:
                    known.add(row["dst"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"bridge -json fdb show says something that is no table: {text[:80]!r}"
        raise OvnshiftError(host, problem, "run it there and see; iproute2 can do this since 4.12") from error
    return found
