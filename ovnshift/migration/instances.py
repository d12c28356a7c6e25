"""Chapters 4 and 11: instances are stopped, and started again."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import openstack.exceptions
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from ovnshift.cloud import CloudError
from ovnshift.cloud.topology import Instance
from ovnshift.connectivity import outage
from ovnshift.errors import OvnshiftError
from ovnshift.journal import Entry, State
from ovnshift.migration.window import Window, ask, outage_record, wait_until
from ovnshift.ovn import southbound
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step

STOP = "4 stop instances"
START = "11 start instances"
START_ATTEMPTS = 4
# Nova says these of a first start on a network that has just become OVN's, and a second try succeeds.
TRANSIENT = (
    "takes 1 positional argument but 2 were given",
    "Networking client is experiencing an unauthorized exception",
)


class StopInstance(Step):
    """An instance that runs is stopped; one that does not stays as it is."""

    may_be_gone = True
    chapter = STOP
    way_back = "its chapter 7 starts what ran"

    def __init__(self, window: Window, instance: Instance) -> None:
        self._window = window
        self._instance = instance
        self.instance_id = instance.id
        self.key = f"instance/{instance.id}"
        # Nova says nothing about an instance while Neutron's API is held back; that none runs again is seen on its host then.
        self.settled_by = ("5 retire agents/Neutron's server", f"{START}/{self.key}")
        self.title = f"stop {instance.label} on {instance.host}"

    def plan(self) -> list[str]:
        return [f"openstack server stop {self._instance.id}  # {self._instance.label} on {self._instance.host}"]

    def _now(self) -> Any:
        return ask(
            "Nova", f"instance {self._instance.label}", lambda: self._window.compute.get_server(self._instance.id)
        )

    def find(self) -> dict[str, Any]:
        server = self._now()
        return {"id": self._instance.id, "status": server.status, "host": server.compute_host}

    def is_done(self) -> bool:
        return self._now().status == "SHUTOFF" and not self._runs()

    def _runs(self) -> bool:
        """Whether the hypervisor has it running."""
        host = self._instance.host
        if host is None:
            return False
        state = self._window.fleet[host].run(
            "virsh", "--readonly", "--connect", "qemu:///system", "domstate", self._instance.id
        )
        if state.returncode != 0:
            if b"failed to get domain" in state.stderr:
                return False
            raise OvnshiftError(host, f"virsh domstate: {state.complaint}", "see libvirtd there")
        return state.text.strip() != "shut off"

    def do(self, found: Any) -> None:
        del found
        server = self._now()
        if server.status != "SHUTOFF" and server.task_state != "powering-off":
            _stop(self._window, self._instance)
        wait_until(
            f"{self._instance.label} is stopped",
            self._window.site.limits.stop_seconds,
            self._still_on,
            remedy="look at its console; openstack server stop once more, or stop it from inside",
        )

    def _still_on(self) -> str | None:
        server = self._now()
        if server.status == "SHUTOFF":
            return "it still runs on its hypervisor" if self._runs() else None
        return f"Nova says {server.status}" + (f", {server.task_state}" if server.task_state else "")

    def prove(self) -> list[str]:
        if missing := self._still_on():
            raise NotReady(Finding(missing, (), "somebody has started it again?"))
        return [f"Nova: SHUTOFF; {self._instance.host}: not running"]


def _stop(window: Window, instance: Instance) -> None:
    def stop() -> None:
        try:
            window.compute.stop_server(instance.id)
        except openstack.exceptions.ConflictException as error:
            # Between looking and stopping it has stopped by itself; who waits sees it.
            if window.compute.get_server(instance.id).status != "SHUTOFF":
                raise CloudError("Nova", f"does not stop {instance.label}: {error}", "openstack server show") from error

    ask("Nova", f"stop {instance.label}", stop)


def start(window: Window, instance_id: str, label: str) -> list[str]:
    """Start an instance and wait until Nova calls it ACTIVE.

    Returns:
        The errors that passed by themselves.

    Raises:
        NotReady: it does not become ACTIVE.
        CloudError: Nova refuses.
    """
    retries: list[str] = []

    def note(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        retries.append(f"try {state.attempt_number} of {START_ATTEMPTS}: {str(error).splitlines()[0]}")
        window.say(f"{label}: {retries[-1]}")

    for attempt in Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(START_ATTEMPTS),
        wait=wait_exponential(multiplier=1, max=10),
        before_sleep=note,
        reraise=True,
    ):
        with attempt:
            _start_once(window, instance_id, label)
    return retries


class _StartFailed(OvnshiftError):
    """Nova took the order, and the instance went back to SHUTOFF or to ERROR."""


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, _StartFailed):
        return True
    return isinstance(error, CloudError) and any(text in error.problem for text in TRANSIENT)


def _start_once(window: Window, instance_id: str, label: str) -> None:
    def now() -> Any:
        return ask("Nova", f"instance {label}", lambda: window.compute.get_server(instance_id))

    server = now()
    if server.status == "ACTIVE":
        return
    if server.task_state is None:
        try:
            ask("Nova", f"start {label}", lambda: window.compute.start_server(instance_id))
        except CloudError as error:
            # Somebody else's order may have come first; who waits sees it.
            if not isinstance(error.__cause__, openstack.exceptions.ConflictException):
                raise

    def missing() -> str | None:
        server = now()
        if server.status == "ACTIVE" and server.task_state is None:
            return None
        if server.task_state is None:
            raise _StartFailed(
                "Nova", f"{label} is {server.status} again after a start: {_fault(server)}", "openstack server show"
            )
        return f"Nova says {server.status}, {server.task_state}"

    failure: list[_StartFailed] = []

    def look() -> str | None:
        try:
            return missing()
        except _StartFailed as error:
            failure.append(error)
            return None

    wait_until(
        f"{label} is ACTIVE", window.site.limits.start_seconds, look, remedy="see nova-compute's log on its host"
    )
    if failure:
        raise failure[0]


def _fault(server: Any) -> str:
    fault = server.fault or {}
    return str(fault.get("message", "Nova gives no reason"))


class StartInstance(Step):
    """An instance that this run has stopped is started, and its ports are bound, up and plugged."""

    chapter = START
    way_back = "its chapter 1 stops it"

    def __init__(self, window: Window, instance_id: str) -> None:
        self._window = window
        self._id = instance_id
        known = window.before.instance.get(self._id)
        self._label = known.label if known is not None else self._id
        self.retries: list[str] = []
        self.key = f"instance/{self._id}"
        self.settled_by = (self.id,)
        self.title = f"start {self._label}"

    def plan(self) -> list[str]:
        return [f"openstack server start {self._id}  # {self._label}"]

    def is_done(self) -> bool:
        server = ask(
            "Nova", f"instance {self._label}", lambda: self._window.compute.find_server(self._id, ignore_missing=True)
        )
        # Deleted by its owner meanwhile: there is nothing to start.
        return server is None or (server.status == "ACTIVE" and server.task_state is None)

    def do(self, found: Any) -> None:
        del found
        self.retries = start(self._window, self._id, self._label)

    def prove(self) -> list[str]:
        """By Nova, Neutron, OVN's southbound database, and the switch of its hypervisor."""
        server = ask(
            "Nova", f"instance {self._label}", lambda: self._window.compute.find_server(self._id, ignore_missing=True)
        )
        if server is None:
            return [f"{self._label} was deleted by its owner"]
        ports = [
            each.id
            for each in ask(
                "Neutron", f"ports of {self._label}", lambda: list(self._window.network.ports(device_id=self._id))
            )
        ]
        wait_until(
            f"the ports of {self._label} are up",
            self._window.site.limits.start_seconds,
            lambda: self._missing(ports, server.compute_host),
            remedy="see ovn-controller's log on its hypervisor, and openstack port show; where a link is down, "
            f"openstack server reboot --hard {self._id}",
            every=2.0,
        )
        proof = [
            f"ACTIVE by Nova on {server.compute_host}; {len(ports)} ports ACTIVE by Neutron, up in OVN there, in br-int, links up"
        ]
        return [*proof, *(f"passed by itself: {each}" for each in self.retries)]

    def _missing(self, ports: list[str], host: str) -> str | None:
        for port_id in ports:
            port = ask("Neutron", f"port {port_id}", self._window.network.get_port, port_id)
            if port.status != "ACTIVE":
                return f"port {port_id} is {port.status} by Neutron"
            if port.binding_vif_type != "ovs":
                return f"port {port_id} has vif_type {port.binding_vif_type}"
        south = southbound(self._window.site)
        for port_id in ports:
            binding = south.bindings.get(port_id)
            if binding is None or not binding.up:
                return f"port {port_id} is not up in OVN's southbound database"
            if south.host_of(port_id) != host:
                return f"port {port_id} is bound on {south.host_of(port_id)}, the instance runs on {host}"
        plugged = plugged_ports(
            self._window.fleet[host].check(
                "ovs-vsctl",
                "--timeout=10",
                "--format=json",
                "--columns=name,external_ids,admin_state",
                "find",
                "Interface",
            )
        )
        for port_id in ports:
            if port_id not in plugged:
                return f"port {port_id} is not plugged into br-int on {host}"
            if plugged[port_id].state == "down":
                return f"the link of port {port_id}, {plugged[port_id].interface}, is down on {host}"
        return None


