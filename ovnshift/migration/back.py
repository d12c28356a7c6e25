"""The way back: from any point of the window, also after its end, to LinuxBridge as it was.

Chapters run in the opposite order, but that networks have their MTU before agents and instances start: these take it over then.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from typing import Any

from ovnshift.cloud.topology import OWNER_HA_INTERFACE, OWNER_METADATA, Instance, Topology
from ovnshift.connectivity import tunnel_ends
from ovnshift.database import restoration
from ovnshift.database.connection import connect
from ovnshift.database.conversion import RowChange
from ovnshift.deployments import commands
from ovnshift.errors import OvnshiftError
from ovnshift.hosts.units import unit_states
from ovnshift.journal import Entry, Journal, State
from ovnshift.migration import deploy, instances, networks
from ovnshift.migration import rows as forward
from ovnshift.migration.agents import CLEAN, RETIRE, CleanHost, DeleteObjects, StopUnits, hold_api
from ovnshift.migration.window import Window, ask, snapshot_path, wait_until
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step

STOP = "back 1 stop instances"
OFF = "back 2 OVN off"
ROWS = "back 3 database"
CONFIGURATION = "back 4 configuration"
AGENTS = "back 5 agents"
ROUTERS = "back 6 routers"
START = "back 7 start instances"


def of_chapter(journal: Journal, prefix: str) -> list[Entry]:
    """Entries of a chapter that were begun and not undone since."""
    return [entry for entry in journal.entries() if entry.step.startswith(prefix) and entry.state is not State.UNDONE]


# What came since


def strangers(window: Window, now: Topology) -> list[str]:
    """Objects that were made since the window opened, with what becomes of them."""
    before = window.before
    said = []
    for network in now.networks:
        if network.id not in before.network:
            kind = ", ".join(segment.network_type for segment in network.segments)
            fate = "becomes a VXLAN network with the same key" if network.tunnelled else "stays as it is"
            said.append(f"network {network.label} ({kind}): {fate}")
    for port in now.ports:
        if port.id in before.port:
            continue
        if port.device_owner == OWNER_METADATA:
            said.append(f"port {port.label}, OVN's metadata port: is deleted")
        elif port.vif_type == "ovs":
            said.append(f"port {port.label} of {port.device_owner or 'nobody'} on {port.host}: is bound by LinuxBridge")
    said += [
        f"router {each.label}: is taken over by an L3 agent" for each in now.routers if each.id not in before.router
    ]
    said += [
        f"instance {each.label}: is stopped, and started again"
        if each.active
        else f"instance {each.label}: stays {each.status}"
        for each in now.instances
        if each.id not in before.instance
    ]
    gone = [each.label for each in before.instances if each.id not in now.instance]
    said += [f"instance {label} was deleted since: it stays so" for label in gone]
    return said


class StopAgain(instances.StopInstance):
    """An instance that runs on OVN is stopped."""

    def __init__(self, window: Window, instance: Instance) -> None:
        super().__init__(window, instance)
        self.chapter = STOP
        self.settled_by = (f"{START}/{self.key}", f"{OFF}/")


def stop_again(window: Window, journal: Journal, running: Sequence[Instance]) -> list[StopAgain]:
    """Those that run, and those that an interrupted way back has begun to stop."""
    begun = {entry.step for entry in of_chapter(journal, f"{STOP}/")}
    known = [StopAgain(window, instance) for instance in window.before.instances]
    steps = [StopAgain(window, instance) for instance in running]
    ids = {step.id for step in steps}
    return [*steps, *(step for step in known if step.id in begun and step.id not in ids)]


def ovn_off(window: Window) -> list[StopUnits]:
    """Neutron's server, OVN's controllers and metadata agents, and its databases are stopped."""
    settled = (f"{AGENTS}/",)
    control = window.site.group("control")
    services = window.services
    steps = [
        StopUnits(window, host, services.api, what="Neutron's server", disable=False, chapter=OFF, settled_by=settled)
        for host in control
    ]
    steps += [
        StopUnits(window, host, services.chassis, what="OVN's agents", disable=True, chapter=OFF)
        for host in window.agent_hosts
    ]
    steps += [
        StopUnits(window, host, services.central, what="OVN's databases", disable=True, chapter=OFF) for host in control
    ]
    return steps


# Rows


class RevertRows(Step):
    """Rows are put back by what was recorded of them; rows that came since are changed by rules.

    Args:
        window: the database, and where the records are.
        force: put back rows of ours that somebody has changed since, too.
    """

    chapter = ROWS
    key = "rows"
    title = "put Neutron's rows back"

    def __init__(self, window: Window, *, force: bool) -> None:
        self._window = window
        self._force = force

    def _recorded(self) -> list[RowChange]:
        return [change for path in forward.recorded(self._window.backups) for change in forward.read_recorded(path)]

    def sorted(self) -> restoration.Sorted:
        """What has become of the rows that were changed; nothing is changed by looking.

        Raises:
            DatabaseError: the database can't be asked.
        """
        with connect(self._window.site) as connection:
            found = restoration.sort(connection, self._recorded())
            connection.rollback()
        return found

    def plan(self) -> list[str]:
        found = self.sorted()
        lines = [f"{len(found.ours)} rows are put back, {len(found.back)} are so already"]
        lines += [f"back: {change}" for change in found.ours[: forward.SHOWN]]
        lines += [
            f"changed by somebody since, {'overwritten' if self._force else 'in the way'}: {change}"
            for change in found.changed
        ]
        lines += [f"gone since, stays so: {change}" for change in found.gone]
        with connect(self._window.site) as connection:
            return lines + [f"by rule: {count} {what}" for what, count in restoration.still_ovns(connection).items()]

    def _left(self) -> dict[str, int]:
        with connect(self._window.site) as connection:
            return restoration.still_ovns(connection)

    def is_done(self) -> bool:
        return not self._left() and not self.sorted().ours

    def do(self, found: Any) -> None:
        del found
        running = [step.title for step in hold_api(self._window) if not step.is_done()]
        if running:
            raise NotReady(Finding("Neutron's server runs on rows that are about to change", tuple(running), "stop it"))
        with connect(self._window.site) as connection:
            count, since = restoration.go_back(connection, self._recorded(), force=self._force)
        said = ", ".join(f"{number} {what}" for what, number in since.items()) or "nothing"
        self._window.say(f"{count} rows put back; by rule: {said}")

    def prove(self) -> list[str]:
        if left := self._left():
            raise NotReady(
                Finding(
                    "rows are still OVN's", tuple(f"{count} {what}" for what, count in left.items()), "look at them"
                )
            )
        found = self.sorted()
        if found.ours:
            raise NotReady(
                Finding("rows are not back", tuple(str(each) for each in found.ours[:20]), "who writes them?")
            )
        return [f"no row names OVN; {len(found.back)} rows are what they were, {len(found.gone)} are gone since"]


# Configuration


class UndoDeployment(Step):
    """What the deployer built for OVN is taken away by the deployer."""

    chapter = CONFIGURATION
    key = "playbook"
    title = "take away what OVN's deployment built"

    def __init__(self, window: Window) -> None:
        self._window = window
        self._log = window.evidence / "undo-deploy.log"
        self.settled_by = (self.id,)

    def plan(self) -> list[str]:
        undo = self._window.deployer.undo_commands()
        if not undo:
            return ["nothing: deployment.rollback is not in the site file; bridges that OVN's deployment made stay"]
        return [*map(str, undo), f"its output goes to {self._log}"]

    def is_done(self) -> bool:
        return not self._window.deployer.undo_commands()

    def do(self, found: Any) -> None:
        del found
        undo = self._window.deployer.undo_commands()
        with commands.ansible_home() as home:
            commands.run(undo, self._window.site, self._log, home, self._window.say, "way back")

    def prove(self) -> list[str]:
        """By each host: no chassis can work there."""
        units = self._window.services.chassis
        answers = self._window.fleet.every(self._window.agent_hosts, lambda host: unit_states(host, units))
        on = [
            f"{unit} on {host}"
            for host, states in answers.items()
            for unit, state in states.items()
            if state["active"] == "active"
        ]
        if on:
            raise NotReady(Finding(f"{', '.join(on)}: active", (), "who has started it?"))
        return [f"nothing of OVN's chassis runs on {len(answers)} hosts"]


class RestoreConfiguration(Step):
    """A host's configuration is what was kept of it."""

    chapter = CONFIGURATION
    # Open vSwitch's own database is emptied, not replaced under it.
    EXCLUDED = "--exclude=etc/openvswitch"

    def __init__(self, window: Window, host: str) -> None:
        self._window = window
        self._host = host
        self._archive = window.backups / f"{host}.tar.gz"
        self.key = f"configuration/{host}"
        self.title = f"put the configuration of {host} back"

    def plan(self) -> list[str]:
        return [f"{self._host}: tar --extract --directory=/ < {self._archive}"]

    def _content(self) -> bytes:
        try:
            return self._archive.read_bytes()
        except OSError as error:
            raise OvnshiftError(
                str(self._archive), f"can't be read: {error.strerror}", "bring back that backup"
            ) from error

    def _differs(self) -> list[str]:
        """What tar finds to differ on the host."""
        arguments = ("--compare", "--gzip", "--file=-", "--directory=/", self.EXCLUDED)
        result = self._window.fleet[self._host].run("tar", *arguments, stdin=self._content())
        if result.returncode not in {0, 1}:
            raise OvnshiftError(self._host, f"tar ended with {result.returncode}: {result.complaint}", "run it by hand")
        lines = (result.text + result.stderr.decode("utf-8", "replace")).splitlines()
        return [line for line in lines if not line.endswith(": Mod time differs")]

    def is_done(self) -> bool:
        return not self._differs()

    def do(self, found: Any) -> None:
        del found
        arguments = ("--extract", "--gzip", "--file=-", "--directory=/", self.EXCLUDED)
        self._window.fleet[self._host].check("tar", *arguments, stdin=self._content())

    def prove(self) -> list[str]:
        if differs := self._differs():
            raise NotReady(Finding(f"{self._host} differs from its backup", tuple(differs[:20]), "see who changes it"))
        return [f"{self._host}: as {self._archive.name} has it"]


