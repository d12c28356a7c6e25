"""Chapters 5, 6 and 10: the old driver's agents are stopped, what they left is removed, and Neutron forgets them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

from ovnshift.cloud.topology import AGENT_DHCP, AGENT_L3, AGENT_LINUXBRIDGE, AGENT_METADATA, AGENT_METERING, OWNER_DHCP
from ovnshift.deployments.services import program_of
from ovnshift.hosts import cleanup
from ovnshift.hosts.cleanup import Belongings, Leftover
from ovnshift.hosts.units import unit_states
from ovnshift.migration.window import Window, ask, wait_until
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step

RETIRE = "5 retire agents"
CLEAN = "6 clean hosts"
FORGET = "10 agents and left-overs"
OLD_AGENTS = frozenset({AGENT_LINUXBRIDGE, AGENT_L3, AGENT_DHCP, AGENT_METADATA, AGENT_METERING})
CLEAN_SECONDS = 120.0


class StopUnits(Step):
    """Units of a host are stopped, and disabled if they are to stay so after a reboot too."""

    way_back = "its chapter 5 starts what ran, and enables what was enabled"

    def __init__(
        self,
        window: Window,
        host: str,
        units: Sequence[str],
        *,
        what: str,
        disable: bool,
        chapter: str = RETIRE,
        settled_by: tuple[str, ...] = (),
    ) -> None:
        self.chapter = chapter
        self.settled_by = settled_by
        self._window = window
        self._host = host
        self._units = units
        self._disable = disable
        self.key = f"{what}/{host}"
        self.title = f"stop {'and disable ' if disable else ''}{what} on {host}"

    def states(self) -> dict[str, dict[str, str]]:
        """ActiveState and UnitFileState of those that the host has."""
        return unit_states(self._window.fleet[self._host], self._units)

    def plan(self) -> list[str]:
        verb = "disable --now" if self._disable else "stop"
        return [f"{self._host}: systemctl {verb} {unit}" for unit in self._units]

    def find(self) -> dict[str, dict[str, str]]:
        return self.states()

    def _still_on(self) -> list[str]:
        wrong = []
        for unit, state in self.states().items():
            if state["active"] not in {"inactive", "failed"}:
                wrong.append(f"{unit} is {state['active']}")
            if self._disable and state["enabled"] in {"enabled", "enabled-runtime", "linked"}:
                wrong.append(f"{unit} is {state['enabled']}")
        return wrong

    def is_done(self) -> bool:
        return not self._still_on()

    def do(self, found: Any) -> None:
        del found
        host = self._window.fleet[self._host]
        units = list(self.states())
        if not units:
            return
        verb = ["disable", "--now"] if self._disable else ["stop"]
        host.check("systemctl", *verb, "--", *units, seconds=self._window.site.limits.settle_seconds)

    def prove(self) -> list[str]:
        """By systemd, and by the processes of the host."""
        if wrong := self._still_on():
            raise NotReady(Finding(f"{self._host}: {', '.join(wrong)}", (), "systemctl status says why"))
        left = self._processes()
        if left:
            raise NotReady(
                Finding(f"{self._host} still runs {', '.join(left)}", (), "who started these, beside systemd?")
            )
        return [f"{self._host}: {', '.join(self.states()) or 'has none of these'}: inactive; no such process"]

    def _processes(self) -> list[str]:
        programs = [program_of(unit) for unit in self._units]
        listed = self._window.fleet[self._host].check("ps", "-e", "-o", "pid=,args=", "--cols", "400")
        found = []
        for line in listed.splitlines():
            words = line.split()[1:4]
            if any(word.rsplit("/", 1)[-1] in programs for word in words):
                found.append(line.strip()[:120])
        return found

    def start_again(self, found: Any) -> None:
        """As :meth:`find` found them."""
        host = self._window.fleet[self._host]
        enabled = [unit for unit, state in found.items() if state["enabled"] == "enabled"]
        active = [unit for unit, state in found.items() if state["active"] == "active"]
        if enabled and self._disable:
            host.check("systemctl", "enable", "--", *enabled)
        if active:
            host.check("systemctl", "start", "--", *active, seconds=self._window.site.limits.settle_seconds)


def retire(window: Window) -> list[StopUnits]:
    """Stop and disable the old agents, a step a host."""
    units = window.services.agents
    return [StopUnits(window, host, units, what="agents", disable=True) for host in window.agent_hosts]


def hold_api(window: Window, chapter: str = RETIRE) -> list[StopUnits]:
    """Stop Neutron's server, a step a control host: it must not run with one driver on the rows of the other.

    Args:
        window: the cloud.
        chapter: when.
    """
    units, after = window.services.api, ("9 sync/api",)
    return [
        StopUnits(window, host, units, what="Neutron's server", disable=False, chapter=chapter, settled_by=after)
        for host in window.site.group("control")
    ]


def belongings(window: Window) -> Belongings:
    """What on a host is Neutron's, by the cloud as it was before."""
    before = window.before
    segments = [segment for network in before.networks for segment in network.segments]
    interfaces: dict[str, set[str]] = {}
    for agent in before.agents_of(AGENT_LINUXBRIDGE):
        for physical_network, interface in dict(agent.configurations.get("interface_mappings") or {}).items():
            interfaces.setdefault(physical_network, set()).add(str(interface))
    vlans = {
        (interface, each.segmentation_id)
        for each in segments
        if each.network_type == "vlan" and each.segmentation_id
        for interface in interfaces.get(each.physical_network or "", {None})
    }
    return Belongings(
        networks=tuple(network.id for network in before.networks),
        routers=tuple(router.id for router in before.routers),
        ports=tuple(port.id for port in before.ports),
        vnis=tuple(each.segmentation_id for each in segments if each.network_type == "vxlan" and each.segmentation_id),
        vlans=tuple(vlans),
        security_groups=tuple(group.id for group in before.security_groups),
        interfaces=tuple(sorted({each for found in interfaces.values() for each in found})),
    )


