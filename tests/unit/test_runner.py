from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import pkgutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnshift import evacuation, migration
from ovnshift.errors import OvnshiftError
from ovnshift.journal import Journal, JournalError, State
from ovnshift.report.result import NotReady
from ovnshift.steps import Gone, Runner, Step
from tests.unit.test_steps import Write

HERE = ("lab", "http://192.0.2.1:5000")
WAIT_SECONDS = 30


class Watched(Write):
    """A step that counts how often it was looked at."""

    def __init__(self, path: Path, line: str, *, settled_by: tuple[str, ...] = (), breaks: bool = False) -> None:
        super().__init__(path, line, breaks=breaks)
        self.settled_by = settled_by
        self.looks = 0

    def is_done(self) -> bool:
        self.looks += 1
        return super().is_done()


class Later(Watched):
    """A step of a later chapter."""

    chapter = "later"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(path, *HERE)) as journal:
        yield journal


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def runner(journal: Journal, said: list[str]) -> Runner:
    return Runner(journal, said.append)


# Several steps


def six(tmp_path: Path) -> list[Write]:
    """Two of them fail, in the two ways in which a step can."""
    (tmp_path / "2").write_text("there already", encoding="utf-8")
    return [
        Write(tmp_path / "0", "new"),
        Write(tmp_path / "1", "new", breaks=True),
        Write(tmp_path / "2", "there already"),
        Write(tmp_path / "3", "größer"),
        Write(tmp_path / "4", "new"),
        Write(tmp_path / "5", "new"),
    ]


def states(journal: Journal) -> dict[str, State]:
    return {entry.step: entry.state for entry in journal.entries()}


@pytest.mark.parametrize("parallel", [1, 2, 16])
def test_one_that_fails_does_not_keep_the_others_from_being_done(
    runner: Runner, journal: Journal, tmp_path: Path, parallel: int
) -> None:
    steps = six(tmp_path)
    with pytest.raises(NotReady) as caught:
        runner.run_all(steps, what="of the files", parallel=parallel)
    finding = caught.value.finding
    assert finding.what == "2 of 6 of the files failed"
    assert finding.remedy == "mend the cause, and run this again"
    broken, unproved = finding.objects
    assert broken.startswith("write 1: ")
    assert "broke after None" in broken
    assert "next: run it again" in broken
    assert unproved.startswith("write 3: the file has another size")
    assert "remedy: look at it" in unproved
    assert [step.times for step in steps] == [1, 1, 0, 1, 1, 1]
    assert states(journal) == {
        "files/0": State.DONE,
        "files/1": State.FAILED,
        "files/2": State.ALREADY,
        "files/3": State.FAILED,
        "files/4": State.DONE,
        "files/5": State.DONE,
    }


@pytest.mark.parametrize("parallel", [1, 16])
def test_once_mended_only_what_failed_is_done_again(
    runner: Runner, journal: Journal, tmp_path: Path, parallel: int
) -> None:
    with pytest.raises(NotReady):
        runner.run_all(six(tmp_path), what="of the files", parallel=parallel)
    again = six(tmp_path)
    again[1].breaks = False
    again[3].line = "smaller"
    entries = runner.run_all(again, what="of the files", parallel=parallel)
    assert [entry.step for entry in entries] == [step.id for step in again]
    assert [step.times for step in again] == [0, 1, 0, 1, 0, 0]
    assert [entry.attempts for entry in entries] == [1, 2, 1, 2, 1, 1]
    assert set(states(journal).values()) == {State.DONE, State.ALREADY}


def test_no_step_at_all_is_done_at_once(runner: Runner, journal: Journal) -> None:
    assert runner.run_all([], what="of the files", parallel=4) == []
    assert journal.entries() == []


@pytest.mark.parametrize("parallel", [1, 8])
def test_a_plan_of_several_steps_says_them_in_order_and_does_nothing(
    journal: Journal, said: list[str], tmp_path: Path, parallel: int
) -> None:
    (tmp_path / "1").write_text("old", encoding="utf-8")
    steps = [Watched(tmp_path / str(number), "new", breaks=True) for number in range(3)]
    planner = Runner(journal, said.append, plan_only=True)
    assert planner.run_all(steps, what="of the files", parallel=parallel) == []
    assert said == ["here: 0: None → 'new'", "here: 1: 'old' → 'new'", "here: 2: None → 'new'"]
    assert {each.name for each in tmp_path.iterdir()} == {"1", "reports"}
    assert (tmp_path / "1").read_text(encoding="utf-8") == "old"
    assert journal.entries() == []


