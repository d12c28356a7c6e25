"""What was intended and what was done: one SQLite file a change, durable before each act."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ovnshift import __version__
from ovnshift.errors import OvnshiftError
from ovnshift.files import checksum

SCHEMA_VERSION = 2
BUSY_SECONDS = 10

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (version INTEGER NOT NULL, cloud TEXT NOT NULL, identity_endpoint TEXT NOT NULL,
    steps INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS steps (
    number INTEGER PRIMARY KEY,
    step TEXT NOT NULL UNIQUE,
    chapter TEXT NOT NULL,
    title TEXT NOT NULL,
    state TEXT NOT NULL,
    intended_at TEXT NOT NULL,
    begun_at TEXT NOT NULL,
    ended_at TEXT,
    attempts INTEGER NOT NULL DEFAULT 1,
    found TEXT NOT NULL DEFAULT 'null',
    proof TEXT NOT NULL DEFAULT 'null',
    problem TEXT,
    written_by TEXT NOT NULL DEFAULT '',
    seal TEXT NOT NULL DEFAULT ''
);
"""


_COLUMNS = "number, step, chapter, title, state, intended_at, begun_at, ended_at, attempts, found, proof, problem"
_SEALED = f"{_COLUMNS}, written_by"


class JournalError(OvnshiftError):
    """The journal can't be used."""


class State(StrEnum):
    """How far a step has come.

    ``intended`` means that it began, and that nobody knows what it did; ``already``, that somebody else had done it before, so
    that it is not ours to undo.
    """

    INTENDED = "intended"
    ALREADY = "already"
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"


@dataclass(frozen=True)
class Entry:
    """A step in the journal.

    Attributes:
        step: its id.
        intended_at: when it began for the first time; ``begun_at``, its last attempt. UTC, ISO 8601.
        found: what was there before, from which it can be undone.
        proof: what proves that it is done.
        problem: why it failed.
    """

    number: int
    step: str
    chapter: str
    title: str
    state: State
    intended_at: str
    begun_at: str
    ended_at: str | None
    attempts: int
    found: Any
    proof: Any
    problem: str | None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


