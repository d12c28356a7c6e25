"""The network between the hosts, which tunnels run over: what it carries, measured."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovnshift.cloud.topology import AGENT_LINUXBRIDGE, Topology
from ovnshift.connectivity.measure import sweep_from
from ovnshift.hosts import Connection, Fleet, HostError, programs
from ovnshift.site.models import Limits

# UDP 8, VXLAN 8, Ethernet inside 14 (neutron_lib.constants.VXLAN_ENCAP_OVERHEAD)
VXLAN_OVERHEAD = 30
NO_ANSWER = "no answer"


def ip_header(address: str) -> int:
    """Bytes of an IP header of an address' family."""
    return 40 if ":" in address else 20


def geneve_overhead(max_header_size: int, address: str) -> int:
    """Bytes that Geneve adds to a packet, as Neutron counts them (plugins/ml2/drivers/type_geneve.py and type_tunnel.py).

    Args:
        max_header_size: UDP 8, Geneve 8, Ethernet inside 14, and the options: at least 8 for OVN.
        address: one of the underlay's, for the size of its IP header.
    """
    return ip_header(address) + max_header_size


def tunnel_addresses(topology: Topology, hosts: Iterable[str]) -> dict[str, str]:
    """Each host's tunnel address, as its LinuxBridge agent reports it."""
    reported = {
        agent.host: str(agent.configurations["tunneling_ip"])
        for agent in topology.agents_of(AGENT_LINUXBRIDGE)
        if agent.configurations.get("tunneling_ip")
    }
    return {host: reported[host] for host in dict.fromkeys(hosts) if host in reported}


@dataclass(frozen=True)
class Carried:
    """Which packets arrived: (from, to, bytes) → what happened, empty where they did. And hosts that could not be asked."""

    results: Mapping[tuple[str, str, int], str]
    errors: Sequence[HostError]

    def lost(self, size: int) -> list[str]:
        """Ways that don't carry a size."""
        return [
            f"{source} to {target}: {what}"
            for (source, target, each), what in self.results.items()
            if each == size and what
        ]


def measure(fleet: Fleet, addresses: Mapping[str, str], sizes: Iterable[int], limits: Limits) -> Carried:
    """Send packets that may not be fragmented, of each size, between every pair of tunnel addresses.

    Args:
        fleet: connections.
        addresses: tunnel address of each host; with one host alone there is nothing to send.
        sizes: of whole IP packets, bytes.
        limits: how often, and how long to wait.
    """
    if len(addresses) < 2:
        return Carried({}, [])
    sizes = sorted(set(sizes))

    def ask(connection: Connection) -> dict[str, str]:
        probes = [
            (f"{target} {size}", None, "icmp", address, size)
            for target, address in addresses.items()
            if target != connection.name
            for size in sizes
        ]
        answers = sweep_from(
            connection,
            probes,
            count=limits.probe_count,
            seconds=limits.probe_seconds,
            banner_seconds=limits.banner_seconds,
        )
        said = {id_: _said(answer) for id_, answer in answers.items()}
        silent = {id_.rsplit(" ", 1)[0] for id_, what in said.items() if what == NO_ANSWER}
        known = {target: neighbour(connection, addresses[target]) for target in silent}
        return {
            id_: f"{what}; {known[id_.rsplit(' ', 1)[0]]}" if what == NO_ANSWER else what for id_, what in said.items()
        }

    answers, errors = fleet.each(addresses, functools.partial(ask))
    results = {}
    for source, found in answers.items():
        for id_, what in found.items():
            target, size = id_.rsplit(" ", 1)
            results[source, target, int(size)] = what
    return Carried(results, list(errors.values()))


def neighbour(connection: Connection, address: str) -> str:
    """What a host's kernel knows about the way to an address: whether nobody answers there, or answers get lost.

    Raises:
        HostError: the host can't be asked.
    """
    routes = json.loads(connection.run("ip", "-json", "route", "get", address).text or "[]")
    if not routes:
        return "it has no route there"
    by_way_of, interface = routes[0].get("gateway", address), routes[0].get("dev", "")
    found = json.loads(connection.run("ip", "-json", "neigh", "show", "to", by_way_of, "dev", interface).text or "[]")
    if not found:
        return f"it has no neighbour {by_way_of} on {interface}"
    states = "/".join(found[0].get("state", []))
    return f"its neighbour {by_way_of} on {interface} is {found[0].get('lladdr', 'without a MAC address')} ({states})"


def unheard(
    fleet: Fleet, addresses: Mapping[str, str], port: int, *, seconds: float
) -> tuple[list[str], list[HostError]]:
    """Ways on which UDP to a port does not arrive: every host listens on it for some seconds and sends to all others meanwhile.

    Args:
        fleet: connections.
        addresses: tunnel address of each host.
        port: Geneve's.
        seconds: how long they do.

    Returns:
        The ways, and the hosts that could not be asked.
    """
    names = {address: host for host, address in addresses.items()}

    def ask(connection: Connection) -> dict[str, Any]:
        own = addresses[connection.name]
        peers = [address for address in addresses.values() if address != own]
        task = {"own": own, "port": port, "peers": peers, "seconds": seconds}
        program = programs.source("ovnshift.connectivity.programs", "udp_mesh.py")
        (answer,) = programs.run(connection, program, task, seconds=seconds + 20)
        return dict(answer)

    # Connected before, so that all of them listen at the same time.
    _, errors = fleet.each(addresses, lambda connection: connection.check("true"))
    answers, later = fleet.each([host for host in addresses if host not in errors], ask)
    lost = [
        f"{host}: can't listen on UDP {port}: {answer['error']}"
        for host, answer in answers.items()
        if "error" in answer
    ]
    for host, answer in answers.items():
        if "error" not in answer:
            missing = set(addresses.values()) - {addresses[host], *answer["heard"]}
            lost += [f"{names[address]} to {host}" for address in missing if names[address] in answers]
    return lost, [*errors.values(), *later.values()]


def _said(answer: Mapping[str, object]) -> str:
    if answer.get("received"):
        return ""
    return str(answer.get("error") or answer.get("vantage_error") or NO_ANSWER)
