"""Which name servers DHCP gives to guests, before the migration and after it.

A DHCP agent names itself on a subnet that names none, and asks others (neutron/agent/linux/dhcp.py,
``_generate_opts_per_subnet``). OVN has nothing that could be asked: Neutron gives such guests ``[ovn] dns_servers``, or what
``/etc/resolv.conf`` names on its server's host, a loopback address too (neutron/common/ovn/utils.py, ``get_dhcp_dns_servers``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

from ovnshift.cloud.topology import Subnet, Topology
from ovnshift.hosts.inventory import HostInventory
from ovnshift.ovn import North


def asking_agents(topology: Topology) -> list[Subnet]:
    """The subnets whose guests ask the DHCP agents: with DHCP, instances, and no name server of their own."""
    used = {fixed.subnet_id for port in topology.ports if port.of_instance for fixed in port.fixed_ips}
    return [
        subnet
        for subnet in topology.subnets
        if subnet.id in used
        and subnet.dhcp
        and not subnet.dns_nameservers
        and (subnet.ip_version == 4 or (subnet.ipv6_address_mode or "").startswith("dhcpv6"))
    ]


def of_neutrons_hosts(inventories: Mapping[str, HostInventory], names: Iterable[str]) -> str:
    """What ``/etc/resolv.conf`` names on the hosts of Neutron's server, for people."""
    said = []
    for name in names:
        if name in inventories:
            servers = [
                f"{each} (each guest itself)" if local(each) else each for each in inventories[name].name_servers
            ]
            said.append(f"{name} {', '.join(servers) or 'none'}")
    return "; ".join(said) or "of which nothing is known"


def local(address: str) -> bool:
    """Whether a guest that asks it asks itself."""
    return ipaddress.ip_address(address).is_loopback


def given(north: North, subnets: Iterable[Subnet]) -> dict[str, Sequence[str]]:
    """What OVN's DHCP gives on each subnet, by its id; nothing for a subnet that OVN has no options for."""
    found: dict[str, Sequence[str]] = {each.id: () for each in subnets}
    for options in north.dhcp_options.values():
        id_ = options.external_ids.get("subnet_id", "")
        if id_ in found and "port_id" not in options.external_ids:
            found[id_] = re.findall(r"[0-9A-Fa-f:.]+", options.options.get("dns_server", ""))
    return found
