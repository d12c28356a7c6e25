"""Which ends of tunnels hosts know, by what ``bridge`` says of the kernel's tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from ovnshift.cloud.topology import AGENT_LINUXBRIDGE, Agent, Segment, Topology
from ovnshift.connectivity import tunnel_ends
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Connection, Fleet
from tests.unit.clouds import Seed

ROW = {"mac": "00:00:00:00:00:00", "ifname": "vxlan-7", "dst": "198.18.1.22", "flags": ["self"], "state": "permanent"}

# An interface's own address, which each has.
OWN = {"mac": "fa:16:3e:00:00:01", "flags": ["self"], "state": "permanent"}


class Table:
    """A host with a forwarding table."""

    def __init__(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.name, self.rows = name, rows

    def check(self, *argv: str) -> str:
        assert argv == ("bridge", "-json", "fdb", "show")
        return json.dumps(self.rows)


class Tables:
    """A fleet of such hosts."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        self._rows = rows

    def every(self, names: Iterable[str], ask: Callable[[Connection], Any]) -> dict[str, Any]:
        return {name: ask(cast("Connection", Table(name, self._rows[name]))) for name in names}


def tables(topology: Topology) -> dict[str, list[dict[str, Any]]]:
    """What every host with an agent knows when it knows all of them, of each network."""
    addresses = {
        agent.host: agent.configurations["tunneling_ip"]
        for agent in topology.agents
        if agent.configurations.get("tunneling_ip")
    }
    return {
        host: [
            row | {"ifname": f"vxlan-{segment.segmentation_id}"}
            for network in topology.networks
            for segment in network.segments
            for row in (OWN, *(ROW | {"dst": address} for other, address in addresses.items() if other != host))
        ]
        for host in addresses
    }


def look(topology: Topology, rows: dict[str, list[dict[str, Any]]]) -> tunnel_ends.Ends:
    return tunnel_ends.look(topology, cast("Fleet", Tables(rows)))


@pytest.fixture
def topology() -> Topology:
    """The seed's cloud, on VXLAN with l2population."""
    found = Seed().topology()
    hosts = sorted({port.host for port in found.ports if port.host})
    agents = tuple(
        Agent(
            id=f"agent-{host}",
            name=AGENT_LINUXBRIDGE,
            host=host,
            alive=True,
            admin_state_up=True,
            binary="neutron-linuxbridge-agent",
            configurations={"tunneling_ip": f"198.18.1.{number}", "l2_population": True},
        )
        for number, host in enumerate(hosts)
    )
    networks = tuple(
        each.model_copy(update={"segments": (Segment(network_type="vxlan", segmentation_id=number),)})
        for number, each in enumerate(found.networks)
    )
    return found.model_copy(update={"agents": agents, "networks": networks})


def web(topology: Topology) -> str:
    (network,) = (each for each in topology.networks if each.name == "web")
    return f"vxlan-{network.segments[0].segmentation_id}"


def test_hosts_that_know_each_other_are_left_alone(topology: Topology) -> None:
    found = look(topology, tables(topology))
    assert found.networks >= 3
    assert found.unknown == ()


def test_an_end_that_a_host_does_not_know_is_named_with_what_adds_it(topology: Topology) -> None:
    rows = tables(topology)
    address = next(
        str(each.configurations["tunneling_ip"])
        for each in topology.agents
        if each.host == "compute1" and each.configurations.get("tunneling_ip")
    )
    rows["compute2"] = [row for row in rows["compute2"] if (row["ifname"], row.get("dst")) != (web(topology), address)]
    (unknown,) = look(topology, rows).unknown
    assert (unknown.host, unknown.other) == ("compute2", "compute1")
    assert unknown.command == ("bridge", "fdb", "append", ROW["mac"], "dev", web(topology), "dst", address)
    assert "web" in str(unknown)
    assert " ".join(unknown.command) in str(unknown)


def test_without_the_interface_without_l2population_or_without_an_active_port_nothing_is_missing(
    topology: Topology,
) -> None:
    rows = tables(topology)
    own = [OWN | {"ifname": web(topology)}]
    for kept, count in ((own, True), ([], False)):
        rows["compute2"] = [row for row in rows["compute2"] if row["ifname"] != web(topology)] + kept
        assert bool(look(topology, rows).unknown) is count
    rows["compute2"] = own
    down = tuple(each.model_copy(update={"status": "DOWN"}) for each in topology.ports)
    assert look(topology.model_copy(update={"ports": down}), rows) == tunnel_ends.Ends(0, ())
    flooding = tuple(
        each.model_copy(update={"configurations": {**each.configurations, "l2_population": False}})
        for each in topology.agents
    )
    assert look(topology.model_copy(update={"agents": flooding}), rows) == tunnel_ends.Ends(0, ())


def test_tables_are_read() -> None:
    rows = [ROW, ROW | {"dst": "198.18.1.21"}, ROW | {"mac": "fa:16:3e:00:00:02", "ifname": "vxlan-8"}]
    rows += [{"mac": "33:33:00:00:00:01", "ifname": "eth0", "flags": ["self"], "state": "permanent"}]
    assert tunnel_ends.parse("compute1", json.dumps(rows)) == {
        "vxlan-7": {"198.18.1.22", "198.18.1.21"},
        "vxlan-8": set(),
    }
    assert tunnel_ends.parse("compute1", "") == {}


@pytest.mark.parametrize("text", ["Option -json is unknown", "7", '[{"mac": "00"}]', '["<script>"]', '[{"ifname": 7}]'])
def test_what_is_no_table_is_named_with_its_host(text: str) -> None:
    with pytest.raises(OvnshiftError, match="compute1: bridge -json fdb show says something that is no table"):
        tunnel_ends.parse("compute1", text)
