from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ovnshift.errors import OvnshiftError
from ovnshift.journal import Journal, State
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Runner, Step


class Write(Step):
    """A real step: a file gets a line."""

    chapter = "files"

    def __init__(self, path: Path, line: str, *, breaks: bool = False) -> None:
        self.key = path.name
        self.title = f"write {path.name}"
        self.path = path
        self.line = line
        self.breaks = breaks
        self.times = 0

    def plan(self) -> list[str]:
        return [f"here: {self.path.name}: {self.find()!r} → {self.line!r}"]

    def find(self) -> str | None:
        return self.path.read_text(encoding="utf-8") if self.path.exists() else None

    def is_done(self) -> bool:
        return self.find() == self.line

    def do(self, found: Any) -> None:
        self.times += 1
        self.path.write_text("half of it", encoding="utf-8")
        if self.breaks:
            raise OvnshiftError(str(self.path), f"broke after {found!r}", "run it again")
        self.path.write_text(self.line, encoding="utf-8")

    def prove(self) -> list[str]:
        if self.path.stat().st_size != len(self.line):
            raise NotReady(Finding("the file has another size", (str(self.path),), "look at it"))
        return [f"{self.path.name} has {len(self.line)} bytes"]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "reports" / "journal.sqlite", "lab", "http://192.0.2.1:5000")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def runner(journal: Journal, said: list[str]) -> Runner:
    return Runner(journal, said.append)


def test_a_step_is_done_proved_and_written_down(runner: Runner, tmp_path: Path, said: list[str]) -> None:
    entry = runner.run(Write(tmp_path / "a", "new"))
    assert entry is not None
    assert (entry.state, entry.proof, entry.found) == (State.DONE, ["a has 3 bytes"], None)
    assert (tmp_path / "a").read_text(encoding="utf-8") == "new"
    assert said == ["a has 3 bytes"]


def test_run_twice_it_does_nothing_the_second_time(runner: Runner, tmp_path: Path) -> None:
    step = Write(tmp_path / "a", "new")
    runner.run(step)
    entry = runner.run(step)
    assert step.times == 1
    assert entry is not None
    assert (entry.state, entry.attempts) == (State.DONE, 1)


def test_a_plan_changes_nothing_and_leaves_nothing_behind(journal: Journal, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "a").write_text("old", encoding="utf-8")
    assert Runner(journal, said.append, plan_only=True).run(Write(tmp_path / "a", "new")) is None
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    assert said == ["here: a: 'old' → 'new'"]
    assert journal.entries() == []


def test_half_a_step_is_finished_and_what_was_there_at_first_is_known(
    runner: Runner, journal: Journal, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("old", encoding="utf-8")
    with pytest.raises(OvnshiftError, match="broke after 'old'"):
        runner.run(Write(tmp_path / "a", "new", breaks=True))
    failed = journal.entry("files/a")
    assert failed is not None
    assert failed.state is State.FAILED
    assert "broke after" in str(failed.problem)
    step = Write(tmp_path / "a", "new")
    entry = runner.run(step)
    assert entry is not None
    assert (entry.state, entry.attempts, entry.found) == (State.DONE, 2, "old")


def test_a_step_that_died_after_its_act_is_recognised_by_looking(
    runner: Runner, journal: Journal, tmp_path: Path
) -> None:
    step = Write(tmp_path / "a", "new")
    journal.intend(step.id, step.chapter, step.title, None)
    (tmp_path / "a").write_text("new", encoding="utf-8")
    entry = runner.run(step)
    assert step.times == 0
    assert entry is not None
    assert entry.state is State.DONE


def test_what_somebody_else_had_done_is_known_not_to_be_ours(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new", encoding="utf-8")
    step = Write(tmp_path / "a", "new")
    entry = runner.run(step)
    assert entry is not None
    assert entry.state is State.ALREADY
    assert (tmp_path / "a").read_text(encoding="utf-8") == "new"


def test_what_is_done_and_can_not_be_proved_has_failed(runner: Runner, journal: Journal, tmp_path: Path) -> None:
    step = Write(tmp_path / "a", "größer")
    with pytest.raises(NotReady, match="another size"):
        runner.run(step)
    entry = journal.entry(step.id)
    assert entry is not None
    assert entry.state is State.FAILED


def test_undone_and_done_again_it_finds_anew(runner: Runner, journal: Journal, tmp_path: Path) -> None:
    step = Write(tmp_path / "a", "new")
    runner.run(step)
    journal.undo_all()
    (tmp_path / "a").write_text("other", encoding="utf-8")
    entry = runner.run(step)
    assert entry is not None
    assert (entry.state, entry.found) == (State.DONE, "other")