class UnitsAsFound(Step):
    """Units of Open vSwitch and OVN are as they were before OVN was deployed: enabled or not, running or not.

    Args:
        window: the hosts.
        host: whose.
        found: what the deployment found on it, by unit.
    """

    chapter = CONFIGURATION

    def __init__(self, window: Window, host: str, found: dict[str, dict[str, str]]) -> None:
        self._host = window.fleet[host]
        self._found = found
        self._seconds = window.site.limits.settle_seconds
        self.key = f"units/{host}"
        self.title = f"leave units of OVN on {host} as they were"

    def plan(self) -> list[str]:
        return [f"{self._host.name}: {' '.join(command)}" for command in self._commands()]

    def _commands(self) -> list[list[str]]:
        """What makes them so, by what they are now."""
        now = unit_states(self._host, list(self._found)) if self._found else {}
        commands = []
        for unit, was in self._found.items():
            current = now.get(unit)
            if current is None:
                continue
            if (was["enabled"] == "enabled") != (current["enabled"] == "enabled"):
                commands.append(["systemctl", "enable" if was["enabled"] == "enabled" else "disable", "--", unit])
            if (was["active"] == "active") != (current["active"] == "active"):
                commands.append(["systemctl", "start" if was["active"] == "active" else "stop", "--", unit])
        return commands

    def is_done(self) -> bool:
        return not self._commands()

    def do(self, found: Any) -> None:
        del found
        for command in self._commands():
            self._host.check(*command, seconds=self._seconds)

    def prove(self) -> list[str]:
        if wrong := self._commands():
            raise NotReady(
                Finding(
                    f"units on {self._host.name} are not as they were",
                    tuple(" ".join(each) for each in wrong),
                    "systemctl status says why",
                )
            )
        return [f"{self._host.name}: {len(self._found)} units are as they were"]


