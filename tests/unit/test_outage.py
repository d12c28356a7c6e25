from __future__ import annotations

import ast
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnshift.connectivity import outage
from ovnshift.connectivity.cells import Endpoint
from ovnshift.connectivity.outage import (
    Chapter,
    Monitor,
    Outage,
    Place,
    Record,
    Watched,
    outages,
    places,
    read,
    starvation,
)
from ovnshift.connectivity.plan import Vantages
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Fleet
from ovnshift.hosts.programs import BOOTSTRAP, envelope, source
from tests.unit import clouds
from tests.unit.namespaces import Pair, echo_answers, ip, pair

BOUND = 60.0
INTERVAL = 0.2
VM = Watched(target=Endpoint(kind="instance", id="vm-id", name="vm"), address="10.99.0.2")
OTHER = Watched(target=Endpoint(kind="instance", id="other-id", name="other"), address="10.99.0.3")


def program() -> bytes:
    return source("ovnshift.connectivity.programs", "watch.py")


@pytest.fixture
def both() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
def second() -> Iterator[Pair]:
    with pair() as made:
        yield made


def address(pair: Pair, what: str, *addresses: str) -> None:
    for each in addresses:
        more = ["nodad"] if ":" in each and what == "add" else []
        ip("-n", pair.far, "address", what, each, "dev", "eth0", *more)


def neighbour(pair: Pair, address: str) -> str:
    """What the kernel on the near side says of a neighbour."""
    return subprocess.run(
        ["ip", "-n", pair.near, "neigh", "show", address], capture_output=True, text=True, check=True
    ).stdout


# The program by itself


