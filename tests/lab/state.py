"""The state of a lab, in what does not change by itself: to compare it before and after."""

from __future__ import annotations

from tests.lab.conftest import Lab

HOSTS = ("infra1", "infra2", "infra3", "compute1", "compute2")
STEADY = """
SELECT name, mtu FROM networks WHERE name NOT LIKE 'HA network%' AND name NOT LIKE '{made}' ORDER BY 1;
SELECT n.name, s.network_type, s.physical_network, s.segmentation_id FROM networksegments s JOIN networks n ON n.id = s.network_id
    WHERE n.name NOT LIKE 'HA network%' AND n.name NOT LIKE '{made}' ORDER BY 1;
SELECT p.name, b.host, b.vif_type, b.vif_details FROM ml2_port_bindings b JOIN ports p ON p.id = b.port_id
    WHERE p.device_owner LIKE 'compute%' ORDER BY 1;
SELECT p.name, l.host, l.driver FROM ml2_port_binding_levels l JOIN ports p ON p.id = l.port_id
    WHERE p.device_owner LIKE 'compute%' ORDER BY 1;
SELECT r.name, e.ha, r.admin_state_up, a.provider_name FROM routers r JOIN router_extra_attributes e ON e.router_id = r.id
    LEFT JOIN providerresourceassociations a ON a.resource_id = r.id WHERE r.name NOT LIKE '{made}' ORDER BY 1;
SELECT DISTINCT p.device_owner FROM ports p JOIN networks n ON n.id = p.network_id WHERE n.name NOT LIKE '{made}' ORDER BY 1;
SELECT COUNT(*) FROM ml2_geneve_allocations WHERE allocated;
""".format(made="%-made-%")


def steady_rows(lab: Lab) -> list[str]:
    """Rows that are the same before the window and after the way back: what agents make anew has other ids."""
    result = lab.ssh("infra1", "sudo mariadb --batch --skip-column-names neutron", stdin=STEADY)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def dhcp_ports(lab: Lab) -> dict[str, list[list[str]]]:
    """Hosts and addresses of DHCP agents by network, but of those that a test has made.

    Which host has which address of a network may change: Neutron gives those of an agent that was dead to another one.
    """
    network = lab.cloud().network
    names = {each.id: each.name for each in network.networks() if "-made-" not in each.name}
    found: dict[str, list[list[str]]] = {name: [[], []] for name in names.values()}
    for port in network.ports(device_owner="network:dhcp"):
        if port.network_id in names:
            hosts, addresses = found[names[port.network_id]]
            hosts.append(port.binding_host_id)
            addresses += [each["ip_address"] for each in port.fixed_ips]
    return {name: [sorted(hosts), sorted(addresses)] for name, (hosts, addresses) in sorted(found.items()) if hosts}


def hosts_units(lab: Lab) -> dict[str, str]:
    """Units that run and are enabled, bridges, and files of the configuration."""
    script = (
        "systemctl list-units --plain --no-legend --state=active 'neutron*' 'ovn*' 'openvswitch*' 'nova*' | awk '{print $1}'; "
        "systemctl list-unit-files --no-legend --state=enabled 'neutron*' 'ovn*' 'openvswitch*' 'nova*' | awk '{print $1}'; "
        "ip -br link | awk '{print $1}' | grep -c ^br-; ip netns list | grep -c ovnmeta; "
        # Without the number that the other end of the lab's cable has.
        "ip -br address show eth1 | awk '{ $1 = \"eth1\"; print }'; "
        "sudo find /etc/neutron /etc/nova /etc/default -type f -exec sha256sum {} + | sort -k2"
    )
    return {name: lab.ssh(name, script).stdout for name in HOSTS}


def api_state(lab: Lab) -> dict[str, object]:
    cloud = lab.cloud()
    servers = cloud.compute.servers(details=True, all_projects=True)
    return {
        "servers": sorted((server.id, server.status) for server in servers),
        "networks": sorted((network.id, network.mtu) for network in cloud.network.networks()),
        "routers": sorted((router.id, router.is_ha, router.is_admin_state_up) for router in cloud.network.routers()),
        "ports": sorted((port.id, port.binding_vif_type) for port in cloud.network.ports()),
        "agents": sorted((agent.id, agent.is_alive) for agent in cloud.network.agents()),
    }


def interfaces(lab: Lab) -> dict[str, list[str]]:
    """Network interfaces, namespaces and bridges of hosts, by the names of what they are for.

    Names made of ids and keys are other ones where Neutron made an object anew: HA networks, DHCP agents' and metadata ports.
    """
    network = lab.cloud().network
    taps = {f"tap{port.id[:11]}" for port in network.ports() if port.device_owner.startswith("compute")}
    known: dict[str, str] = {}
    for each in network.networks():
        known |= {f"{prefix}{each.id}": f"{prefix}{each.name}" for prefix in ("qdhcp-", "ovnmeta-")}
        known[f"brq{each.id[:11]}"] = f"brq of {each.name}"
        known[f"vxlan-{each.provider_segmentation_id}"] = f"vxlan of {each.name}"
    script = "ip -br link | awk '{print $1}'; ip netns list | cut -d' ' -f1; sudo ovs-vsctl --timeout=10 list-br"

    def steady(name: str) -> str:
        name = name.split("@", maxsplit=1)[0]
        return "tap of an agent" if name.startswith("tap") and name not in taps else known.get(name, name)

    return {host: sorted(map(steady, lab.ssh(host, script).stdout.split())) for host in HOSTS}
