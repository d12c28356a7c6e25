from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from ovnshift.journal import Journal, JournalError, State, entries_of

HERE = ("lab", "http://192.0.2.1:5000")


def journal(path: Path) -> Journal:
    return Journal(path / "journal.sqlite", *HERE)


def test_a_step_is_intended_before_and_done_after(tmp_path: Path) -> None:
    book = journal(tmp_path)
    entry = book.intend("stop vm1", "instances", "stop vm1 (4711)", {"status": "ACTIVE"})
    assert (entry.state, entry.attempts, entry.ended_at, entry.found) == (State.INTENDED, 1, None, {"status": "ACTIVE"})
    book.done("stop vm1", ["SHUTOFF by Nova", "gone from compute1"])
    done = book.entry("stop vm1")
    assert done is not None
    assert (done.state, done.proof) == (State.DONE, ["SHUTOFF by Nova", "gone from compute1"])
    assert done.ended_at is not None
    assert done.ended_at >= done.intended_at


def test_what_was_found_first_is_what_counts(tmp_path: Path) -> None:
    book = journal(tmp_path)
    book.intend("mtu web", "networks", "lower the MTU", {"mtu": 1450})
    book.failed("mtu web", "the API went away")
    again = book.intend("mtu web", "networks", "lower the MTU", {"mtu": 1442})
    assert (again.found, again.attempts, again.state, again.problem) == ({"mtu": 1450}, 2, State.INTENDED, None)


def test_entries_come_in_the_order_in_which_steps_began(tmp_path: Path) -> None:
    book = journal(tmp_path)
    for name in ("b", "a", "c"):
        book.intend(name, "chapter", name, None)
    book.intend("b", "chapter", "b", None)
    assert [entry.step for entry in book.entries()] == ["b", "a", "c"]


def test_names_are_values_and_nothing_else(tmp_path: Path) -> None:
    nasty = """a"; reboot #<b> '); DROP TABLE steps; --"""
    book = journal(tmp_path)
    book.intend(nasty, nasty, nasty, {nasty: nasty})
    book.done(nasty, nasty)
    found = book.entry(nasty)
    assert found is not None
    assert (found.title, found.found, found.proof) == (nasty, {nasty: nasty}, nasty)


def test_another_clouds_journal_is_refused(tmp_path: Path) -> None:
    journal(tmp_path).close()
    with pytest.raises(JournalError, match=r"is of lab at http://192\.0\.2\.1:5000, not of prod") as error:
        Journal(tmp_path / "journal.sqlite", "prod", "http://192.0.2.2:5000")
    assert "--change" in error.value.next_step


def test_a_later_versions_journal_is_refused(tmp_path: Path) -> None:
    journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as connection:
        connection.execute("UPDATE journal SET version = 99")
    connection.close()
    with pytest.raises(JournalError, match="has version 99"):
        journal(tmp_path)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_text("no database, " * 100, encoding="ascii")
    with pytest.raises(JournalError, match="can't be opened"):
        journal(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(JournalError, match=str(tmp_path / "file")):
        Journal(tmp_path / "file" / "journal.sqlite", *HERE)


_WRITER = """
import sys
from pathlib import Path
from ovnshift.journal import Journal
book = Journal(Path(sys.argv[1]), "lab", "http://192.0.2.1:5000")
for number in range(10**6):
    book.intend(f"step {number}", "chapter", "title", {"n": number})
    print(f"intended {number}", flush=True)
    book.done(f"step {number}", [number])
    print(f"done {number}", flush=True)
"""


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert writer.stdout is not None
    said: list[list[str]] = []
    deadline = time.monotonic() + 60
    while len(said) < 41 and time.monotonic() < deadline:
        said.append(writer.stdout.readline().split())
    writer.send_signal(signal.SIGKILL)
    said += [line.split() for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    writer.wait()
    writer.stdout.close()
    entries = {entry.step: entry for entry in journal(tmp_path).entries()}
    assert len(said) >= 41
    for what, number in said:
        entry = entries[f"step {number}"]
        assert entry.found == {"n": int(number)}
        if what == "done":
            assert (entry.state, entry.proof) == (State.DONE, [int(number)])
    # Only the last step may be in flight.
    assert sum(entry.state is State.INTENDED for entry in entries.values()) <= 1


_DIES_IN_A_TRANSACTION = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE steps SET state = 'undone', problem = hex(randomblob(200000))")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_half_a_transaction_of_a_run_that_was_killed_is_taken_back_by_whoever_reads(tmp_path: Path) -> None:
    """As --status does, or the way back."""
    book, path = journal(tmp_path), tmp_path / "journal.sqlite"
    for number in range(20):
        book.intend(f"step {number}", "chapter", "title", {"n": number})
    before = entries_of(path)
    done = subprocess.run([sys.executable, "-c", _DIES_IN_A_TRANSACTION, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.with_name("journal.sqlite-journal").stat().st_size > 0, "nothing was left to be taken back"
    assert entries_of(path) == before
    assert journal(tmp_path).entries() == before


def test_a_journal_that_may_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book, path = journal(tmp_path), tmp_path / "journal.sqlite"
    book.intend("step", "chapter", "title", {})
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert [entry.step for entry in entries_of(path)] == ["step"]
    with pytest.raises(JournalError, match="can't be read"):
        entries_of(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ("UPDATE steps SET found = '{\"status\": \"SHUTOFF\"}' WHERE step = 'b'", "entries were edited: b"),
        ("UPDATE steps SET state = 'undone'", "entries were edited: a, b"),
        ("DELETE FROM steps WHERE step = 'b'", "has 1 steps of 2"),
    ],
)
def test_an_edited_journal_is_refused(tmp_path: Path, edit: str, says: str) -> None:
    book = journal(tmp_path)
    book.intend("a", "chapter", "title", None)
    book.done("a", ["it is"])
    book.intend("b", "chapter", "title", {"status": "ACTIVE"})
    book.failed("b", "it is not")
    book.close()
    journal(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as connection:
        connection.execute(edit)
    with pytest.raises(JournalError, match=says):
        journal(tmp_path)


FILL_THE_DISK = """
import sys
from pathlib import Path
from ovnshift.journal import Journal, JournalError, entries_of
path = Path(sys.argv[1], "journal.sqlite")
book = Journal(path, "lab", "http://192.0.2.1:5000")
written = 0
try:
    for number in range(10_000):
        book.intend(f"step {number}", "chapter", "title", "x" * 4000)
        written += 1
except JournalError as error:
    book.close()
    Path(sys.argv[1], "filler").unlink()
    again = Journal(path, "lab", "http://192.0.2.1:5000")
    again.intend("after", "chapter", "title", None)
    again.close()
    print(written, len(entries_of(path)), error)
"""


def test_a_full_disk_stops_before_anything_is_done_and_loses_nothing(tmp_path: Path) -> None:
    """A disk of one megabyte, in a mount namespace that goes with the process."""
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && head -c 200k /dev/zero > "$1/filler" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable, FILL_THE_DISK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written, kept, message = done.stdout.split(" ", 2)
    assert int(written) > 10
    assert int(kept) == int(written) + 1
    assert "make room; nothing is done without it" in message


def test_entries_say_which_version_wrote_them(tmp_path: Path) -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    with contextlib.closing(journal(tmp_path)) as book:
        book.intend("a", "chapter", "title", None)
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        assert connection.execute("SELECT written_by FROM steps").fetchall() == [(project["project"]["version"],)]