class Program:
    """The program, as a host runs it."""

    def __init__(self, targets: list[tuple[str, str | None, str]], **changes: float) -> None:
        self.task = {"interval": INTERVAL, "timeout": 1.0, "beat": 0.5, "seconds": 300, "silence": 300, **changes}
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOOTSTRAP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._said = b""
        self.lines: list[dict[str, Any]] = []
        self.write(envelope(program(), {"targets": targets, **self.task}) + b"\n")

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hear(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The next line that is wanted."""
        assert self.process.stdout is not None
        until = time.monotonic() + BOUND
        while True:
            while b"\n" in self._said:
                line, _, self._said = self._said.partition(b"\n")
                self.lines.append(json.loads(line))
                if wanted(self.lines[-1]):
                    return self.lines[-1]
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"it said nothing of that kind, but {self.lines[-10:]}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"it ended: {self.process.stderr.read() if self.process.stderr else ''!r}"
            self._said += data

    def state(self, key: str, state: str) -> dict[str, Any]:
        return self.hear(lambda line: line.get("key") == key and line["state"] == state)

    def states(self) -> list[tuple[str, str]]:
        return [(line["key"], line["state"]) for line in self.lines if "key" in line]


@contextlib.contextmanager
def running(*targets: tuple[str, str | None, str], **changes: float) -> Iterator[Program]:
    started = Program(list(targets), **changes)
    with started.process:
        try:
            yield started
        finally:
            started.process.kill()


def test_it_is_python_3_8() -> None:
    ast.parse(program(), feature_version=(3, 8))


def test_what_answers_is_up_and_what_does_not_is_down(both: Pair) -> None:
    before = time.time()
    with running(
        ("4", both.near, "10.99.0.2"),
        ("6", both.near, "fd99::2"),
        ("dead", both.near, "10.99.0.9"),
        ("own", None, "127.0.0.1"),
        ("nowhere", "ovnshift-unit-nowhere", "10.99.0.2"),
    ) as started:
        assert set(started.hear(lambda line: "clock" in line)) == {"clock", "asked"}
        down = started.state("dead", "down")
        assert down["last"] is None
        assert sorted(started.states()) == [
            ("4", "up"),
            ("6", "up"),
            ("dead", "down"),
            ("nowhere", "absent"),
            ("own", "up"),
        ]
        up = next(line for line in started.lines if line.get("key") == "4")
        assert before < up["at"] == up["last"] < down["at"] < time.time() + 1


def test_signs_of_life_have_the_longest_pause_and_show_that_the_host_answers_itself(both: Pair) -> None:
    with running(("4", both.near, "10.99.0.2")) as started:
        first = started.hear(lambda line: "beat" in line)
        # Stopped, it can't probe; whoever reads must be told.
        os.kill(started.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, started.process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(1.5)  # a time that passes is what is measured
        os.kill(started.process.pid, signal.SIGCONT)
        later = started.hear(lambda line: "beat" in line and line["pause"] >= 1.5)
        assert later["beat"] > first["beat"] > 0
        assert first["control"]["sent"] >= first["control"]["answered"] > 0
        assert first["control"]["ms"] > 0
        # It was the prober that paused, not the target.
        assert started.states() == [("4", "up")]


def test_what_goes_away_is_down_since_its_last_answer_and_up_when_it_is_back(both: Pair) -> None:
    with running(("a", both.near, "10.99.0.3"), ("b", both.near, "10.99.0.2")) as started:
        started.state("a", "up")
        address(both, "delete", "10.99.0.3/16")
        gone = time.time()
        down = started.state("a", "down")
        assert gone - INTERVAL - 1 < down["last"] < gone + 0.5
        assert down["at"] > down["last"] + 1
        back = time.time()
        address(both, "add", "10.99.0.3/16")
        up = started.state("a", "up")
        assert up["at"] >= back - 0.01
        # Too short for the kernel to give it up: its address was gone, and its neighbour there.
        assert up["given_up"] is False
        assert [state for key, state in started.states() if key == "b"] == ["up"]


def test_a_neighbour_that_the_kernel_has_given_up_is_noticed(both: Pair) -> None:
    with running(("a", both.near, "10.99.0.3")) as started:
        started.state("a", "up")
        address(both, "delete", "10.99.0.3/16")
        started.state("a", "down")
        ip("-n", both.near, "neigh", "flush", "to", "10.99.0.3")
        until = time.monotonic() + BOUND
        while "FAILED" not in neighbour(both, "10.99.0.3"):
            assert time.monotonic() < until, "the kernel never gave it up"
        address(both, "add", "10.99.0.3/16")
        assert started.state("a", "up")["given_up"] is True


def test_an_answer_from_another_address_is_none(both: Pair) -> None:
    with echo_answers(both.far, "10.99.0.3"), running(("a", both.near, "10.99.0.2")) as started:
        started.state("a", "down")
        assert started.states() == [("a", "down")]


def has_link(namespace: str) -> bool:
    done = subprocess.run(["ip", "-n", namespace, "link", "show", "eth0"], capture_output=True, check=False)
    return done.returncode == 0


def wait_until(true: Callable[[], bool], seconds: float = BOUND) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_namespace_that_is_deleted_is_gone_and_is_entered_again_when_it_is_back(both: Pair) -> None:
    with running(("a", both.near, "10.99.0.2"), ("6", both.near, "fd99::2")) as started:
        started.state("6", "up")
        # A socket that is left open there would keep the namespace, its end of the pair, and with it the other end.
        assert has_link(both.far)
        ip("netns", "delete", both.near)
        deleted = time.time()
        absent = started.state("a", "absent")
        assert absent["at"] < deleted + 2
        assert deleted - 2 < absent["last"] < absent["at"]
        wait_until(lambda: not has_link(both.far))
        again = [f"netns add {both.near}", f"link add eth0 netns {both.near} type veth peer name eth0 netns {both.far}"]
        ip("-batch", "-", batch="\n".join(again) + "\n")
        for namespace, number in ((both.near, 1), (both.far, 2)):
            ip("-n", namespace, "address", "add", f"10.99.0.{number}/16", "dev", "eth0")
            ip("-n", namespace, "link", "set", "eth0", "up")
        started.state("a", "up")
        ip("netns", "delete", both.near)
        wait_until(lambda: not has_link(both.far))


def test_a_namespace_of_the_same_name_is_another_one(both: Pair) -> None:
    with running(("a", both.near, "10.99.0.2")) as started:
        started.state("a", "up")
        ip("-batch", "-", batch=f"netns delete {both.near}\nnetns add {both.near}\n")
        started.state("a", "absent")
        wait_until(lambda: not has_link(both.far))
        started.state("a", "down")


def test_what_is_no_namespace_is_absent_and_says_why() -> None:
    path = Path(f"/run/netns/ovnshift-unit-{os.getpid()}-no")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    try:
        with running(("a", path.name, "127.0.0.1")) as started:
            assert "can't be entered" in started.state("a", "absent")["why"]
    finally:
        path.unlink()


def test_it_ends_when_standard_input_ends(both: Pair) -> None:
    with running(("a", both.near, "10.99.0.2")) as started:
        started.state("a", "up")
        assert started.process.stdin is not None
        started.process.stdin.close()
        assert started.process.wait(BOUND) == 0


@pytest.mark.parametrize("bound", ["seconds", "silence"])
def test_it_ends_after_its_time_also_when_nobody_reads(bound: str) -> None:
    # Far more than a pipe holds.
    targets = [(f"{number} {'x' * 100}", f"ovnshift-unit-none-{number}", "10.99.0.2") for number in range(1000)]
    with running(*targets, **{bound: 1.0}) as started:
        assert started.process.wait(BOUND) == 0


def test_a_question_is_answered_with_the_time() -> None:
    with running(silence=300) as started:
        before = time.time()
        started.write(b"first\nsecond\n")
        said = [started.hear(lambda line: line.get("asked") is not None) for _ in range(2)]
        assert [line["asked"] for line in said] == ["first", "second"]
        assert all(before - 0.1 < line["clock"] < time.time() + 0.1 for line in said)


def test_of_many_targets_no_more_are_watched_than_the_kernel_has_room_for(both: Pair) -> None:
    bound = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    most = int(bound.read_text()) if bound.exists() else 1024
    ip("-n", both.near, "route", "add", "unreachable", "10.96.0.0/12")
    targets = [(str(n), both.near, f"10.{96 + (n >> 16)}.{n >> 8 & 255}.{n & 255}") for n in range(most + 50)]
    with running(*targets, ("last", both.far, "127.0.0.1"), interval=0.5) as started:
        started.hear(lambda _: len(started.states()) == len(targets) + 1)
        found = [state for _, state in started.states()]
        assert set(found) == {"down", "left out"}
        assert 16 <= found.count("down") < most


# The monitor


def site_of(*hosts: str) -> Any:
    return clouds.site(
        hosts={**dict.fromkeys(hosts, "local://")},
        groups={"control": [hosts[0]], "network": list(hosts), "compute": list(hosts)},
        ssh={"sudo": False},
    )


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(outage, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(outage, "FIRST_BACKOFF", 0.1)
    made = Fleet(site_of("here", "there"))
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def watching(fleet: Fleet, record: Path, *where: Place, watched: Watched = VM) -> Iterator[Monitor]:
    monitor = Monitor(fleet, {watched: where}, record, interval=INTERVAL)
    monitor.start()
    try:
        yield monitor
    finally:
        monitor.stop()
    assert not children()


def children() -> list[int]:
    """The programs that this process has started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = path.joinpath("stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == os.getpid() and BOOTSTRAP.encode() in path.joinpath("cmdline").read_bytes():
                found.append(int(path.name))
    return found


def lines(record: Path, **wanted: object) -> list[dict[str, Any]]:
    """The lines of a record that have these values."""
    if not record.exists():
        return []
    text = record.read_text().rpartition("\n")[0]
    found = [json.loads(line) for line in text.splitlines()]
    return [line for line in found if all(line.get(key) == value for key, value in wanted.items())]


def wait_for(record: Path, count: int = 1, **wanted: object) -> dict[str, Any]:
    wait_until(lambda: len(lines(record, **wanted)) >= count)
    return lines(record, **wanted)[count - 1]


def test_an_address_that_goes_away_and_comes_back_is_one_outage(both: Pair, fleet: Fleet, tmp_path: Path) -> None:
    record = tmp_path / "deep" / "record"
    with watching(fleet, record, Place(host="here", namespace=both.near)) as monitor:
        wait_for(record, state="up")
        gone_after = time.time()
        address(both, "delete", "10.99.0.2/16")
        gone = time.time()
        wait_for(record, state="down")
        back = time.time()
        address(both, "add", "10.99.0.2/16")
        back_before = time.time()
        wait_for(record, 2, state="up")
        wait_for(record, len(lines(record, kind="beat")) + 2, kind="beat")
    assert monitor.notes == []
    found = read(record)
    (only,) = outages(found, [])
    assert (only.target, only.address, only.lost_in, only.back_in) == (
        VM.target,
        VM.address,
        outage.BETWEEN,
        outage.BETWEEN,
    )
    assert only.back_at is not None
    # Longer than it was by no more than the error; shorter by what setting the address took.
    assert only.seconds >= back - gone - 0.01
    assert only.seconds - only.error_seconds <= back_before - gone_after
    assert INTERVAL < only.error_seconds < BOUND
    assert found.not_watched == ()
    assert starvation(found)["here"] >= INTERVAL / 2


def test_a_place_that_takes_over_in_time_leaves_no_outage(
    both: Pair, second: Pair, fleet: Fleet, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    address(second, "delete", "10.99.0.2/16")
    where = (Place(host="here", namespace=both.near), Place(host="there", namespace=second.near))
    with watching(fleet, record, *where):
        wait_for(record, host="here", state="up")
        wait_for(record, host="there", state="down")
        address(second, "add", "10.99.0.2/16")
        wait_for(record, host="there", state="up")
        ip("netns", "delete", both.near)
        wait_for(record, host="here", state="absent")
        wait_for(record, len(lines(record, kind="beat", host="there")) + 3, kind="beat", host="there")
    assert outages(read(record), []) == []


def test_a_place_that_takes_over_late_ends_the_outage(both: Pair, second: Pair, fleet: Fleet, tmp_path: Path) -> None:
    record = tmp_path / "record"
    address(second, "delete", "10.99.0.2/16")
    where = (Place(host="here", namespace=both.near), Place(host="there", namespace=second.near))
    with watching(fleet, record, *where):
        wait_for(record, host="here", state="up")
        wait_for(record, host="there", state="down")
        ip("netns", "delete", both.near)
        absent = wait_for(record, host="here", state="absent")
        wait_for(record, len(lines(record, kind="beat")) + 5, kind="beat")
        address(second, "add", "10.99.0.2/16")
        up = wait_for(record, host="there", state="up")
    (only,) = outages(read(record), [])
    assert only.seconds == pytest.approx(up["at"] - absent["last"], abs=0.01)


def test_a_program_that_is_killed_is_started_again_and_the_gap_is_recorded(
    both: Pair, fleet: Fleet, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    said: list[str] = []
    monitor = Monitor(
        fleet, {VM: [Place(host="here", namespace=both.near)]}, record, interval=INTERVAL, say=said.append
    )
    monitor.start()
    try:
        wait_for(record, state="up")
        wait_for(record, kind="beat")
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        wait_for(record, kind="not watched")
        wait_for(record, 2, kind="opened")
        wait_for(record, 2, state="up")
    finally:
        monitor.stop()
    assert monitor.notes == ["here is not watched from: the connection or the program there ended"]
    wait_until(lambda: len(said) == 2)
    assert said == [*monitor.notes, "here is watched from again"]
    found = read(record)
    (gap,) = found.not_watched
    assert (gap.host, gap.why) == ("here", "the connection or the program there ended")
    assert 0 < gap.seconds < BOUND
    assert outages(found, []) == []


def test_a_program_that_says_nothing_any_more_is_given_up(
    both: Pair, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "QUIET_SECONDS", 2.0)
    record = tmp_path / "record"
    with watching(fleet, record, Place(host="here", namespace=both.near)) as monitor:
        wait_for(record, state="up")
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        wait_for(record, 2, kind="opened")
        assert pid not in children()
    assert monitor.notes[0] == "here is not watched from: it is silent"


def test_a_record_is_continued_by_a_later_run(both: Pair, fleet: Fleet, tmp_path: Path) -> None:
    record = tmp_path / "record"
    for run in (1, 2):
        with watching(fleet, record, Place(host="here", namespace=both.near)):
            wait_for(record, run, state="up")
    assert [len(lines(record, kind=kind)) for kind in ("began", "ended", "opened")] == [2, 2, 2]
    found = read(record)
    assert outages(found, []) == []
    (gap,) = found.not_watched
    assert gap.why == "nobody watched"


def test_what_a_killed_run_left_half_written_is_left_out(both: Pair, fleet: Fleet, tmp_path: Path) -> None:
    record = tmp_path / "record"
    write(record, BEGAN, OPENED, state(1, "up"), BEAT)
    whole = record.read_bytes()
    record.write_bytes(whole + b'{"kind": "sta')
    assert read(record).notes == ("record, line 5: cut off, the run was killed there",)
    with watching(fleet, record, Place(host="here", namespace=both.near)):
        wait_until(lambda: b'"state": "up"' in record.read_bytes()[len(whole) + 10 :])
    found = read(record)
    assert found.notes == ("record, line 5: cut off, the run was killed there",)
    assert [gap.why for gap in found.not_watched] == ["the run was killed"]


def test_a_host_that_cant_be_reached_stops_nothing(both: Pair, fleet: Fleet, tmp_path: Path) -> None:
    record = tmp_path / "record"
    with watching(
        fleet, record, Place(host="here", namespace=both.near), Place(host="elsewhere", namespace="x")
    ) as monitor:
        wait_for(record, state="up")
        wait_for(record, kind="not watched")
    assert monitor.notes == ["elsewhere is not watched from: is not in the site file"]
    assert [(gap.host, gap.why) for gap in read(record).not_watched] == [("elsewhere", "is not in the site file")]


def test_a_record_that_cant_be_written_stops_nothing(both: Pair, fleet: Fleet, tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    with watching(fleet, tmp_path / "file" / "record", Place(host="here", namespace=both.near)) as monitor:
        assert "could not be written" in monitor.notes[0]
    assert len(monitor.notes) == 2


def test_what_is_written_late_is_written(both: Pair, fleet: Fleet, tmp_path: Path) -> None:
    blocked = tmp_path / "place"
    blocked.touch()
    record = blocked / "record"
    with watching(fleet, record, Place(host="here", namespace=both.near)) as monitor:
        assert len(monitor.notes) == 1
        blocked.unlink()
        wait_for(record, state="up")
    assert len(lines(record, kind="began")) == 1
    assert read(record).notes == ()


def test_what_cant_be_seen_from_anywhere_is_said(fleet: Fleet, tmp_path: Path) -> None:
    with watching(fleet, tmp_path / "record") as monitor:
        pass
    assert monitor.notes == ["1 can't be watched from anywhere: vm (vm-id) at 10.99.0.2"]
    assert outages(read(tmp_path / "record"), []) == []


def test_a_monitor_that_was_not_started_may_be_stopped(fleet: Fleet, tmp_path: Path) -> None:
    Monitor(fleet, {}, tmp_path / "record").stop()
    assert not (tmp_path / "record").exists()


def test_times_are_those_of_our_own_clock(
    both: Pair, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = program().replace(b"BEGINNING = time.time()", b"BEGINNING = 3600 + time.time()")
    assert ahead != program()
    monkeypatch.setattr(outage, "source", lambda *_: ahead)
    record = tmp_path / "record"
    before = time.time()
    with watching(fleet, record, Place(host="here", namespace=both.near)):
        opened = wait_for(record, kind="opened")
        up = wait_for(record, state="up")
        beat = wait_for(record, kind="beat")
    assert opened["offset"] == pytest.approx(3600, abs=opened["bound"] + 0.01)
    for line in (up, beat):
        assert before - line["bound"] < line["at"] < time.time() + line["bound"]
    # The second question is asked of a program that runs.
    assert beat["bound"] < opened["bound"]


# Records by hand


def began(at: float, *where: Place, watched: Watched = VM) -> dict[str, Any]:
    entry = {**watched.model_dump(), "places": [each.model_dump() for each in where]}
    return {"kind": "began", "at": T + at, "interval": 0.5, "timeout": 1.0, "watched": [entry]}


def opened(at: float, host: str = "here") -> dict[str, Any]:
    return {"kind": "opened", "at": T + at, "host": host, "offset": 0.0, "bound": 0.1}


def state(at: float, what: str, last: float | None = None, *, host: str = "here", space: str = "a") -> dict[str, Any]:
    key = f"instance/{VM.target.id}|{VM.address}|{space}"
    moment = None if last is None else T + last
    return {"kind": "state", "at": T + at, "host": host, "key": key, "state": what, "last": moment, "bound": 0.01}


def beat(at: float, pause: float = 0.5, host: str = "here") -> dict[str, Any]:
    control = {"sent": 10, "answered": 10, "ms": 0.1}
    return {"kind": "beat", "at": T + at, "host": host, "beat": 1, "pause": pause, "control": control, "bound": 0.01}


def lost(at: float, since: float, host: str = "here") -> dict[str, Any]:
    return {"kind": "not watched", "at": T + at, "host": host, "since": T + since, "why": "gone"}


def ended(at: float) -> dict[str, Any]:
    return {"kind": "ended", "at": T + at}


T = 1_800_000_000.0
HERE = Place(host="here", namespace="a")
THERE = Place(host="there", namespace="b")
BEGAN, OPENED, BEAT = began(0, HERE), opened(0.2), beat(5)
CHAPTERS = [
    Chapter(name="first", begun_at="2027-01-15T08:00:00+00:00", ended_at="2027-01-15T08:00:20+00:00"),
    Chapter(name="second", begun_at="2027-01-15T08:00:20Z", ended_at="2027-01-15T08:01:00.000"),
]


def write(record: Path, *content: dict[str, Any]) -> Path:
    record.write_text("".join(json.dumps(line) + "\n" for line in content))
    return record


@pytest.fixture
def of(tmp_path: Path) -> Callable[..., Record]:
    return lambda *content: read(write(tmp_path / "record", *content))


Of = Callable[..., Record]


def times(found: list[Outage]) -> list[Any]:
    return [(each.seconds, each.error_seconds) for each in found]


@pytest.mark.parametrize(
    ("gone", "back", "lost_in", "back_in"),
    [
        (10, 12, "first", "first"),
        (10, 30, "first", "second"),
        (20, 30, "second", "second"),
        (20, 61, "second", "between chapters"),
        (62, 64, "between chapters", "between chapters"),
        (10, None, "first", ""),
    ],
)
def test_the_chapters_of_an_outage_are_found_by_time(
    of: Of, gone: float, back: float | None, lost_in: str, back_in: str
) -> None:
    last = () if back is None else (state(back, "up", back),)
    found = of(BEGAN, OPENED, state(1, "up", 1), state(gone + 1.5, "down", gone), *last, ended(100))
    (only,) = outages(found, CHAPTERS)
    assert (only.lost_in, only.back_in) == (lost_in, back_in)
    assert (only.back_at is None) == (back is None)
    assert only.seconds == (100 if back is None else back) - gone


def test_the_error_is_of_the_interval_the_pause_in_that_time_and_the_clocks(of: Of) -> None:
    found = of(
        BEGAN,
        OPENED,
        state(1, "up", 1),
        beat(5, 9.0),
        beat(10, 0.7),
        state(12, "down", 10.5),
        state(13, "up", 13),
        beat(15, 0.9),
        beat(20, 8.0),
        ended(30),
    )
    assert times(outages(found, [])) == [(2.5, pytest.approx(0.5 + 0.9 + 0.02))]
    assert starvation(found) == {"here": 9.0}
    assert outages(found, [])[0].lost_at == "2027-01-15T08:00:10.500+00:00"
    assert outages(found, [])[0].back_at == "2027-01-15T08:00:13.000+00:00"


def test_a_long_outage_may_have_been_shorter_by_the_time_that_a_neighbour_is_looked_for(of: Of) -> None:
    found = of(BEGAN, OPENED, state(1, "up", 1), state(12, "down", 10), state(20, "up", 20), ended(30))
    assert times(outages(found, [])) == [(10.0, pytest.approx(0.5 + 0.02 + 1.0))]


def test_a_neighbour_that_was_never_given_up_makes_no_outage_shorter(of: Of) -> None:
    lines = [BEGAN, OPENED, state(1, "up", 1), state(12, "down", 10)]
    assert times(outages(of(*lines, {**state(20, "up", 20), "given_up": False}, ended(30)), [])) == [
        (10.0, pytest.approx(0.5 + 0.02))
    ]
    assert times(outages(of(*lines, {**state(20, "up", 20), "given_up": True}, ended(30)), [])) == [
        (10.0, pytest.approx(0.5 + 0.02 + 1.0))
    ]


def test_two_places_make_one_timeline(of: Of) -> None:
    found = of(
        began(0, HERE, THERE),
        opened(0.2),
        opened(0.3, "there"),
        state(0.4, "absent", host="there", space="b"),
        state(1, "up", 1),
        # The lines of two hosts are not in order.
        state(20, "up", 20, host="there", space="b"),
        state(10, "absent", 9.9),
        state(30.2, "down", 29, host="there", space="b"),
        state(29.5, "up", 29.5),
        ended(40),
    )
    assert times(outages(found, [])) == [(10.1, pytest.approx(0.5 + 0.02 + 1.0))]


def test_what_was_never_there_is_no_outage(of: Of) -> None:
    assert outages(of(BEGAN, OPENED, state(2, "down"), ended(100)), CHAPTERS) == []
    assert outages(of(BEGAN, OPENED, state(2, "down"), state(50, "up", 50), ended(100)), CHAPTERS) == []


def test_a_time_in_which_nobody_looked_is_no_outage(of: Of) -> None:
    found = of(BEGAN, OPENED, state(1, "up", 1), beat(5), lost(8, 5), opened(40), state(40.2, "up", 40.2), ended(50))
    assert outages(found, []) == []
    assert [(each.host, each.seconds, each.why) for each in found.not_watched] == [("here", 35.0, "gone")]


def test_an_outage_that_began_while_nobody_looked_may_have_been_shorter_by_that(of: Of) -> None:
    found = of(
        BEGAN,
        OPENED,
        state(1, "up", 1),
        beat(5),
        lost(8, 5),
        opened(40),
        state(42, "down"),
        state(50, "up", 50),
        ended(60),
    )
    # When a host was heard last, its target may already have been silent for the time that it takes to know it: 2 s.
    assert times(outages(found, [])) == [(47.0, pytest.approx(0.5 + 37 + 0.02 + 0.5 + 1.0))]


def test_a_host_that_is_not_watched_from_to_the_end_says_nothing_of_its_targets(of: Of) -> None:
    found = of(BEGAN, OPENED, state(1, "up", 1), beat(5), lost(8, 5), ended(100))
    assert outages(found, []) == []
    assert [each.seconds for each in found.not_watched] == [95.0]


def test_a_run_that_was_killed_and_continued_has_a_gap(of: Of) -> None:
    found = of(
        BEGAN, OPENED, state(1, "up", 1), beat(5), began(60, HERE), opened(61), state(61.2, "up", 61.2), ended(70)
    )
    assert outages(found, []) == []
    assert [(each.seconds, each.why) for each in found.not_watched] == [(56.0, "the run was killed")]
    assert found.began == T


def test_a_place_that_a_later_run_does_not_have_hides_no_outage(of: Of) -> None:
    found = of(
        began(0, HERE, THERE),
        OPENED,
        state(1, "up", 1),
        beat(5),
        began(60, THERE),
        opened(61, "there"),
        state(61.1, "absent", host="there", space="b"),
        state(90, "up", 90, host="there", space="b"),
        ended(100),
    )
    (only,) = outages(found, [])
    assert only.back_at == "2027-01-15T08:01:30.000+00:00"
    assert only.seconds - only.error_seconds < 30
    assert [(each.host, each.seconds) for each in found.not_watched] == [("here", 55.0)]


def test_a_run_that_was_killed_and_not_continued_is_read_to_its_last_word(of: Of) -> None:
    found = of(BEGAN, OPENED, state(1, "up", 1), beat(50))
    assert outages(found, []) == []
    assert found.ended == T + 50
    found = of(BEGAN, OPENED, state(1, "up", 1), state(12, "down", 10), beat(50))
    assert [(each.back_at, each.seconds) for each in outages(found, [])] == [(None, 40.0)]


def test_nothing_is_nothing(of: Of) -> None:
    found = of()
    assert (found.began, found.not_watched, found.notes) == (None, (), ())
    assert outages(found, CHAPTERS) == []
    assert starvation(found) == {}
    assert outages(of(began(0, HERE), ended(1)), []) == []


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"no JSON\n",
        b'{"kind": "beat"}\n',
        b'{"kind": "something else", "at": 1}\n',
        b'{"kind": "sta',
    ],
)
def test_damage_in_the_middle_is_an_error(tmp_path: Path, damage: bytes) -> None:
    record = write(tmp_path / "record", BEGAN, OPENED, BEAT)
    content = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join([content[0], damage or content[1][:30] + b"\n", *content[2:]]))
    with pytest.raises(OvnshiftError, match="record:2: is damaged"):
        read(record)


def test_a_record_without_a_beginning_or_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OvnshiftError, match="nothing had begun"):
        read(write(tmp_path / "record", OPENED, BEAT))
    with pytest.raises(OvnshiftError, match="could not be read"):
        read(tmp_path / "none")


def test_a_last_line_that_is_whole_counts_without_its_end(tmp_path: Path) -> None:
    record = write(tmp_path / "record", BEGAN, OPENED, BEAT)
    record.write_bytes(record.read_bytes().rstrip())
    found = read(record)
    assert found.notes == ()
    assert starvation(found) == {"here": 0.5}


# What there is to watch


def test_every_active_instance_and_its_floating_ip_is_watched_from_where_it_is_seen_before_and_after() -> None:
    cloud = clouds.Seed()
    cloud.instance("vm-off", {"10.5.0.7": cloud.web}, "compute1", status="SHUTOFF")
    cloud.instance("vm-two", {"10.5.0.8": cloud.web, "172.25.0.8": cloud.app}, "elsewhere")
    cloud.floating_ip("192.168.100.7", cloud.vlan100, None, cloud.rtr_web)
    topology = cloud.topology()
    site = clouds.site(
        hosts={**{name: f"ssh://{name}" for name in ("infra1", "compute1", "compute2", "gate")}},
        groups={"control": ["infra1"], "network": ["infra1"], "compute": ["compute1", "compute2"]},
        outside={"host": "gate"},
    )
    hosts = clouds.inventories({"infra1": [f"qdhcp-{cloud.web.id}", f"qdhcp-{cloud.app.id}"], "compute1": []})
    found = places(topology, Vantages(topology, hosts, site), site)
    named = {(each.target.name, each.address): where for each, where in found.items()}
    web = Place(host="infra1", namespace=f"qdhcp-{cloud.web.id}")
    assert named["vm-web1", "10.5.0.121"] == (web, Place(host="compute1", namespace=f"ovnmeta-{cloud.web.id}"))
    assert named["vm-web2", "10.5.0.162"] == (web, Place(host="compute2", namespace=f"ovnmeta-{cloud.web.id}"))
    # No namespace has its network yet.
    assert named["vm-db1", "192.168.55.21"] == (Place(host="compute1", namespace=f"ovnmeta-{cloud.db.id}"),)
    # Its hypervisor is not in the site file.
    assert named["vm-two", "10.5.0.8"] == (web,)
    assert named["vm-two", "172.25.0.8"] == (Place(host="infra1", namespace=f"qdhcp-{cloud.app.id}"),)
    assert named["192.168.100.90", "192.168.100.90"] == (Place(host="gate"),)
    assert {name for name, _ in named} == {each.name for each in cloud.instances if each.active} | {
        "192.168.100.90",
        "192.168.100.215",
    }


def test_after_the_change_an_instance_is_not_watched_from_the_same_place_twice() -> None:
    cloud = clouds.Seed()
    site = clouds.site()
    topology = cloud.topology()
    hosts = clouds.inventories({"compute1": [f"ovnmeta-{cloud.web.id}"]})
    found = places(topology, Vantages(topology, hosts, site), site)
    where = {each.target.name: where for each, where in found.items()}
    assert where["vm-web1"] == (Place(host="compute1", namespace=f"ovnmeta-{cloud.web.id}"),)
    # Nobody is outside.
    assert where["192.168.100.90"] == ()


def test_on_the_way_back_an_instance_is_watched_from_where_its_dhcp_agent_was() -> None:
    cloud = clouds.Seed()
    for host in ("infra3", "infra2", "unknown"):
        cloud.port(cloud.web, [], device_owner="network:dhcp", host=host)
    topology = cloud.topology()
    hosts = clouds.inventories({"compute1": [f"ovnmeta-{cloud.web.id}"]})
    found = places(topology, Vantages(topology, hosts, clouds.site()), clouds.site())
    where = {each.target.name: where for each, where in found.items()}
    dhcp = Place(host="infra2", namespace=f"qdhcp-{cloud.web.id}")
    assert where["vm-web1"] == (dhcp, Place(host="compute1", namespace=f"ovnmeta-{cloud.web.id}"))
    assert where["vm-db1"] == (Place(host="compute1", namespace=f"ovnmeta-{cloud.db.id}"),)


def test_of_an_address_of_each_family_the_older_one_is_watched() -> None:
    cloud = clouds.Builder()
    dual = cloud.network("dual", "fd00::/64", "10.0.0.0/24")
    cloud.instance("vm", {"fd00::5": dual, "10.0.0.5": dual}, "compute1")
    topology = cloud.topology()
    found = places(topology, Vantages(topology, {}, clouds.site()), clouds.site())
    assert [each.address for each in found] == ["10.0.0.5"]
