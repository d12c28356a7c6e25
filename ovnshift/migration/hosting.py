"""The way back, of networks and routers: an agent that was deleted has lost what it served, and is told again.

Neutron keeps which agent serves which network and router in rows that go with the agent's own
(neutron/db/agentschedulers_db.py). An agent that enters itself anew starts with none of them: it asks for what it should serve
before Neutron knows it (neutron/agent/dhcp/agent.py, sync_state).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ovnshift.cloud.topology import AGENT_DHCP, AGENT_L3, OWNER_DHCP, Network, Port, Router, Topology
from ovnshift.migration.back import AGENTS, ROUTERS
from ovnshift.migration.networks import agents_of_router
from ovnshift.migration.window import Window, ask, wait_until
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step


def _ports(window: Window, network: Network) -> list[Any]:
    """A network's ports as they are now."""
    what = f"ports of network {network.label}"
    return ask("Neutron", what, lambda: list(window.network.ports(network_id=network.id)))


def usual_count(before: Topology) -> int:
    """How many DHCP agents most networks had; of a cloud without any, 1."""
    counts = Counter(
        len(hosts) for network in before.networks if (hosts := before.dhcp_ports.get(network.id)) and network.subnet_ids
    )
    return counts.most_common(1)[0][0] if counts else 1


def least_loaded(hosts: Iterable[str], load: Counter[str], count: int) -> list[str]:
    """Hosts to give one more to: those that have the fewest; by name where that is the same."""
    return sorted(hosts, key=lambda host: (load[host], host))[:count]


class DhcpPorts(Step):
    """The DHCP agents' ports of a network are there again, at the addresses that they had, before an agent makes new ones.

    By its device ID an agent takes such a port for its own (neutron/agent/linux/dhcp.py, setup_dhcp_port). It can't be bound
    while the agents are off; Neutron binds it when one asks for it (neutron/plugins/ml2/plugin.py, get_bound_port_context).
    """

    may_be_gone = True
    chapter = AGENTS

    def __init__(self, window: Window, network: Network, ports: Sequence[Port]) -> None:
        self._window = window
        self._network = network
        self._ports = ports
        # Once agents run, a port that is missing is theirs to make.
        self.settled_by = (f"{AGENTS}/agents/", f"{AGENTS}/dhcp/")
        self.key = f"dhcp ports/{network.id}"
        self.title = f"make the DHCP agents' ports of network {network.label} again"

    def plan(self) -> list[str]:
        return [
            f"openstack port create --network {self._network.id} --device-owner {port.device_owner} --host {port.host} "
            f"--fixed-ip ip-address={','.join(port.addresses)}"
            for port in self._ports
        ]

    def _missing(self) -> tuple[list[Port], list[str]]:
        """Those to make, and what is in the way of others."""
        ask("Neutron", f"network {self._network.label}", self._window.network.get_network, self._network.id)
        now = _ports(self._window, self._network)
        own = {port.device_id for port in now}
        taken = {entry["ip_address"]: port.id for port in now for entry in port.fixed_ips}
        free, held = [], []
        for port in self._ports:
            if port.device_id in own:
                continue
            if others := sorted(set(port.addresses) & set(taken)):
                held.append(
                    f"{others[0]} of {port.host}'s DHCP agent is port {taken[others[0]]}'s now: it gets another one"
                )
            else:
                free.append(port)
        return free, held

    def is_done(self) -> bool:
        return not self._missing()[0]

    def do(self, found: Any) -> None:
        del found
        for port in self._missing()[0]:
            ask(
                "Neutron",
                f"port of the DHCP agent on {port.host}",
                functools.partial(
                    self._window.network.create_port,
                    network_id=self._network.id,
                    name=port.name,
                    device_owner=port.device_owner,
                    device_id=port.device_id,
                    binding_host_id=port.host,
                    mac_address=port.mac_address,
                    fixed_ips=[each.model_dump() for each in port.fixed_ips],
                ),
            )

    def prove(self) -> list[str]:
        free, held = self._missing()
        if free:
            missing = tuple(f"{', '.join(port.addresses)} of {port.host}" for port in free)
            raise NotReady(Finding(f"DHCP ports of {self._network.label} are missing", missing, "who deletes them?"))
        return [f"network {self._network.label}: {len(self._ports) - len(held)} DHCP ports at their addresses", *held]


