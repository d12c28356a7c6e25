"""The cloud runs LinuxBridge in a release that has OVN too, and uses nothing that OVN lacks."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.cloud import Topology
from ovnshift.cloud import topology as words
from ovnshift.connectivity import tunnel_ends
from ovnshift.hosts import Fleet
from ovnshift.hosts.release import FIRST, LAST, neutron_release
from ovnshift.site import Site

pytestmark = pytest.mark.pre
UNSUPPORTED_OWNERS = {
    "network:router_centralized_snat": "distributed routers' SNAT ports (dvr)",
    "network:ha_router_replicated_interface_distributed": "distributed HA routers",
    "Octavia": "Octavia's own ports",
    "network:routed": "routed provider networks' ports",
}


def test_neutrons_release_is_in_scope(fleet: Fleet, site: Site, check: Check) -> None:
    """Neutron's release has both drivers: Zed to 2024.2."""
    hosts = site.group("control") or site.group("network")
    versions = fleet.every(hosts, neutron_release)
    check.note(", ".join(f"{host}: Neutron {version}" for host, version in versions.items()))
    check.demand(versions, "no control host says which Neutron it has", remedy="see groups.control in the site file")
    check.demand_none(
        [f"{host}: {version}" for host, version in versions.items() if not FIRST <= version.major <= LAST],
        f"of the hosts have a Neutron outside {FIRST} (Zed) to {LAST} (2024.2)",
        remedy="upgrade to a release that has both drivers first",
    )


def test_every_host_has_its_agents(topology: Topology, site: Site, check: Check) -> None:
    """Every network and compute host has the agents that its group needs, and the cloud runs LinuxBridge."""
    found: dict[str, list[str]] = {}
    for agent in topology.agents:
        found.setdefault(agent.host, []).append(agent.name)
    missing = []
    for host in dict.fromkeys([*site.group("network"), *site.group("compute")]):
        wanted = {words.AGENT_LINUXBRIDGE}
        if host in site.group("network"):
            wanted |= {words.AGENT_L3, words.AGENT_DHCP, words.AGENT_METADATA}
        missing += [f"{name} on {host}" for name in wanted - set(found.get(host, ()))]
    check.demand_none(
        missing,
        "of the agents are missing",
        remedy="start them; or take the host out of groups.network or groups.compute if it has another task",
    )
    for name in sorted({agent.name for agent in topology.agents}):
        check.note(f"{len(topology.agents_of(name))} of {name}: {', '.join(a.host for a in topology.agents_of(name))}")


def test_agents_know_all_ends_of_tunnels(topology: Topology, fleet: Fleet, check: Check) -> None:
    """Every host with a port of a network knows all others at the ends of its tunnel; else instances don't find each other."""
    ends = tunnel_ends.look(topology, fleet)
    check.warn_of(
        [str(each) for each in ends.unknown],
        "ends of tunnels are not known to a host, so that instances there don't find each other",
        remedy="run what is in brackets on the host: its agent was told, and lost it; or the window mends it, and post calls "
        "what fails now recovered",
    )
    check.note(f"{ends.networks} networks with tunnels")


def test_services_run_with_their_configuration(inventories: Inventories, check: Check) -> None:
    """No agent was started before its configuration was last changed: the window and the way back start it with what is there."""
    check.warn_of(
        [
            f"{name} on {host}: {', '.join(unit.changed_since)}"
            for host, inventory in inventories.found.items()
            for name, unit in inventory.units.items()
            if unit.active == "active" and unit.changed_since
        ],
        "services run with an older configuration than the one that the window, or the way back, will start them with",
        remedy="restart them before the window, one host after the other, and run this again: it is measured with it then",
    )


