"""Neutron's rows and objects, OVN's databases and the hosts are as they have to be on OVN."""

from __future__ import annotations

from fixtures.checks import Check
from ovnshift.cloud import Topology
from ovnshift.hosts import cleanup
from ovnshift.migration import limits, name_servers
from ovnshift.migration.agents import OLD_AGENTS, belongings, dead_agents
from ovnshift.migration.deploy import chassis_differences, chassis_that_are_silent, tunnel_differences
from ovnshift.migration.rows import left_of_the_old_driver
from ovnshift.migration.structure import differences
from ovnshift.migration.sync import run_sync
from ovnshift.migration.window import Window, wait_until
from ovnshift.ovn import North, South


def test_no_row_is_left_of_the_old_driver(window: Window, check: Check) -> None:
    """No row of Neutron's database names LinuxBridge, VXLAN, the old L3 providers, or HA ports."""
    left = left_of_the_old_driver(window.site)
    check.demand_none(
        [f"{count} {what}" for what, count in left.items() if count],
        "kinds of rows are the old driver's",
        remedy="pytest tests_migrate converts what is left; see which process wrote them",
    )
    check.note(f"{len(left)} kinds of rows were counted")


def test_neutron_says_ovn(topology: Topology, check: Check) -> None:
    """The API shows OVN's binding at every port of an instance, Geneve networks, plain routers, and no port of the old agents."""
    wrong = [
        f"port {port.label}: {port.vif_type}, bound by {', '.join(_drivers(port.vif_details)) or 'nobody'}"
        for port in topology.ports
        if port.of_instance
        and port.vnic_type == "normal"
        and port.host
        and (port.vif_type != "ovs" or _drivers(port.vif_details) not in ([], ["ovn"]))
    ]
    wrong += [
        f"network {network.label} is {segment.network_type}"
        for network in topology.networks
        for segment in network.segments
        if segment.network_type == "vxlan"
    ]
    wrong += [f"router {router.label} is HA" for router in topology.routers if router.ha]
    wrong += [f"network {network.label}" for network in topology.networks if network.is_ha_network]
    wrong += [
        f"port {port.label} of {port.device_owner}"
        for port in topology.ports
        if port.device_owner
        in {"network:dhcp", "network:router_ha_interface", "network:ha_router_replicated_interface"}
    ]
    check.demand_none(
        wrong, "objects are still the old driver's", remedy="pytest tests_migrate carries on where it stopped"
    )


def _drivers(details: dict[str, object]) -> list[str]:
    bound = details.get("bound_drivers")
    return [str(each) for each in bound.values()] if isinstance(bound, dict) else []


def test_ovn_has_what_neutron_has(topology: Topology, north: North, south: South, check: Check) -> None:
    """Each network, port, router, NAT entry, security group, rule and DHCP option is in OVN by its id, and nothing else is."""
    found = differences(topology, north, south)
    check.demand_none(
        found.wrong,
        "differences between Neutron and OVN",
        remedy="neutron-ovn-db-sync-util in repair mode puts back what OVN lost; then find out who took it away",
    )
    for line in found.counted:
        check.note(line)


def test_limits_are_in_ovn(topology: Topology, north: North, check: Check) -> None:
    """What QoS policies limit is limited by OVN: ports, floating IPs and gateways."""
    check.demand_none(
        [str(each) for each in limits.missing(topology, north)],
        "things have no limit in OVN",
        remedy="openstack network qos policy set POLICY --description …, which it has already: Neutron writes all of it anew",
    )
    check.note(f"{len(limits.limited(topology))} ports, floating IPs and gateways have a QoS policy")


def test_guests_are_given_name_servers(topology: Topology, north: North, check: Check) -> None:
    """On subnets that name no name server, where guests asked the DHCP agents, OVN's DHCP names one that can be asked."""
    asking = name_servers.asking_agents(topology)
    given = name_servers.given(north, asking)
    check.demand_none(
        [
            f"{subnet.label} {subnet.cidr}: {server}"
            for subnet in asking
            for server in given[subnet.id]
            if name_servers.local(server)
        ],
        "subnets give their guests a name server that is each guest itself",
        remedy="set [ovn] dns_servers for Neutron's servers, restart them, and run neutron-ovn-db-sync-util in repair mode; "
        "or openstack subnet set --dns-nameserver …; guests take it with a new lease",
    )
    check.warn_of(
        [f"{subnet.label} {subnet.cidr}" for subnet in asking if not given[subnet.id]],
        "subnets give their guests no name server, where the DHCP agents were theirs",
        remedy="openstack subnet set --dns-nameserver …, or [ovn] dns_servers in Neutron's configuration",
    )
    check.note(f"{len(asking)} subnets name no name server")


def test_the_sync_finds_nothing(window: Window, check: Check) -> None:
    """neutron-ovn-db-sync-util in log mode finds no difference, and its log has no error."""
    log = run_sync(window, "log")
    check.demand_none(
        log.differences, "differences by the sync", remedy="run it in repair mode, and find out what made them"
    )
    check.note("gone through both databases")


