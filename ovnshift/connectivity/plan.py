"""Which cells a cloud has, and from where each can be measured now and will be afterwards."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ovnshift.cloud.topology import AGENT_DHCP, FloatingIp, Instance, Network, Port, Router, Topology
from ovnshift.connectivity.cells import Cell, Endpoint, Expectation, Kind, Vantage
from ovnshift.hosts.inventory import HostInventory
from ovnshift.site import Guest, Site

METADATA_ADDRESS = "169.254.169.254"
METADATA = Endpoint(kind="metadata service", id=METADATA_ADDRESS, name="metadata")
# The same sample is drawn each time from the same cloud, so that phases measure the same cells.
SAMPLE_SEED = 20
# Of so many pairs that are drawn, the one that covers most is taken.
CANDIDATES = 8


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        cells: all of them, each once.
        left_out: how many pairs of guests were left out of the sample.
        not_covered: instances and floating IPs that have no cell, by id, with the reason.
    """

    cells: tuple[Cell, ...]
    left_out: int = 0
    not_covered: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """An address of an instance."""

    instance: Instance
    port: Port
    network: Network
    address: str
    guest: Guest | None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(kind="instance", id=self.instance.id, name=self.instance.name)


def make(topology: Topology, site: Site) -> Plan:
    """All cells of a cloud; of guest pairs, in a big cloud, a sample (``limits.guest_pairs``).

    The sample has every pair of networks that routers join, every pair of hosts, and every router, as long as there is room. Each
    has a cell for SSH beside that for ICMP: checksums that a NIC or a tunnel gets wrong are seen with TCP only.
    """
    places, not_covered = _places(topology, site)
    cells: list[Cell] = []
    for place in places:
        cells += _from_network(place)
    pairings = [*_to_guests(topology, places), *_to_floating_ips(topology, places)]
    pairs, left_out = _sample(pairings, site.limits.guest_pairs)
    cells += pairs
    cells += [
        pair.model_copy(update={"kind": Kind.SSH, "port": 22}) for pair in pairs if pair.target.kind == "instance"
    ]
    for place in _first_addresses(places):
        if place.guest is not None and place.guest.login:
            cells += _from_guest(topology, site, place)
        cells += _from_console(topology, place)
    for floating_ip in topology.floating_ips:
        cells += _to_floating_ip(topology, site, floating_ip, places)
        port = topology.port.get(floating_ip.port_id or "")
        if port and port.of_instance and topology.instance_behind(floating_ip) is None:
            not_covered[floating_ip.id] = f"floating IP {floating_ip.address} leads to no instance that runs"
    unique = {cell.id: cell for cell in cells}
    return Plan(tuple(unique.values()), left_out, not_covered)


def with_cells(plan: Plan, cells: Iterable[Cell], topology: Topology) -> Plan:
    """A plan with further cells, of another time, where their instances still run."""
    known = {cell.id for cell in plan.cells}
    floating_ips = {each.id for each in topology.floating_ips}

    def is_there(end: Endpoint) -> bool:
        if end.kind == "instance":
            return end.id in topology.instance and topology.instance[end.id].active
        if end.kind == "floating IP":
            return end.id in floating_ips
        return end.kind != "network" or end.id in topology.network

    further = [cell for cell in cells if cell.id not in known and is_there(cell.source) and is_there(cell.target)]
    return dataclasses.replace(plan, cells=(*plan.cells, *further))


def _places(topology: Topology, site: Site) -> tuple[list[_Place], dict[str, str]]:
    places = []
    not_covered = {}
    for instance in topology.instances:
        guest = site.guest_for(
            image=instance.image, project=_project(topology, instance), instance=instance.name, instance_id=instance.id
        )
        ports = topology.ports_of_instance[instance.id]
        if not instance.active:
            not_covered[instance.id] = f"{instance.label} is {instance.status}"
        elif not any(port.addresses for port in ports):
            not_covered[instance.id] = f"{instance.label} has no address"
        else:
            places += [
                _Place(instance, port, topology.network[port.network_id], address, guest)
                for port in ports
                if port.network_id in topology.network
                for address in port.addresses
            ]
    # In an order of their own: an API may answer in another one each time.
    return sorted(places, key=lambda each: (each.instance.id, each.network.id, each.address)), not_covered


def _project(topology: Topology, instance: Instance) -> str:
    project = topology.project.get(instance.project_id)
    return project.name if project else instance.project_id


def _first_addresses(places: Iterable[_Place]) -> list[_Place]:
    """One place an instance: its first address, IPv4 before IPv6."""
    found: dict[str, _Place] = {}
    for place in sorted(places, key=lambda each: ":" in each.address):
        found.setdefault(place.instance.id, place)
    return list(found.values())