class OneWay(Write):
    way_back = "none is needed"


def test_a_plan_says_once_how_to_go_back(journal: Journal, said: list[str], tmp_path: Path) -> None:
    steps = [OneWay(tmp_path / str(number), "new") for number in range(2)]
    Runner(journal, said.append, plan_only=True).run_all(steps, what="of the files")
    assert said == ["here: 0: None → 'new'", "here: 1: None → 'new'", "way back: none is needed"]


def kinds_of_steps(kind: type[Step] = Step) -> Iterator[type[Step]]:
    for below in kind.__subclasses__():
        yield below
        yield from kinds_of_steps(below)


def test_every_step_of_a_window_knows_its_way_back() -> None:
    for package in (migration, evacuation):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    there = {"ovnshift.migration.back", "ovnshift.migration.hosting"}
    found = {
        kind
        for kind in kinds_of_steps()
        if kind.__module__.startswith("ovnshift.") and kind.__module__ not in there and not inspect.isabstract(kind)
    }
    assert {"StopInstance", "CleanHost", "ConvertRows", "RepairNorthbound", "MoveRouter"} <= {
        kind.__name__ for kind in found
    }
    assert [kind.__name__ for kind in found if not kind.way_back] == []


# A journal that can't be written any more


class Losing(Write):
    """The journal is lost while this is done; if it is done beside another, once that has begun."""

    def __init__(self, path: Path, journal: Path, lost: threading.Event, begun: threading.Event | None = None) -> None:
        super().__init__(path, "new")
        self._journal = journal
        self._lost = lost
        self._begun = begun

    def do(self, found: Any) -> None:
        super().do(found)
        assert self._begun is None or self._begun.wait(WAIT_SECONDS)
        with contextlib.closing(sqlite3.connect(self._journal)) as other:
            other.execute("DROP TABLE steps")
        self._lost.set()


class Meanwhile(Write):
    """Begun before the journal is lost, and over after that."""

    def __init__(self, path: Path, lost: threading.Event) -> None:
        super().__init__(path, "new")
        self._lost = lost
        self.begun = threading.Event()

    def do(self, found: Any) -> None:
        self.begun.set()
        assert self._lost.wait(WAIT_SECONDS)
        super().do(found)


def test_without_its_journal_nothing_more_is_done(runner: Runner, path: Path, tmp_path: Path) -> None:
    steps: list[Write] = [
        Write(tmp_path / "0", "new"),
        Losing(tmp_path / "1", path, threading.Event()),
        *(Write(tmp_path / str(number), "new") for number in range(2, 5)),
    ]
    with pytest.raises(JournalError, match=r"journal\.sqlite: can't be written: no such table"):
        runner.run_all(steps, what="of the files")
    assert [step.times for step in steps] == [1, 1, 0, 0, 0]


def test_without_its_journal_nothing_more_is_begun_side_by_side(runner: Runner, path: Path, tmp_path: Path) -> None:
    lost = threading.Event()
    beside = Meanwhile(tmp_path / "0", lost)
    steps: list[Write] = [
        beside,
        Losing(tmp_path / "1", path, lost, beside.begun),
        *(Write(tmp_path / str(number), "new") for number in range(2, 12)),
    ]
    with pytest.raises(JournalError, match=r"journal\.sqlite: can't be"):
        runner.run_all(steps, what="of the files", parallel=2)
    assert [step.times for step in steps] == [1, 1, *[0] * 10]


# Steps that later ones settle


@pytest.fixture
def settled(tmp_path: Path) -> Callable[[str], Watched]:
    """A step that a later one's beginning settles, as a new run makes it."""
    return lambda prefix: Watched(tmp_path / "early", "new", settled_by=("never/", prefix))