def test_host_names_agree(topology: Topology, inventories: Inventories, site: Site, check: Check) -> None:
    """Nova, Neutron and Open vSwitch call each host by the same name; else its ports would stay unbound on OVN."""
    agents = {agent.host for agent in topology.agents}
    nova = {each.name for each in topology.hypervisors}
    check.demand_none(
        [f"{host}: Nova calls it so, no Neutron agent does" for host in nova - agents],
        "of the hypervisors have another name in Neutron",
        remedy="set host in neutron.conf to what nova-compute uses",
    )
    computes = [host for host in site.group("compute") if host in inventories.found]
    check.demand_none(
        [
            f"{host}: external_ids:hostname is {inventories.found[host].ovs_hostname}"
            for host in computes
            if inventories.found[host].ovs_hostname not in {None, host}
        ],
        "of the hosts have another name in Open vSwitch",
        remedy="ovs-vsctl set Open_vSwitch . external_ids:hostname=NAME, the name that Nova uses",
    )
    check.warn_of(
        [
            f"{host}: hostname -f says {inventories.found[host].fqdn}"
            for host in computes
            if inventories.found[host].ovs_hostname is None and inventories.found[host].fqdn != host
        ],
        "hosts will get another name in Open vSwitch than Nova's unless the deployer sets it",
        remedy="see that the deployer sets external_ids:hostname to the name that Nova uses",
    )


def test_nothing_is_used_that_ovn_lacks(topology: Topology, check: Check) -> None:
    """Nothing is in use that OVN does not have: metering, flavoured or distributed routers, ports of other services."""
    wrong = [f"metering label {label}" for label in topology.metering_labels]
    wrong += [f"router {router.label} has a flavour" for router in topology.routers if router.flavor_id]
    wrong += [f"router {router.label} is distributed" for router in topology.routers if router.distributed]
    wrong += [
        f"port {port.label}: {UNSUPPORTED_OWNERS[port.device_owner]}"
        for port in topology.ports
        if port.device_owner in UNSUPPORTED_OWNERS
    ]
    check.demand_none(
        wrong,
        "of the things in use have no counterpart on OVN",
        remedy="take them out of use, or plan what replaces them, before the window",
    )
    check.warn_of(
        [each for each in ("fwaas_v2", "vpnaas", "l3-ndp-proxy", "metering") if each in topology.extensions],
        "service plugins are loaded that OVN has no counterpart of in every release",
        remedy="see whether anybody uses them: openstack vpn service list, firewall group list, router ndp proxy list",
    )
    check.warn_of(
        [f"on {agent.host}" for agent in topology.agents_of(words.AGENT_METERING)],
        "metering agents have nothing to count; the window stops them and takes them out of Neutron",
        remedy="take metering out of the service plugins that your deployer sets for OVN",
    )
    check.warn_of(
        [f"floating IP {each.address}" for each in topology.floating_ips if each.port_forwardings],
        "floating IPs have port forwardings, which OVN does as load balancers",
        remedy="try them after the migration",
    )


def test_availability_zones_can_be_kept(topology: Topology, check: Check) -> None:
    """Every availability zone that a router asks for is one that a host is in now."""
    zones = {agent.availability_zone for agent in topology.agents_of(words.AGENT_L3)}
    check.demand_none(
        [
            f"router {router.label} asks for {hint}"
            for router in topology.routers
            for hint in router.availability_zone_hints
            if hint not in zones
        ],
        "of the routers ask for a zone that no L3 agent is in",
        remedy="change the router's hint",
    )
    hinting = sorted({hint for router in topology.routers for hint in router.availability_zone_hints})
    check.warn_of(
        [
            f"{hint}: {', '.join(each.label for each in topology.routers if hint in each.availability_zone_hints)}"
            for hint in hinting
        ],
        "zones that routers ask for are needed on gateway chassis too, and only your deployer can set them there",
        remedy="see that it sets ovn-cms-options=enable-chassis-as-gw,availability-zones=… on chassis of each of them",
    )


def test_nobody_else_is_migrating(inventories: Inventories, check: Check) -> None:
    """No other migration or sync of Neutron to OVN is running."""
    check.demand_none(
        [f"{name}: {command}" for name, inventory in inventories.found.items() for command in inventory.foreign_runs],
        "of the hosts run a sync or a migration now",
        remedy="wait until it has ended, or ask who runs it",
    )


def test_instances_can_be_stopped_and_started(topology: Topology, check: Check) -> None:
    """No instance is paused or suspended: it would come back with what it had of the old driver."""
    check.warn_of(
        [
            f"{instance.label} is {instance.status}"
            for instance in topology.instances
            if instance.status in {"PAUSED", "SUSPENDED"}
        ],
        "instances are paused or suspended; the window does not open while one is",
        remedy="openstack server unpause or resume before the window, and stop it if it is not to run",
    )
