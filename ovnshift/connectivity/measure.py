"""A sweep: every cell of a plan measured once, a command a host and a login a guest."""

from __future__ import annotations

import collections
import concurrent.futures
import datetime
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ovnshift.cloud.topology import Topology
from ovnshift.connectivity.cells import Cell, Endpoint, Expectation, Kind, Measurement, Outcome, Vantage
from ovnshift.connectivity.guest_session import GuestError, GuestSession, PingAnswer, Question, listens
from ovnshift.connectivity.plan import Plan, Vantages
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Connection, Fleet
from ovnshift.hosts import programs as host_programs
from ovnshift.site import Guest, Site

METADATA_URL = "http://169.254.169.254/latest/meta-data/instance-id"
INTERVAL_SECONDS = 0.2
# Why a cell is not measured that has no vantage, at the beginning of its detail.
NOWHERE = "no namespace reaches"

Progress = Callable[[int, int, str], None]


@dataclass
class Sweep:
    """What one sweep found.

    Attributes:
        measurements: by cell id.
        host_keys: by instance id, the key that its SSH server showed.
        not_listening: ids of instances that were looked into and in which nothing listens on the closed port.
        pinned_mtu: by an instance's label, the line of its network configuration that says its MTU.
        notes: what could not be asked, for people.
    """

    measurements: dict[str, Measurement] = field(default_factory=dict)
    host_keys: dict[str, str] = field(default_factory=dict)
    pinned_mtu: dict[str, str] = field(default_factory=dict)
    not_listening: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


