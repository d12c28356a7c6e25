"""``--status``: the journal for a person."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ovnshift.journal import Entry, Journal
from ovnshift.migration.status import lines

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite", "cloud", "http://keystone")


def do(journal: Journal, *steps: str) -> None:
    for step in steps:
        chapter = step.split("/")[0]
        journal.intend(step, chapter, f"do {step}", {"status": "ACTIVE"})
        journal.done(step, ["seen"])


def entries(journal: Journal) -> list[Entry]:
    return journal.entries()


def test_nothing_was_begun() -> None:
    said = lines([], "CHG1")
    assert said[0] == "Nothing was begun in CHG1."
    assert said[-1] == "next: pytest tests_migrate --plan --change=CHG1"


def test_what_failed_is_told_with_its_problem_and_how_to_go_on(journal: Journal) -> None:
    do(journal, "2 back up/topology", "3 networks/mtu/1", "3 networks/mtu/2")
    journal.intend("4 stop instances/instance/1", "4 stop instances", "stop vm1", None)
    journal.failed("4 stop instances/instance/1", "Nova says no\n  next: ask it")
    said = "\n".join(lines(entries(journal), "CHG1"))
    assert "3 networks                   2 done" in said
    assert "4 stop instances             1 FAILED" in said
    assert "stop vm1 (attempt 1" in said
    assert "Nova says no" in said
    assert "to carry on: pytest tests_migrate --change=CHG1" in said
    assert "to go back: pytest tests_migrate --rollback --plan --change=CHG1" in said


def test_what_was_in_flight_is_told(journal: Journal) -> None:
    journal.intend("8 database/rows", "8 database", "change rows", None)
    assert "begun, and nobody knows how it ended" in "\n".join(lines(entries(journal), "CHG1"))


def test_after_the_end_comes_the_proof(journal: Journal) -> None:
    do(journal, "2 back up/topology", "11 start instances/instance/1")
    said = lines(entries(journal), "CHG1")
    assert "next: pytest tests_post --change=CHG1" in said


def test_on_the_way_back_it_says_so(journal: Journal) -> None:
    do(journal, "2 back up/topology", "5 retire agents/agents/h1", "back 1 stop instances/instance/1")
    said = "\n".join(lines(entries(journal), "CHG1"))
    assert "It is on its way back." in said
    assert "pytest tests_migrate --rollback --change=CHG1" in said


def test_when_all_is_undone_the_window_can_be_opened_again(journal: Journal) -> None:
    do(journal, "2 back up/topology", "back 1 stop instances/instance/1")
    journal.undo_all()
    said = "\n".join(lines(entries(journal), "CHG1"))
    assert "All of it is undone." in said


def test_many_failures_are_counted(journal: Journal) -> None:
    for number in range(20):
        journal.intend(f"4 stop instances/instance/{number}", "4 stop instances", f"stop vm{number}", None)
        journal.failed(f"4 stop instances/instance/{number}", "no")
    assert "… and 12 more" in "\n".join(lines(entries(journal), "CHG1"))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["tests_migrate", "--status", "--change=no-such-change"], 0, "Nothing was begun in no-such-change."),
        (["tests_post", "--status"], 4, "--status is of the window"),
        (["tests_pre", "--rollback"], 4, "--rollback is of the window"),
        (["tests_migrate", "-n", "2"], 4, "a phase is run one test after the other"),
    ],
)
def test_the_command(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    """It needs no cloud and no site file."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--site={tmp_path / 'none.toml'}", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