def dhcp_ports(window: Window) -> list[DhcpPorts]:
    """A step for each network that had DHCP agents."""
    before = window.before
    return [
        DhcpPorts(window, network, list(before.dhcp_ports[network.id].values()))
        for network in before.networks
        if network.id in before.dhcp_ports
    ]


class NetworkServed(Step):
    """A network has its DHCP agents again."""

    may_be_gone = True
    chapter = AGENTS

    def __init__(self, window: Window, network: Network, hosts: Sequence[str]) -> None:
        self._window = window
        self._network = network
        self._hosts = hosts
        self.key = f"dhcp/{network.id}"
        self.title = f"give network {network.label} its DHCP agents again"

    def plan(self) -> list[str]:
        return [
            f"openstack network agent add network --dhcp <agent of {host}> {self._network.id}  # {self._network.label}"
            for host in self._hosts
        ]

    def _serving(self) -> set[str]:
        agents = ask(
            "Neutron",
            f"agents of network {self._network.label}",
            lambda: list(self._window.network.network_hosting_dhcp_agents(self._network.id)),
        )
        return {agent.host for agent in agents}

    def _missing(self) -> str | None:
        if missing := set(self._hosts) - self._serving():
            return f"no DHCP agent on {', '.join(sorted(missing))}"
        ports = [port for port in _ports(self._window, self._network) if port.device_owner == OWNER_DHCP]
        for host in self._hosts:
            own = [port for port in ports if port.binding_host_id == host]
            if not own:
                return f"the DHCP agent on {host} has no port"
            if down := [port.id for port in own if port.status != "ACTIVE"]:
                return f"port {', '.join(down)} on {host} is not ACTIVE"
        return None

    def is_done(self) -> bool:
        return self._missing() is None

    def do(self, found: Any) -> None:
        del found
        ask("Neutron", f"network {self._network.label}", self._window.network.get_network, self._network.id)
        agents = ask("Neutron", "DHCP agents", lambda: list(self._window.network.agents(agent_type=AGENT_DHCP)))
        for agent in agents:
            if agent.host in self._hosts and agent.host not in self._serving():
                ask(
                    "Neutron",
                    f"add network {self._network.label} to the DHCP agent on {agent.host}",
                    self._window.network.add_dhcp_agent_to_network,
                    agent,
                    self._network.id,
                )

    def prove(self) -> list[str]:
        """By Neutron, and by the addresses in the namespaces of the hosts."""
        wait_until(
            f"network {self._network.label} has its DHCP agents",
            2 * self._window.site.limits.settle_seconds,
            lambda: self._missing() or self._absent(),
            remedy="see the DHCP agents' logs on these hosts",
            every=2.0,
        )
        return [
            f"network {self._network.label}: DHCP agents on {', '.join(self._hosts)}, each with its addresses there"
        ]

    def _absent(self) -> str | None:
        wanted = {
            port.binding_host_id: [entry["ip_address"] for entry in port.fixed_ips]
            for port in _ports(self._window, self._network)
            if port.device_owner == OWNER_DHCP
        }
        namespace = f"qdhcp-{self._network.id}"
        for host in self._hosts:
            done = self._window.fleet[host].run("ip", "-oneline", "-netns", namespace, "address", "show")
            there = {word.split("/")[0] for word in done.text.split()} if done.returncode == 0 else set()
            if missing := [address for address in wanted.get(host, []) if address not in there]:
                return f"{', '.join(missing)} not in {namespace} on {host}"
        return None