def units_as_found(window: Window, journal: Journal) -> list[UnitsAsFound]:
    """A step for each host on which the deployment found units of its own; windows of older versions did not look."""
    step = f"{deploy.CHAPTER}/{deploy.DeployOvn.key}"
    deployed = [entry for entry in of_chapter(journal, step) if isinstance(entry.found, dict)]
    return [UnitsAsFound(window, host, units) for entry in deployed for host, units in entry.found.items()]


# Agents


def cleaned(window: Window, journal: Journal) -> list[Step]:
    """Steps that remove what a window that was interrupted has left of the old agents on hosts.

    What they left is stale: agents that start go on with a tunnel that is there, and nobody tells them which of its forwarding
    entries were of routers as they were in between (the l2population driver tells of changes, and only to agents that run).
    """
    retired = [entry.step.rsplit("/", 1)[-1] for entry in of_chapter(journal, f"{RETIRE}/agents/")]
    done = {
        entry.step.rsplit("/", 1)[-1]
        for entry in of_chapter(journal, f"{CLEAN}/host/")
        if entry.state in {State.DONE, State.ALREADY}
    }
    return [
        CleanHost(window, host, chapter=AGENTS, settled_by=f"{AGENTS}/agents/") for host in retired if host not in done
    ]


class StartUnits(Step):
    """Units that the window has stopped run again, and are enabled again."""

    chapter = AGENTS

    def __init__(self, window: Window, stopped: Entry, *, what: str, units: Sequence[str], disabled: bool) -> None:
        host = stopped.step.rsplit("/", 1)[-1]
        self._window = window
        self._host = host
        self._found: dict[str, dict[str, str]] = stopped.found or {}
        self._step = StopUnits(window, host, units, what=what, disable=disabled)
        self.key = f"{what}/{host}"
        self.title = f"start {what} on {host}"

    def _wanted(self) -> list[str]:
        return [unit for unit, state in self._found.items() if state["active"] == "active"]

    def plan(self) -> list[str]:
        return [f"{self._host}: systemctl enable --now {unit}" for unit in self._wanted()]

    def _off(self) -> list[str]:
        now = self._step.states()
        wrong = [unit for unit in self._wanted() if now.get(unit, {}).get("active") != "active"]
        return wrong + [
            f"{unit} (not enabled)"
            for unit, state in self._found.items()
            if state["enabled"] == "enabled" and now.get(unit, {}).get("enabled") != "enabled"
        ]

    def is_done(self) -> bool:
        return not self._off()

    def do(self, found: Any) -> None:
        del found
        self._step.start_again(self._found)

    def prove(self) -> list[str]:
        wait_until(
            f"units of {self._host} are active",
            self._window.site.limits.settle_seconds,
            lambda: ", ".join(self._off()) or None,
            remedy="systemctl status says why",
        )
        return [f"{self._host}: {', '.join(self._wanted()) or 'nothing'}: active and enabled as before"]


