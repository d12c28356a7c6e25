"""What is collected about cells that got worse: once a cause, bounded in size."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ovnshift import files
from ovnshift.cloud.topology import OWNER_METADATA, OWNER_ROUTER_GATEWAY, ROUTER_INTERFACES, Port, Topology
from ovnshift.connectivity.cells import Cell, Kind
from ovnshift.connectivity.comparison import Comparison
from ovnshift.deployments.deployer import deployer_of
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Fleet
from ovnshift.ovn import southbound
from ovnshift.site import Site

Evidence = dict[str, list[tuple[str, str]]]
MOST_CAUSES = 12
MOST_BYTES = 20_000
JOURNAL_LINES = 40
FLOW_LINES = 60


def collect(comparison: Comparison, topology: Topology, site: Site, fleet: Fleet) -> Evidence:
    """Look at one cell of each group: the port, its binding, a trace of a packet, the switch and the journal of its host.

    Args:
        comparison: whose groups are looked at; the biggest first, at most ``MOST_CAUSES``.
        topology: the cloud as it is now.
        site: where OVN's databases are.
        fleet: connections to hosts.

    Returns:
        By the cause of each group: titles and texts. What could not be asked is among them, as a text that says why.
    """
    found: Evidence = {}
    for group in sorted(comparison.groups, key=lambda each: -len(each.cells))[:MOST_CAUSES]:
        found[group.cause] = _Looker(topology, site, fleet).about(group.cells[0].cell)
    return found


def save(directory: Path, evidence: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write it, a file a cause.

    Raises:
        OvnshiftError: it can't be written.
    """
    for cause, pieces in evidence.items():
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", cause).strip("-")[:80] or "cause"
        text = "".join(f"== {title}\n{content}\n\n" for title, content in pieces)
        files.write_atomically(directory / f"{name}.txt", text.encode())


def _bounded(text: str) -> str:
    return text if len(text) <= MOST_BYTES else f"{text[: MOST_BYTES // 2]}\n…\n{text[-MOST_BYTES // 2 :]}"


class _Looker:
    def __init__(self, topology: Topology, site: Site, fleet: Fleet) -> None:
        self._topology = topology
        self._site = site
        self._fleet = fleet
        self._pieces: list[tuple[str, str]] = []

    def about(self, cell: Cell) -> list[tuple[str, str]]:
        port = self._target_port(cell)
        self._pieces.append(("cell", str(cell)))
        if port is None:
            return self._pieces
        self._ask("Neutron's port", lambda: json.dumps(port.model_dump(mode="json"), indent=1, ensure_ascii=False))
        self._ask("OVN's port binding", lambda: self._binding(port))
        flow = self._flow(cell, port)
        if flow is not None:
            self._ask(f"ovn-trace of {flow[0]}: {flow[1]}", lambda: self._trace(*flow))
        host = port.host
        if host in self._site.hosts:
            self._ask(f"interface in the switch of {host}", lambda: self._interface(host, port.id))
            self._ask(f"flows of the port in br-int of {host}", lambda: self._flows(host, port.id))
            for unit in deployer_of(self._site).services.chassis:
                self._ask(f"journal of {unit} on {host}", lambda unit=unit: self._journal(host, unit))  # type: ignore[misc]
        return self._pieces

    def _ask(self, title: str, question: Callable[[], str]) -> None:
        try:
            text = question()
        except OvnshiftError as error:
            text = f"could not be asked: {error}"
        self._pieces.append((title, _bounded(text.strip() or "nothing")))

    def _target_port(self, cell: Cell) -> Port | None:
        """The port of the instance that is concerned."""
        if cell.target.kind == "floating IP":
            found = next((each for each in self._topology.floating_ips if each.id == cell.target.id), None)
            return self._topology.port.get(found.port_id or "") if found is not None else None
        instance_id = cell.target.id if cell.target.kind == "instance" else cell.source.id
        ports = self._topology.ports_of_instance.get(instance_id, ())
        return next((port for port in ports if cell.address in port.addresses), ports[0] if ports else None)

    def _binding(self, port: Port) -> str:
        south = southbound(self._site)
        binding = south.bindings.get(port.id)
        return f"{binding}\nhost {south.host_of(port.id)}" if binding is not None else "there is none"

    def _flow(self, cell: Cell, port: Port) -> tuple[str, str] | None:
        """The datapath and the microflow of a cell's packet (ovn-trace(8))."""
        if ":" in cell.address or cell.kind in {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA, Kind.DHCP, Kind.METADATA}:
            return None
        source = self._source(cell)
        if source is None:
            return None
        from_port, from_address = source
        on_network = cell.address in port.addresses and from_port.network_id == port.network_id
        mac = port.mac_address if on_network else self._gateway_mac(from_port.network_id)
        if mac is None:
            return None
        protocol = f"tcp.dst == {cell.port}" if cell.port else "icmp4.type == 8"
        flow = (
            f'inport == "{from_port.id}" && eth.src == {from_port.mac_address} && eth.dst == {mac} && '
            f"ip4.src == {from_address} && ip4.dst == {cell.address} && ip.ttl == 64 && {protocol}"
        )
        return f"neutron-{from_port.network_id}", flow

    def _source(self, cell: Cell) -> tuple[Port, str] | None:
        """The port that a cell's packet comes in at: an instance's, or the network's metadata port."""
        if cell.source.kind == "instance":
            ports: Sequence[Port] = self._topology.ports_of_instance.get(cell.source.id, ())
        elif cell.source.kind == "network":
            ports = [
                each
                for each in self._topology.ports_of_network.get(cell.source.id, ())
                if each.device_owner == OWNER_METADATA
            ]
        else:
            return None
        return next(((port, address) for port in ports for address in port.addresses if ":" not in address), None)

    def _gateway_mac(self, network_id: str) -> str | None:
        owners = ROUTER_INTERFACES | {OWNER_ROUTER_GATEWAY}
        ports = self._topology.ports_of_network.get(network_id, ())
        return next((port.mac_address for port in ports if port.device_owner in owners), None)

    def _trace(self, datapath: str, flow: str) -> str:
        host = self._fleet[self._site.group("control")[0]]
        command = ["ovn-trace", "--ct=new", "--summary", f"--db={self._site.ovn.southbound}", datapath, flow]
        result = host.run(*command, seconds=30)
        return result.text + result.stderr.decode("utf-8", "replace")

    def _interface(self, host: str, port_id: str) -> str:
        condition = f"external_ids:iface-id={port_id}"
        return self._fleet[host].run("ovs-vsctl", "--timeout=10", "find", "Interface", condition).text

    def _flows(self, host: str, port_id: str) -> str:
        number = self._fleet[host].run(
            "ovs-vsctl",
            "--timeout=10",
            "--bare",
            "--columns=ofport",
            "find",
            "Interface",
            f"external_ids:iface-id={port_id}",
        )
        if not number.text.strip().isdigit():
            return "it is not plugged into br-int"
        flows = self._fleet[host].run(
            "ovs-ofctl", "--timeout=10", "dump-flows", "br-int", f"in_port={number.text.strip()}"
        )
        return "\n".join(flows.text.splitlines()[:FLOW_LINES])

    def _journal(self, host: str, unit: str) -> str:
        command = ["journalctl", "--no-pager", f"--lines={JOURNAL_LINES}", "--output=short-iso", f"--unit={unit}"]
        return self._fleet[host].run(*command).text