class Measurer:
    """Measures the cells of a plan.

    Args:
        site: limits, and how guests are logged in to.
        topology: the cloud.
        fleet: connections to hosts.
        vantages: where packets can be sent from now.
        console: gives the console log of an instance; raises :class:`OvnshiftError` when it can't.
        progress: is told how many cells are done, of how many, and what is being done.
    """

    def __init__(
        self,
        site: Site,
        topology: Topology,
        fleet: Fleet,
        vantages: Vantages,
        console: Callable[[str], str],
        progress: Progress = lambda *_: None,
    ) -> None:
        self._site = site
        self._topology = topology
        self._fleet = fleet
        self._vantages = vantages
        self._console = console
        self._progress = progress

    def sweep(self, plan: Plan) -> Sweep:
        """Measure every cell of a plan once.

        A cell that could not be measured is in the result as not measured, with the reason; nothing is left out.
        """
        found = Sweep()
        total = len(plan.cells)
        where = {cell.id: self._vantages.of(cell) for cell in plan.cells}
        from_hosts = [cell for cell in plan.cells if cell.source.kind in {"network", "outside"}]
        by_host: dict[str, list[Cell]] = collections.defaultdict(list)
        for cell in from_hosts:
            vantage = where[cell.id]
            if vantage is None:
                found.measurements[cell.id] = not_measured(f"{NOWHERE} {cell.source.label}")
            else:
                by_host[vantage.host].append(cell)

        def ask(connection: Connection) -> dict[str, Measurement]:
            return self._from_host(connection, by_host[connection.name], where)

        answers, errors = self._fleet.each(by_host, ask)
        for measured in answers.values():
            found.measurements.update(measured)
            self._progress(len(found.measurements), total, "from namespaces")
        for host, error in errors.items():
            found.notes.append(str(error))
            for cell in by_host[host]:
                found.measurements[cell.id] = not_measured(f"{host}: {error.problem}", where[cell.id])
        self._from_guests(plan, found, total)
        for cell in plan.cells:
            if cell.kind in {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA}:
                found.measurements[cell.id] = self._from_console(cell)
        self._judge_closed_ports(plan, found)
        self._progress(total, total, "done")
        return found

    # From namespaces and from outside

    def _from_host(
        self, connection: Connection, cells: Sequence[Cell], where: Mapping[str, Vantage | None]
    ) -> dict[str, Measurement]:
        limits = self._site.limits
        probes: list[tuple[str, str | None, str, str, int | None]] = []
        for cell in cells:
            vantage = where[cell.id]
            assert vantage is not None
            kind = {Kind.SSH: "banner", Kind.CLOSED_PORT: "tcp"}.get(cell.kind, "icmp")
            argument = cell.size if kind == "icmp" else cell.port
            probes.append((cell.id, vantage.namespace, kind, cell.address, argument))
        try:
            answers = sweep_from(
                connection,
                probes,
                count=limits.probe_count,
                seconds=limits.probe_seconds,
                banner_seconds=limits.banner_seconds,
            )
        except host_programs.PythonMissing:
            answers = pings_from(connection, probes, count=limits.probe_count, seconds=limits.probe_seconds)
        at = now()
        return {cell.id: _read(cell, answers.get(cell.id), where[cell.id], at) for cell in cells}

    # From inside guests

    def _from_guests(self, plan: Plan, found: Sweep, total: int) -> None:
        inside: dict[str, list[Cell]] = collections.defaultdict(list)
        for cell in plan.cells:
            if cell.source.kind == "instance" and cell.kind not in {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA}:
                inside[cell.source.id].append(cell)
        logins: dict[str, Cell] = {}
        for cell in plan.cells:
            from_network = cell.source.kind == "network" and cell.target.kind == "instance"
            if cell.kind == Kind.SSH and from_network and self._vantages.of(cell) is not None:
                logins.setdefault(cell.target.id, cell)
        with concurrent.futures.ThreadPoolExecutor(max_workers=self._site.limits.parallel_logins) as pool:
            jobs = {
                pool.submit(
                    self._from_guest, instance_id, logins.get(instance_id), inside[instance_id], found
                ): instance_id
                for instance_id in dict.fromkeys([*logins, *inside])
            }
            for job in concurrent.futures.as_completed(jobs):
                job.result()
                label = self._topology.instance[jobs[job]].label
                self._progress(len(found.measurements), total, f"from inside {label}")

    def _from_guest(self, instance_id: str, login: Cell | None, cells: Sequence[Cell], found: Sweep) -> None:
        instance = self._topology.instance[instance_id]
        vantage = self._vantages.of(login) if login is not None else None
        reason = None
        if login is None or vantage is None:
            reason = f"no namespace reaches {instance.label}"
        elif found.measurements[login.id].outcome is not Outcome.PASSED:
            reason = f"SSH of {instance.label}: {found.measurements[login.id].detail}"
        if reason is not None or login is None or vantage is None:
            found.measurements.update({cell.id: not_measured(reason or "", vantage) for cell in cells})
            return
        guest = self._site.guest_for(
            image=instance.image,
            project=self._topology.project[instance.project_id].name
            if instance.project_id in self._topology.project
            else "",
            instance=instance.name,
            instance_id=instance.id,
        )
        place = vantage.model_copy(update={"instance": instance.label})
        banner = found.measurements[login.id]
        try:
            with GuestSession(
                self._fleet[vantage.host], vantage, login.address, seconds=self._site.limits.login_seconds
            ) as session:
                found.host_keys[instance_id] = session.host_key
                if guest is not None and guest.login:
                    session.log_in(guest)
                    self._ask_guest(session, place, login, guest, cells, found)
        except GuestError as error:
            found.measurements[login.id] = banner.model_copy(
                update={"outcome": Outcome.FAILED, "detail": f"{error.problem} ({banner.detail})"}
            )
            found.measurements.update({cell.id: not_measured(error.problem, place) for cell in cells})
        except OvnshiftError as error:
            found.notes.append(str(error))
            found.measurements.update(
                {cell.id: not_measured(f"{error.place}: {error.problem}", place) for cell in cells}
            )

    def _ask_guest(
        self,
        session: GuestSession,
        place: Vantage,
        login: Cell,
        guest: Guest,
        cells: Sequence[Cell],
        found: Sweep,
    ) -> None:
        count = self._site.limits.probe_count
        questions = [Question("uptime"), Question("listening"), Question("addresses"), Question("pinned")]
        for cell in cells:
            if cell.kind == Kind.PING:
                questions.append(Question("ping", cell.address, count))
            elif cell.kind == Kind.SSH:
                questions.append(Question("banner", cell.address, port=cell.port))
            elif cell.kind == Kind.METADATA:
                questions.append(Question("http", METADATA_URL))
        uptime, listening, addresses, pinned, *answers = session.ask(questions, seconds=self._site.limits.login_seconds)
        if pinned.strip(" |"):
            found.pinned_mtu[str(place.instance)] = pinned.strip(" |")
        at = now()
        banner = found.measurements[login.id]
        found.measurements[login.id] = banner.model_copy(
            update={
                "outcome": Outcome.PASSED if uptime else Outcome.FAILED,
                "detail": f"{guest.user} logged in, uptime: {uptime.strip() or 'said nothing'}",
                "at": at,
            }
        )
        remaining = iter(answers)
        for cell in cells:
            if cell.kind == Kind.DHCP:
                found.measurements[cell.id] = _read_address(cell, addresses, place, at)
            else:
                found.measurements[cell.id] = _read_from_guest(cell, next(remaining), place, at)
        if guest.closed_port is not None and not listens(listening, guest.closed_port):
            found.not_listening.add(login.target.id)

    def _judge_closed_ports(self, plan: Plan, found: Sweep) -> None:
        """Silence proves something only of a port that listens, on an instance that answers the same prober otherwise."""
        answering = {
            (cell.source.id, cell.target.id)
            for cell in plan.cells
            if cell.kind in {Kind.PING, Kind.SSH} and found.measurements[cell.id].received
        }
        for cell in plan.cells:
            measurement = found.measurements[cell.id]
            if cell.expectation is not Expectation.KEPT_OUT or measurement.outcome is not Outcome.PASSED:
                continue
            reason = None
            if (cell.source.id, cell.target.id) not in answering:
                reason = "nothing else answers there either, so that its silence proves nothing"
            elif self._instance_at(cell.target) in found.not_listening:
                reason = f"nothing listens on port {cell.port} inside, so that its silence proves nothing"
            if reason is not None:
                update = {"outcome": Outcome.NOT_MEASURED, "detail": f"{measurement.detail}; {reason}"}
                found.measurements[cell.id] = measurement.model_copy(update=update)

    def _instance_at(self, end: Endpoint) -> str:
        if end.kind == "instance":
            return end.id
        ports = (
            self._topology.port.get(each.port_id or "") for each in self._topology.floating_ips if each.id == end.id
        )
        return next((port.device_id for port in ports if port is not None), "")

    # Console logs

    def _from_console(self, cell: Cell) -> Measurement:
        vantage = Vantage(host="console log", instance=cell.source.label)
        try:
            text = self._console(cell.source.id)
        except OvnshiftError as error:
            return not_measured(error.problem, vantage)
        found = console_dhcp(text, cell.address) if cell.kind == Kind.CONSOLE_DHCP else console_metadata(text)
        if found is None:
            return not_measured("the console log says nothing about it", vantage)
        good, line = found
        return Measurement(
            outcome=Outcome.PASSED if good else Outcome.FAILED, vantage=str(vantage), at=now(), detail=line
        )


