"""Chapter 3: what has to be changed through the API while the old driver can still do it: MTUs, and HA routers."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any

from ovnshift.cloud.topology import AGENT_L3, Network, Router
from ovnshift.connectivity.measure import sweep_from
from ovnshift.connectivity.realised import HostState, look, missing
from ovnshift.connectivity.underlay import geneve_overhead, tunnel_addresses
from ovnshift.connectivity.underlay import measure as measure_underlay
from ovnshift.errors import OvnshiftError
from ovnshift.hosts.inventory import look_everywhere
from ovnshift.migration.window import Window, ask, wait_until
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step

CHAPTER = "3 networks"
RETIRE = "5 retire agents"
# How long an agent is given before it is told of a router once more, in seconds.
TELL_SECONDS = 20.0


def carried_by_underlay(window: Window) -> int:
    """The largest packet that the underlay is set up for, and that really arrives everywhere. Bytes.

    Raises:
        NotReady: some way between hosts does not carry what its interfaces promise.
        OvnshiftError: it can't be measured.
    """
    hosts = window.agent_hosts
    addresses = tunnel_addresses(window.before, hosts)
    inventories, errors = look_everywhere(window.fleet, hosts)
    for error in errors.values():
        raise error
    links = {host: inventories[host].link_with(address) for host, address in addresses.items()}
    sizes = {link.mtu for link in links.values() if link is not None}
    if not sizes or None in links.values():
        missing = ", ".join(host for host in hosts if links.get(host) is None)
        raise OvnshiftError(missing or "hosts", "no interface has the tunnel address", "see local_ip of its agent")
    smallest = min(sizes)
    carried = measure_underlay(window.fleet, addresses, [smallest], window.site.limits)
    for problem in carried.errors:
        raise problem
    if lost := carried.lost(smallest):
        raise NotReady(
            Finding(
                f"the underlay does not carry packets of {smallest} bytes", tuple(lost), "mend its MTU before going on"
            )
        )
    return smallest


def overhead_of_geneve(window: Window) -> int:
    """Bytes that Geneve adds to a packet on this underlay."""
    addresses = tunnel_addresses(window.before, window.chassis)
    return max(geneve_overhead(window.site.ovn.max_header_size, address) for address in addresses.values())


def mtu_on_geneve(window: Window, network: Network, underlay_mtu: int) -> int:
    """The MTU that a tunnelled network gets: its own, unless Geneve leaves less of the underlay's."""
    return min(network.mtu, underlay_mtu - overhead_of_geneve(window))


class LowerMtu(Step):
    """A tunnelled network's MTU, so that Geneve's longer header fits too. Guests take it when they boot or renew."""

    may_be_gone = True
    chapter = CHAPTER
    settled_by = (RETIRE,)
    way_back = "its chapter 5 sets the MTU that was found"

    def __init__(self, window: Window, network: Network, mtu: int) -> None:
        self._window = window
        self._network = network
        # From what the network had before anything was changed: done twice it is not subtracted twice.
        self._mtu = mtu
        self.key = f"mtu/{network.id}"
        self.title = f"lower the MTU of network {network.label} from {network.mtu} to {mtu}"

    def plan(self) -> list[str]:
        return [
            f"openstack network set --mtu {self._mtu} {self._network.id}  # {self._network.label}, {self._network.mtu} now"
        ]

    def _now(self) -> int:
        found = ask(
            "Neutron", f"network {self._network.id}", lambda: self._window.network.get_network(self._network.id)
        )
        return int(found.mtu)

    def find(self) -> int:
        return self._now()

    def is_done(self) -> bool:
        return self._now() == self._mtu

    def do(self, found: Any) -> None:
        del found
        self._set(self._mtu)

    def _set(self, mtu: int) -> None:
        ask(
            "Neutron",
            f"set the MTU of {self._network.label}",
            lambda: self._window.network.update_network(self._network.id, mtu=mtu),
        )

    def prove(self) -> list[str]:
        mtu = self._now()
        if mtu != self._mtu:
            raise NotReady(Finding(f"{self._network.label} has MTU {mtu}", (), "see who else changes it"))
        return [f"Neutron gives {self._network.label} MTU {mtu}"]


def router_change(router: Router, kind: str, *, up: bool) -> list[str]:
    """Commands that make a router another kind (``--ha`` or ``--no-ha``), for a plan."""
    lines = [
        f"openstack router set --disable {router.id}  # {router.label}",
        f"wait until no network host has qrouter-{router.id}",
        f"openstack router set {kind} {router.id}",
    ]
    return [*lines, f"openstack router set --enable {router.id}"] if up else lines


