"""Outages: when each instance and floating IP was lost during the window, and when it came back.

A small program on every host (:mod:`ovnshift.connectivity.programs.watch`) pings what can be seen from there, and says when
something begins or ceases to answer. All that they say is written to a record, from which outages are worked out afterwards.
"""

from __future__ import annotations

import datetime
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import paramiko
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ovnshift.cloud.topology import FloatingIp, Instance, Topology
from ovnshift.connectivity.cells import Endpoint
from ovnshift.connectivity.plan import Vantages
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Fleet
from ovnshift.hosts.connection import HostError, Stream
from ovnshift.hosts.programs import BOOTSTRAP, envelope, source
from ovnshift.site import Site

# All in seconds. How long an answer may take, and how often a host gives a sign of life.
TIMEOUT = 1.0
BEAT_SECONDS = 5.0
# How often a host is asked for its time; also what tells it that its connection is alive.
ASK_SECONDS = 10.0
# After so long without a word a connection is dead, as seen from here and from there.
QUIET_SECONDS = 20.0
SILENCE_SECONDS = 60.0
# Until a host's Python has started and said its first word.
START_SECONDS = 60.0
LIFETIME_SECONDS = 24 * 3600.0
FIRST_BACKOFF = 1.0
MOST_BACKOFF = 30.0
STOP_SECONDS = 20.0
TICK = 0.2
# Two clocks that nobody sets run apart by no more than this (the kernel's own bound of what it corrects).
DRIFT = 500e-6
# A neighbour that is silent for so long may be given up by the kernel, which then looks for it once a second.
GIVEN_UP_AFTER = 3.0
LOOKED_FOR_EVERY = 1.0
MOST_LINE = 1 << 20
MOST_PENDING = 64 << 20
BETWEEN = "between chapters"


# A clock that is set while somebody watches makes no outage longer.
_BEGINNING = time.time() - time.monotonic()


def _now() -> float:
    """Seconds since the epoch, by the clock as it was when this began."""
    return _BEGINNING + time.monotonic()


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Chapter(_Value):
    """A chapter of the window, with when it began and ended (UTC, ISO 8601)."""

    name: str
    begun_at: str
    ended_at: str


class Outage(_Value):
    """One outage of one target.

    ``lost_at`` is the time of its last answer, ``back_at`` that of its first one after it, None while it has not come back.
    ``seconds`` lies between them (to the end of watching while it is not back); ``error_seconds`` bounds how much shorter the
    outage may have been: the time between probes, the longest pause of the prober itself included.
    """

    target: Endpoint
    address: str
    lost_at: str
    back_at: str | None
    seconds: float
    error_seconds: float
    lost_in: str
    back_in: str


class Watched(_Value):
    """An address that is watched, and whose it is."""

    target: Endpoint
    address: str

    @property
    def label(self) -> str:
        """For people."""
        return self.target.label if self.address in self.target.label else f"{self.target.label} at {self.address}"


class Place(_Value):
    """Where an address is probed from: a namespace of a host, which may not exist yet; None is the host's own."""

    host: str
    namespace: str | None = None


class NotWatched(_Value):
    """A time in which nobody watched from a host (UTC, ISO 8601; ``seconds`` lie between)."""

    host: str
    since: str
    until: str
    seconds: float
    why: str


# What is watched


def places(topology: Topology, vantages: Vantages, site: Site) -> dict[Watched, tuple[Place, ...]]:
    """What there is to watch, and from where each can be seen before, during and after the migration.

    Of each active instance the first address on each of its ports (IPv4 before IPv6): from the namespace that reaches its network
    now, or else a DHCP agent's that was there before and may be again; and from ``ovnmeta-`` on its own hypervisor, which will
    exist later. Each floating IP of such an instance: from the host outside.

    Returns:
        The places of each address; none for what can't be seen from anywhere.
    """
    found: dict[Watched, tuple[Place, ...]] = {}
    for instance in sorted(topology.instances, key=lambda each: each.id):
        if instance.active:
            found |= _of_instance(topology, vantages, site, instance)
    outside = (Place(host=site.outside.host),) if site.outside.host is not None else ()
    for each in sorted(topology.floating_ips, key=lambda each: each.id):
        if _is_used(topology, each):
            end = Endpoint(kind="floating IP", id=each.id, name=each.address)
            found[Watched(target=end, address=each.address)] = outside
    return found