class Plugged(NamedTuple):
    """A port in Open vSwitch: its interface, and ``up`` or ``down``; None while that is not known."""

    interface: str
    state: str | None


def plugged_ports(interfaces: str) -> dict[str, Plugged]:
    """Neutron's ports in Open vSwitch, by id.

    Args:
        interfaces: ``name``, ``external_ids`` and ``admin_state`` of its table Interface, as ``ovs-vsctl --format=json`` prints
            them: what is not there is ``["set", []]`` (RFC 7047, 5.1).
    """
    ports: dict[str, Plugged] = {}
    for name, external_ids, admin_state in json.loads(interfaces)["data"]:
        port_id = dict(external_ids[1]).get("iface-id")
        if port_id is not None:
            ports[port_id] = Plugged(name, admin_state if isinstance(admin_state, str) else None)
    return ports


class EverythingAnswers(Step):
    """What answered when the window opened answers again; guests take a while after Nova calls them ACTIVE."""

    key = "answers"
    title = "wait until everything answers that did when the window opened"
    way_back = "nothing is changed"

    def __init__(self, window: Window, chapter: str = START) -> None:
        self._window = window
        self.chapter = chapter
        self.settled_by = (self.id,)

    def plan(self) -> list[str]:
        return [
            f"wait until every instance and floating IP answers again, at most {self._window.site.limits.start_seconds:.0f} s"
        ]

    def _outages(self) -> list[outage.Outage]:
        return outage.outages(outage.read(outage_record(self._window.reports)), [])

    def _away(self) -> str | None:
        away = [f"{each.target.label} at {each.address}" for each in self._outages() if each.back_at is None]
        return f"no answer from {', '.join(away)}" if away else None

    def is_done(self) -> bool:
        return self._away() is None

    def do(self, found: Any) -> None:
        del found
        wait_until(
            "everything answers again",
            self._window.site.limits.start_seconds,
            self._away,
            remedy="pytest tests_post says what is wrong with them",
            every=2.0,
        )

    def prove(self) -> list[str]:
        if away := self._away():
            raise NotReady(Finding(away, (), "pytest tests_post says what is wrong with them"))
        found = self._outages()
        return [
            f"{len(found)} outages, all over; the longest {max((each.seconds for each in found), default=0.0):.0f} s"
        ]


def stopped_by_us(entries: list[Entry]) -> list[Entry]:
    """Entries of instances that ran before this migration stopped them."""
    return [
        entry
        for entry in entries
        if entry.chapter == STOP
        and entry.state in {State.DONE, State.INTENDED, State.FAILED}
        and isinstance(entry.found, dict)
        and entry.found.get("status") == "ACTIVE"
    ]