def now() -> str:
    """UTC, ISO 8601, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def not_measured(reason: str, vantage: Vantage | None = None) -> Measurement:
    """A measurement that could not be made."""
    return Measurement(outcome=Outcome.NOT_MEASURED, vantage=str(vantage or ""), at=now(), detail=reason)


def sweep_from(
    connection: Connection,
    probes: Sequence[tuple[str, str | None, str, str, int | None]],
    *,
    count: int,
    seconds: float,
    banner_seconds: float,
) -> dict[str, dict[str, Any]]:
    """Send probes from namespaces of one host: one command, all namespaces and addresses at once.

    Args:
        connection: to the host.
        probes: (id, namespace or None, "icmp" | "banner" | "tcp", address, packet bytes or port).
        count: echo requests for each address.
        seconds: how long an answer is waited for.
        banner_seconds: how long a server that accepted a connection may take to say something.

    Returns:
        The program's answers (``programs/sweep.py``) by id.

    Raises:
        PythonMissing: the host has no Python 3; :func:`pings_from` needs none.
        HostError: the host could not be asked.
    """
    task = {
        "probes": probes,
        "count": count,
        "interval": INTERVAL_SECONDS,
        "seconds": seconds,
        "banner_seconds": banner_seconds,
    }
    program = host_programs.source("ovnshift.connectivity.programs", "sweep.py")
    rounds = 1 + len(probes) // 400
    bound = 30 + count * (seconds + INTERVAL_SECONDS) + rounds * (seconds + banner_seconds)
    return {answer["id"]: answer for answer in host_programs.run(connection, program, task, seconds=bound)}


_PING_PROGRAM = """
while read -r id namespace size address; do
  ( if [ "$size" = - ]; then out=$(ip netns exec "$namespace" ping -n -q -c "$1" -W "$2" "$address" 2>&1)
    else out=$(ip netns exec "$namespace" ping -n -q -M do -s "$size" -c "$1" -W "$2" "$address" 2>&1); fi
    printf '%s %s\\n' "$id" "$(printf %s "$out" | tail -n 2 | tr '\\n' '|')" ) &