def _of_instance(
    topology: Topology, vantages: Vantages, site: Site, instance: Instance
) -> dict[Watched, tuple[Place, ...]]:
    found: dict[Watched, tuple[Place, ...]] = {}
    end = Endpoint(kind="instance", id=instance.id, name=instance.name)
    for port in topology.ports_of_instance[instance.id]:
        if not port.addresses or port.network_id not in topology.network:
            continue
        # Not from its hypervisor: that is the second place, whether it exists or not.
        now = vantages.of_network(port.network_id, None)
        seen = [] if now is None else [Place(host=now.host, namespace=now.namespace)]
        if now is None:
            # After OVN is deployed no namespace reaches it from elsewhere; on the way back a DHCP agent's will be there again.
            agents = sorted(host for host in topology.dhcp_ports.get(port.network_id, ()) if host in site.hosts)
            seen += [Place(host=host, namespace=f"qdhcp-{port.network_id}") for host in agents[:1]]
        if instance.host in site.hosts:
            seen.append(Place(host=instance.host, namespace=f"ovnmeta-{port.network_id}"))
        address = min(port.addresses, key=lambda each: ":" in each)
        watched = Watched(target=end, address=address)
        # The same address on two networks of one instance is one target.
        found[watched] = tuple(dict.fromkeys((*found.get(watched, ()), *seen)))
    return found


def _is_used(topology: Topology, floating_ip: FloatingIp) -> bool:
    port = topology.port.get(floating_ip.port_id or "")
    instance = topology.instance.get(port.device_id) if port is not None and port.of_instance else None
    return instance is not None and instance.active


def _key(watched: Watched, namespace: str | None) -> str:
    """How a host calls a target that is watched from a namespace of it."""
    return f"{watched.target.kind}/{watched.target.id}|{watched.address}|{namespace or ''}"


# The record's lines; all times in seconds since the epoch, by the clock of the machine that the suite runs on


class _Entry(_Value):
    target: Endpoint
    address: str
    places: tuple[Place, ...]


class _Began(_Value):
    kind: Literal["began"]
    at: float
    interval: float
    timeout: float
    watched: tuple[_Entry, ...]


class _Ended(_Value):
    kind: Literal["ended"]
    at: float


class _Opened(_Value):
    """``offset``: how far the host's clock is ahead of ours, give or take ``bound``."""

    kind: Literal["opened"]
    at: float
    host: str
    offset: float
    bound: float


class _Lost(_Value):
    """A host is not watched from: since its last word, or since the watching began."""

    kind: Literal["not watched"]
    at: float
    host: str
    since: float
    why: str


class _State(_Value):
    kind: Literal["state"]
    at: float
    host: str
    key: str
    state: Literal["up", "down", "absent", "left out"]
    last: float | None
    bound: float
    why: str | None = None
    given_up: bool | None = None


class _Beat(_Value):
    kind: Literal["beat"]
    at: float
    host: str
    beat: int
    pause: float
    control: dict[str, float | None]
    bound: float


_Line = _Began | _Ended | _Opened | _Lost | _State | _Beat
_LINE: TypeAdapter[_Line] = TypeAdapter(Annotated[_Line, Field(discriminator="kind")])


class _Said(_Value):
    """A line of the program on a host; times by its clock."""

    clock: float | None = None
    asked: str | None = None
    at: float = 0.0
    key: str | None = None
    state: Literal["up", "down", "absent", "left out"] = "absent"
    last: float | None = None
    why: str | None = None
    given_up: bool | None = None
    beat: int | None = None
    pause: float = 0.0
    control: dict[str, float | None] = {}
    problem: str | None = None


class _Recorder:
    """Appends lines to a file. What can't be written now is written later."""

    def __init__(self, path: Path, problem: Callable[[str], None]) -> None:
        self._path = path
        self._problem = problem
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._descriptor: int | None = None
        self._closed = False

    def add(self, kind: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, **values}).encode("ascii") + b"\n"
        with self._lock:
            if self._closed:
                return
            if len(self._pending) + len(line) > MOST_PENDING:
                self._problem(f"{self._path}: what could not be written is too much to be kept; the record has a hole")
                return
            self._pending += line
            self._flush()

    def _flush(self) -> None:
        try:
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            while self._pending:
                del self._pending[: os.write(self._descriptor, self._pending)]
        except OSError as error:
            self._problem(f"{self._path}: could not be written: {error.strerror}")

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            # A run was killed in the middle of a line.
            self._pending[:0] = b"\n"

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            if self._pending:
                self._problem(f"{self._path}: its end could not be written")


