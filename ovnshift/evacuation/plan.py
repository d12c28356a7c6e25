"""Which routers move, where to, which stay and why, and what a host that takes some has to carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from ovnshift.cloud.topology import (
    AGENT_L3,
    AGENT_LINUXBRIDGE,
    AGENT_OPENVSWITCH,
    Agent,
    Network,
    Router,
    Topology,
)
from ovnshift.connectivity.realised import HostState, RouterState, missing
from ovnshift.errors import OvnshiftError

# Agents that plug ports, with where each says which physical networks it reaches.
_PLUGGING = {AGENT_OPENVSWITCH: "bridge_mappings", AGENT_LINUXBRIDGE: "interface_mappings"}
_NO_LEGACY = {"dvr", "dvr_no_external"}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Move(_Value):
    """A router, and the L3 agents that it goes from and to."""

    router_id: str
    source_id: str
    target_id: str


class Stay(_Value):
    """A router that stays on the agent. ``harmless``: its traffic does not suffer when the host goes down."""

    router_id: str
    why: str
    harmless: bool


class Evacuation(_Value):
    """What is to be done with the routers of an agent."""

    source_id: str
    moves: tuple[Move, ...] = ()
    stays: tuple[Stay, ...] = ()


@dataclass(frozen=True)
class Wishes:
    """What the operator said: routers meant (all, where none is named), and routers left out."""

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def networks_of_router(topology: Topology, router: Router) -> list[Network]:
    """The networks that a router needs on its host."""
    ids = [port.network_id for port in topology.ports_of_router.get(router.id, ())]
    if router.external_network_id is not None:
        ids.append(router.external_network_id)
    return [topology.network[id_] for id_ in dict.fromkeys(ids) if id_ in topology.network]


def agents_of_router(topology: Topology, router_id: str) -> list[Agent]:
    """The L3 agents that have a router."""
    return [
        agent for agent in topology.agents_of(AGENT_L3) if router_id in topology.routers_of_agents.get(agent.id, ())
    ]


def lacking(topology: Topology, router: Router, state: RouterState | None) -> list[str]:
    """What a router's namespace lacks of what a topology says; None where there is no namespace."""
    return missing(
        router,
        topology.ports_of_router.get(router.id, ()),
        [each for each in topology.floating_ips if each.router_id == router.id],
        topology.subnet,
        state,
    )


def why_immovable(topology: Topology, router: Router, source: Agent) -> Stay | None:
    """Why a router can't be moved from an agent, whatever the others are like; None where it can."""
    if router.distributed:
        return Stay(
            router_id=router.id,
            why="it is distributed: its part on this host goes with the host, and its SNAT is scheduled by Neutron",
            harmless=False,
        )
    if router.ha:
        others = [
            agent.host for agent in agents_of_router(topology, router.id) if agent.id != source.id and agent.alive
        ]
        return Stay(
            router_id=router.id,
            why=f"it is HA: {', '.join(sorted(others))} {'takes' if len(others) == 1 else 'take'} over"
            if others
            else "it is HA, and no other live agent has it",
            harmless=bool(others),
        )
    return None


def obstacles(topology: Topology, router: Router, agent: Agent) -> list[str]:
    """Why an agent can't take a router; nothing where it can (neutron/db/l3_agentschedulers_db.py, and the L2 agent)."""
    found = []
    if not agent.alive:
        found.append("its L3 agent is dead")
    if not agent.admin_state_up:
        found.append("its L3 agent is disabled")
    settings = agent.configurations
    if settings.get("agent_mode") in _NO_LEGACY:
        found.append(f"its L3 agent has the mode {settings['agent_mode']}")
    only = settings.get("gateway_external_network_id")
    if only and router.external_network_id not in (None, only):
        found.append(f"its L3 agent serves the external network {only} only")
    if router.external_network_id is None and settings.get("handle_internal_only_routers") is False:
        found.append("its L3 agent takes no routers without a gateway")
    zones = router.availability_zone_hints
    if zones and agent.availability_zone not in zones:
        found.append(f"its zone is {agent.availability_zone}, and the router wants {' or '.join(zones)}")
    return found + _unreachable(topology, router, agent.host)


def _unreachable(topology: Topology, router: Router, host: str) -> list[str]:
    plugging = [agent for agent in topology.agents if agent.host == host and agent.name in _PLUGGING]
    if not plugging:
        return ["no agent plugs ports there"]
    (agent, *_) = plugging
    found = [] if agent.alive else [f"its {agent.name} is dead"]
    mappings = agent.configurations.get(_PLUGGING[agent.name]) or {}
    tunnels = agent.configurations.get("tunnel_types") or []
    for network in networks_of_router(topology, router):
        reached = not network.segments or any(
            segment.physical_network in mappings
            if segment.physical_network is not None
            else not network.tunnelled or not tunnels or segment.network_type in tunnels
            for segment in network.segments
        )
        if not reached:
            names = ", ".join(segment.physical_network or segment.network_type for segment in network.segments)
            found.append(f"network {network.label} ({names}) does not reach it")
    return found


class NotMeant(OvnshiftError):
    """A router that was named is not on the agent, or is named twice by one name."""


def meant(names: Iterable[str], there: Sequence[Router], option: str) -> set[str]:
    """The ids of routers that an option names by name or id.

    Raises:
        NotMeant: none of the agent's routers is called so, or several are.
    """
    found = set()
    for name in names:
        ids = [router.id for router in there if name in (router.id, router.name)]
        if len(ids) != 1:
            known = ", ".join(sorted(router.label for router in there)) or "none"
            problem = "is the name of several routers there" if ids else "is no router of this agent"
            raise NotMeant(f"{option} {name}", problem, f"give the id of one of {known}")
        found.update(ids)
    return found


