"""A consistent dump of Neutron's schema, and the proof that it can be restored."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

from ovnshift.database.connection import DatabaseError, Login, connect, identifier, login_of, rows
from ovnshift.errors import OvnshiftError
from ovnshift.site import Site

DUMP_SECONDS = 3600
# One transaction, so that tables fit each other and nobody is locked out; nothing that needs more than reading.
_DUMP = (
    "--single-transaction",
    "--skip-lock-tables",
    "--quick",
    "--hex-blob",
    "--no-tablespaces",
    "--triggers",
    "--default-character-set=utf8mb4",
)


@dataclass(frozen=True)
class Table:
    """A table at one moment: its number of rows, and MariaDB's checksum of them (CHECKSUM TABLE)."""

    rows: int
    checksum: int | None


@dataclass(frozen=True)
class Proof:
    """That a dump was restored and is what was dumped.

    Attributes:
        dump: the file.
        sha256: of the file.
        tables: how many.
        rows: how many, in all.
        identical: tables whose content did not change during the dump and is the same, byte by byte, in the restored schema.
    """

    dump: Path
    sha256: str
    tables: int
    rows: int
    identical: int


class NotRestorable(OvnshiftError):
    """The dump's restored copy is not what was dumped."""


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")


@contextmanager
def login_file(login: Login) -> Iterator[int]:
    """An option file for MariaDB's clients with a login, as a descriptor.

    On a command line everybody could read the password, and in a file on disk it would outlive a run that is killed. This one is
    in memory, and gone with the last process that has it.
    """
    values = {"host": login.host, "port": str(login.port), "user": login.user, "password": login.password}
    if login.ca_certificate is not None:
        values["ssl-ca"] = str(login.ca_certificate)
    lines = [f'{name}="{_quoted(value)}"' for name, value in values.items()]
    if login.ca_certificate is not None:
        lines.append("ssl-verify-server-cert")
    descriptor = os.memfd_create("ovnshift-login")
    try:
        # MariaDB's clients ignore an option file that others may write to.
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, ("\n".join(["[client]", *lines]) + "\n").encode())
        yield descriptor
    finally:
        os.close(descriptor)


def client(program: str, descriptor: int, *arguments: str) -> list[str]:
    """A command line of one of MariaDB's clients that takes its login from :func:`login_file`, and from nowhere else.

    ``--defaults-extra-file`` would have the operator's own ``~/.my.cnf`` read after it.
    """
    return [program, f"--defaults-file=/proc/self/fd/{descriptor}", *arguments]


def _run(place: str, argv: list[str], **streams: Any) -> None:
    try:
        done = subprocess.run(argv, stderr=subprocess.PIPE, timeout=DUMP_SECONDS, check=False, **streams)
    except FileNotFoundError as error:
        raise DatabaseError(place, f"{argv[0]} is not on this machine", "apt install mariadb-client") from error
    except subprocess.TimeoutExpired as error:
        raise DatabaseError(
            place, f"{argv[0]} was not done in {DUMP_SECONDS} s", "see what the database is doing"
        ) from error
    if done.returncode != 0:
        complaint = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
        raise DatabaseError(
            place, f"{argv[0]} ended with {done.returncode}: {complaint}", "see whether this login may do it"
        )