@pytest.mark.parametrize("prefix", ["later", "later/", "later/late"])
@pytest.mark.parametrize("breaks", [False, True])
def test_what_is_done_is_not_looked_at_again_once_a_later_step_has_begun(
    runner: Runner,
    said: list[str],
    tmp_path: Path,
    settled: Callable[[str], Watched],
    prefix: str,
    *,
    breaks: bool,
) -> None:
    first = runner.run(settled(prefix))
    assert first is not None
    later = Later(tmp_path / "late", "other", breaks=breaks)
    with pytest.raises(OvnshiftError) if breaks else contextlib.nullcontext():
        runner.run(later)
    (tmp_path / "early").write_text("used up", encoding="utf-8")
    said.clear()
    again = settled(prefix)
    assert runner.run(again) == first
    assert (again.looks, again.times) == (0, 0)
    assert said == [f"write early: done at {first.ended_at}"]
    assert (tmp_path / "early").read_text(encoding="utf-8") == "used up"


@pytest.mark.parametrize("prefix", ["later/other", "ater/", "later/late/more"])
def test_what_another_step_settles_is_looked_at(
    runner: Runner, tmp_path: Path, settled: Callable[[str], Watched], prefix: str
) -> None:
    runner.run(settled(prefix))
    runner.run(Later(tmp_path / "late", "other"))
    (tmp_path / "early").unlink()
    again = settled(prefix)
    entry = runner.run(again)
    assert entry is not None
    assert (again.times, entry.attempts, entry.state) == (1, 2, State.DONE)


def test_before_the_later_step_has_begun_it_is_looked_at(
    runner: Runner, tmp_path: Path, settled: Callable[[str], Watched]
) -> None:
    runner.run(settled("later/"))
    (tmp_path / "early").unlink()
    again = settled("later/")
    runner.run(again)
    assert (again.looks, again.times) == (1, 1)
    assert (tmp_path / "early").read_text(encoding="utf-8") == "new"


def test_once_everything_is_undone_it_is_looked_at_again(
    runner: Runner, journal: Journal, tmp_path: Path, settled: Callable[[str], Watched]
) -> None:
    runner.run(settled("later/"))
    later = Later(tmp_path / "late", "other")
    runner.run(later)
    journal.undo_all()
    (tmp_path / "early").unlink()
    again = settled("later/")
    entry = runner.run(again)
    assert entry is not None
    assert (again.looks, again.times, entry.attempts) == (1, 1, 2)


def test_what_was_so_already_is_settled_too(runner: Runner, tmp_path: Path, settled: Callable[[str], Watched]) -> None:
    (tmp_path / "early").write_text("new", encoding="utf-8")
    runner.run(settled("later/"))
    runner.run(Later(tmp_path / "late", "other"))
    (tmp_path / "early").unlink()
    again = settled("later/")
    entry = runner.run(again)
    assert entry is not None
    assert (again.looks, again.times, entry.state) == (0, 0, State.ALREADY)


def test_what_failed_is_not_settled_by_anything(
    runner: Runner, tmp_path: Path, settled: Callable[[str], Watched]
) -> None:
    failing = settled("later/")
    failing.breaks = True
    with pytest.raises(OvnshiftError):
        runner.run(failing)
    runner.run(Later(tmp_path / "late", "other"))
    again = settled("later/")
    entry = runner.run(again)
    assert entry is not None
    assert (again.times, entry.state) == (1, State.DONE)


def test_its_own_id_settles_it_once_and_for_all(runner: Runner, journal: Journal, tmp_path: Path) -> None:
    def once() -> Watched:
        return Watched(tmp_path / "early", "new", settled_by=("files/early",))

    first = once()
    runner.run(first)
    assert first.times == 1
    (tmp_path / "early").write_text("changed by somebody", encoding="utf-8")
    again = once()
    runner.run(again)
    assert (again.looks, again.times) == (0, 0)
    journal.undo_all()
    anew = once()
    runner.run(anew)
    assert anew.times == 1


def test_its_own_id_does_not_settle_what_has_failed(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(OvnshiftError):
        runner.run(Watched(tmp_path / "early", "new", settled_by=("files/early",), breaks=True))
    again = Watched(tmp_path / "early", "new", settled_by=("files/early",))
    runner.run(again)
    assert again.times == 1


# A run that is killed

KILLED = """
import os, signal, sys
from pathlib import Path
from ovnshift.journal import Journal
from ovnshift.steps import Runner
from tests.unit.test_steps import Write

class Killed(Write):
    def do(self, found):
        self.path.write_text("half of it", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)

Runner(Journal(Path(sys.argv[1]), "lab", "http://192.0.2.1:5000"), print).run(Killed(Path(sys.argv[2]), "new"))
"""


def test_a_step_that_was_killed_half_way_is_done_and_what_was_found_first_is_kept(
    project: Path, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("old", encoding="utf-8")
    for _ in range(2):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(tmp_path / "a")],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project)},
            timeout=60,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_text(encoding="utf-8") == "half of it"
    with contextlib.closing(Journal(path, *HERE)) as journal:
        left = journal.entry("files/a")
        assert left is not None
        assert (left.state, left.found, left.ended_at, left.attempts) == (State.INTENDED, "old", None, 2)
        step = Write(tmp_path / "a", "new")
        entry = Runner(journal, print).run(step)
        assert entry is not None
        assert (entry.state, entry.found, entry.attempts, step.times) == (State.DONE, "old", 3, 1)
    assert (tmp_path / "a").read_text(encoding="utf-8") == "new"