@dataclass
class Burden:
    """What a host carries, now and after the moves that are planned.

    Attributes:
        routers, ports: on its L3 agent.
        memory: megabytes that are available.
        load: the average of the last minute; expected afterwards: with the routers' share of it by their packets.
        traffic: packets a second through its routers.
    """

    host: str
    routers: int
    ports: int
    memory: float
    load: float
    cores: int
    traffic: float


def burden(topology: Topology, agent: Agent, state: HostState) -> Burden:
    """What the host of an agent carries now."""
    ids = topology.routers_of_agents.get(agent.id, ())
    return Burden(
        host=agent.host,
        routers=len(ids),
        ports=sum(len(topology.ports_of_router.get(id_, ())) for id_ in ids),
        memory=state.available_megabytes,
        load=state.load,
        cores=state.cores,
        traffic=sum(router.packets_per_second for router in state.routers.values()),
    )


@dataclass(frozen=True)
class Planned:
    """A plan, with what each host carries before and after it."""

    evacuation: Evacuation
    before: Mapping[str, Burden]
    after: Mapping[str, Burden]


def make(
    topology: Topology,
    source: Agent,
    targets: Sequence[Agent],
    states: Mapping[str, HostState],
    wishes: Wishes,
    *,
    reserve_megabytes: float,
) -> Planned:
    """Plan where each router of an agent goes: to the agent with the fewest routers, then ports, that can take it and has room.

    Args:
        topology: the cloud.
        source: the agent that is emptied.
        targets: agents that may be moved to.
        states: of the hosts of all of them.
        wishes: what the operator said.
        reserve_megabytes: memory that has to stay available on a host.

    Raises:
        NotMeant: a router that is named is not there.
    """
    here = [topology.router[id_] for id_ in topology.routers_of_agents.get(source.id, ()) if id_ in topology.router]
    only = meant(wishes.only, here, "--router")
    excluded = meant(wishes.exclude, here, "--exclude")
    agents = {agent.host: agent for agent in targets}
    before = {
        agent.host: burden(topology, agent, states[agent.host]) for agent in (source, *targets) if agent.host in states
    }
    after = {host: Burden(**vars(each)) for host, each in before.items()}
    moves, stays = [], []
    # The largest first, so that the small ones even out what is left.
    for router in sorted(here, key=lambda each: (-len(topology.ports_of_router.get(each.id, ())), each.name, each.id)):
        immovable = why_immovable(topology, router, source)
        if immovable is not None:
            stays.append(immovable)
            continue
        if router.id in excluded or (only and router.id not in only):
            why = "it was excluded" if router.id in excluded else "only others were asked for"
            stays.append(Stay(router_id=router.id, why=why, harmless=False))
            continue
        measured = states[source.host].routers.get(router.id) if source.host in states else None
        needs = measured.megabytes if measured is not None else 0.0

        def refusals(agent: Agent, router: Router = router, needs: float = needs) -> list[str]:
            found = obstacles(topology, router, agent)
            if agent.host not in after:
                found.append("its host could not be measured")
            elif after[agent.host].memory - needs < reserve_megabytes:
                found.append(f"it has {after[agent.host].memory:.0f} MB of memory left, the router takes {needs:.0f}")
            return found

        fit = [agent for agent in agents.values() if not refusals(agent)]
        if not fit:
            stays.append(Stay(router_id=router.id, why=_nowhere(agents.values(), refusals), harmless=False))
            continue
        target = min(fit, key=lambda agent: (after[agent.host].routers, after[agent.host].ports, agent.host))
        moves.append(Move(router_id=router.id, source_id=source.id, target_id=target.id))
        ports = len(topology.ports_of_router.get(router.id, ()))
        traffic = measured.packets_per_second if measured is not None else 0.0
        load = before[source.host].load * traffic / before[source.host].traffic if traffic else 0.0
        for host, sign in ((target.host, 1), (source.host, -1)):
            if host in after:
                carried = after[host]
                carried.routers += sign
                carried.ports += sign * ports
                carried.memory -= sign * needs
                carried.traffic += sign * traffic
                carried.load += sign * load
    return Planned(Evacuation(source_id=source.id, moves=tuple(moves), stays=tuple(stays)), before, after)


def _nowhere(agents: Iterable[Agent], refusals: Callable[[Agent], list[str]]) -> str:
    reasons = [f"{agent.host}: {', '.join(refusals(agent))}" for agent in sorted(agents, key=lambda each: each.host)]
    return f"no agent can take it ({'; '.join(reasons) or 'there is no other'})"


def candidates(topology: Topology, source: Agent, hosts: Sequence[Agent]) -> list[Agent]:
    """The agents that may be moved to: those named, or all others.

    Raises:
        OvnshiftError: the agent itself is named.
    """
    if any(agent.id == source.id for agent in hosts):
        raise OvnshiftError(f"--to {source.host}", "is the host that is emptied", "name another, or leave it out")
    return list(hosts) or [agent for agent in topology.agents_of(AGENT_L3) if agent.id != source.id]


def described(topology: Topology, evacuation: Evacuation) -> list[str]:
    """A plan in lines, for people."""
    agents: dict[str, Any] = {agent.id: agent for agent in topology.agents}
    lines = [
        f"{topology.router[move.router_id].label}: {agents[move.source_id].host} → {agents[move.target_id].host}"
        for move in evacuation.moves
        if move.router_id in topology.router
    ]
    for stay in evacuation.stays:
        router = topology.router.get(stay.router_id)
        lines.append(f"{router.label if router else stay.router_id} stays: {stay.why}")
    return lines