def _from_network(place: _Place) -> list[Cell]:
    network = place.network
    source = Endpoint(kind="network", id=network.id, name=network.name)
    ping = Cell(kind=Kind.PING, source=source, target=place.endpoint, address=place.address, via=(network.id,))
    cells = [ping, ping.model_copy(update={"kind": Kind.SSH, "port": 22})]
    if network.mtu:
        cells.append(ping.model_copy(update={"kind": Kind.PING_WHOLE, "size": network.mtu}))
    return cells + _closed_port(ping, place)


def _closed_port(ping: Cell, place: _Place | None) -> list[Cell]:
    if place is None or place.guest is None or place.guest.closed_port is None:
        return []
    change = {"kind": Kind.CLOSED_PORT, "port": place.guest.closed_port, "expectation": Expectation.KEPT_OUT}
    return [ping.model_copy(update=change)]


@dataclass(frozen=True)
class _Pairing:
    """Sources that all reach the same targets in the same way: many cells that are not made before they are chosen."""

    sources: Sequence[_Place]
    targets: Sequence[_Place | FloatingIp]
    via: tuple[str, ...]
    routed: bool

    @property
    def size(self) -> int:
        ids = {place.instance.id for place in self.sources}
        own = sum(1 for each in self.targets if isinstance(each, _Place) and each.instance.id in ids)
        return len(self.sources) * len(self.targets) - own

    def cell(self, source: _Place, target: _Place | FloatingIp) -> Cell | None:
        """The cell between two of them; None from an instance to itself."""
        host = None
        if isinstance(target, FloatingIp):
            end, address = Endpoint(kind="floating IP", id=target.id, name=target.address), target.address
        elif target.instance.id == source.instance.id:
            return None
        else:
            end, address, host = target.endpoint, target.address, target.instance.host
        return Cell(
            kind=Kind.PING,
            source=source.endpoint,
            target=end,
            address=address,
            across_hosts=host is not None and host != source.instance.host,
            routed=self.routed,
            via=self.via,
        )


def _families(places: Iterable[_Place]) -> dict[tuple[str, bool], list[_Place]]:
    """Places by network and whether their address is IPv6."""
    found: dict[tuple[str, bool], list[_Place]] = {}
    for place in places:
        found.setdefault((place.network.id, ":" in place.address), []).append(place)
    return found


def _logged_in(places: Iterable[_Place]) -> dict[tuple[str, bool], list[_Place]]:
    return _families(each for each in _first_addresses(places) if each.guest is not None and each.guest.login)


def _to_guests(topology: Topology, places: Sequence[_Place]) -> Iterable[_Pairing]:
    """From guests that can be logged in to, to every address that they share a network or a router with."""
    targets = _families(places)
    for (source_id, family), sources in _logged_in(places).items():
        routers = set(topology.routers_of_network.get(source_id, ()))
        for (target_id, target_family), members in targets.items():
            shared = sorted(routers & set(topology.routers_of_network.get(target_id, ())))
            if target_family == family and source_id == target_id:
                yield _Pairing(sources, members, (source_id,), routed=False)
            elif target_family == family and shared:
                yield _Pairing(sources, members, (source_id, *shared, target_id), routed=True)


def _to_floating_ips(topology: Topology, places: Sequence[_Place]) -> Iterable[_Pairing]:
    """From guests that can be logged in to, to the floating IPs of the external networks that they get to."""
    for (network_id, family), sources in _logged_in(places).items():
        outward = _outward(topology, network_id)
        externals = {router.external_network_id for router in outward} | {network_id}
        targets: dict[str, list[FloatingIp]] = {}
        for each in sorted(topology.floating_ips, key=lambda each: each.id):
            if each.network_id in externals and topology.instance_behind(each) and (":" in each.address) == family:
                targets.setdefault(each.router_id or "", []).append(each)
        for router_id, members in targets.items():
            via = dict.fromkeys([network_id, *(router.id for router in outward), *([router_id] if router_id else [])])
            yield _Pairing(sources, members, tuple(via), routed=True)


def _outward(topology: Topology, network_id: str) -> list[Router]:
    """The routers of a network that have a gateway."""
    ids = sorted(topology.routers_of_network.get(network_id, ()))
    return [topology.router[id_] for id_ in ids if id_ in topology.router and topology.router[id_].external_network_id]