def networks_served(window: Window, now: Topology) -> list[NetworkServed]:
    """A step for each network that had DHCP agents, and for each that came since and wants some."""
    before = window.before
    alive = {agent.host for agent in now.agents_of(AGENT_DHCP) if agent.alive}
    load = Counter(host for hosts in before.dhcp_ports.values() for host in hosts)
    steps = []
    for network in now.networks:
        if network.id in before.network:
            if network.id in before.dhcp_ports:
                steps.append(NetworkServed(window, network, sorted(before.dhcp_ports[network.id])))
        elif any(subnet.dhcp for subnet in now.subnets if subnet.network_id == network.id):
            hosts = least_loaded(alive, load, usual_count(before))
            load.update(hosts)
            steps.append(NetworkServed(window, network, hosts))
    return steps


class RouterServed(Step):
    """A router that is not HA is with an L3 agent: with the one that it had, if it had one."""

    may_be_gone = True
    chapter = ROUTERS

    def __init__(self, window: Window, router: Router, host: str) -> None:
        self._window = window
        self._router = router
        self._host = host
        self.key = f"agent/{router.id}"
        self.title = f"give router {router.label} to the L3 agent on {host}"

    def plan(self) -> list[str]:
        return [
            f"openstack network agent add router --l3 <agent of {self._host}> {self._router.id}  # {self._router.label}"
        ]

    def _hosts(self) -> list[str]:
        return [agent["host"] for agent in agents_of_router(self._window, self._router)]

    def is_done(self) -> bool:
        return bool(self._hosts())

    def do(self, found: Any) -> None:
        del found
        ask("Neutron", f"router {self._router.label}", self._window.network.get_router, self._router.id)
        agents = ask(
            "Neutron",
            "L3 agents",
            lambda: list(self._window.network.agents(agent_type=AGENT_L3, host=self._host)),
        )
        if not agents:
            raise NotReady(Finding(f"{self._host} has no L3 agent", (), "see its log there"))
        ask(
            "Neutron",
            f"add router {self._router.label} to the L3 agent on {self._host}",
            self._window.network.add_router_to_agent,
            agents[0],
            self._router.id,
        )

    def prove(self) -> list[str]:
        """By Neutron, and by the router's namespace on the host."""
        hosts = self._hosts()
        if not hosts:
            raise NotReady(Finding(f"no L3 agent has router {self._router.label}", (), "see neutron-server's log"))
        wait_until(
            f"router {self._router.label} is on {hosts[0]}",
            2 * self._window.site.limits.settle_seconds,
            lambda: self._not_there(hosts[0]),
            remedy="see the L3 agent's log there",
            every=2.0,
        )
        return [f"router {self._router.label} is with the L3 agent on {hosts[0]}, which has its namespace"]

    def _not_there(self, host: str) -> str | None:
        if not self._router.admin_state_up:
            return None
        listed = self._window.fleet[host].check("ip", "netns", "list").split()
        return None if f"qrouter-{self._router.id}" in listed else f"no qrouter-{self._router.id} there"


def routers_served(window: Window, now: Topology) -> list[RouterServed]:
    """A step for each router that is to be with one L3 agent: not HA, not distributed; deleted ones need none."""
    before = window.before
    hosts = {agent.id: agent.host for agent in before.agents_of(AGENT_L3)}
    had = {
        router: hosts[agent]
        for agent, routers in before.routers_of_agents.items()
        for router in routers
        if agent in hosts
    }
    alive = {agent.host for agent in now.agents_of(AGENT_L3) if agent.alive}
    load = Counter(had.values())
    steps = []
    for router in now.routers:
        known = before.router.get(router.id)
        if router.distributed or router.ha or (known is not None and (known.ha or router.id not in had)):
            continue
        wanted = had.get(router.id)
        if wanted not in alive:
            wanted = next(iter(least_loaded(alive, load, 1)), None)
            if wanted is None:
                raise NotReady(Finding("no L3 agent is alive", (), "see their logs"))
            load[wanted] += 1
        steps.append(RouterServed(window, router, wanted))
    return steps