class CleanHost(Step):
    """What the old agents left on a host is removed: only what belongs to an object of Neutron's."""

    way_back = "none is needed: the agents build all of it anew when they start"

    def __init__(self, window: Window, host: str, *, chapter: str = CLEAN, settled_by: str = "7 deploy OVN/") -> None:
        self._window = window
        # From then on nova-compute may be restarted, which makes bridges anew; or instances' taps are there again, by the same
        # names; or the old agents have made all of it anew.
        self.settled_by = (settled_by,)
        self.host = host
        self._belongings = belongings(window)
        self.strange: list[Leftover] = []
        self.chapter = chapter
        self.key = f"host/{host}"
        # A nova-compute that is restarted plugs what it remembers of its instances, and makes LinuxBridge's bridges for it anew
        # (nova/compute/manager.py, _init_instance).
        self.title = f"clean {host} of the old agents' namespaces, bridges, interfaces and rules" + (
            " again" if chapter == FORGET else ""
        )

    def _look(self) -> list[Leftover]:
        found = cleanup.look(self._window.fleet[self.host], self._belongings)
        self.strange = [each for each in found if each.state == "strange"]
        return [each for each in found if each.state != "strange"]

    def plan(self) -> list[str]:
        return [f"{self.host}: {each.command or each}" for each in self._look()]

    def find(self) -> list[str]:
        return [str(each) for each in self._look()]

    def is_done(self) -> bool:
        return not self._look()

    def do(self, found: Any) -> None:
        del found
        done = cleanup.remove(self._window.fleet[self.host], self._belongings, CLEAN_SECONDS)
        left = [str(each) for each in done if each.state in {"left", "in use"}]
        if left:
            raise NotReady(
                Finding(
                    f"{len(left)} things are left on {self.host}", tuple(left), "see what uses them, and run this again"
                )
            )

    def prove(self) -> list[str]:
        """By looking again, with other programs than those that removed."""
        left = self._look()
        host = self._window.fleet[self.host]
        namespaces = host.check("ip", "netns", "list").split()
        old = [each for each in namespaces if each.startswith(("qdhcp-", "qrouter-"))]
        known = {f"qdhcp-{id_}" for id_ in self._belongings.networks} | {
            f"qrouter-{id_}" for id_ in self._belongings.routers
        }
        if left or known & set(old):
            raise NotReady(
                Finding(
                    f"{self.host} has something again",
                    tuple(str(each) for each in left) + tuple(sorted(known & set(old))),
                    "some agent still runs?",
                )
            )
        return [f"{self.host}: no namespace, bridge, tap, tunnel or chain of the old agents"]


def dead_agents(window: Window) -> list[str]:
    """Agents that Neutron calls dead now.

    Raises:
        CloudError: Neutron can't be asked.
    """
    agents = ask("Neutron", "agents", lambda: list(window.network.agents()))
    return [f"{agent.agent_type} on {agent.host}" for agent in agents if not agent.is_alive]