# Threads


class Counted(Step):
    """Knows how many of its kind are being done at once."""

    chapter = "many"
    _lock = threading.Lock()
    now = most = 0

    def __init__(self, number: int, gate: threading.Barrier) -> None:
        self.key = f"step/{number:03}"
        self.title = f"step {number}"
        self.number = number
        self._gate = gate
        self._done = False

    def plan(self) -> list[str]:
        return []

    def find(self) -> dict[str, int]:
        return {"number": self.number}

    def is_done(self) -> bool:
        return self._done

    def do(self, found: Any) -> None:
        assert found == {"number": self.number}
        with self._lock:
            type(self).now += 1
            type(self).most = max(self.most, self.now)
        # Sixteen begin together, so that they write to the journal together.
        self._gate.wait(WAIT_SECONDS)
        with self._lock:
            type(self).now -= 1
        self._done = True

    def prove(self) -> list[str]:
        return [f"number {self.number}"]


def test_many_steps_side_by_side_share_one_journal(journal: Journal, path: Path) -> None:
    gate = threading.Barrier(16)
    lines: list[str] = []
    entries = Runner(journal, lines.append).run_all(
        [Counted(number, gate) for number in range(208)], what="of the steps", parallel=16
    )
    assert Counted.most == 16
    assert [entry.step for entry in entries] == [f"many/step/{number:03}" for number in range(208)]
    assert [entry.found for entry in entries] == [{"number": number} for number in range(208)]
    assert sorted(lines) == sorted(f"number {number}" for number in range(208))
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = other.execute("SELECT step, state, attempts, ended_at >= begun_at FROM steps").fetchall()
    assert sorted(rows) == [(f"many/step/{number:03}", "done", 1, 1) for number in range(208)]


class OfSomebody(Watched):
    """A step about an object that its owner deletes."""

    may_be_gone = True

    def is_done(self) -> bool:
        raise Gone("Neutron", "network 1: it was deleted since", "nothing")


class OfNobody(OfSomebody):
    may_be_gone = False


def test_what_its_owner_has_deleted_needs_nothing_more(
    tmp_path: Path, journal: Journal, runner: Runner, said: list[str]
) -> None:
    step = OfSomebody(tmp_path / "0", "new")
    entry = runner.run(step)
    assert entry is not None
    assert entry.state is State.ALREADY
    assert entry.proof == ["network 1: it was deleted since"]
    assert "it was deleted since" in said[-1]
    assert not (tmp_path / "0").exists()
    assert journal.entry(step.id) == entry


def test_what_nobody_can_delete_is_missing(tmp_path: Path, runner: Runner) -> None:
    with pytest.raises(Gone, match="deleted since"):
        runner.run(OfNobody(tmp_path / "0", "new"))


@pytest.mark.parametrize("parallel", [1, 2])
def test_the_first_failure_stops_the_rest_where_that_is_asked_for(
    parallel: int, runner: Runner, journal: Journal, tmp_path: Path
) -> None:
    steps = [Watched(tmp_path / str(number), "line", breaks=number == 0) for number in range(40)]
    for number, step in enumerate(steps):
        step.key = f"step {number}"
    with pytest.raises(NotReady, match="not begun, since another has failed") as caught:
        runner.run_all(steps, what="of the steps", parallel=parallel, stop_at_first=True)
    begun = {entry.step for entry in journal.entries()}
    assert steps[0].id in begun
    assert steps[-1].id not in begun
    kept = sum("not begun" in line for line in caught.value.finding.objects)
    assert kept == len(steps) - len(begun)
    assert f"{kept} were not begun" in caught.value.finding.what
