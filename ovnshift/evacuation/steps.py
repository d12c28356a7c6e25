"""The steps: a router carried from one L3 agent to another, and an agent that gets no new ones."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openstack.exceptions

from ovnshift import files, names
from ovnshift.cloud import discovery
from ovnshift.cloud.topology import (
    AGENT_L3,
    OWNER_ROUTER_GATEWAY,
    Agent,
    FloatingIp,
    Port,
    Router,
)
from ovnshift.connectivity.measure import sweep_from
from ovnshift.connectivity.realised import look, missing
from ovnshift.errors import OvnshiftError
from ovnshift.evacuation.announcements import Announcements
from ovnshift.evacuation.plan import Evacuation
from ovnshift.journal import Journal, State
from ovnshift.migration.backups import CHAPTER as BACK_UP
from ovnshift.migration.backups import KEPT
from ovnshift.migration.networks import agents_of_router
from ovnshift.migration.window import Window, ask, wait_until
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step

HOLD = "3 hold the agent"
MOVE = "4 move routers"
LATE = "5 late-comers"
HOME = "back 2 routers"
RELEASE = "back 1 the agent"
KIND, VERSION = "evacuation", 1
# Between looks while a router is carried. Each asks a host, which takes about a tenth of a second of its time.
EVERY = 0.25
# haproxy passes on what guests ask the metadata service, radvd tells them their IPv6 prefix (neutron/agent/metadata/driver.py and
# neutron/agent/linux/ra.py).
HELPERS = {"haproxy", "radvd"}
# As sweep_from takes it: id, namespace, kind, address, port or size.
Probe = tuple[str, str | None, str, str, int | None]


def plan_path(reports: Path) -> Path:
    """Where the plan that the window began with is kept."""
    return reports / "backups" / "evacuation.json"


def read_plan(path: Path) -> Evacuation:
    """A plan that was kept.

    Raises:
        OvnshiftError: it is missing or was changed.
    """
    return Evacuation.model_validate(files.read_document(path, KIND, VERSION))


def write_plan(path: Path, evacuation: Evacuation) -> None:
    """Keep a plan."""
    files.write_document(path, KIND, VERSION, evacuation.model_dump(mode="json"))


class KeepPlan(Step):
    """Which router goes where, in a file: a run that carries on does what the first one meant to."""

    chapter = BACK_UP
    key = "evacuation"
    title = "keep which router goes where"
    way_back = KEPT

    def __init__(self, window: Window, evacuation: Evacuation) -> None:
        self._window = window
        self._evacuation = evacuation
        self._path = plan_path(window.reports)

    def plan(self) -> list[str]:
        return [f"write {self._path}: {len(self._evacuation.moves)} moves"]

    def is_done(self) -> bool:
        return self._window.resumed and self._path.exists()

    def do(self, found: Any) -> None:
        del found
        write_plan(self._path, self._evacuation)

    def prove(self) -> list[str]:
        kept = read_plan(self._path)
        if kept != self._evacuation:
            raise NotReady(
                Finding(f"{self._path} is another plan", (), "pytest tests_migrate --status says what was begun")
            )
        return [f"{self._path}: {len(kept.moves)} routers move, {len(kept.stays)} stay"]


def agent_now(window: Window, agent: Agent) -> Any:
    """An agent as Neutron has it now.

    Raises:
        CloudError: there is none, or Neutron can't be asked.
    """
    return ask("Neutron", f"L3 agent on {agent.host}", lambda: window.network.get_agent(agent.id))


class SetAgent(Step):
    """An L3 agent is disabled, so that Neutron puts no router on it any more; or enabled again.

    Neutron gives a disabled agent no routers at all, unless ``enable_services_on_agents_with_admin_state_down`` is set: at its
    next synchronisation the agent drops those that it still has (neutron/db/l3_agentschedulers_db.py). So it is disabled when
    its routers are gone, and before that only where the setting is on.
    """

    way_back = "the agent is enabled again if it was"

    def __init__(self, window: Window, agent: Agent, *, enabled: bool, chapter: str) -> None:
        self._window = window
        self._agent = agent
        self._enabled = enabled
        self.chapter = chapter
        self._verb = "enable" if enabled else "disable"
        self.key = f"{self._verb}/{agent.id}"
        self.title = f"{self._verb} the L3 agent on {agent.host}"

    def plan(self) -> list[str]:
        return [f"openstack network agent set --{self._verb} {self._agent.id}  # on {self._agent.host}"]

    def _is_enabled(self) -> bool:
        return bool(agent_now(self._window, self._agent).is_admin_state_up)

    def find(self) -> bool:
        return self._is_enabled()

    def is_done(self) -> bool:
        return self._is_enabled() == self._enabled

    def do(self, found: Any) -> None:
        del found
        self._set(enabled=self._enabled)

    def _set(self, *, enabled: bool) -> None:
        ask(
            "Neutron",
            f"{self._verb} the L3 agent on {self._agent.host}",
            lambda: self._window.network.update_agent(self._agent.id, admin_state_up=enabled),
        )

    def prove(self) -> list[str]:
        agents = ask("Neutron", "L3 agents", lambda: list(self._window.network.agents(agent_type=AGENT_L3)))
        found = next((agent for agent in agents if agent.id == self._agent.id), None)
        if found is None or bool(found.is_admin_state_up) != self._enabled:
            raise NotReady(
                Finding(f"the L3 agent on {self._agent.host} is not {self._verb}d", (), "see who changes it")
            )
        return [f"Neutron's list has it {self._verb}d"]


class NothingLanded(Step):
    """The agent has no router but those that stay there by plan."""

    chapter = LATE
    key = "nothing landed"
    way_back = "nothing is changed"

    def __init__(self, window: Window, source: Agent, evacuation: Evacuation) -> None:
        self._window = window
        self._source = source
        self._staying = {stay.router_id for stay in evacuation.stays}
        self.title = f"see that nothing has landed on {source.host}"

    def plan(self) -> list[str]:
        return [
            f"openstack router list --agent {self._source.id}  # has to have the {len(self._staying)} that stay, and no other"
        ]

    def _late(self) -> list[str]:
        agent = self._source
        routers = ask(
            "Neutron", f"routers on {agent.host}", lambda: list(self._window.network.agent_hosted_routers(agent.id))
        )
        return [names.label(router.name, router.id) for router in routers if router.id not in self._staying]

    def is_done(self) -> bool:
        return not self._late()

    def do(self, found: Any) -> None:
        """Nothing: whoever put it there has to know of it."""

    def prove(self) -> list[str]:
        late = self._late()
        if late:
            raise NotReady(
                Finding(
                    f"{len(late)} routers came to {self._source.host} while others left",
                    tuple(late),
                    "--disable-agent keeps new ones away; move these in a change of their own: pytest -m pre --change=ANOTHER",
                )
            )
        return [f"{self._source.host} has the {len(self._staying)} that stay by plan, and no other"]


class _Parts:
    """What a router consists of by the API now."""

    def __init__(self, window: Window, router: Router) -> None:
        network = window.network
        ports = ask("Neutron", f"ports of {router.label}", lambda: list(network.ports(device_id=router.id)))
        floating = ask("Neutron", f"floating IPs of {router.label}", lambda: list(network.ips(router_id=router.id)))
        self.ports: list[Port] = [
            port
            for port in map(discovery.port_of, ports)
            if port.device_owner == OWNER_ROUTER_GATEWAY or port.device_owner.startswith("network:router_interface")
        ]
        self.floating_ips: list[FloatingIp] = [discovery.floating_ip_of(each) for each in floating]
        ids = {fixed.subnet_id for port in self.ports for fixed in port.fixed_ips}
        self.subnets = {
            id_: discovery.subnet_of(ask("Neutron", f"subnet {id_}", network.get_subnet, id_)) for id_ in sorted(ids)
        }

    @property
    def inside(self) -> list[tuple[str, str]]:
        """(network, address) of its interfaces."""
        return [
            (port.network_id, address)
            for port in self.ports
            if port.device_owner != OWNER_ROUTER_GATEWAY
            for address in port.addresses
        ]

    @property
    def outside(self) -> list[str]:
        """Addresses on its external network: its own, and floating IPs. IPv4, which has gratuitous ARP."""
        own = [
            address for port in self.ports if port.device_owner == OWNER_ROUTER_GATEWAY for address in port.addresses
        ]
        own += [each.address for each in self.floating_ips if each.port_id is not None]
        return [address for address in own if ipaddress.ip_address(address).version == 4]


class MoveRouter(Step):
    """A router is taken from one L3 agent and given to another, and forwards there.

    A router that is nowhere, because a run was interrupted in between, is given to the agent that it was meant for. If that one
    refuses it, it goes back where it came from.

    Args:
        window: this run.
        router: which.
        source: the agent that has it.
        target: the agent that gets it.
        chapter: which chapter of the window this is.
        announcements: what is heard on the outside; None where nobody listens.
    """

    may_be_gone = True
    way_back = "it is moved home"

    def __init__(
        self,
        window: Window,
        router: Router,
        source: Agent,
        target: Agent,
        *,
        chapter: str = MOVE,
        announcements: Announcements | None = None,
    ) -> None:
        self._window = window
        self._router = router
        self._source = source
        self._target = target
        self._announcements = announcements
        # Outer addresses that answered before; what never did, need not afterwards.
        self._answered: frozenset[str] = frozenset()
        # An agent starts these last, when the router already forwards.
        self._needed: frozenset[str] = frozenset()
        self._times: list[tuple[str, float]] = []
        self._answering: list[str] = []
        self._began: float | None = None
        self.chapter = chapter
        self.key = f"move/{router.id}"
        self.title = f"move router {router.label} from {source.host} to {target.host}"

    def plan(self) -> list[str]:
        router = f"{self._router.id}  # {self._router.label}"
        return [
            f"openstack network agent remove router --l3 {self._source.id} {router}, from {self._source.host}",
            f"openstack network agent add router --l3 {self._target.id} {router}, to {self._target.host}",
        ]

    def _hosts(self) -> list[str]:
        """The ids of the agents that have it."""
        return [agent["id"] for agent in agents_of_router(self._window, self._router)]

    def find(self) -> dict[str, list[str]]:
        answers = self._ask(_Parts(self._window, self._router))
        return {
            "agents": self._hosts(),
            "answered": sorted(id_ for id_, silence in answers.items() if not silence),
            "helpers": sorted(self._helpers(self._source)),
        }

    def _helpers(self, agent: Agent) -> set[str]:
        """What runs beside the router where an agent has it: of that which guests ask for metadata and addresses."""
        if agent.host not in self._window.fleet.site.hosts:
            return set()
        state = look(self._window.fleet[agent.host], [self._router.id]).routers.get(self._router.id)
        return HELPERS & {name for name, _ in state.processes} if state else set()

    def is_done(self) -> bool:
        return self._hosts() == [self._target.id] and not self._unbuilt(_Parts(self._window, self._router))

    def do(self, found: Any) -> None:
        self._answered = frozenset(found["answered"])
        self._needed = frozenset(found.get("helpers", ()))
        self._carry()
        try:
            self._settle(_Parts(self._window, self._router))
        except NotReady as error:
            self._return(error)
            raise

    def _carry(self) -> None:
        source, target = self._source, self._target
        now = self._hosts()
        strange = [id_ for id_ in now if id_ not in (source.id, target.id)]
        if strange or len(now) > 1:
            raise NotReady(
                Finding(
                    f"router {self._router.label} is on {', '.join(now)}, not on {source.host} alone",
                    (),
                    "somebody else moves it: openstack network agent list --router; then run this again",
                )
            )
        if now == [target.id]:
            return
        try:
            self._require_alive(target)
        except NotReady as error:
            self._put_back(source, error.finding.what)
            raise
        self._began = time.monotonic()
        if now == [source.id]:
            self._remove(source)
        try:
            self._add(target)
        except OvnshiftError as error:
            self._put_back(source, error.problem)
            raise

    def _require_alive(self, target: Agent) -> None:
        """Before anything is taken away: whoever is to have it answers now."""
        now = agent_now(self._window, target)
        if not now.is_alive or not now.is_admin_state_up:
            word = "disabled" if now.is_alive else "dead"
            raise NotReady(
                Finding(
                    f"the L3 agent on {target.host} is {word}, and gets no router",
                    (),
                    "bring it back, or name another with --to in a change of its own",
                )
            )

    def _remove(self, agent: Agent) -> None:
        ask(
            "Neutron",
            f"take router {self._router.label} from {agent.host}",
            lambda: _checked(self._window.network.delete(f"/agents/{agent.id}/l3-routers/{self._router.id}"), 404, 409),
        )
        self._mark("removed")

    def _add(self, agent: Agent) -> None:
        ask(
            "Neutron",
            f"give router {self._router.label} to {agent.host}",
            lambda: _checked(
                self._window.network.post(f"/agents/{agent.id}/l3-routers", json={"router_id": self._router.id})
            ),
        )
        self._mark("added")

    def _put_back(self, source: Agent, cause: str) -> None:
        """Where it came from, if it is nowhere.

        Raises:
            OvnshiftError: it is nowhere still.
        """
        if self._hosts():
            return
        try:
            self._add(source)
        except OvnshiftError as error:
            raise OvnshiftError(
                f"router {self._router.label}",
                f"is on no agent: {cause}; and {source.host} did not take it back: {error.problem}",
                f"openstack network agent add router --l3 {source.id} {self._router.id}; or run this again",
            ) from error
        self._window.say(f"{self._router.label} was put back on {source.host}")

    def _return(self, cause: NotReady) -> None:
        """It does not work where it is now: give it back to the agent where it did, if that one takes it.

        Raises:
            OvnshiftError: it does not.
        """
        source = agent_now(self._window, self._source)
        if self._hosts() != [self._target.id] or not source.is_alive or not source.is_admin_state_up:
            self._window.say(
                f"{self._router.label} stays on {self._target.host}: {self._source.host} does not take it back"
            )
            return
        self._window.say(f"{self._router.label}: {cause.finding.what}; it goes back to {self._source.host}")
        self._remove(self._target)
        self._add(self._source)
        self._window.say(f"{self._router.label} was put back on {self._source.host}")

    def _mark(self, what: str) -> None:
        if self._began is not None:
            self._times.append((what, time.monotonic() - self._began))

    # Proof

    def prove(self) -> list[str]:
        """By the API, by the namespaces on both hosts, and by traffic from both sides."""
        hosts = self._hosts()
        if hosts != [self._target.id]:
            raise NotReady(
                Finding(
                    f"router {self._router.label} is on {hosts or 'no agent'}",
                    (),
                    "run this again: it is finished then",
                )
            )
        parts = _Parts(self._window, self._router)
        self._settle(parts)
        self._until(f"gone from {self._source.host}", self._left, "gone from the old host")
        lines = [
            f"Neutron has it on {self._target.host} alone",
            f"{self._target.host} has its namespace: {len(parts.ports)} ports, {len(parts.floating_ips)} floating IPs, NAT",
            f"{self._source.host} has none",
            *self._reached(),
            *self._heard(parts),
        ]
        if self._times:
            lines.append(
                "after it was taken away: " + ", ".join(f"{what} {after:.2f} s" for what, after in self._times)
            )
        return lines

    def _settle(self, parts: _Parts) -> None:
        """Wait until it is whole where it is now, and answers there.

        Raises:
            NotReady: it is not within ``limits.settle_seconds``.
        """
        self._until(f"built on {self._target.host}", lambda: self._unbuilt(parts), "built")
        self._until("answers from both sides", lambda: self._silent(parts), "answers")

    def _until(self, what: str, missing: Callable[[], str | None], mark: str) -> None:
        wait_until(
            f"router {self._router.label}: {what}",
            self._window.site.limits.settle_seconds,
            missing,
            remedy=f"journalctl -u neutron-l3-agent on {self._target.host} and on {self._source.host}",
            every=EVERY,
        )
        if not any(known == mark for known, _ in self._times):
            self._mark(mark)

    def _unbuilt(self, parts: _Parts) -> str | None:
        state = look(self._window.fleet[self._target.host], [self._router.id]).routers.get(self._router.id)
        lacks = missing(self._router, parts.ports, parts.floating_ips, parts.subnets, state)
        running = {name for name, _ in state.processes} if state else set()
        lacks += [f"{name} does not run" for name in sorted(self._needed - running)]
        return f"on {self._target.host}: {', '.join(lacks)}" if lacks else None

    def _left(self) -> str | None:
        if self._source.host not in self._window.fleet.site.hosts:
            return None
        there = look(self._window.fleet[self._source.host], ()).namespaces
        return f"its namespace is still on {self._source.host}" if self._router.id in there else None

    def _probes(self, parts: _Parts) -> dict[str, list[Probe]]:
        """What is asked from which host: its inner addresses from DHCP namespaces, its outer ones from outside."""
        found: dict[str, list[Probe]] = {}
        for network_id, address in parts.inside:
            hosts = self._window.before.dhcp_ports.get(network_id, {})
            # From elsewhere than where it is, where there is such a place.
            ranked = sorted(hosts, key=lambda host: (host in (self._source.host, self._target.host), host))
            usable = [host for host in ranked if host in self._window.site.hosts]
            if usable:
                probe: Probe = (f"{address} from inside", f"qdhcp-{network_id}", "icmp", address, None)
                found.setdefault(usable[0], []).append(probe)
        outside = self._window.site.outside.host
        if outside is not None:
            probes: list[Probe] = [(_from_outside(each), None, "icmp", each, None) for each in parts.outside]
            found.setdefault(outside, []).extend(probes)
        return found

    def _ask(self, parts: _Parts) -> dict[str, str]:
        """Ask each of its addresses once: why there was no answer, or nothing where there was one."""
        found = {}
        for host, probes in self._probes(parts).items():
            answers = sweep_from(
                self._window.fleet[host],
                probes,
                count=1,
                seconds=self._window.site.limits.probe_seconds,
                banner_seconds=1,
            )
            for id_, answer in answers.items():
                found[id_] = "" if answer.get("received") else str(answer.get("vantage_error") or "no answer")
        return found

    def _silent(self, parts: _Parts) -> str | None:
        if not self._router.admin_state_up:
            return None
        answers = self._ask(parts)
        self._answering = sorted(id_ for id_, silence in answers.items() if not silence)
        outer = {_from_outside(address) for address in parts.outside}
        silent = [
            f"{id_}: {silence}"
            for id_, silence in answers.items()
            if silence and (id_ not in outer or id_ in self._answered)
        ]
        return ", ".join(silent) or None

    def _reached(self) -> list[str]:
        return (
            [f"answers: {', '.join(self._answering)}"]
            if self._answering
            else ["there is nowhere to ask its addresses from"]
        )

    def _heard(self, parts: _Parts) -> list[str]:
        if self._announcements is None or self._began is None:
            return []
        heard = self._announcements.since(self._began, parts.outside)
        silent = [address for address in parts.outside if address not in heard]
        lines = [f"gratuitous ARP heard outside of {', '.join(sorted(heard))}"] if heard else []
        return lines + ([f"no gratuitous ARP heard outside of {', '.join(silent)}"] if silent else [])


def _from_outside(address: str) -> str:
    return f"{address} from outside"


def _checked(response: Any, *passing: int) -> Any:
    """Raise openstacksdk's error for an answer that is one, but for statuses that say that it is so already."""
    if response.status_code not in passing:
        openstack.exceptions.raise_from_response(response)
    return response


def nowhere(window: Window, routers: Sequence[Router]) -> list[str]:
    """Routers that no agent has."""
    return [router.label for router in routers if not agents_of_router(window, router)]


def begun_by_us(journal: Journal, kind: str) -> set[str]:
    """The ids of what steps of a kind ("move/") were done to, or begun; not of those that somebody else had done before."""
    return {
        entry.step.rpartition("/")[2]
        for entry in journal.entries()
        if entry.step.removeprefix(f"{entry.chapter}/").startswith(kind)
        and not entry.chapter.startswith("back ")
        and entry.state not in {State.UNDONE, State.ALREADY}
    }
