"""Who may be silent: whom security groups keep out, and guests of whom the site file says so.

What doesn't answer although its groups let it in has to be looked at before a window; what nobody let in has not. Security groups
are read as Neutron's drivers do (neutron/agent/linux/openvswitch_firewall/rules.py, neutron/common/ovn/acl.py): a rule that names
nobody lets everybody in, no rule lets nobody in, and ports without port security have none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from enum import IntEnum

from ovnshift.cloud.topology import Port, Rule, Topology
from ovnshift.connectivity.cells import Cell, Kind
from ovnshift.site import Guest, Site

BY_GROUPS = "its security groups let nobody from there in"
PERHAPS_BY_GROUPS = "its security groups may not let that in: it depends on the address that it comes from"
NOBODYS = "it is no instance's own, so that nobody has to answer there"
BY_SITE_FILE = "it may be silent, by the site file"
JUDGED = frozenset({Kind.PING, Kind.PING_WHOLE, Kind.SSH})
# What Neutron takes for ICMP of either family (neutron_lib.constants, IP_PROTOCOL_MAP).
_ICMP = frozenset({"icmp", "1", "icmpv6", "ipv6-icmp", "58"})
_TCP = frozenset({"tcp", "6"})
_ECHO_REQUEST = {4: 8, 6: 128}


class Certainty(IntEnum):
    """What rules say of a packet; the worst of what it has to pass, the best of what lets it pass."""

    NO = 0
    PERHAPS = 1
    YES = 2


def reasons(topology: Topology, site: Site, cells: Iterable[Cell]) -> dict[str, str]:
    """Why cells may be silent, by their id; nothing of those that have to answer."""
    groups = Groups(topology)
    found = {}
    for cell in cells:
        if cell.kind not in JUDGED:
            continue
        port = groups.target(cell)
        if port is not None and not port.of_instance:
            found[cell.id] = NOBODYS
        elif (let_in := groups.lets_in(cell)) is not Certainty.YES:
            found[cell.id] = BY_GROUPS if let_in is Certainty.NO else PERHAPS_BY_GROUPS
        elif port is not None and (guest := _guest(topology, site, port)) is not None and guest.silent:
            found[cell.id] = BY_SITE_FILE
    return found


def _guest(topology: Topology, site: Site, port: Port) -> Guest | None:
    instance = topology.instance.get(port.device_id)
    if instance is None:
        return None
    project = topology.project.get(instance.project_id)
    return site.guest_for(
        image=instance.image,
        project=project.name if project else instance.project_id,
        instance=instance.name,
        instance_id=instance.id,
    )


class Groups:
    """What a cloud's security groups say of cells.

    Args:
        topology: the cloud.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        # From its namespaces, packets come from the agents' and routers' addresses.
        self._of_networks: dict[str, list[Port]] = {}
        for port in topology.ports:
            if port.device_owner.startswith("network:") and port.addresses:
                self._of_networks.setdefault(port.network_id, []).append(port)

    def lets_in(self, cell: Cell) -> Certainty:
        """Whether a cell's packets are let out at its source and in at its target.

        Whose address is not known (that of the outside, or behind a router's NAT) is let in by rules for everybody, and perhaps
        by those for somebody. A target that is no instance's lets everybody in.
        """
        target = self.target(cell)
        from_instance = cell.source.kind == "instance"
        known = self._topology.ports_of_instance if from_instance else self._of_networks
        sources = list(known.get(cell.source.id, ()))
        natted = target is None or cell.target.kind == "floating IP" or cell.source.kind == "outside"
        arriving = Certainty.YES
        if target is not None:
            arriving = self._passes(target, "ingress", cell, [] if natted else sources)
        leaving = [each for each in sources if _has_family(each, cell)] if from_instance else []
        others = [] if natted or target is None else [target]
        return min(arriving, _common([self._passes(each, "egress", cell, others) for each in leaving], Certainty.YES))

    def target(self, cell: Cell) -> Port | None:
        """The port that a cell's packets arrive at."""
        if cell.target.kind == "floating IP":
            floating_ip = self._topology.floating_ip.get(cell.target.id)
            return self._topology.port.get(floating_ip.port_id or "") if floating_ip else None
        if cell.target.kind != "instance":
            return None
        ports = self._topology.ports_of_instance.get(cell.target.id, ())
        return next((each for each in ports if cell.address in each.addresses), None)

    def _passes(self, port: Port, direction: str, cell: Cell, others: Sequence[Port]) -> Certainty:
        """Whether one of a port's rules lets a cell's packets pass, whichever of the other ports they come from or go to."""
        if not port.port_security:
            return Certainty.YES
        known = self._topology.security_group
        return max(
            (
                _is_for(rule, cell, others)
                for id_ in port.security_group_ids
                if id_ in known
                for rule in known[id_].rules
                if rule.direction == direction and _is_about(rule, cell)
            ),
            default=Certainty.NO,
        )


def _common(found: Sequence[Certainty], of_none: Certainty) -> Certainty:
    """What is so of all of several, of which nobody knows which one it will be."""
    if not found:
        return of_none
    return found[0] if len(set(found)) == 1 else Certainty.PERHAPS


def _version(cell: Cell) -> int:
    return 6 if ":" in cell.address else 4


def _has_family(port: Port, cell: Cell) -> bool:
    return any((":" in address) == (":" in cell.address) for address in port.addresses)


def _is_about(rule: Rule, cell: Cell) -> bool:
    if rule.ethertype != f"IPv{_version(cell)}":
        return False
    protocol = (rule.protocol or "any").lower()
    if protocol in {"any", "0"}:
        return True
    if cell.kind is Kind.SSH:
        return protocol in _TCP and (rule.port_min or 1) <= (cell.port or 22) <= (rule.port_max or 65535)
    return protocol in _ICMP and rule.port_min in {None, _ECHO_REQUEST[_version(cell)]}


def _is_for(rule: Rule, cell: Cell, others: Sequence[Port]) -> Certainty:
    """Whether a rule is for packets of which one of some ports is the other end; nobody knows which, or what is behind a NAT."""
    if rule.remote_address_group_id is not None:
        return Certainty.PERHAPS
    if rule.remote_group_id is not None:
        return _common(
            [_certain(rule.remote_group_id in each.security_group_ids) for each in others], Certainty.PERHAPS
        )
    if rule.remote_prefix is None:
        return Certainty.YES
    prefix = ipaddress.ip_network(rule.remote_prefix, strict=False)
    if prefix.prefixlen == 0:
        return Certainty.YES
    addresses = [ipaddress.ip_address(each) for port in others for each in port.addresses]
    family = [each for each in addresses if each.version == _version(cell)]
    return _common([_certain(each in prefix) for each in family], Certainty.PERHAPS)


def _certain(so: object) -> Certainty:
    return Certainty.YES if so else Certainty.NO