def test_chassis_and_tunnels_are_right(window: Window, check: Check) -> None:
    """Every host is one chassis by its own name, with Geneve, its bridges and mappings, and a tunnel to each other one."""
    check.demand_none(
        [*chassis_differences(window), *tunnel_differences(window)],
        "things are wrong with chassis or tunnels",
        remedy="see ovn-controller's log there, and ovs-vsctl get open_vswitch . external_ids",
    )
    check.note(f"{len(window.chassis)} chassis")


def test_chassis_do_what_they_are_told(window: Window, check: Check) -> None:
    """Every chassis confirms a change of the northbound database within seconds."""
    check.demand_none(
        chassis_that_are_silent(window),
        "of the chassis are silent",
        remedy="systemctl status ovn-controller there, and its log",
    )
    check.note(f"{len(window.chassis)} chassis have confirmed")


def test_ports_are_up_where_their_instances_are(topology: Topology, south: South, check: Check) -> None:
    """Every running instance's port is ACTIVE by Neutron, and up in OVN on the instance's own hypervisor."""
    wrong = []
    for instance in topology.instances:
        for port in topology.ports_of_instance[instance.id] if instance.active else ():
            binding = south.bindings.get(port.id)
            if port.status != "ACTIVE":
                wrong.append(f"port {port.label} of {instance.label} is {port.status} by Neutron")
            if binding is None or not binding.up:
                wrong.append(f"port {port.label} of {instance.label} is not up in OVN")
            elif south.host_of(port.id) != instance.host:
                wrong.append(
                    f"port {port.label} of {instance.label} is bound on {south.host_of(port.id)}, not on {instance.host}"
                )
    check.demand_none(
        wrong, "of the ports are not as they should be", remedy="see ovn-controller's log on the hypervisor"
    )


def test_gateways_are_claimed(topology: Topology, north: North, south: South, check: Check) -> None:
    """Every router's gateway port is claimed by one of its chassis."""
    wrong = []
    for port in topology.ports:
        if port.device_owner == "network:router_gateway":
            chassis = south.host_of(f"cr-lrp-{port.id}")
            known = north.router_ports.get(f"lrp-{port.id}")
            if chassis is None:
                wrong.append(f"cr-lrp-{port.id} of router {port.device_id} is on no chassis")
            elif known is not None and south.bindings[f"cr-lrp-{port.id}"].chassis not in known.chassis:
                wrong.append(f"cr-lrp-{port.id} is on {chassis}, which is not among its chassis")
    check.demand_none(
        wrong, "of the gateways are not claimed", remedy="see ovn-controller on the gateway chassis, and their BFD"
    )


def test_only_ovns_agents_are_left(topology: Topology, window: Window, check: Check) -> None:
    """Neutron has OVN's agents only, alive, on every host."""
    check.demand_none(
        [f"{agent.name} on {agent.host}" for agent in topology.agents if agent.name in OLD_AGENTS],
        "of the agents are the old driver's",
        remedy="openstack network agent delete, once it is stopped there",
    )
    # Right after others have asked for a sign of life Neutron calls agents dead that have only not answered that yet.
    wait_until(
        "every agent is alive",
        window.site.limits.settle_seconds,
        lambda: ", ".join(dead_agents(window)) or None,
        remedy="systemctl status ovn-controller neutron-ovn-metadata-agent there",
        every=3.0,
    )
    controllers = {agent.host for agent in topology.agents if agent.name.startswith("OVN Controller")}
    metadata = {agent.host for agent in topology.agents if agent.name == "OVN Metadata agent"}
    missing = [f"OVN controller on {host}" for host in window.chassis if host not in controllers]
    missing += [f"OVN metadata agent on {host}" for host in window.site.group("compute") if host not in metadata]
    check.demand_none(missing, "of the agents are missing", remedy="see what the deployer does on these hosts")
    check.note(f"{len(topology.agents)} agents")


def test_hosts_are_clean(window: Window, check: Check) -> None:
    """No host has a namespace, bridge, interface, daemon, rule or enabled unit of the old agents."""
    known = belongings(window)
    found = window.fleet.every(window.agent_hosts, lambda host: cleanup.look(host, known))
    units = window.fleet.every(
        window.agent_hosts,
        lambda host: (
            host.run(
                "systemctl", "list-units", "--plain", "--no-legend", "--state=active", *window.services.agents
            ).text
        ),
    )
    # OVN's metadata agent calls its veths tap… too (agent/ovn/metadata/agent.py, get_veth_name); they are ports of br-int.
    plugged = window.fleet.every(
        window.chassis, lambda host: host.check("ovs-vsctl", "--timeout=10", "list-ports", "br-int").split()
    )
    check.demand_none(
        [f"{host}: {each}" for host, left in found.items() for each in left if each.state not in {"strange", "in use"}],
        "things of the old agents are on the hosts",
        remedy="pytest tests_migrate removes them; see whether an agent was started again",
    )
    check.demand_none(
        [f"{host}: {line.split()[0]}" for host, text in units.items() for line in text.splitlines() if line.strip()],
        "units of the old agents run",
        remedy="systemctl disable --now",
    )
    check.warn_of(
        [
            f"{host}: {each}"
            for host, left in found.items()
            for each in left
            if each.state == "strange" and each.name not in plugged.get(host, [])
        ],
        "things look like Neutron's and belong to no object of it",
        remedy="look at them, and remove what nobody needs",
    )
