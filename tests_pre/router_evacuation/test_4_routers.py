"""Routers are where Neutron says, whole, and can be moved."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.evacuation import Emptied, States
from ovnshift.cloud import Topology
from ovnshift.cloud.topology import AGENT_L3
from ovnshift.evacuation.plan import agents_of_router, described, lacking

pytestmark = pytest.mark.pre


def test_the_agent_is_known(topology: Topology, emptied: Emptied, check: Check) -> None:
    """There is one L3 agent on the host that is emptied, and others that routers can go to."""
    for agent in topology.agents_of(AGENT_L3):
        routers = len(topology.routers_of_agents.get(agent.id, ()))
        mode = agent.configurations.get("agent_mode", "legacy")
        word = "alive" if agent.alive else "dead"
        zone = agent.availability_zone or "no zone"
        mark = "  ← emptied" if agent.id == emptied.source.id else ""
        check.note(f"{agent.host}: {word}, {mode}, {zone}, {routers} routers, agent {agent.id}{mark}")
    others = [agent for agent in topology.agents_of(AGENT_L3) if agent.id != emptied.source.id and agent.alive]
    check.demand(others, "no other L3 agent is alive", remedy="start one; routers have nowhere to go")


def test_hosts_of_agents_can_be_looked_at(states: States, emptied: Emptied, check: Check) -> None:
    """The hosts of all L3 agents say what they have of routers."""
    check.demand_none(
        [f"{error.place}: {error.problem}" for error in states.errors.values()],
        "of the hosts could not be looked at",
        remedy="see the check of logins",
    )
    missing_hosts = [host for host in emptied.hosts if host not in states.found]
    check.demand_none(missing_hosts, "of the hosts are not in the site file", remedy="add them to [hosts]")


def test_routers_are_where_neutron_says(topology: Topology, emptied: Emptied, states: States, check: Check) -> None:
    """Each router on the agent has its namespace there, with all its ports, addresses, floating IPs, routes and NAT rules."""
    source = emptied.source
    wrong = []
    for id_ in topology.routers_of_agents.get(source.id, ()):
        router = topology.router[id_]
        if router.ha or router.distributed:
            continue
        lacks = lacking(
            topology, router, states.found[source.host].routers.get(id_) if source.host in states.found else None
        )
        wrong += [f"{router.label}: {', '.join(lacks)}"] if lacks else []
        check.note(f"{router.label}: {len(topology.ports_of_router.get(id_, ()))} ports")
    check.demand_none(
        wrong,
        f"of the routers are not whole on {source.host}",
        remedy="journalctl -u neutron-l3-agent there; restarting the agent builds them anew",
    )


def test_no_router_is_without_an_agent(topology: Topology, check: Check) -> None:
    """Every router that has ports has an L3 agent, and none that is neither HA nor distributed has two."""
    lost = [
        router.label
        for router in topology.routers
        if router.admin_state_up
        and not router.distributed
        and topology.ports_of_router.get(router.id, ())
        and not agents_of_router(topology, router.id)
    ]
    check.demand_none(
        lost, "of the routers are on no agent", remedy="openstack network agent add router --l3 AGENT ROUTER"
    )
    double = [
        f"{router.label}: {', '.join(agent.host for agent in agents_of_router(topology, router.id))}"
        for router in topology.routers
        if not router.ha and not router.distributed and len(agents_of_router(topology, router.id)) > 1
    ]
    check.demand_none(
        double, "of the routers are on several agents", remedy="openstack network agent remove router --l3"
    )


def test_every_router_has_somewhere_to_go(topology: Topology, emptied: Emptied, check: Check) -> None:
    """Every router on the agent can be moved to another one, or need not be, or was left out on purpose."""
    for line in described(topology, emptied.evacuation):
        check.note(line)
    left_out = {"it was excluded", "only others were asked for"}
    staying = [stay for stay in emptied.evacuation.stays if not stay.harmless]
    check.warn_of(
        [f"{topology.router[stay.router_id].label}: {stay.why}" for stay in staying if stay.why in left_out],
        "routers stay on the agent, as was asked for, and go down with the host",
        remedy="leave out --router and --exclude to move them too",
    )
    check.demand_none(
        [f"{topology.router[stay.router_id].label}: {stay.why}" for stay in staying if stay.why not in left_out],
        "of the routers can't be moved",
        remedy="mend what is said of them, or --exclude them: then they go down with the host",
    )
    check.demand(
        emptied.evacuation.moves or emptied.evacuation.stays,
        f"the L3 agent on {emptied.source.host} has no routers",
        remedy="see --from: there is nothing to do on this host",
    )


def test_targets_have_room(emptied: Emptied, check: Check) -> None:
    """The hosts that routers go to have the memory and the processors for them: measured now, and expected afterwards."""
    for host, now in emptied.before.items():
        then = emptied.after[host]
        check.note(
            f"{host}: routers {now.routers} → {then.routers}, ports {now.ports} → {then.ports}, "
            f"memory available {now.memory:,.0f} → {then.memory:,.0f} MB, "
            f"packets {now.traffic:,.0f} → {then.traffic:,.0f} a second, "
            f"load {now.load:.1f} → {then.load:.1f} on {now.cores} cores"
        )
    targets = {emptied.agent(move.target_id).host for move in emptied.evacuation.moves}
    check.warn_of(
        [
            f"{host}: {emptied.after[host].load:.1f} expected on {emptied.after[host].cores} cores"
            for host in sorted(targets)
            if emptied.after[host].load > emptied.after[host].cores
        ],
        "of the hosts have, or will have, more to do than they have processors",
        remedy="--to another host, or move at a quieter time",
    )