done
wait
""".strip()


def pings_from(
    connection: Connection,
    probes: Sequence[tuple[str, str | None, str, str, int | None]],
    *,
    count: int,
    seconds: float,
) -> dict[str, dict[str, Any]]:
    """Send echo requests where there is no Python: with the host's own ``ping``, all at once.

    TCP probes can't be made this way; they are answered with ``vantage_error``.

    Raises:
        HostError: the host could not be asked.
    """
    lines = []
    answers: dict[str, dict[str, Any]] = {}
    pings = [probe for probe in probes if probe[2] == "icmp" and probe[1] is not None]
    for number, (_, namespace, _, address, size) in enumerate(pings):
        payload = size - (48 if ":" in address else 28) if size else None
        lines.append(f"{number} {namespace} {payload or '-'} {address}\n")
    text = connection.check(
        "sh", "-c", _PING_PROGRAM, "sh", str(count), str(max(1, round(seconds))), stdin="".join(lines).encode("ascii")
    )
    for line in text.splitlines():
        number_text, _, rest = line.partition(" ")
        ping = PingAnswer.parse(rest)
        id_ = pings[int(number_text)][0]
        answers[id_] = {"id": id_, "sent": ping.sent, "received": ping.received, "times": list(ping.times or ())}
        if not ping.sent:
            answers[id_]["vantage_error"] = ping.text
    for id_, *_ in probes:
        answers.setdefault(id_, {"id": id_, "vantage_error": f"{connection.name} has no python3"})
    return answers


def _read(cell: Cell, answer: Mapping[str, Any] | None, vantage: Vantage | None, at: str) -> Measurement:
    if answer is None:
        return not_measured("the sweep ended without a word about it", vantage)
    if "vantage_error" in answer:
        return not_measured(answer["vantage_error"], vantage)
    if cell.kind in {Kind.SSH, Kind.CLOSED_PORT}:
        return _read_connection(cell, answer, vantage, at)
    times = answer["times"]
    sent, received = answer["sent"], answer["received"]
    if not sent:
        return not_measured(answer.get("error", "nothing could be sent"), vantage)
    if received == sent:
        outcome, detail = Outcome.PASSED, ""
    elif received:
        outcome, detail = Outcome.FLAPPING, f"{sent - received} of {sent} lost"
    else:
        outcome, detail = Outcome.FAILED, answer.get("error") or "no answer"
    return Measurement(
        outcome=outcome,
        vantage=str(vantage),
        at=at,
        sent=sent,
        received=received,
        rtt_min=min(times, default=None),
        rtt_avg=round(sum(times) / len(times), 3) if times else None,
        rtt_max=max(times, default=None),
        detail=detail,
    )


def _read_connection(cell: Cell, answer: Mapping[str, Any], vantage: Vantage | None, at: str) -> Measurement:
    state = answer["state"]
    kept_out = cell.expectation is Expectation.KEPT_OUT
    if kept_out:
        good = state != "open"
        detail = {"timeout": "dropped", "refused": "refused", "open": "open"}.get(state, answer.get("error", state))
    else:
        good = state == "open" and str(answer.get("banner", "")).startswith("SSH-")
        detail = answer.get("banner") or answer.get("error") or state
    return Measurement(
        outcome=Outcome.PASSED if good else Outcome.FAILED,
        vantage=str(vantage),
        at=at,
        sent=1,
        received=0 if state == "timeout" else 1,
        rtt_avg=answer.get("milliseconds"),
        detail=detail,
    )


def _read_from_guest(cell: Cell, answer: str, vantage: Vantage, at: str) -> Measurement:
    if cell.kind == Kind.METADATA:
        good = answer.strip().startswith("200")
        detail = f"HTTP {answer.strip()}" if answer.strip() else "no answer"
        return Measurement(
            outcome=Outcome.PASSED if good else Outcome.FAILED, vantage=str(vantage), at=at, detail=detail
        )
    if cell.kind == Kind.SSH:
        if not answer.strip():
            return not_measured("the guest has neither bash nor nc to connect with", vantage)
        good = answer.startswith("SSH-")
        return Measurement(
            outcome=Outcome.PASSED if good else Outcome.FAILED,
            vantage=str(vantage),
            at=at,
            sent=1,
            received=int(good),
            detail=answer.strip() if good else "no server's banner",
        )
    ping = PingAnswer.parse(answer)
    if not ping.sent:
        return not_measured(ping.text or "the guest's ping said nothing", vantage)
    outcome = Outcome.PASSED if ping.received == ping.sent else Outcome.FLAPPING if ping.received else Outcome.FAILED
    low, middle, high = ping.times or (None, None, None)
    return Measurement(
        outcome=outcome,
        vantage=str(vantage),
        at=at,
        sent=ping.sent,
        received=ping.received,
        rtt_min=low,
        rtt_avg=middle,
        rtt_max=high,
        detail="" if outcome is Outcome.PASSED else f"{ping.sent - ping.received} of {ping.sent} lost",
    )


def _read_address(cell: Cell, answer: str, vantage: Vantage, at: str) -> Measurement:
    if not answer.strip():
        return not_measured("the guest has no ip command", vantage)
    wanted = ipaddress.ip_address(cell.address)
    has = any(ipaddress.ip_interface(word).ip == wanted for word in re.findall(r"inet6? (\S+)", answer) if "/" in word)
    return Measurement(
        outcome=Outcome.PASSED if has else Outcome.FAILED,
        vantage=str(vantage),
        at=at,
        detail=f"has {cell.address}" if has else f"does not have {cell.address}",
    )


_LEASES = (
    re.compile(r"udhcpc: (?:lease of|started).*"),
    re.compile(r"(?:DHCPACK of|bound to) .*"),
    re.compile(r"ci-info: \|.*(?:\d+\.){3}\d+.*"),
)


def console_dhcp(text: str, address: str) -> tuple[bool, str] | None:
    """What a console log says of an address' lease: of udhcpc (CirrOS), dhclient, or cloud-init's table of interfaces.

    Returns:
        Whether it got the address, and the line that says so; None when the log has no such lines.
    """
    own = re.compile(rf"(?<![\d.]){re.escape(address)}(?![\d.])")
    lines = [line.strip() for line in text.splitlines() if any(pattern.search(line) for pattern in _LEASES)]
    if not lines:
        return None
    for line in reversed(lines):
        if own.search(line):
            return True, line
    return False, lines[-1]


def console_metadata(text: str) -> tuple[bool, str] | None:
    """What a console log says of metadata: CirrOS' "successful after", or cloud-init's data source.

    Returns:
        Whether it was reached, and the line that says so; None when the log says nothing of it.
    """
    found = None
    for line in text.splitlines():
        if re.search(r"successful after \d+/\d+ tries|Datasource DataSourceOpenStack|DataSourceEc2", line):
            found = (True, line.strip())
        elif re.search(r"failed \d+/\d+: up|failed to read iid from metadata|Datasource DataSourceNone", line):
            found = (False, line.strip())
    return found