class Journal:
    """The journal of one change.

    Args:
        path: the file; it is made where it is missing.
        cloud: what the site file calls the cloud.
        identity_endpoint: its Keystone, which ties the journal to it.

    Raises:
        JournalError: it can't be opened, is damaged or edited, of another version, or of another cloud.
    """

    def __init__(self, path: Path, cloud: str, identity_endpoint: str) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Steps that run side by side share it, one at a time.
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            path.chmod(0o600)
            # An entry that was written survives a power cut.
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._connection.executescript(_SCHEMA)
            known = self._connection.execute("SELECT version, cloud, identity_endpoint FROM journal").fetchone()
            if known is None:
                self._connection.execute(
                    "INSERT INTO journal VALUES (?, ?, ?, 0)", (SCHEMA_VERSION, cloud, identity_endpoint)
                )
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                str(path), f"can't be opened: {error}", "see the disk, and whether another run holds it"
            ) from error
        if known is not None and known[0] != SCHEMA_VERSION:
            raise JournalError(str(path), f"has version {known[0]}", "use the ovnshift that wrote it")
        if known is not None and known[1:] != (cloud, identity_endpoint):
            raise JournalError(
                str(path),
                f"is of {known[1]} at {known[2]}, not of {cloud} at {identity_endpoint}",
                "name another --change",
            )

        self._check_seals()

    def _check_seals(self) -> None:
        """See that nobody but this module has written to it.

        Raises:
            JournalError: somebody has.
        """
        rows = self._fetch(f"SELECT seal, {_SEALED} FROM steps")  # noqa: S608, a constant
        edited = [row[2] for row in rows if row[0] != checksum(row[1:])]
        (count,) = self._fetch("SELECT steps FROM journal")[0]
        if edited or count != len(rows):
            what = f"entries were edited: {', '.join(edited[:5])}" if edited else f"has {len(rows)} steps of {count}"
            raise JournalError(str(self.path), what, "bring back the file as it was; what it says can't be relied on")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _writing(self, step: str | None = None) -> Iterator[sqlite3.Cursor]:
        """A transaction that writes to a step, or to all of them."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                cursor = self._connection.cursor()
                yield cursor
                condition, values = ("WHERE step = ?", (step,)) if step is not None else ("", ())
                cursor.execute(f"UPDATE steps SET written_by = ? {condition}", (__version__, *values))  # noqa: S608, constants
                rows = cursor.execute(f"SELECT {_SEALED} FROM steps {condition}", values).fetchall()  # noqa: S608, constants
                cursor.executemany(
                    "UPDATE steps SET seal = ? WHERE number = ?", [(checksum(row), row[0]) for row in rows]
                )
                cursor.execute("UPDATE journal SET steps = (SELECT COUNT(*) FROM steps)")
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise JournalError(
                    str(self.path), f"can't be written: {error}", "make room; nothing is done without it"
                ) from error

    def intend(self, step: str, chapter: str, title: str, found: Any) -> Entry:
        """Write down that a step is about to be done, and what was there before it.

        What was found at the first attempt stays: after half a step the cloud does not show any more what was there.
        """
        with self._writing(step) as cursor:
            cursor.execute(
                "INSERT INTO steps (step, chapter, title, state, intended_at, begun_at, found) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (step) DO UPDATE SET found = IIF(state = 'undone', excluded.found, found), "
                "state = excluded.state, attempts = attempts + 1, begun_at = excluded.begun_at, ended_at = NULL, problem = NULL",
                (step, chapter, title, State.INTENDED, _now(), _now(), json.dumps(found)),
            )
        entry = self.entry(step)
        assert entry is not None
        return entry

    def already(self, step: str, chapter: str, title: str, proof: Any) -> None:
        """Write down that there was nothing to do, and what proves it."""
        with self._writing(step) as cursor:
            cursor.execute(
                "INSERT INTO steps (step, chapter, title, state, intended_at, begun_at, ended_at, proof) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (step) DO UPDATE SET state = excluded.state, ended_at = excluded.ended_at, "
                "proof = excluded.proof, problem = NULL",
                (step, chapter, title, State.ALREADY, _now(), _now(), _now(), json.dumps(proof)),
            )

    def undo_all(self) -> None:
        """Write down that everything is undone, at once. What was found is forgotten: the next attempt finds anew."""
        with self._writing() as cursor:
            cursor.execute("UPDATE steps SET state = ?, ended_at = ?, proof = 'null'", (State.UNDONE, _now()))

    def done(self, step: str, proof: Any) -> None:
        """Write down that a step is done and what proves it. Proved once more, it stays done since then."""
        with self._writing(step) as cursor:
            cursor.execute(
                "UPDATE steps SET ended_at = IIF(state = 'done', ended_at, ?), state = ?, proof = ? WHERE step = ?",
                (_now(), State.DONE, json.dumps(proof), step),
            )

    def failed(self, step: str, problem: str) -> None:
        """Write down that a step has failed."""
        with self._writing(step) as cursor:
            cursor.execute(
                "UPDATE steps SET state = ?, ended_at = ?, problem = ? WHERE step = ?",
                (State.FAILED, _now(), problem, step),
            )

    def entry(self, step: str) -> Entry | None:
        """A step's entry, if it ever began."""
        return next(iter(self._read("WHERE step = ?", step)), None)

    def begun(self, prefix: str) -> bool:
        """Whether a step whose id begins so was ever begun, and was not undone since."""
        statement = "SELECT EXISTS (SELECT 1 FROM steps WHERE substr(step, 1, length(?)) = ? AND state <> ?)"
        return bool(self._fetch(statement, prefix, prefix, State.UNDONE)[0][0])

    def entries(self) -> list[Entry]:
        """All entries, in the order in which steps began."""
        return self._read("")

    def _read(self, condition: str, *values: str) -> list[Entry]:
        # Both are constants of this module.
        return _entries(self._fetch(f"SELECT {_COLUMNS} FROM steps {condition} ORDER BY number", *values))  # noqa: S608

    def _fetch(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(str(self.path), f"can't be read: {error}", "bring back the file as it was") from error


def entries_of(path: Path) -> list[Entry]:
    """The entries of a journal of any cloud, which is only read.

    A run that was killed while it wrote leaves half a transaction, which SQLite takes back before it reads: for that it has to
    be allowed to write, where it is.

    Raises:
        JournalError: it can't be read.
    """
    mode = "rw" if os.access(path, os.W_OK) else "ro"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS)
        ) as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM steps ORDER BY number").fetchall()  # noqa: S608, a constant
    except sqlite3.Error as error:
        raise JournalError(
            str(path), f"can't be read: {error}", "bring back the file as it was, or move it away"
        ) from error
    return _entries(rows)


def _entries(rows: Iterable[tuple[Any, ...]]) -> list[Entry]:
    return [
        Entry(
            number=number,
            step=step,
            chapter=chapter,
            title=title,
            state=State(state),
            intended_at=intended,
            begun_at=begun,
            ended_at=ended,
            attempts=attempts,
            found=json.loads(found),
            proof=json.loads(proof),
            problem=problem,
        )
        for number, step, chapter, title, state, intended, begun, ended, attempts, found, proof, problem in rows
    ]
