"""The cloud's services are well."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.cloud import Topology
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