class AgentsAlive(Step):
    """Neutron calls the old agents alive again, as many as there were."""

    chapter = AGENTS
    key = "alive"
    title = "see that Neutron has its agents again"

    def __init__(self, window: Window) -> None:
        self._window = window

    def plan(self) -> list[str]:
        return [f"wait until {len(self._window.before.agents)} agents are alive"]

    def _missing(self) -> str | None:
        now = ask("Neutron", "agents", lambda: list(self._window.network.agents()))
        alive = {(agent.agent_type, agent.host) for agent in now if agent.is_alive}
        missing = [
            f"{each.name} on {each.host}" for each in self._window.before.agents if (each.name, each.host) not in alive
        ]
        return f"not alive: {', '.join(missing)}" if missing else None

    def is_done(self) -> bool:
        try:
            return self._missing() is None
        except OvnshiftError:
            return False

    def do(self, found: Any) -> None:
        del found
        wait_until(
            "the old agents are alive",
            2 * self._window.site.limits.settle_seconds,
            self._missing,
            remedy="see their logs on these hosts",
            every=2.0,
        )

    def prove(self) -> list[str]:
        if missing := self._missing():
            raise NotReady(Finding(missing, (), "see their logs"))
        return [f"{len(self._window.before.agents)} agents are alive"]


class DeleteMetadataPorts(DeleteObjects):
    """OVN's metadata ports hold an address in every subnet, for nobody."""

    chapter = AGENTS
    key = "metadata ports"
    title = "delete OVN's metadata ports"
    what = "metadata ports of OVN"
    remedy = "does OVN's API still run?"
    none_left = "Neutron has no port of OVN's"

    def plan(self) -> list[str]:
        return ["openstack port delete: those of network:distributed that were not there before"]

    def left(self) -> list[Any]:
        known = self._window.before.port
        found = ask("Neutron", "metadata ports", lambda: list(self._window.network.ports(device_owner=OWNER_METADATA)))
        return [port for port in found if port.id not in known]

    def delete(self, each: Any) -> None:
        ask("Neutron", f"delete port {each.id}", self._window.network.delete_port, each.id)


# Networks and routers