class _Clock:
    """A host's clock, as compared with ours."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._bound = 0.0
        self._taken: float | None = None

    def learn(self, theirs: float, asked: float) -> None:
        """Take in the time that a host gave, and when (monotonic) it had been asked."""
        now = time.monotonic()
        bound = (now - asked) / 2
        offset = theirs - (_now() - bound)
        # A better one is taken, and one that can't be true together with what was known: somebody set a clock.
        if self._taken is None or bound <= self.bound or abs(offset - self.offset) > bound + self.bound:
            self.offset, self._bound, self._taken = offset, bound, now

    @property
    def bound(self) -> float:
        """By how much ``offset`` may be wrong."""
        return self._bound + DRIFT * (time.monotonic() - self._taken) if self._taken is not None else 0.0

    @property
    def known(self) -> bool:
        return self._taken is not None


class _Watcher:
    """Keeps the program running on one host."""

    def __init__(self, monitor: Monitor, fleet: Fleet, recorder: _Recorder, host: str, task: dict[str, Any]) -> None:
        self._monitor = monitor
        self._fleet = fleet
        self._recorder = recorder
        self._host = host
        self._task = task
        self._stopping = threading.Event()
        self._latest = _now()
        self._asked: dict[str, float] = {}
        self._clock = _Clock()
        self._reported = ""
        self.thread = threading.Thread(target=self._run, name=f"watching {host}", daemon=True)

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        wait = FIRST_BACKOFF
        try:
            while True:
                begun = time.monotonic()
                try:
                    why = self._watch()
                except OvnshiftError as error:
                    why = error.problem
                except (OSError, EOFError, paramiko.SSHException) as error:
                    why = str(error) or type(error).__name__
                if self._stopping.is_set():
                    break
                if time.monotonic() - begun > MOST_BACKOFF:
                    wait = FIRST_BACKOFF
                self._lost(why)
                if self._stopping.wait(wait):
                    break
                wait = min(2 * wait, MOST_BACKOFF)
        finally:
            if not self._stopping.is_set():
                self._lost("its watcher broke")

    def _lost(self, why: str) -> None:
        if self._reported != why:
            self._recorder.add("not watched", at=_now(), host=self._host, since=self._latest, why=why)
            self._monitor.note(f"{self._host} is not watched from: {why}")
        self._reported = why

    def _watch(self) -> str:
        """Open a stream and record what comes, until it ends; why it did."""
        program = source("ovnshift.connectivity.programs", "watch.py")
        self._clock = _Clock()
        self._asked.clear()
        stream = self._fleet[self._host].open("python3", "-c", BOOTSTRAP)
        try:
            stream.settimeout(TICK)
            opened = time.monotonic()
            # A pipe whose other end stalls is written to without a bound.
            watchdog = threading.Timer(START_SECONDS, stream.close)
            watchdog.start()
            try:
                self._send(stream, envelope(program, self._task) + b"\n")
            finally:
                watchdog.cancel()
                watchdog.join()
            return self._listen(stream, opened)
        finally:
            stream.close()

    def _send(self, stream: Stream, data: bytes) -> None:
        until = time.monotonic() + START_SECONDS
        view = memoryview(data)
        while view:
            try:
                view = view[stream.send(bytes(view[:65536])) :]
            except TimeoutError:
                if time.monotonic() > until or self._stopping.is_set():
                    raise
            except ValueError as error:  # the watchdog has closed it
                raise HostError(self._host, "did not take the program", "see what the host is doing") from error

    def _listen(self, stream: Stream, opened: float) -> str:
        heard = time.monotonic()
        asked: float | None = None
        buffer = b""
        while not self._stopping.is_set():
            now = time.monotonic()
            if self._clock.known and (asked is None or now - asked > ASK_SECONDS):
                asked = now
                # Each question bears a number of its own: an answer tells which one it belongs to.
                name = repr(now)
                self._asked[name] = now
                self._send(stream, name.encode("ascii") + b"\n")
            try:
                data = stream.recv(65536)
            except TimeoutError:
                if time.monotonic() - heard > (QUIET_SECONDS if self._clock.known else START_SECONDS):
                    return "it is silent"
                continue
            if not data:
                return "the connection or the program there ended"
            heard = time.monotonic()
            *lines, buffer = (buffer + data).split(b"\n")
            if len(buffer) > MOST_LINE:
                return "it says something that is no line"
            for line in lines:
                problem = self._take(line, opened)
                if problem:
                    return problem
        return "stopped"

    def _take(self, line: bytes, opened: float) -> str:
        """Record a line; why watching can't go on, if it can't."""
        try:
            said = _Said.model_validate_json(line)
        except ValidationError:
            # Before its first word, it is what the login's shell prints by itself.
            if self._clock.known:
                self._monitor.note(f"{self._host} says something that is not understood: {line[:80]!r}")
            return ""
        if said.clock is not None:
            self._learn(said.clock, said.asked, opened)
        elif said.problem is not None:
            return said.problem
        elif not self._clock.known:
            return ""
        elif said.key is not None:
            self._state(said)
        elif said.beat is not None:
            self._recorder.add(
                "beat",
                at=self._ours(said.at),
                host=self._host,
                beat=said.beat,
                pause=said.pause,
                control=said.control,
                bound=round(self._clock.bound, 4),
            )
        return ""

    def _ours(self, theirs: float) -> float:
        ours = theirs - self._clock.offset
        self._latest = max(self._latest, ours)
        return round(ours, 4)

    def _learn(self, theirs: float, name: str | None, opened: float) -> None:
        first = not self._clock.known
        asked = opened if name is None else self._asked.pop(name, None)
        if asked is None:
            return
        self._clock.learn(theirs, asked)
        at = self._ours(theirs)
        if first:
            offset, bound = round(self._clock.offset, 4), round(self._clock.bound, 4)
            self._recorder.add("opened", at=at, host=self._host, offset=offset, bound=bound)
            if self._reported:
                self._monitor.say(f"{self._host} is watched from again")
            self._reported = ""

    def _state(self, said: _Said) -> None:
        last = None if said.last is None else round(said.last - self._clock.offset, 4)
        self._recorder.add(
            "state",
            at=self._ours(said.at),
            host=self._host,
            key=said.key,
            state=said.state,
            last=last,
            bound=round(self._clock.bound, 4),
            **({"why": said.why} if said.why else {}),
            **({"given_up": said.given_up} if said.given_up is not None else {}),
        )
        if said.why:
            self._monitor.note(f"{self._host}: {(said.key or '').rpartition('|')[2]} {said.why}")
        if said.state == "left out":
            self._monitor.note(
                f"{self._host}: its kernel has no room for more neighbours; some addresses are not watched"
            )


class Monitor:
    """Watches addresses from hosts, and records what it sees. It never raises: what goes wrong is in the record and in ``notes``.

    A fleet of its own keeps it out of the way of who else works on the hosts: connections bound how many commands they carry at
    once. It has to be closed after :meth:`stop`, not before.

    Args:
        fleet: connections to hosts.
        watched: what, and from where (:func:`places`).
        record: the file to append to; it is made where it is missing, and continued where another run has left it.
        interval: seconds between two echo requests to the same address.
        timeout: seconds that an answer may take; a shorter outage is not seen.
        say: is told what people should know while it happens, by several threads.

    Attributes:
        notes: what went wrong, each once.
    """

    def __init__(
        self,
        fleet: Fleet,
        watched: Mapping[Watched, Sequence[Place]],
        record: Path,
        *,
        interval: float = 0.5,
        timeout: float = TIMEOUT,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.notes: list[str] = []
        self.say = say
        self._fleet = fleet
        self._watched = watched
        self._interval = interval
        self._timeout = timeout
        self._lock = threading.Lock()
        self._recorder = _Recorder(record, self.note)
        self._watchers: list[_Watcher] = []
        self._running = False

    def note(self, problem: str) -> None:
        """Keep a problem for people, and tell it once."""
        with self._lock:
            if problem in self.notes:
                return
            self.notes.append(problem)
        self.say(problem)

    def start(self) -> None:
        """Begin to watch from every host. Returns at once; hosts that can't be reached are tried again until :meth:`stop`."""
        self._running = True
        entries = [
            _Entry(target=each.target, address=each.address, places=tuple(where))
            for each, where in self._watched.items()
        ]
        self._recorder.add(
            "began",
            at=_now(),
            interval=self._interval,
            timeout=self._timeout,
            watched=[entry.model_dump(mode="json") for entry in entries],
        )
        nowhere = [watched.label for watched, where in self._watched.items() if not where]
        if nowhere:
            self.note(f"{len(nowhere)} can't be watched from anywhere: {', '.join(nowhere)}")
        by_host: dict[str, list[tuple[str, str | None, str]]] = {}
        for watched, where in self._watched.items():
            for place in dict.fromkeys(where):
                target = (_key(watched, place.namespace), place.namespace, watched.address)
                by_host.setdefault(place.host, []).append(target)
        for host, targets in by_host.items():
            task = {
                "targets": targets,
                "interval": self._interval,
                "timeout": self._timeout,
                "beat": BEAT_SECONDS,
                "silence": SILENCE_SECONDS,
                "seconds": LIFETIME_SECONDS,
            }
            watcher = _Watcher(self, self._fleet, self._recorder, host, task)
            try:
                watcher.thread.start()
            except RuntimeError as error:  # there are too many
                self.note(f"{host} is not watched from: {error}")
            else:
                self._watchers.append(watcher)

    def stop(self) -> None:
        """End watching, within ``STOP_SECONDS``: a host that is just being connected to is not waited for any longer."""
        if not self._running:
            return
        self._running = False
        ended = _now()
        for watcher in self._watchers:
            watcher.stop()
        until = time.monotonic() + STOP_SECONDS
        for watcher in self._watchers:
            watcher.thread.join(max(0.0, until - time.monotonic()))
            if watcher.thread.is_alive():
                self.note(f"{watcher.thread.name}: did not end in {STOP_SECONDS:.0f} s")
        self._recorder.add("ended", at=ended)
        self._recorder.close()


