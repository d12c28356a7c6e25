"""What OVN's databases must hold, by Neutron's objects: compared by id in both directions, so that equal counts prove nothing."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ovnshift.cloud.topology import OWNER_METADATA, OWNER_ROUTER_GATEWAY, ROUTER_INTERFACES, Port, Topology
from ovnshift.ovn import North, South

OWNER_FLOATING_IP = "network:floatingip"
# neutron_lib.utils.helpers / neutron.common.ovn.utils: ports of the network itself are trusted and in no group.
TRUSTED = "network:"
DROP_GROUP = "neutron_pg_drop"


@dataclass(frozen=True)
class Differences:
    """What is wrong, and what was compared."""

    wrong: tuple[str, ...]
    counted: tuple[str, ...]


def differences(topology: Topology, north: North, south: South) -> Differences:
    """Compare OVN's databases with Neutron.

    Args:
        topology: the cloud as it is now.
        north: the northbound database.
        south: the southbound database, for the chassis.
    """
    wrong = [
        *_switches(topology, north),
        *_switch_ports(topology, north),
        *_provider_ports(topology, north),
        *_metadata_ports(topology, north),
        *_routers(topology, north, south),
        *_nats(topology, north),
        *_groups(topology, north),
        *_dhcp(topology, north),
    ]
    counted = (
        f"{len(topology.networks)} networks are logical switches, with {len(_in_ovn(topology))} ports",
        f"{len(topology.routers)} routers are logical routers, {len(north.nats)} NAT entries are floating IPs and SNAT",
        f"{len(topology.security_groups)} security groups are port groups, rule by rule",
        f"{sum(subnet.dhcp for subnet in topology.subnets)} subnets with DHCP have its options",
    )
    return Differences(tuple(wrong), counted)


def _both_ways(what: str, wanted: Iterable[str], found: Iterable[str]) -> Iterable[str]:
    wanted, found = set(wanted), set(found)
    yield from (f"{what} {name} is missing in OVN" for name in sorted(wanted - found))
    yield from (f"{what} {name} is in OVN and not in Neutron" for name in sorted(found - wanted))


def _switches(topology: Topology, north: North) -> Iterable[str]:
    return _both_ways("logical switch", (f"neutron-{each.id}" for each in topology.networks), north.switches)


def _in_ovn(topology: Topology) -> dict[str, Port]:
    return {port.id: port for port in topology.ports if port.device_owner != OWNER_FLOATING_IP}


def _switch_ports(topology: Topology, north: North) -> Iterable[str]:
    wanted = _in_ovn(topology)
    found = {name: port for name, port in north.switch_ports.items() if port.type != "localnet"}
    yield from _both_ways("logical switch port", wanted, found)
    for id_ in wanted.keys() & found.keys():
        port, other = wanted[id_], found[id_]
        if other.switch != f"neutron-{port.network_id}":
            yield f"port {port.label} is on switch {other.switch}, its network is {port.network_id}"
        if other.type == "router":
            continue
        said = " ".join(other.addresses)
        words = said.split()
        missing = [address for address in (port.mac_address, *port.addresses) if address not in words]
        if missing and "unknown" not in words:
            yield f"port {port.label} has {', '.join(missing)} in Neutron, and {said or 'no address'} in OVN"


def _provider_ports(topology: Topology, north: North) -> Iterable[str]:
    found: dict[str, Counter[tuple[str, int | None]]] = {}
    for port in north.switch_ports.values():
        if port.type == "localnet":
            found.setdefault(port.switch, Counter())[port.options.get("network_name", ""), port.tag] += 1
    for network in topology.networks:
        wanted = Counter(
            (segment.physical_network, segment.segmentation_id if segment.network_type == "vlan" else None)
            for segment in network.segments
            if segment.physical_network
        )
        own = found.pop(f"neutron-{network.id}", Counter())
        if wanted != own:
            has, wants = _said(own.elements()), _said(wanted.elements())
            yield f"network {network.label} has localnet ports {has}, its segments are {wants}"


def _said(ports: Iterable[tuple[str | None, int | None]]) -> str:
    return ", ".join(f"{name} {f'tag {tag}' if tag else 'untagged'}" for name, tag in ports) or "none"


def _metadata_ports(topology: Topology, north: North) -> Iterable[str]:
    for network in topology.networks:
        own = [port for port in topology.ports_of_network.get(network.id, ()) if port.device_owner == OWNER_METADATA]
        if len(own) != 1:
            yield f"network {network.label} has {len(own)} metadata ports"
        for port in own:
            other = north.switch_ports.get(port.id)
            if other is not None and other.type != "localport":
                yield f"metadata port {port.label} has type {other.type or 'none'} in OVN, not localport"
            subnets = [topology.subnet[id_] for id_ in network.subnet_ids if id_ in topology.subnet]
            # ovn_client.py, update_metadata_port
            with_dhcp = {subnet.id for subnet in subnets if subnet.dhcp and subnet.ip_version == 4}
            if missing := with_dhcp - {fixed.subnet_id for fixed in port.fixed_ips}:
                yield f"metadata port of {network.label} has no address in subnet {', '.join(sorted(missing))}"


def _routers(topology: Topology, north: North, south: South) -> Iterable[str]:
    yield from _both_ways("logical router", (f"neutron-{each.id}" for each in topology.routers), north.routers)
    interfaces = {
        f"lrp-{port.id}": port
        for port in topology.ports
        if port.device_owner in ROUTER_INTERFACES | {OWNER_ROUTER_GATEWAY}
    }
    yield from _both_ways("logical router port", interfaces, north.router_ports)
    gateways = {chassis.name for chassis in south.chassis.values() if chassis.gateway}
    for name in interfaces.keys() & north.router_ports.keys():
        port, other = interfaces[name], north.router_ports[name]
        if other.router != f"neutron-{port.device_id}":
            yield f"router port {name} is on {other.router}, not on router {port.device_id}"
        wanted = {f"{fixed.ip_address}/{_prefix(topology, fixed.subnet_id)}" for fixed in port.fixed_ips}
        if {ipaddress.ip_interface(each) for each in wanted} != {
            ipaddress.ip_interface(each) for each in other.networks
        }:
            yield f"router port {name} has {', '.join(other.networks)}, Neutron says {', '.join(sorted(wanted))}"
        if other.mac.lower() != port.mac_address.lower():
            yield f"router port {name} has MAC {other.mac}, Neutron says {port.mac_address}"
        if port.device_owner == OWNER_ROUTER_GATEWAY:
            if not other.chassis:
                yield f"gateway port {name} is on no chassis"
            if strange := set(other.chassis) - gateways:
                yield f"gateway port {name} is on {', '.join(sorted(strange))}, no gateway chassis"


def _prefix(topology: Topology, subnet_id: str) -> int:
    return ipaddress.ip_network(topology.subnet[subnet_id].cidr).prefixlen


def _nats(topology: Topology, north: North) -> Iterable[str]:
    wanted = {
        f"{each.router_id} dnat_and_snat {each.address} {each.fixed_ip}"
        for each in topology.floating_ips
        if each.port_id and each.router_id and not each.port_forwardings
    }
    for router in topology.routers:
        external = [each for each in router.external_addresses if ":" not in each]
        if not router.external_network_id or not router.snat or not external:
            continue
        for port in topology.ports:
            if port.device_id == router.id and port.device_owner in ROUTER_INTERFACES:
                for fixed in port.fixed_ips:
                    subnet = topology.subnet[fixed.subnet_id]
                    if subnet.ip_version == 4:
                        wanted |= {f"{router.id} snat {address} {subnet.cidr}" for address in external}
    found = {
        f"{nat.router.removeprefix('neutron-')} {nat.type} {nat.external_ip} {nat.logical_ip}" for nat in north.nats
    }
    yield from _both_ways("NAT entry", wanted, found)
    for entry, count in Counter((nat.router, nat.type, nat.external_ip, nat.logical_ip) for nat in north.nats).items():
        if count > 1:
            yield f"NAT entry {' '.join(entry)} is there {count} times"


def _groups(topology: Topology, north: North) -> Iterable[str]:
    names = {f"pg_{group.id.replace('-', '_')}": group for group in topology.security_groups}
    yield from _both_ways("port group", [*names, DROP_GROUP], (name for name in north.port_groups if _of_neutron(name)))
    members: dict[str, set[str]] = {group.id: set() for group in topology.security_groups}
    guarded = set()
    for port in topology.ports:
        if port.device_owner == OWNER_FLOATING_IP or port.device_owner.startswith(TRUSTED):
            continue
        if port.port_security:
            guarded.add(port.id)
            for group_id in port.security_group_ids:
                members.setdefault(group_id, set()).add(port.id)
    for name, group in names.items():
        other = north.port_groups.get(name)
        if other is None:
            continue
        if other.ports != members[group.id]:
            yield f"port group {name} ({group.label}) has other ports: {_change(members[group.id], other.ports)}"
        rules = {rule.id for rule in group.rules}
        if other.rules != rules:
            yield f"port group {name} ({group.label}) has other rules: {_change(rules, other.rules)}"
    drop = north.port_groups.get(DROP_GROUP)
    if drop is not None:
        if drop.acls < 2:
            yield f"port group {DROP_GROUP} has {drop.acls} ACLs: what no rule lets in would pass"
        if drop.ports != guarded:
            yield f"port group {DROP_GROUP} has other ports: {_change(guarded, drop.ports)}"


def _of_neutron(name: str) -> bool:
    return name == DROP_GROUP or name.startswith("pg_")


def _change(wanted: Iterable[str], found: Iterable[str]) -> str:
    wanted, found = set(wanted), set(found)
    parts = [f"{', '.join(sorted(wanted - found))} missing"] if wanted - found else []
    parts += [f"{', '.join(sorted(found - wanted))} too many"] if found - wanted else []
    return "; ".join(parts)


def _dhcp(topology: Topology, north: North) -> Iterable[str]:
    found: dict[str, list[str]] = {}
    for id_, options in north.dhcp_options.items():
        if "port_id" not in options.external_ids and "subnet_id" in options.external_ids:
            found.setdefault(options.external_ids["subnet_id"], []).append(id_)
    # neutron.common.ovn.utils: guests make their addresses themselves there (SLAAC).
    wanted = {each.id: each for each in topology.subnets if each.dhcp and each.ipv6_address_mode != "slaac"}
    yield from _both_ways("DHCP options of subnet", wanted, found)
    for id_ in wanted.keys() & found.keys():
        subnet = wanted[id_]
        if len(found[id_]) > 1:
            yield f"subnet {subnet.label} has {len(found[id_])} rows of DHCP options"
            continue
        options = north.dhcp_options[found[id_][0]]
        if options.cidr != subnet.cidr:
            yield f"DHCP options of subnet {subnet.label} are for {options.cidr}"
        mtu = topology.network[subnet.network_id].mtu
        if subnet.ip_version == 4 and options.options.get("mtu") != str(mtu):
            yield f"DHCP gives subnet {subnet.label} MTU {options.options.get('mtu')}, its network has {mtu}"
    for port in topology.ports:
        other = north.switch_ports.get(port.id)
        if other is None or not port.of_instance:
            continue
        subnets = [topology.subnet[fixed.subnet_id] for fixed in port.fixed_ips if fixed.subnet_id in topology.subnet]
        if any(subnet.dhcp and subnet.ip_version == 4 for subnet in subnets) and other.dhcp_options is None:
            yield f"port {port.label} has no DHCP options in OVN"