def dump(site: Site, target: Path) -> None:
    """Dump Neutron's schema into a file, whole or not at all.

    Raises:
        DatabaseError: the dump failed.
        OvnshiftError: the file can't be written, or the site can't be reached.
    """
    site.check_way()
    login = login_of(site)
    partial = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with login_file(login) as descriptor, partial.open("wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            argv = client("mariadb-dump", descriptor, *_DUMP, "--", site.database.neutron)
            _run(login.place, argv, stdin=subprocess.DEVNULL, stdout=stream, pass_fds=(descriptor,))
            os.fsync(stream.fileno())
        partial.replace(target)
    except OSError as error:
        raise OvnshiftError(
            str(target), f"could not be written: {error.strerror}", "make room or mend its permissions"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def restore(login: Login, source: Path, schema: str) -> None:
    """Load a dump into a schema that is there.

    Raises:
        DatabaseError: the database refused it.
    """
    with login_file(login) as descriptor, source.open("rb") as stream:
        argv = client("mariadb", descriptor, "--", schema)
        _run(login.place, argv, stdin=stream, stdout=subprocess.DEVNULL, pass_fds=(descriptor,))


def prove(site: Site, target: Path, progress: Callable[[str], None] = lambda _: None) -> Proof:
    """Dump Neutron's schema, restore the dump into the scratch schema, compare, and drop the scratch schema.

    What is compared: the tables by name; the rows of each by number, which must lie between those before and after the dump; and,
    where a table did not change meanwhile, its content by checksum.

    Args:
        site: the database.
        target: where the dump is kept.
        progress: is told what is being done.

    Raises:
        NotRestorable: the copy differs.
        DatabaseError: the dump or the restore failed.
    """
    login = login_of(site)
    scratch = site.database.scratch
    with connect(site) as connection:
        before = tables(connection, site.database.neutron)
        progress(f"dump {len(before)} tables")
        dump(site, target)
        connection.rollback()
        after = tables(connection, site.database.neutron)
        owner = rows(connection, "SELECT COUNT(*) AS n FROM information_schema.tables WHERE table_schema = %s", scratch)
        if owner[0]["n"] and not _is_ours(connection, scratch):
            raise DatabaseError(
                login.place,
                f"schema {scratch} exists and is not ours",
                "name another in database.scratch of the site file",
            )
        name = identifier(scratch)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
            cursor.execute(f"CREATE DATABASE {name} COMMENT 'ovnshift scratch'")
        try:
            progress("restore")
            restore(login, target, scratch)
            progress("compare")
            with connect(site, scratch) as restored_connection:
                restored = tables(restored_connection, scratch)
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {name}")
    differences, identical = compare(before, after, restored)
    if differences:
        raise NotRestorable(
            str(target),
            "restored, it differs: " + "; ".join(differences[:10]),
            "don't go on without a backup that works",
        )
    with target.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Proof(target, digest, len(restored), sum(table.rows for table in restored.values()), identical)


def _is_ours(connection: pymysql.Connection[DictCursor], schema: str) -> bool:
    found = rows(
        connection, "SELECT schema_comment AS c FROM information_schema.schemata WHERE schema_name = %s", schema
    )
    return bool(found) and found[0]["c"] == "ovnshift scratch"


def tables(connection: pymysql.Connection[DictCursor], schema: str) -> dict[str, Table]:
    """The tables of a schema with their numbers of rows and checksums, in one transaction."""
    names = rows(
        connection,
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'",
        schema,
    )
    found = {}
    for row in names:
        table = f"{identifier(schema)}.{identifier(row['name'])}"
        count = rows(connection, f"SELECT COUNT(*) AS n FROM {table}")  # noqa: S608, both names are checked
        checksum = rows(connection, f"CHECKSUM TABLE {table}")
        found[row["name"]] = Table(int(count[0]["n"]), checksum[0]["Checksum"])
    return found


def compare(before: dict[str, Table], after: dict[str, Table], restored: dict[str, Table]) -> tuple[list[str], int]:
    """Differences between a schema, seen before and after its dump, and the restored dump; and how many tables are identical."""
    differences = [f"table {name} is missing" for name in before if name in after and name not in restored]
    identical = 0
    for name, table in restored.items():
        if name not in before or name not in after:
            continue
        low, high = sorted((before[name].rows, after[name].rows))
        if not low <= table.rows <= high:
            differences.append(f"{name} has {table.rows} rows, not {low}" + (f" to {high}" if high != low else ""))
        elif before[name] == after[name] and before[name].checksum is not None:
            if table.checksum == before[name].checksum:
                identical += 1
            else:
                differences.append(f"{name} has other content")
    return differences, identical


def may_change(site: Site) -> list[str]:
    """What a login may not do with Neutron's tables, tried with statements that concern no row.

    Returns:
        For each right that lacks: the server's words.

    Raises:
        DatabaseError: no connection.
    """
    refused = []
    attempts = {
        "read": "SELECT 1 FROM ml2_port_bindings LIMIT 0",
        "update": "UPDATE ml2_port_bindings SET vif_type = vif_type WHERE FALSE",
        "insert": "INSERT INTO ml2_geneve_allocations SELECT * FROM ml2_geneve_allocations WHERE FALSE",
        "delete": "DELETE FROM ml2_vxlan_endpoints WHERE FALSE",
    }
    with connect(site) as connection:
        for what, statement in attempts.items():
            try:
                rows(connection, statement)
            except pymysql.MySQLError as error:
                refused.append(f"{what}: {error.args[1] if len(error.args) > 1 else error}")
        connection.rollback()
    return refused