class RouterBack(Step):
    """A router that was HA is so again, with one active agent."""

    may_be_gone = True
    chapter = ROUTERS

    def __init__(self, window: Window, done: Entry) -> None:
        router = window.before.router[done.step.rsplit("/", 1)[-1]]
        self._window = window
        self._router = router
        self._found = done.found or {"ha": router.ha, "admin_state_up": router.admin_state_up}
        self._step = networks.MakeRouterPlain(window, router)
        self.key = f"ha/{router.id}"
        self.title = f"make router {router.label} HA again"

    def plan(self) -> list[str]:
        return networks.router_change(self._router, "--ha", up=self._found["admin_state_up"])

    def _missing(self) -> str | None:
        router = ask("Neutron", "the router", self._window.network.get_router, self._router.id)
        if bool(router.is_ha) != self._found["ha"] or bool(router.is_admin_state_up) != self._found["admin_state_up"]:
            return f"Neutron says HA {router.is_ha}, {'up' if router.is_admin_state_up else 'down'}"
        if not self._found["admin_state_up"]:
            return None
        ports = ask("Neutron", "its interfaces", lambda: list(self._window.network.ports(device_id=self._router.id)))
        down = [port.id for port in ports if port.device_owner == OWNER_HA_INTERFACE and port.status != "ACTIVE"]
        if down:
            return f"interfaces are not ACTIVE: {', '.join(down)}"
        agents = networks.agents_of_router(self._window, self._router)
        active = [str(agent["host"]) for agent in agents if agent.get("ha_state") == "active"]
        masters = self._step.masters()
        if len(masters) == 1 and active == masters:
            return None
        return f"active by Neutron: {', '.join(active) or 'none'}; keepalived is the master on {', '.join(masters) or 'none'}"

    def is_done(self) -> bool:
        return self._missing() is None

    def do(self, found: Any) -> None:
        """Made HA; and built anew where its agents don't come to agree by themselves.

        An agent learns of what keepalived does from a process that looks for its first state in one thread and for
        changes in another: with both at once it may be told of them the wrong way round (``handle_initial_state`` and
        ``read_queue`` in neutron/agent/l3/keepalived_state_change.py). It believes that for ever, and says so to Neutron.
        """
        del found
        self._step.make_as_found(self._found)
        try:
            self._wait()
        except NotReady as error:
            if not self._found["admin_state_up"]:
                raise
            self._window.say(f"{error.finding.what}: it is disabled and enabled, so that its agents build it anew")
            self._step.build_anew()

    def _wait(self) -> None:
        wait_until(
            f"router {self._router.label} is HA with one active agent",
            self._window.site.limits.settle_seconds,
            self._step.telling_again(self._missing, up=self._found["admin_state_up"]),
            remedy="see the L3 agents' logs, and keepalived's",
            every=2.0,
        )

    def prove(self) -> list[str]:
        """By Neutron, and by the one host whose keepalived is the master."""
        self._wait()
        return [f"router {self._router.label} is HA, one agent is active"]


class MtuBack(Step):
    """A network has the MTU that it had, before the agents make their bridges and tunnels: these keep what they begin with."""

    may_be_gone = True
    chapter = AGENTS

    def __init__(self, window: Window, done: Entry) -> None:
        network = window.before.network[done.step.rsplit("/", 1)[-1]]
        self._window = window
        self._network = network
        self._step = networks.LowerMtu(window, network, network.mtu)
        self.key = f"mtu/{network.id}"
        self.title = f"give network {network.label} its MTU of {network.mtu} again"

    def plan(self) -> list[str]:
        return self._step.plan()

    def is_done(self) -> bool:
        return self._step.is_done()

    def do(self, found: Any) -> None:
        self._step.do(found)

    def prove(self) -> list[str]:
        return self._step.prove()


# Instances