class ForgetAgents(Step):
    """The old agents' entries go from Neutron, once it calls them dead."""

    chapter = FORGET
    key = "agents"
    title = "delete the old agents from Neutron"
    way_back = "none is needed: agents enter themselves when they start"

    def __init__(self, window: Window) -> None:
        self._window = window

    def _old(self) -> list[Any]:
        agents = ask("Neutron", "agents", lambda: list(self._window.network.agents()))
        return [agent for agent in agents if agent.agent_type in OLD_AGENTS]

    def plan(self) -> list[str]:
        return [
            f"openstack network agent delete {agent.id}  # {agent.name} on {agent.host}"
            for agent in self._window.before.agents
        ]

    def is_done(self) -> bool:
        return not self._old()

    def do(self, found: Any) -> None:
        del found

        def alive() -> str | None:
            still = [f"{agent.agent_type} on {agent.host}" for agent in self._old() if agent.is_alive]
            return f"Neutron calls alive: {', '.join(still)}" if still else None

        wait_until(
            "the old agents are dead by Neutron",
            max(self._window.site.limits.settle_seconds, 90.0),
            alive,
            remedy="some host still runs them: it may be missing in the site file",
        )
        for agent in self._old():
            ask(
                "Neutron",
                f"delete {agent.agent_type} on {agent.host}",
                self._window.network.delete_agent,
                agent.id,
            )

    def prove(self) -> list[str]:
        agents = ask("Neutron", "agents", lambda: list(self._window.network.agents()))
        kinds = sorted({agent.agent_type for agent in agents})
        if old := self._old():
            raise NotReady(
                Finding("old agents are there", tuple(f"{each.agent_type} on {each.host}" for each in old), "still on?")
            )
        wait_until(
            "every agent is alive",
            self._window.site.limits.settle_seconds,
            lambda: ", ".join(dead_agents(self._window)) or None,
            remedy="see ovn-controller and the metadata agent there",
            every=3.0,
        )
        return [f"Neutron has {len(agents)} agents, all alive: {', '.join(kinds)}"]


class DeleteObjects(Step):
    """Objects of Neutron's that nobody needs any more are deleted, however many there are by then.

    Attributes:
        what: they are, for messages.
        remedy: what to ask when some are left.
        none_left: what proves it.
    """

    what: ClassVar[str]
    remedy: ClassVar[str]
    none_left: ClassVar[str]

    def __init__(self, window: Window) -> None:
        self._window = window

    @abc.abstractmethod
    def left(self) -> list[Any]:
        """Those that there are."""

    @abc.abstractmethod
    def delete(self, each: Any) -> None:
        """Delete one of them."""

    def find(self) -> list[str]:
        return [each.id for each in self.left()]

    def is_done(self) -> bool:
        return not self.left()

    def do(self, found: Any) -> None:
        del found
        for each in self.left():
            self.delete(each)

    def prove(self) -> list[str]:
        if left := self.left():
            raise NotReady(Finding(f"{self.what} are there", tuple(each.id for each in left), self.remedy))
        return [self.none_left]


class DeleteDhcpPorts(DeleteObjects):
    """Ports of the DHCP agents hold addresses that nobody answers for any more."""

    chapter = FORGET
    key = "dhcp ports"
    title = "delete the DHCP agents' ports"
    what = "DHCP agents' ports"
    remedy = "does an agent run?"
    none_left = "Neutron has no port of network:dhcp"
    way_back = "its chapter 5 makes them again, at the addresses that they had"

    def plan(self) -> list[str]:
        mine = [port for port in self._window.before.ports if port.device_owner == OWNER_DHCP]
        return [f"openstack port delete {port.id}  # {', '.join(port.addresses)}" for port in mine]

    def left(self) -> list[Any]:
        return ask("Neutron", "DHCP agents' ports", lambda: list(self._window.network.ports(device_owner=OWNER_DHCP)))

    def delete(self, each: Any) -> None:
        ask("Neutron", f"delete port {each.id}", self._window.network.delete_port, each.id)


class DeleteHaNetworks(DeleteObjects):
    """HA networks that Neutron has not removed with the last HA router of their project."""

    chapter = FORGET
    key = "HA networks"
    title = "see that no HA network is left"
    what = "HA networks"
    remedy = "which router uses them?"
    none_left = "Neutron has no HA network"
    way_back = "none is needed: Neutron makes one with a project's first HA router"

    def plan(self) -> list[str]:
        mine = [network for network in self._window.before.networks if network.is_ha_network]
        return [
            f"openstack network delete {network.id}  # {network.label}, unless Neutron has done so" for network in mine
        ]

    def left(self) -> list[Any]:
        known = {network.id for network in self._window.before.networks if network.is_ha_network}
        networks = ask("Neutron", "networks", lambda: list(self._window.network.networks()))
        return [
            each
            for each in networks
            if each.id in known or (not each.project_id and each.name.startswith("HA network tenant "))
        ]

    def delete(self, each: Any) -> None:
        ask("Neutron", f"delete {each.name}", self._window.network.delete_network, each.id)
