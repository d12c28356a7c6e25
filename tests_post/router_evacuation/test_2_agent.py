"""Nothing is left on the agent, and nothing is lost when its host goes down."""

from __future__ import annotations

from fixtures.checks import Check
from fixtures.evacuation import Emptied, States
from ovnshift.cloud import Topology
from ovnshift.cloud.topology import AGENT_DHCP, AGENT_L3
from ovnshift.evacuation.plan import agents_of_router, burden, lacking, why_immovable


def test_nothing_is_left_on_the_agent(topology: Topology, emptied: Emptied, check: Check) -> None:
    """The agent has no router that goes down with its host."""
    lost = []
    for id_ in topology.routers_of_agents.get(emptied.source.id, ()):
        router = topology.router[id_]
        stays = why_immovable(topology, router, emptied.source)
        if stays is not None and stays.harmless:
            check.note(f"{router.label}: {stays.why}")
        else:
            lost.append(f"{router.label}: {stays.why if stays else 'it is still there'}")
    check.demand_none(
        lost,
        f"of the routers go down with {emptied.source.host}",
        remedy="pytest tests_migrate carries on; or move them by hand, or say to their owners when the host goes down",
    )


def test_no_namespace_is_left(topology: Topology, emptied: Emptied, states: States, check: Check) -> None:
    """The host has no namespace of a router that is not on its agent."""
    host = emptied.source.host
    if host in states.errors:
        raise states.errors[host]
    hosted = set(topology.routers_of_agents.get(emptied.source.id, ()))
    check.demand_none(
        [f"qrouter-{id_}" for id_ in states.found[host].namespaces if id_ not in hosted],
        f"of the namespaces are left on {host}",
        remedy="they hold addresses that others have now: restart neutron-l3-agent there, which removes them",
    )


def test_moved_routers_are_whole(topology: Topology, emptied: Emptied, states: States, check: Check) -> None:
    """Each router that was moved is on one agent, with its ports, addresses, floating IPs, routes and NAT rules."""
    wrong = []
    for move in emptied.evacuation.moves:
        router = topology.router.get(move.router_id)
        if router is None:
            check.note(f"router {move.router_id} was deleted since")
            continue
        agents = agents_of_router(topology, router.id)
        if len(agents) != 1:
            wrong.append(f"{router.label} is on {', '.join(agent.host for agent in agents) or 'no agent'}")
            continue
        (agent,) = agents
        if agent.host in states.errors:
            raise states.errors[agent.host]
        lacks = lacking(topology, router, states.found[agent.host].routers.get(router.id))
        wrong += [f"{router.label} on {agent.host}: {', '.join(lacks)}"] if lacks else []
        check.note(f"{router.label}: on {agent.host}")
    check.demand_none(wrong, "of the routers are not whole", remedy="journalctl -u neutron-l3-agent on that host")


def test_load_of_each_agent(topology: Topology, emptied: Emptied, states: States, check: Check) -> None:
    """What each L3 agent's host carried before, was expected to carry, and carries now."""
    too_little = []
    for agent in topology.agents_of(AGENT_L3):
        state, before, expected = (
            states.found.get(agent.host),
            emptied.before.get(agent.host),
            emptied.after.get(agent.host),
        )
        if state is None or before is None or expected is None:
            continue
        now = burden(topology, agent, state)
        check.note(
            f"{agent.host}: routers {before.routers} → {now.routers} (expected {expected.routers}), "
            f"ports {before.ports} → {now.ports}, memory available {before.memory:,.0f} → {now.memory:,.0f} MB "
            f"(expected {expected.memory:,.0f}), load {before.load:.1f} → {now.load:.1f}"
        )
        if now.routers > expected.routers:
            too_little.append(f"{agent.host}: {now.routers} routers, {expected.routers} were expected")
    check.warn_of(too_little, "hosts have more routers than was planned", remedy="see who puts them there")


def test_what_else_is_on_the_host(topology: Topology, emptied: Emptied, check: Check) -> None:
    """Nothing but routers depends on the host alone: DHCP of a network, instances."""
    host = emptied.source.host
    dhcp = {agent.host for agent in topology.agents_of(AGENT_DHCP) if agent.alive and agent.host != host}
    alone = [
        f"DHCP of network {topology.network[id_].label}"
        for id_, ports in topology.dhcp_ports.items()
        if host in ports and id_ in topology.network and not dhcp & ports.keys()
    ]
    instances = [f"instance {each.label}" for each in topology.instances if each.host == host and each.active]
    check.warn_of(
        alone + instances,
        f"other things depend on {host}",
        remedy="openstack network agent add network --dhcp; openstack server migrate",
    )