def _sample(pairings: Sequence[_Pairing], limit: int) -> tuple[list[Cell], int]:
    """All cells of all pairings where they are few; else so many that cover ways, hosts and guests as well as they can."""
    total = sum(pairing.size for pairing in pairings)
    if total <= limit:
        pairs = ((each, pair) for each in pairings for pair in itertools.product(each.sources, each.targets))
        found = [pairing.cell(*pair) for pairing, pair in pairs]
        return [cell for cell in found if cell is not None], 0
    chooser = random.Random(SAMPLE_SEED)  # noqa: S311, a sample, not a secret
    chosen: dict[str, Cell] = {}
    seen: Counter[object] = Counter()
    for pairing in itertools.islice(itertools.cycle(pairings), limit * 4 + len(pairings)):
        if len(chosen) == limit:
            break
        drawn = [_draw(pairing, chooser) for _ in range(CANDIDATES)]
        fresh = [(source, target, cell) for source, target, cell in drawn if cell is not None and cell.id not in chosen]
        if fresh:
            best = min(fresh, key=lambda each: sum(seen[fact] for fact in _facts(*each)))
            chosen[best[2].id] = best[2]
            seen.update(_facts(*best))
    return list(chosen.values()), total - len(chosen)


def _draw(pairing: _Pairing, chooser: random.Random) -> tuple[_Place, _Place | FloatingIp, Cell | None]:
    source, target = chooser.choice(pairing.sources), chooser.choice(pairing.targets)
    return source, target, pairing.cell(source, target)


def _facts(source: _Place, target: _Place | FloatingIp, cell: Cell) -> list[object]:
    """What a cell covers; the less these were covered before, the more it is wanted."""
    host = target.instance.host if isinstance(target, _Place) else None
    return [
        (source.instance.host, host),
        (cell.via, cell.across_hosts),
        ("from", cell.source.id),
        ("to", cell.target.id),
    ]


def _from_guest(topology: Topology, site: Site, place: _Place) -> list[Cell]:
    assert place.guest is not None
    network = (place.network.id,)
    cells = []
    routers = topology.routers_of_network.get(place.network.id, ())
    # DHCP agents serve metadata on networks without a router, L3 agents on the others.
    if ":" not in place.address and (routers or _has_dhcp(topology, place)):
        cells.append(
            Cell(kind=Kind.METADATA, source=place.endpoint, target=METADATA, address=METADATA_ADDRESS, via=network)
        )
    if _has_dhcp(topology, place) and place.guest.dhcp:
        cells.append(
            Cell(kind=Kind.DHCP, source=place.endpoint, target=place.endpoint, address=place.address, via=network)
        )
    outward = _outward(topology, place.network.id)
    target = site.outside.target
    if target is not None and (":" in str(target)) == (":" in place.address) and (place.network.external or outward):
        cells.append(
            Cell(
                kind=Kind.PING,
                source=place.endpoint,
                target=Endpoint(kind="outside", id=str(target), name="outside"),
                address=str(target),
                routed=True,
                via=(place.network.id, *(router.id for router in outward)),
            )
        )
    return cells


def _has_dhcp(topology: Topology, place: _Place) -> bool:
    subnets = {fixed.ip_address: fixed.subnet_id for fixed in place.port.fixed_ips}
    subnet = topology.subnet.get(subnets[place.address])
    return subnet is not None and subnet.dhcp and ":" not in place.address


def _from_console(topology: Topology, place: _Place) -> list[Cell]:
    if ":" in place.address:
        return []
    cells = [Cell(kind=Kind.CONSOLE_METADATA, source=place.endpoint, target=METADATA, address=METADATA_ADDRESS)]
    if _has_dhcp(topology, place) and (place.guest is None or place.guest.dhcp):
        cells.append(Cell(kind=Kind.CONSOLE_DHCP, source=place.endpoint, target=place.endpoint, address=place.address))
    return cells


def _to_floating_ip(topology: Topology, site: Site, floating_ip: FloatingIp, places: Iterable[_Place]) -> list[Cell]:
    """Of an instance that runs, all; of an address that instances have among them (VRRP), ICMP."""
    port = topology.port.get(floating_ip.port_id or "")
    instance = topology.instance_behind(floating_ip)
    if port is None or site.outside.host is None or (instance is None and port.of_instance):
        return []
    ping = Cell(
        kind=Kind.PING,
        source=Endpoint(kind="outside", id=site.outside.host, name=site.outside.host),
        target=Endpoint(kind="floating IP", id=floating_ip.id, name=floating_ip.address),
        address=floating_ip.address,
        routed=True,
        via=(floating_ip.network_id, floating_ip.router_id or ""),
    )
    if instance is None:
        return [ping]
    place = next((each for each in places if each.instance.id == instance.id), None)
    return [ping, ping.model_copy(update={"kind": Kind.SSH, "port": 22}), *_closed_port(ping, place)]


