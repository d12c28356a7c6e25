"""Chapter 7: OVN is deployed by whoever deploys this cloud, and its chassis are as they have to be."""

from __future__ import annotations

import json
from typing import Any

from ovnshift import files
from ovnshift.connectivity.underlay import measure as measure_underlay
from ovnshift.connectivity.underlay import tunnel_addresses
from ovnshift.deployments import commands
from ovnshift.errors import OvnshiftError
from ovnshift.hosts.inventory import look
from ovnshift.hosts.units import unit_states
from ovnshift.migration.networks import carried_by_underlay, mtu_on_geneve, overhead_of_geneve
from ovnshift.migration.window import Window, wait_until
from ovnshift.ovn import northbound, southbound
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step

CHAPTER = "7 deploy OVN"
VERSION = 1
TUNNEL_KINDS = ("geneve",)
# How long chassis may take to confirm a change.
CONFIRM_SECONDS = 20


class DeployOvn(Step):
    """The deployer's playbooks run, and every host is a chassis afterwards that is to be one."""

    chapter = CHAPTER
    key = "playbook"
    title = "deploy OVN"
    way_back = (
        "its chapter 2 turns OVN off, and 4 runs the deployer's way back and brings the hosts' configuration back"
    )

    def __init__(self, window: Window) -> None:
        self._window = window
        self._log = window.evidence / "deploy.log"
        self._record = window.evidence / "deploy.json"

    def plan(self) -> list[str]:
        units = ", ".join(self._window.services.configured)
        return [
            *map(str, self._window.deployer.commands()),
            f"its output goes to {self._log}",
            f"hypervisors and chassis: systemctl restart what was started before its configuration was changed, of {units}",
        ]

    def find(self) -> dict[str, dict[str, dict[str, str]]]:
        """Units of Open vSwitch and OVN that there are already, by host: the way back leaves them as they were."""
        services = self._window.services
        units = (*services.chassis, *services.switch, *services.central)
        return self._window.fleet.every(self._window.site.cloud_hosts, lambda host: unit_states(host, units))

    def _inputs(self) -> dict[str, Any]:
        deployer = self._window.deployer
        return {"commands": [*map(str, deployer.commands())], "checksum": files.checksum(deployer.decides())}

    def is_done(self) -> bool:
        """A whole run with these very inputs succeeded, and what it made is there."""
        if not self._record.exists():
            return False
        if files.read_document(self._record, "deployment", VERSION)["inputs"] != self._inputs():
            return False
        try:
            return not chassis_differences(self._window)
        except OvnshiftError:
            return False

    def do(self, found: Any) -> None:
        del found
        with commands.ansible_home() as home:
            recap = commands.run(self._window.deployer.commands(), self._window.site, self._log, home, self._window.say)
        restarted = self._take_up_configuration()
        record = {"inputs": self._inputs(), "recap": recap, "restarted": restarted}
        files.write_document(self._record, "deployment", VERSION, record)

    def _take_up_configuration(self) -> list[str]:
        """Restart what still runs with the configuration of before; what that was.

        A playbook that fails on a host, or is killed, does not run its handlers there, and finds nothing changed the next time.
        """
        window = self._window
        units = window.services.configured
        hosts = dict.fromkeys([*window.site.group("compute"), *window.chassis])
        found = window.fleet.every(hosts, lambda host: look(host, disks=(), domains=False, units=units).units)
        older = {
            host: [name for name, unit in of_host.items() if unit.active == "active" and unit.changed_since]
            for host, of_host in found.items()
        }
        older = {host: names for host, names in older.items() if names}
        seconds = window.site.limits.settle_seconds
        window.fleet.every(
            older, lambda host: host.check("systemctl", "restart", "--", *older[host.name], seconds=seconds)
        )
        states = window.fleet.every(older, lambda host: unit_states(host, older[host.name]))
        off = [
            f"{name} on {host} is {state['active']}"
            for host, of_host in states.items()
            for name, state in of_host.items()
            if state["active"] != "active"
        ]
        if off:
            raise NotReady(
                Finding("services don't start with their configuration", tuple(off), "systemctl status says why")
            )
        return [f"{name} on {host}" for host, names in older.items() for name in names]

    def prove(self) -> list[str]:
        """By OVN's databases, by each host's switch, and by packets between the tunnel addresses."""
        window = self._window
        wait_until(
            "every host is a chassis as it should be",
            window.site.limits.settle_seconds,
            lambda: "; ".join(chassis_differences(window)[:5]) or None,
            remedy="see ovn-controller's log there, and what the deployer set: ovs-vsctl get open_vswitch . external_ids",
            every=2.0,
        )
        wait_until(
            "tunnels join all chassis",
            window.site.limits.settle_seconds,
            lambda: "; ".join(tunnel_differences(window)[:5]) or None,
            remedy="see ovs-vsctl show and ovn-controller's log there",
            every=2.0,
        )
        size = max(_outer_sizes(window))
        addresses = tunnel_addresses(window.before, window.chassis)
        carried = measure_underlay(window.fleet, addresses, [size], window.site.limits)
        for problem in carried.errors:
            raise problem
        if lost := carried.lost(size):
            raise NotReady(
                Finding(f"{size} bytes don't pass between tunnel addresses", tuple(lost), "see the underlay")
            )
        count = len(window.chassis)
        restarted = files.read_document(self._record, "deployment", VERSION).get("restarted", [])
        return [
            *(f"restarted, since its configuration was newer: {each}" for each in restarted),
            f"{count} chassis by their own names, with Geneve and their bridges",
            f"{count * (count - 1)} tunnels; packets of {size} bytes pass between all tunnel addresses",
        ]


