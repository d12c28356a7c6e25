"""Networks, ports and security groups are as OVN needs them."""

from __future__ import annotations

import ipaddress
from collections import Counter

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.cloud import Topology
from ovnshift.cloud import topology as words
from ovnshift.connectivity import underlay
from ovnshift.database.connection import connect, rows
from ovnshift.hosts import Fleet
from ovnshift.site import Site

pytestmark = pytest.mark.pre

METADATA = ipaddress.ip_address("169.254.169.254")
LARGEST_VNI = 2**24 - 1
UDP_SECONDS = 2.0


def test_bindings_are_sane(topology: Topology, check: Check) -> None:
    """Every port of an instance, router or agent is bound by LinuxBridge to a host that exists."""
    hosts = {agent.host for agent in topology.agents}
    used = [port for port in topology.ports if port.device_owner and port.vnic_type == "normal"]
    check.demand_none(
        [
            f"port {port.label} of {port.device_owner} on {port.host}"
            for port in used
            if port.vif_type == "binding_failed"
        ],
        "of the ports failed to bind",
        remedy="see neutron-server's log for the port; bind it anew: openstack port set --host, or delete it",
    )
    running = [
        port
        for port in used
        if port.of_instance and port.device_id in topology.instance and topology.instance[port.device_id].active
    ]
    check.demand_none(
        [f"port {port.label}: {port.vif_type or 'none'}" for port in running if port.vif_type != "bridge"],
        "of the running instances' ports are not bound by LinuxBridge",
        remedy="see which mechanism binds them, and whether it stays",
    )
    check.demand_none(
        [f"port {port.label} on {port.host}" for port in used if port.vif_type == "bridge" and port.host not in hosts],
        "of the ports are bound to a host that has no agent",
        remedy="bind them to a host that exists, or delete them",
    )
    kinds = Counter(port.vif_type or "none" for port in topology.ports)
    check.note("bindings: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))


def test_each_port_has_one_binding(site: Site, check: Check) -> None:
    """No port has two bindings, as one has while its instance moves."""
    with connect(site) as connection:
        double = rows(
            connection,
            "SELECT port_id, COUNT(*) AS n, GROUP_CONCAT(CONCAT(host, ' ', status) SEPARATOR ', ') AS hosts "
            "FROM ml2_port_bindings GROUP BY port_id HAVING COUNT(*) > 1",
        )
    check.demand_none(
        [f"port {row['port_id']}: {row['hosts']}" for row in double],
        "of the ports have more than one binding",
        remedy="let the live migration end, or abort it; a left-over: openstack port unbind, or the API's bindings",
    )


def test_every_subnet_has_a_free_address(topology: Topology, check: Check) -> None:
    """Every subnet with DHCP has a free address for OVN's metadata port."""
    used = Counter(fixed.subnet_id for port in topology.ports for fixed in port.fixed_ips if _in_pool(topology, fixed))
    check.demand_none(
        [
            f"{subnet.label} {subnet.cidr}: {subnet.pool_size} addresses in its pools, all taken"
            for subnet in topology.subnets
            if subnet.dhcp and subnet.ip_version == 4 and used[subnet.id] >= subnet.pool_size
        ],
        "of the subnets have no free address",
        remedy="free one (openstack port list --fixed-ip subnet=…), or make its allocation pool larger: openstack subnet set",
    )


def _in_pool(topology: Topology, fixed: words.FixedIp) -> bool:
    subnet = topology.subnet.get(fixed.subnet_id)
    return subnet is not None and subnet.in_pool(fixed.ip_address)


def test_tunnel_keys_can_be_kept(topology: Topology, check: Check) -> None:
    """Every tunnelled network's key can be its key on Geneve: within its range, and nobody else's."""
    keys: dict[int, list[words.Network]] = {}
    for network in topology.networks:
        for segment in network.segments:
            if segment.network_type in words.TUNNELLED and segment.segmentation_id is not None:
                keys.setdefault(segment.segmentation_id, []).append(network)
    check.demand_none(
        [f"{key}: {', '.join(each.label for each in networks)}" for key, networks in keys.items() if len(networks) > 1],
        "of the tunnel keys are used twice, by different types of tunnel",
        remedy="move one of the networks to a key of its own",
    )
    check.demand_none(
        [f"{networks[0].label}: {key}" for key, networks in keys.items() if not 0 < key <= LARGEST_VNI],
        "of the tunnel keys don't fit into Geneve's 24 bits",
        remedy="move the network to another key",
    )


def test_physical_networks_are_mapped(topology: Topology, check: Check) -> None:
    """Every host with a port on a flat or VLAN network has that physical network mapped to an interface."""
    mapped: dict[str, set[str]] = {}
    for agent in topology.agents_of(words.AGENT_LINUXBRIDGE):
        settings = agent.configurations
        mapped[agent.host] = {*settings.get("interface_mappings", {}), *settings.get("bridge_mappings", {})}
    missing = set()
    for port in topology.ports:
        network = topology.network.get(port.network_id)
        for segment in network.segments if network else ():
            physical = segment.physical_network
            if physical and port.host in mapped and physical not in mapped[port.host]:
                missing.add(f"{physical} on {port.host}, for {network.label if network else port.network_id}")
    check.demand_none(
        missing,
        "of the physical networks are not mapped where they are needed",
        remedy="physical_interface_mappings in linuxbridge_agent.ini there; and the same for OVN's bridge mappings",
    )


def test_the_underlay_carries_geneve(
    topology: Topology, fleet: Fleet, inventories: Inventories, site: Site, check: Check
) -> None:
    """The underlay carries packets as large as Geneve makes them, measured between every pair of tunnel addresses."""
    addresses = underlay.tunnel_addresses(topology, [*site.group("network"), *site.group("compute")])
    tunnelled = [network for network in topology.networks if network.tunnelled and not network.is_ha_network]
    if not tunnelled:
        check.note("there are no tunnelled networks")
        return
    check.demand(
        len(addresses) > 1 or (addresses and len(site.chassis) == 1),
        f"{len(addresses)} hosts have a tunnel address",
        remedy="local_ip in linuxbridge_agent.ini: tunnelled networks need one on every host",
    )
    one = next(iter(addresses.values()))
    overhead = underlay.geneve_overhead(site.ovn.max_header_size, one)
    now_needed = max(network.mtu for network in tunnelled) + underlay.ip_header(one) + underlay.VXLAN_OVERHEAD
    unchanged = max(network.mtu for network in tunnelled) + overhead
    measured = underlay.measure(fleet, addresses, [now_needed, unchanged], site.limits)
    check.demand_none(
        measured.lost(now_needed),
        f"of the ways don't carry {now_needed} bytes, which today's networks need",
        remedy="see the MTU of the tunnel interfaces and of the switches between them",
    )
    links = {
        f"{host}: {link.name} has MTU {link.mtu}"
        for host, address in addresses.items()
        if host in inventories.found and (link := inventories.found[host].link_with(address)) and link.mtu < now_needed
    }
    check.demand_none(
        links, "of the tunnel interfaces have too small an MTU", remedy="raise it on the host and its switch"
    )
    for error in measured.errors:
        raise error
    too_large = measured.lost(unchanged)
    check.note(
        f"tunnelled networks have MTU up to {max(network.mtu for network in tunnelled)}; Geneve adds {overhead} bytes"
    )
    check.warn_of(
        [f"{network.label}: MTU {network.mtu}" for network in tunnelled if too_large],
        f"tunnelled networks will get a smaller MTU, since the underlay does not carry {unchanged} bytes",
        remedy=f"raise the underlay's MTU to {unchanged}, or let the migration lower the networks' by {unchanged - now_needed}",
    )


def test_geneves_port_is_free(inventories: Inventories, site: Site, check: Check) -> None:
    """Nothing else listens on Geneve's UDP port on the hosts."""
    check.demand_none(
        [
            f"{name}"
            for name, inventory in inventories.found.items()
            if name in site.cloud_hosts
            and inventory.openvswitch is None
            and site.ovn.geneve_port in inventory.udp_ports
        ],
        f"of the hosts have something else on UDP {site.ovn.geneve_port}",
        remedy="ss -ulpn shows what it is; it has to go before OVN comes",
    )


def test_geneves_port_is_open(topology: Topology, fleet: Fleet, site: Site, check: Check) -> None:
    """UDP on Geneve's port arrives, measured between every pair of tunnel addresses."""
    addresses = underlay.tunnel_addresses(topology, [*site.group("network"), *site.group("compute")])
    lost, errors = underlay.unheard(fleet, addresses, site.ovn.geneve_port, seconds=UDP_SECONDS)
    check.demand_none(
        lost,
        f"of the ways lose UDP on port {site.ovn.geneve_port}",
        remedy=f"let UDP {site.ovn.geneve_port} in between the tunnel addresses: firewalls on hosts and between them",
    )
    for error in errors:
        raise error
    check.note(f"{len(addresses)} hosts, {len(addresses) * (len(addresses) - 1)} ways")


def test_geneves_headers_have_room(site: Site, check: Check) -> None:
    """``max_header_size`` leaves room for the options that OVN puts into Geneve's header."""
    check.demand(
        site.ovn.max_header_size >= 38,
        f"ovn.max_header_size is {site.ovn.max_header_size}",
        remedy="38 at least: UDP 8, Geneve 8, Ethernet 14 and 8 of options ([ml2_type_geneve] max_header_size)",
    )


def test_nobody_holds_the_metadata_address(topology: Topology, check: Check) -> None:
    """No allowed address pair, and no port, claims the metadata service's address."""
    check.demand_none(
        [
            f"port {port.label}: {pair}"
            for port in topology.ports
            for pair in (*port.allowed_address_pairs, *port.addresses)
            if METADATA in ipaddress.ip_network(pair, strict=False) and pair != "0.0.0.0/0"
        ],
        "of the ports claim 169.254.169.254",
        remedy="take the pair off: openstack port unset --allowed-address",
    )


def test_shared_addresses_are_allowed_by_themselves(topology: Topology, check: Check) -> None:
    """No address that a port reserves for instances is allowed to them as part of a range only: OVN would answer for it itself.

    It answers ARP for each address of a port, unless it takes the port for a virtual one; and that it does by allowed address
    pairs that are this very address, and no prefix (neutron/common/ovn/utils.py, ``get_virtual_port_parents``).
    """
    shared = []
    for reserved in topology.ports:
        if reserved.device_id or reserved.device_owner or reserved.host:
            continue
        for address in reserved.addresses:
            covering = {
                pair
                for port in topology.ports
                if port.network_id == reserved.network_id and port.id != reserved.id
                for pair in port.allowed_address_pairs
                if ipaddress.ip_address(address) in ipaddress.ip_network(pair, strict=False)
            }
            if covering and address not in covering:
                shared.append(f"port {reserved.label}: {address}, allowed by {', '.join(sorted(covering))}")
    check.warn_of(
        shared,
        "addresses will be answered for by OVN with the MAC address of the port that reserves them, so that nobody is reached",
        remedy="name the address itself beside the range: openstack port set --allowed-address ip-address=ADDRESS PORT",
    )


def test_security_groups_let_dhcp_out(topology: Topology, check: Check) -> None:
    """Security groups let instances ask for an address; LinuxBridge lets DHCP out by itself, OVN does not (LP#1926515)."""
    closed = []
    for port in topology.ports:
        if not port.of_instance or not port.port_security or not port.security_group_ids:
            continue
        groups = [topology.security_group[id_] for id_ in port.security_group_ids if id_ in topology.security_group]
        has_dhcp = any(topology.subnet[f.subnet_id].dhcp for f in port.fixed_ips if f.subnet_id in topology.subnet)
        if has_dhcp and not any(_lets_dhcp_out(rule) for group in groups for rule in group.rules):
            closed.append(f"port {port.label} with {', '.join(group.label for group in groups)}")
    check.demand_none(
        closed,
        "of the ports may not send to a DHCP server",
        remedy="openstack security group rule create --egress --protocol udp --dst-port 67 GROUP",
    )


def _lets_dhcp_out(rule: words.Rule) -> bool:
    covers_port = rule.port_min is None or (rule.port_max is not None and rule.port_min <= 67 <= rule.port_max)
    anywhere = rule.remote_prefix in {None, "0.0.0.0/0"} and rule.remote_group_id is None
    udp = rule.protocol in {None, "udp", "17", "any"}
    return rule.direction == "egress" and rule.ethertype == "IPv4" and udp and covers_port and anywhere


def test_every_project_has_a_default_group(topology: Topology, check: Check) -> None:
    """Every project that has ports has a default security group, without which Neutron's sync ends halfway (LP#2008943)."""
    having = {group.project_id for group in topology.security_groups if group.name == "default"}
    projects = {port.project_id for port in topology.ports if port.project_id}
    check.demand_none(
        [topology.project_label(project) for project in projects - having],
        "of the projects have no default security group",
        remedy="openstack security group list --project makes Neutron create it",
    )