# What the record says


@dataclass(frozen=True)
class _Span:
    """A time in which a target answered; bounds of the clocks at its ends.

    ``given_up``: whether the kernel had given its neighbour up before it began; None where nobody knows.
    """

    begin: float
    end: float
    begin_bound: float
    end_bound: float
    given_up: bool | None = None


class _Timeline:
    """What one place saw of one target."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.answering: list[_Span] = []
        # When it answered before and afterwards nobody looked.
        self.unknown: list[tuple[float, float]] = []
        self._up: tuple[float, float, bool | None] | None = None
        self._lost: float | None = None

    def up(self, at: float, bound: float, *, given_up: bool | None = None) -> None:
        self._known(at)
        if self._up is None:
            self._up = (at, bound, given_up)

    def silent(self, last: float | None, bound: float, opened: float) -> None:
        """It does not answer, and since watching began (``opened``) it did so last at ``last``."""
        self._known(opened)
        self._close(last, bound)

    def lose(self, at: float, bound: float) -> None:
        """Nobody looks any more; until ``at`` it answered if it did before."""
        if self._up is not None:
            self._lost = max(at, self._up[0])
            self._close(at, bound)

    def forget(self, at: float) -> None:
        """Nobody will look any more, so that it counts as one that does not answer."""
        self._known(at)

    def finish(self, at: float) -> None:
        self._known(at)
        self._close(at, 0.0)

    def _known(self, at: float) -> None:
        if self._lost is not None:
            self.unknown.append((self._lost, max(at, self._lost)))
            self._lost = None

    def _close(self, at: float | None, bound: float) -> None:
        if self._up is not None:
            begin, begin_bound, given_up = self._up
            self.answering.append(_Span(begin, max(begin, begin if at is None else at), begin_bound, bound, given_up))
            self._up = None


@dataclass(frozen=True)
class _Pause:
    begin: float
    end: float
    seconds: float


@dataclass
class Record:
    """What was seen, as :func:`read` gives it.

    Attributes:
        began: when watching began for the first time (seconds since the epoch); None where it never did.
        ended: when it ended for the last time, or the last that is known of it.
        interval: seconds between two requests to the same address, the longest where runs differ.
        not_watched: times in which a host was not watched from.
        notes: what people should know of the record itself.
    """

    began: float | None = None
    ended: float = 0.0
    interval: float = 0.0
    not_watched: tuple[NotWatched, ...] = ()
    notes: tuple[str, ...] = ()
    timelines: dict[Watched, dict[tuple[str, str], _Timeline]] = field(default_factory=dict, repr=False)
    pauses: dict[str, list[_Pause]] = field(default_factory=dict, repr=False)


def read(record: Path) -> Record:
    """Read a record.

    A last line that was cut off, as by a kill, is left out, and ``notes`` says so; also where another run went on after it.

    Raises:
        OvnshiftError: it can't be read, or is damaged in another way.
    """
    reading = _Reading()
    torn: list[int] = []
    broken: list[OvnshiftError] = []
    number, line = 0, b""
    try:
        with record.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    found = _LINE.validate_json(line)
                except ValidationError as error:
                    broken.append(_damaged(record, number, str(error.errors()[0]["msg"])))
                    continue
                if not isinstance(found, _Began) and (broken or reading.record.began is None):
                    raise broken[0] if broken else _damaged(record, number, "nothing had begun there")
                torn += range(number - len(broken), number)
                broken = []
                reading.take(found)
    except OSError as error:
        raise OvnshiftError(
            str(record), f"could not be read: {error.strerror}", "bring back the record that was written"
        ) from error
    if broken and line.endswith(b"\n"):
        raise broken[0]
    torn += range(number + 1 - len(broken), number + 1)
    return reading.finish(tuple(f"{record.name}, line {each}: cut off, the run was killed there" for each in torn))


def _damaged(record: Path, number: int, problem: str) -> OvnshiftError:
    return OvnshiftError(f"{record}:{number}", f"is damaged: {problem}", "bring back the record that was written")


class _Reading:
    """Puts lines together."""

    def __init__(self) -> None:
        self.record = Record()
        self._places: dict[tuple[str, str], list[_Timeline]] = {}
        self._hosts: set[str] = set()
        self._running = False
        self._settle = 0.0
        self._opened: dict[str, float] = {}
        # Since when hosts are not watched from, and why.
        self._since: dict[str, tuple[float, str]] = {}
        self._not_watched: list[tuple[str, float, float, str]] = []
        self._latest: dict[str, tuple[float, float]] = {}

    def take(self, line: _Line) -> None:
        match line:
            case _Began():
                self._began(line)
            case _Ended():
                self._running = False
            case _Opened():
                self._watched_again(line.host, line.at)
                self._opened[line.host] = line.at
                self._latest[line.host] = (line.at, line.bound)
            case _Lost():
                self._lose(line.host, line.since, line.why)
            case _State():
                self._latest[line.host] = (line.at, line.bound)
                for timeline in self._places.get((line.host, line.key), ()):
                    if line.state == "up":
                        timeline.up(line.at, line.bound, given_up=line.given_up)
                    else:
                        timeline.silent(line.last, line.bound, self._opened.get(line.host, line.at))
            case _Beat():
                self._latest[line.host] = (line.at, line.bound)
                pauses = self.record.pauses.setdefault(line.host, [])
                before = max(self._opened.get(line.host, 0.0), pauses[-1].end if pauses else 0.0)
                pauses.append(_Pause(min(before, line.at), line.at, line.pause))
        # Lines of several hosts are not in order, and a loss is told after it happened.
        self.record.ended = max(self.record.ended, line.at)

    def _began(self, line: _Began) -> None:
        ended = self.record.ended
        self.record.began = line.at if self.record.began is None else self.record.began
        self.record.interval = max(self.record.interval, line.interval)
        for host in self._hosts:
            self._interrupted(host, ended)
        self._settle = line.timeout + 2 * line.interval
        self._running = True
        hosts = {place.host for entry in line.watched for place in entry.places}
        for host in self._hosts - hosts:
            self._watched_again(host, line.at)
        self._hosts = hosts
        current: dict[tuple[str, str], list[_Timeline]] = {}
        for entry in line.watched:
            watched = Watched(target=entry.target, address=entry.address)
            known = self.record.timelines.setdefault(watched, {})
            for place in entry.places:
                name = (place.host, _key(watched, place.namespace))
                current.setdefault(name, []).append(known.setdefault(name, _Timeline(place.host)))
        for name, timelines in self._places.items():
            if name not in current:
                for timeline in timelines:
                    timeline.forget(line.at)
        self._places = current

    def _interrupted(self, host: str, ended: float) -> None:
        """A run ended, or was killed: then the last word of each host is the last that is known."""
        if host not in self._opened:
            return
        if self._running:
            self._lose(host, self._latest[host][0], "the run was killed")
        else:
            self._lose(host, ended, "nobody watched")

    def _lose(self, host: str, since: float, why: str) -> None:
        bound = self._latest.get(host, (0.0, 0.0))[1]
        self._since.setdefault(host, (since, why))
        self._opened.pop(host, None)
        for (place, _), timelines in self._places.items():
            if place == host:
                for timeline in timelines:
                    timeline.lose(since - self._settle, bound)

    def _watched_again(self, host: str, at: float) -> None:
        if host in self._since:
            since, why = self._since.pop(host)
            self._not_watched.append((host, since, max(since, at), why))

    def finish(self, notes: tuple[str, ...]) -> Record:
        end = self.record.ended
        for host in sorted(self._hosts):
            self._watched_again(host, end)
            if self._running:
                self._interrupted(host, end)
        for timelines in self.record.timelines.values():
            for timeline in timelines.values():
                timeline.finish(end)
        self.record.not_watched = tuple(
            NotWatched(host=host, since=_iso(since), until=_iso(until), seconds=round(until - since, 3), why=why)
            for host, since, until, why in sorted(self._not_watched, key=lambda each: (each[1], each[0]))
        )
        self.record.notes = notes
        return self.record


def outages(record: Record, chapters: Sequence[Chapter]) -> list[Outage]:
    """The outages of all targets, in the order in which they began.

    A target is up while any of its places sees it answer. What is too short for two requests in a row to be lost is no outage,
    nor is a time in which nobody looked, unless the target is seen to be silent before or after it. ``error_seconds`` is the sum
    of the time between two requests, the longest pause of the probers in that time, what the clocks of two hosts may differ by,
    and the time in which nobody looked; and of the second after which the kernel looks again for a neighbour, unless it was seen
    not to have given it up.

    Args:
        record: from :func:`read`.
        chapters: of the window; a time in none of them is "between chapters".
    """
    spans = [(_seconds(each.begun_at), _seconds(each.ended_at), each.name) for each in chapters]

    def chapter_at(moment: float) -> str:
        return next((name for begun, ended, name in reversed(spans) if begun <= moment <= ended), BETWEEN)

    found: list[tuple[float, Outage]] = []
    for watched, timelines in record.timelines.items():
        hosts = {timeline.host for timeline in timelines.values()}
        unknown = [span for timeline in timelines.values() for span in timeline.unknown]
        for last, first in _silences(span for timeline in timelines.values() for span in timeline.answering):
            back = first.begin if first is not None else None
            lost, until = last.end, record.ended if back is None else back
            seconds = until - lost
            unseen = _covered(unknown, lost, until)
            if seconds - unseen < 2 * record.interval:
                continue
            error = record.interval + unseen + last.end_bound + (first.begin_bound if first is not None else 0.0)
            error += max(
                (pause.seconds for host in hosts for pause in _pauses(record, host, lost, until)),
                default=0.0,
            )
            if first is not None and seconds >= GIVEN_UP_AFTER and first.given_up is not False:
                error += LOOKED_FOR_EVERY
            outage = Outage(
                target=watched.target,
                address=watched.address,
                lost_at=_iso(lost),
                back_at=None if back is None else _iso(back),
                seconds=round(seconds, 3),
                error_seconds=round(error, 3),
                lost_in=chapter_at(lost),
                back_in="" if back is None else chapter_at(back),
            )
            found.append((lost, outage))
    return [outage for _, outage in sorted(found, key=lambda each: (each[0], each[1].target.id, each[1].address))]


def starvation(record: Record) -> dict[str, float]:
    """The longest pause of the prober on each host, in seconds: around the interval, unless the host let it wait."""
    return {host: max(pause.seconds for pause in pauses) for host, pauses in sorted(record.pauses.items())}


def _silences(spans: Iterable[_Span]) -> Iterator[tuple[_Span, _Span | None]]:
    """Yield each silence: what answered last before it, and first after it, if anything has."""
    last: _Span | None = None
    for span in sorted(spans, key=lambda each: each.begin):
        if last is not None and span.begin > last.end:
            yield last, span
        if last is None or span.end > last.end:
            last = span
    if last is not None:
        yield last, None


def _pauses(record: Record, host: str, begin: float, end: float) -> Iterator[_Pause]:
    return (pause for pause in record.pauses.get(host, ()) if pause.begin < end and pause.end > begin)


def _covered(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """How many seconds of a time are covered by spans that may overlap."""
    total, position = 0.0, begin
    for span in sorted(spans):
        first, last = max(span[0], position), min(span[1], end)
        if last > first:
            total += last - first
            position = last
    return total


def _iso(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="milliseconds")


def _seconds(moment: str) -> float:
    found = datetime.datetime.fromisoformat(moment)
    return (found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)).timestamp()
