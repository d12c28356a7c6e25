"""The cloud's services are well."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.cloud import Topology
from ovnshift.cloud.topology import AGENT_L3, OWNER_HA_INTERFACE, OWNER_ROUTER_GATEWAY, Router
from ovnshift.connectivity.realised import masters_on
from ovnshift.deployments.deployer import services_of
from ovnshift.site import Site

pytestmark = pytest.mark.pre


def test_agents_are_alive(topology: Topology, check: Check) -> None:
    """Every Neutron agent is alive and enabled."""
    check.demand_none(
        [f"{agent.name} on {agent.host}" for agent in topology.agents if not agent.alive],
        "of the agents are not alive",
        remedy="on that host: systemctl status, then start it; if it is gone for good, openstack network agent delete",
    )
    check.demand_none(
        [f"{agent.name} on {agent.host}" for agent in topology.agents if not agent.admin_state_up],
        "of the agents are disabled",
        remedy="openstack network agent set --enable, or delete it if it is not used",
    )
    check.demand(topology.agents, "Neutron has no agents", remedy="see whether this is the right cloud (cloud.name)")


def test_units_are_as_the_api_says(site: Site, topology: Topology, inventories: Inventories, check: Check) -> None:
    """Agents that the API calls alive run as systemd units on their hosts, and are enabled there."""
    units = services_of(site).of_agents
    strange = []
    for agent in topology.agents:
        inventory = inventories.found.get(agent.host)
        name = units.get(agent.name)
        if inventory is None or name is None:
            continue
        unit = inventory.units.get(name)
        if unit is None:
            strange.append(f"{name} is no unit of {agent.host}")
        elif agent.alive and (unit.active != "active" or unit.enabled not in {"enabled", "generated", "alias"}):
            strange.append(f"{name} on {agent.host} is {unit.active} and {unit.enabled}")
    check.demand_none(
        strange,
        "of the agents are alive by the API but no enabled, active unit on their host",
        remedy="systemctl enable --now UNIT there; an agent that just died is called alive for a minute or so",
    )


def _by_keepalived(router: Router) -> bool:
    return router.ha and router.admin_state_up and not router.distributed


def test_ha_routers_have_one_master(topology: Topology, inventories: Inventories, check: Check) -> None:
    """Every HA router is forwarded by one host, and that is the one that Neutron takes for the active one."""
    hosts = {agent.host for agent in topology.agents if agent.name == AGENT_L3}
    check.demand_none(
        sorted(hosts - set(inventories.found) - set(inventories.errors)),
        "of the hosts with an L3 agent are not in the site file, so that nobody looked",
        remedy="add them to [hosts], or delete agents that are gone for good: openstack network agent delete",
    )
    masters = masters_on({host: inventories[host] for host in hosts})
    # Of a router without interfaces or a gateway, agents have nothing.
    of_router: dict[str, set[str]] = {}
    for port in topology.ports:
        if port.device_owner in {OWNER_HA_INTERFACE, OWNER_ROUTER_GATEWAY} and port.host:
            of_router.setdefault(port.device_id, set()).add(port.host)
    routers = [router for router in topology.routers if router.id in of_router and _by_keepalived(router)]
    check.demand_none(
        [
            f"router {router.label}: {', '.join(masters.get(router.id, [])) or 'none'}"
            for router in routers
            if len(masters.get(router.id, [])) != 1
        ],
        "of the HA routers have no host, or several, whose keepalived is the master",
        remedy="see keepalived's and neutron-l3-agent's log there, and whether the hosts reach each other on the HA network; "
        "openstack router set --disable, then --enable, builds a router anew, which does not forward meanwhile",
    )
    check.warn_of(
        [
            f"router {router.label}: {masters[router.id][0]}; Neutron says {', '.join(sorted(of_router[router.id]))}"
            for router in routers
            if set(masters[router.id]) != of_router[router.id]
        ],
        "HA routers are forwarded by another host than the one that Neutron says",
        remedy="openstack network agent list --router ID --long shows what the agents believe; an agent that is wrong for long "
        "stays so: openstack router set --disable, then --enable, while nobody needs the router",
    )
    check.note(f"{len(routers)} HA routers")


def test_hypervisors_are_up(topology: Topology, check: Check) -> None:
    """Every hypervisor is up."""
    check.demand_none(
        [f"{each.name} is {each.state}" for each in topology.hypervisors if each.state != "up"],
        "of the hypervisors are not up",
        remedy="systemctl status nova-compute there; openstack compute service delete if it is gone for good",
    )
    check.warn_of(
        [
            f"{each.name} ({each.disabled_reason or 'no reason given'})"
            for each in topology.hypervisors
            if each.status != "enabled"
        ],
        "hypervisors are disabled",
        remedy="enable them again if that was forgotten: openstack compute service set --enable",
    )