class Vantages:
    """Where cells can be measured from, as things are now.

    Args:
        topology: the cloud.
        inventories: what the hosts have.
        site: says which host is outside.
    """

    def __init__(self, topology: Topology, inventories: Mapping[str, HostInventory], site: Site) -> None:
        self._topology = topology
        self._inventories = inventories
        self._site = site
        self._load: Counter[str] = Counter()
        self._chosen: dict[str, Vantage | None] = {}

    @functools.cached_property
    def _hosts_with(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for host, inventory in self._inventories.items():
            for namespace in inventory.namespaces:
                found.setdefault(namespace, []).append(host)
        return found

    def of_network(self, network_id: str, hypervisor: str | None) -> Vantage | None:
        """A namespace from which a network's instances on a hypervisor can be reached.

        An ``ovnmeta-`` namespace reaches its own chassis only (its port is a localport), so that the instance's hypervisor has to
        have it. A ``qdhcp-`` or ``qrouter-`` namespace reaches all of them; where several hosts have it, they share the work.
        """
        metadata = f"ovnmeta-{network_id}"
        if hypervisor and hypervisor in self._hosts_with.get(metadata, ()):
            return Vantage(host=hypervisor, namespace=metadata)
        if network_id not in self._chosen:
            self._chosen[network_id] = self._choose(network_id)
        return self._chosen[network_id]

    def _choose(self, network_id: str) -> Vantage | None:
        dhcp = f"qdhcp-{network_id}"
        alive = {agent.host for agent in self._topology.agents_of(AGENT_DHCP) if agent.alive}
        hosts = self._hosts_with.get(dhcp, [])
        if hosts:
            host = min(hosts, key=lambda each: (each not in alive, self._load[each], each))
            self._load[host] += 1
            return Vantage(host=host, namespace=dhcp)
        networks = [
            ipaddress.ip_network(self._topology.subnet[id_].cidr)
            for id_ in self._topology.network[network_id].subnet_ids
            if id_ in self._topology.subnet
        ]
        for router in self._topology.routers_of_network.get(network_id, ()):
            namespace = f"qrouter-{router}"
            for host in self._hosts_with.get(namespace, []):
                # Of an HA router only the active one has addresses on the network.
                links = self._inventories[host].namespaces[namespace]
                own = [ipaddress.ip_interface(each).ip for link in links for each in link.addresses]
                if any(address in network for address in own for network in networks):
                    return Vantage(host=host, namespace=namespace)
        return None

    def of(self, cell: Cell) -> Vantage | None:
        """The vantage of a cell's first packet: for cells from inside a guest, where its login is reached from."""
        if cell.source.kind == "outside":
            return Vantage(host=cell.source.id)
        if cell.source.kind == "network":
            instance = self._topology.instance.get(cell.target.id)
            return self.of_network(cell.source.id, instance.host if instance else None)
        return self.of_instance(cell.source.id)

    def of_instance(self, instance_id: str) -> Vantage | None:
        """From where an instance can be logged in to."""
        instance = self._topology.instance.get(instance_id)
        if instance is None:
            return None
        for port in self._topology.ports_of_instance[instance_id]:
            found = self.of_network(port.network_id, instance.host)
            if found is not None and port.addresses:
                return found
        return None

    def lost_afterwards(self, cells: Iterable[Cell]) -> dict[str, str]:
        """Cells that will have no vantage on OVN, by id, with the reason.

        Neutron makes no ``ovnmeta-`` namespace for a network whose metadata port has no address, and gives it one only on subnets
        that have DHCP (neutron/plugins/ml2/drivers/ovn/mech_driver/ovsdb/ovn_client.py,
        ``update_metadata_port``; neutron/agent/ovn/metadata/agent.py, ``_get_provision_params``).
        """
        lost = {}
        hypervisors = set(self._site.hosts)
        for cell in cells:
            if cell.source.kind == "outside" or cell.kind in {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA}:
                continue
            instance = self._topology.instance.get(cell.target.id if cell.source.kind == "network" else cell.source.id)
            if instance is None:
                continue
            network_ids = (
                [cell.source.id]
                if cell.source.kind == "network"
                else [port.network_id for port in self._topology.ports_of_instance[instance.id]]
            )
            if not any(self._has_metadata_address(network_id) for network_id in network_ids):
                names = ", ".join(self._topology.network[id_].label for id_ in network_ids)
                lost[cell.id] = f"no subnet of {names} has DHCP, so that OVN makes no metadata namespace for it"
            elif instance.host not in hypervisors:
                lost[cell.id] = f"{instance.host}, the hypervisor of {instance.label}, is not in the site file"
        return lost

    def _has_metadata_address(self, network_id: str) -> bool:
        network = self._topology.network[network_id]
        return any(self._topology.subnet[id_].dhcp for id_ in network.subnet_ids if id_ in self._topology.subnet)