def _outer_sizes(window: Window) -> list[int]:
    """Sizes of the largest packets of tunnelled networks in Geneve, bytes."""
    overhead = overhead_of_geneve(window)
    underlay = carried_by_underlay(window)
    tunnelled = [mtu_on_geneve(window, network, underlay) for network in window.before.networks if network.tunnelled]
    return [mtu + overhead for mtu in tunnelled] or [underlay]


def physical_networks(window: Window) -> set[str]:
    """Names of the physical networks that networks use."""
    segments = [segment for network in window.before.networks for segment in network.segments]
    return {segment.physical_network for segment in segments if segment.physical_network}


def chassis_differences(window: Window) -> list[str]:
    """What is not as it should be in the southbound database about chassis.

    Raises:
        OvnError: it can't be read.
    """
    south = southbound(window.site)
    northbound(window.site)
    addresses = tunnel_addresses(window.before, window.chassis)
    by_host: dict[str, list[str]] = {}
    for chassis in south.chassis.values():
        by_host.setdefault(chassis.hostname, []).append(chassis.name)
    wrong = [f"no chassis has the host name {host}" for host in window.chassis if host not in by_host]
    wrong += [
        f"{host} is more than one chassis: {', '.join(names)}" for host, names in by_host.items() if len(names) > 1
    ]
    wrong += [f"chassis of {host}, which is to be none" for host in by_host if host not in window.chassis]
    for host, names in by_host.items():
        chassis = south.chassis[names[0]]
        kinds = {kind for kind, _ in chassis.encaps}
        ips = {ip for _, ip in chassis.encaps}
        if not kinds & set(TUNNEL_KINDS):
            wrong.append(f"{host} has no Geneve encapsulation, but {', '.join(sorted(kinds)) or 'none'}")
        if host in addresses and addresses[host] not in ips:
            wrong.append(f"{host} tunnels from {', '.join(sorted(ips))}, not from {addresses[host]}")
    if not any(chassis.gateway for chassis in south.chassis.values()):
        wrong.append("no chassis is a gateway (ovn-cms-options=enable-chassis-as-gw)")
    return wrong + _bridge_differences(
        window, {chassis.hostname: dict(chassis.mappings) for chassis in south.chassis.values()}
    )


def _bridge_differences(window: Window, mappings: dict[str, dict[str, str]]) -> list[str]:
    wrong = []
    needed = physical_networks(window)
    # Where no network node is a chassis, hypervisors are the gateways.
    gateways = [host for host in window.site.group("network") if host in window.chassis] or window.chassis
    answers = window.fleet.every(
        window.chassis, lambda host: host.check("ovs-vsctl", "--timeout=10", "list-br").split()
    )
    for host, bridges in answers.items():
        if "br-int" not in bridges:
            wrong.append(f"{host} has no br-int")
        own = mappings.get(host, {})
        wrong += [
            f"{host} maps {name} to {bridge}, which it does not have"
            for name, bridge in own.items()
            if bridge not in bridges
        ]
        if host in gateways:
            wrong += [f"{host} maps no bridge to physical network {name}" for name in needed if name not in own]
    return wrong


def chassis_that_are_silent(window: Window) -> list[str]:
    """Chassis whose ovn-controller does not follow the northbound database, tried with a change that all of them confirm.

    Raises:
        OvnError: the databases can't be read.
        HostError: the control host can't be asked.
    """
    host = window.fleet[window.site.group("control")[0]]
    command = ["ovn-nbctl", f"--db={window.site.ovn.northbound}", f"--timeout={CONFIRM_SECONDS}", "--wait=hv", "sync"]
    done = host.run(*command, seconds=CONFIRM_SECONDS + 30)
    if done.returncode == 0:
        return []
    wanted = northbound(window.site).number
    south = southbound(window.site)
    late = [each for each in south.chassis.values() if each.number < wanted]
    if not late:
        raise NotReady(
            Finding(f"ovn-nbctl sync ended with {done.returncode}: {done.complaint}", (), "see ovn-northd's log")
        )
    return [f"ovn-controller on {each.hostname} has confirmed change {each.number} of {wanted}" for each in late]


def tunnel_differences(window: Window) -> list[str]:
    """Pairs of chassis that no tunnel joins, by each host's own switch.

    Raises:
        HostError: a host can't be asked.
    """
    addresses = tunnel_addresses(window.before, window.chassis)

    def remotes(text: str) -> set[str]:
        rows = json.loads(text)["data"]
        return {str(dict(options[1])["remote_ip"]) for options, error in rows if error in ("", ["set", []])}

    command = (
        "ovs-vsctl",
        "--timeout=10",
        "--format=json",
        "--columns=options,error",
        "find",
        "Interface",
        "type=geneve",
    )
    answers = window.fleet.every(addresses, lambda host: remotes(host.check(*command)))
    return [
        f"no tunnel from {host} to {other}"
        for host, found in answers.items()
        for other, address in addresses.items()
        if other != host and address not in found
    ]