class StartOnLinuxBridge(Step):
    """An instance that ran runs again, its port plugged into its network's bridge."""

    chapter = START

    def __init__(self, window: Window, instance_id: str, label: str) -> None:
        self._window = window
        self._id = instance_id
        self._label = label
        self.key = f"instance/{instance_id}"
        self.title = f"start {label}"
        self.settled_by = (self.id,)

    def plan(self) -> list[str]:
        return [f"openstack server start {self._id}  # {self._label}"]

    def _server(self) -> Any:
        return ask(
            "Nova", f"instance {self._label}", lambda: self._window.compute.find_server(self._id, ignore_missing=True)
        )

    def is_done(self) -> bool:
        server = self._server()
        return server is None or (server.status == "ACTIVE" and server.task_state is None)

    def do(self, found: Any) -> None:
        del found
        instances.start(self._window, self._id, self._label)

    def prove(self) -> list[str]:
        server = self._server()
        if server is None:
            return [f"{self._label} was deleted by its owner"]
        wait_until(
            f"the ports of {self._label} are ACTIVE",
            self._window.site.limits.start_seconds,
            lambda: self._missing(server.compute_host),
            remedy="see the LinuxBridge agent's log on its hypervisor",
            every=2.0,
        )
        return [
            f"ACTIVE by Nova on {server.compute_host}; its ports ACTIVE by Neutron, in their networks' bridges there"
        ]

    def _missing(self, host: str) -> str | None:
        ports = ask("Neutron", "its ports", lambda: list(self._window.network.ports(device_id=self._id)))
        for port in ports:
            if port.status != "ACTIVE":
                return f"port {port.id} is {port.status}"
        links = self._window.fleet[host].check("ip", "-oneline", "link", "show", "type", "tun")
        for port in ports:
            if f"tap{port.id[:11]}" not in links or f"master brq{port.network_id[:11]}" not in links:
                return f"tap{port.id[:11]} is not in brq{port.network_id[:11]} on {host}"
        return None


class TunnelEnds(Step):
    """Hosts know each other at the ends of the networks' tunnels: agents that are told of many at once lose some of them."""

    chapter = START
    key = "tunnels"
    title = "see that LinuxBridge agents know all ends of each network's tunnel"
    settled_by = (f"{START}/answers",)

    def __init__(self, window: Window) -> None:
        self._window = window
        self._added: Sequence[tunnel_ends.Unknown] = ()

    def plan(self) -> list[str]:
        entry = f"{tunnel_ends.EVERYBODY} dev {tunnel_ends.PREFIX}… dst ADDRESS"
        return [f"bridge fdb append {entry}, for each end that an agent was told of and lost"]

    @functools.cached_property
    def _topology(self) -> Topology:
        return self._window.discover()

    def _look(self) -> tunnel_ends.Ends:
        return tunnel_ends.look(self._topology, self._window.fleet)

    def is_done(self) -> bool:
        return not self._look().unknown

    def do(self, found: Any) -> None:
        del found
        self._added = self._look().unknown
        tunnel_ends.add(self._window.fleet, self._added)

    def prove(self) -> list[str]:
        ends = self._look()
        if ends.unknown:
            raise NotReady(
                Finding(
                    "ends of tunnels are not known where they should be",
                    tuple(map(str, ends.unknown)),
                    "see the LinuxBridge agents' logs there, and run this again",
                )
            )
        return [
            *(f"an agent had lost it: {each}" for each in self._added),
            f"{ends.networks} networks: each host with a port of one knows all others, by its forwarding table",
        ]


def started_again(window: Window, journal: Journal) -> list[StartOnLinuxBridge]:
    """Instances that ran before the window, and those that ran when the way back began."""
    ids: dict[str, None] = {}
    for entry in of_chapter(journal, f"{instances.STOP}/") + of_chapter(journal, f"{STOP}/"):
        if isinstance(entry.found, dict) and entry.found.get("status") == "ACTIVE":
            ids[str(entry.found["id"])] = None
    labels = window.before.instance
    return [StartOnLinuxBridge(window, id_, labels[id_].label if id_ in labels else id_) for id_ in ids]


def close(window: Window, journal: Journal) -> int:
    """Everything is undone: the next window begins anew. Records and snapshots are kept under a name with the time.

    Returns:
        How many files got another name.
    """
    stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    files = [*forward.recorded(window.backups), window.backups / "neutron.json"]
    files += [window.backups / f"{host}.tar.gz" for host in window.site.cloud_hosts]
    there = [path for path in files if path.exists()]
    for path in there:
        path.rename(path.with_name(f"until-{stamp}-{path.name}"))
    journal.undo_all()
    # Last: without the journal's word for it nobody takes it for this change's any more.
    snapshot = snapshot_path(window.reports)
    snapshot.rename(snapshot.with_name(f"until-{stamp}-{snapshot.name}"))
    return len(there) + 1