def agents_of_router(window: Window, router: Router) -> list[dict[str, Any]]:
    """The L3 agents that have a router, as the API lists them; of an HA router also which is the active one (``ha_state``)."""
    answer = ask(
        "Neutron",
        f"agents of router {router.label}",
        lambda: window.network.get(f"/routers/{router.id}/l3-agents").json(),
    )
    agents: list[dict[str, Any]] = answer.get("agents", [])
    return agents


class MakeRouterPlain(Step):
    """An HA router becomes a plain one: Neutron takes away its HA ports, HA network and VRID, which OVN has no use for."""

    may_be_gone = True
    chapter = CHAPTER
    settled_by = (RETIRE,)
    way_back = "its chapter 6 makes it HA again"

    def __init__(self, window: Window, router: Router) -> None:
        self._window = window
        self._router = router
        self.key = f"plain/{router.id}"
        self.title = f"make router {router.label} a plain one"

    def plan(self) -> list[str]:
        return router_change(self._router, "--no-ha", up=self._router.admin_state_up)

    def _now(self) -> Any:
        return ask("Neutron", f"router {self._router.label}", lambda: self._window.network.get_router(self._router.id))

    def find(self) -> dict[str, bool]:
        router = self._now()
        return {"ha": bool(router.is_ha), "admin_state_up": bool(router.is_admin_state_up)}

    def is_done(self) -> bool:
        router = self._now()
        return not router.is_ha and bool(router.is_admin_state_up) == self._router.admin_state_up

    def do(self, found: Any) -> None:
        self._make(ha=False, up=found["admin_state_up"])

    def make_as_found(self, found: Any) -> None:
        """As :meth:`find` found it."""
        self._make(ha=found["ha"], up=found["admin_state_up"])

    def _make(self, *, ha: bool, up: bool) -> None:
        """Disabled, gone from every host, changed, and enabled.

        Neutron changes ``ha`` of a disabled router only (neutron/db/l3_hamode_db.py). An agent that sees the router
        again only when all is over takes the new kind for an update of the old one: its keepalived and its HA
        interface stay for ever (``_process_updated_router`` in neutron/agent/l3/agent.py).
        """
        now = self._now()
        if bool(now.is_ha) != ha:
            self._set(is_admin_state_up=False)
            try:
                self._wait_until_gone()
            except NotReady:
                self._set(is_admin_state_up=bool(now.is_admin_state_up))
                raise
            self._set(is_ha=ha)
        elif not now.is_admin_state_up:
            # A run that was ended in between: the agents may not have got to it yet.
            self._wait_until_gone()
        if bool(self._now().is_admin_state_up) != up:
            self._set(is_admin_state_up=up)

    def build_anew(self) -> None:
        """Disabled, gone from every host, and enabled: whatever its agents believe of it goes with it."""
        self._set(is_admin_state_up=False)
        try:
            self._wait_until_gone()
        finally:
            self._set(is_admin_state_up=True)

    def masters(self) -> list[str]:
        """Hosts whose keepalived is its master."""
        states = {host: state.routers.get(self._router.id) for host, state in self._look().items()}
        return [host for host, state in states.items() if state is not None and state.is_master]

    def _look(self) -> dict[str, HostState]:
        return self._window.fleet.every(self._window.site.group("network"), lambda host: look(host, [self._router.id]))

    def _wait_until_gone(self) -> None:
        wait_until(
            f"no network host has router {self._router.label}, which is disabled",
            # An agent that asked Neutron's server while RabbitMQ was away asks again only after a minute or two
            # (rpc_response_timeout, doubled with each time that nothing came).
            2 * self._window.site.limits.settle_seconds,
            self.telling_again(self._still_there, up=False),
            remedy="see the L3 agents' logs there; run this again when they have caught up",
        )

    def telling_again(self, look: Callable[[], str | None], *, up: bool) -> Callable[[], str | None]:
        """A look that has Neutron tell the agents again now and then, as long as something is missing.

        With each update of a router, also one that changes nothing, they are told (``update_router`` in neutron/db/l3_db.py).
        What they are told while RabbitMQ is away, they never hear.
        """
        told = time.monotonic()

        def looking() -> str | None:
            nonlocal told
            missing = look()
            if missing is not None and time.monotonic() - told > TELL_SECONDS:
                self._set(is_admin_state_up=up)
                told = time.monotonic()
            return missing

        return looking

    def _still_there(self) -> str | None:
        having = [host for host, state in self._look().items() if self._router.id in state.namespaces]
        return f"still on {', '.join(having)}" if having else None

    def _set(self, **values: bool) -> None:
        ask(
            "Neutron",
            f"change router {self._router.label}",
            lambda: self._window.network.update_router(self._router.id, **values),
        )

    def prove(self) -> list[str]:
        """By the API, and by the one host that forwards for it."""
        router = self._now()
        if router.is_ha:
            raise NotReady(Finding(f"router {self._router.label} is HA", (), "see neutron-server's log"))
        if not router.is_admin_state_up:
            return [f"router {self._router.label} is plain, and disabled as before"]
        place: list[str] = []
        wait_until(
            f"router {self._router.label} forwards as a plain one",
            self._window.site.limits.settle_seconds,
            self.telling_again(lambda: self._missing(place), up=True),
            remedy="see the L3 agents' logs on the network hosts; what keepalived left there goes with the namespace: "
            "disable the router, wait until its namespace is gone, enable it, and run this again",
        )
        return [f"router {self._router.label} is plain, and forwards on {place[0]}"]

    def _missing(self, place: list[str]) -> str | None:
        """What is missing until it is plain, whole, and on one host only; ``place`` gets that host.

        What agents had of it as an HA router forwards as well, until they come to take it away.
        """
        hosts = [
            agent.host
            for agent in ask("Neutron", "L3 agents", lambda: list(self._window.network.agents(agent_type=AGENT_L3)))
            if any(
                each.id == self._router.id
                for each in ask("Neutron", "routers", self._window.network.agent_hosted_routers, agent)
            )
        ]
        if len(hosts) != 1:
            return f"{len(hosts)} L3 agents have it"
        place[:] = hosts
        if what := self._not_plain(hosts[0]):
            return what
        targets = self._addresses()
        if not targets:
            return None
        probes = [(address, f"qrouter-{self._router.id}", "icmp", address, None) for address in targets]
        answers = sweep_from(
            self._window.fleet[hosts[0]],
            probes,
            count=1,
            seconds=self._window.site.limits.probe_seconds,
            banner_seconds=1,
        )
        silent = [
            f"{id_} ({answer.get('vantage_error', 'no answer')})"
            for id_, answer in answers.items()
            if not answer.get("received")
        ]
        return f"on {hosts[0]}: {', '.join(silent)}" if silent else None

    def _not_plain(self, place: str) -> str | None:
        """What hosts still have of it as an HA router, and what the one that has it now lacks."""
        before, id_ = self._window.before, self._router.id
        hosts = dict.fromkeys([*self._window.site.group("network"), place])
        states = self._window.fleet.every(hosts, lambda host: look(host, [id_]))
        elsewhere = [host for host, state in states.items() if host != place and id_ in state.namespaces]
        if elsewhere:
            return f"its namespace is still on {', '.join(elsewhere)}"
        state = states[place].routers.get(id_)
        if state is not None and state.of_ha:
            return f"on {place} it still has {', '.join(state.of_ha)}"
        ports = before.ports_of_router.get(id_, ())
        floating_ips = [each for each in before.floating_ips if each.router_id == id_]
        lacks = missing(self._router, ports, floating_ips, before.subnet, state)
        return f"on {place}: {', '.join(lacks)}" if lacks else None

    def _addresses(self) -> list[str]:
        """Its own addresses, and the gateway of its external network."""
        before = self._window.before
        own = [
            address
            for port in before.ports
            if port.device_id == self._router.id and port.device_owner != "network:router_ha_interface"
            for address in port.addresses
        ]
        external = before.network.get(self._router.external_network_id or "")
        subnets = [before.subnet[id_] for id_ in external.subnet_ids if id_ in before.subnet] if external else []
        on_way = {
            subnet.gateway_ip
            for subnet in subnets
            if subnet.gateway_ip and _holds(subnet.cidr, self._router.external_addresses)
        }
        return [*dict.fromkeys([*own, *sorted(on_way)])]


def _holds(cidr: str, addresses: tuple[str, ...]) -> bool:
    network = ipaddress.ip_network(cidr)
    return any(ipaddress.ip_address(each) in network for each in addresses)
