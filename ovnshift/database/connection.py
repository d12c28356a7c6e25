"""A login on Neutron's database."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

from ovnshift.errors import OvnshiftError
from ovnshift.site import Site

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 120


class DatabaseError(OvnshiftError):
    """The database can't be used, or refuses a statement."""


@dataclass(frozen=True)
class Login:
    """Where the database is, and as whom; with a CA, only over TLS and only to a server that this CA vouches for."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    ca_certificate: Path | None = None

    @property
    def place(self) -> str:
        """For messages."""
        return f"database {self.user}@{self.host}:{self.port}"


def login_of(site: Site) -> Login:
    """The login that a site file gives: a client's option file ([client] host, port, user, password, ssl-ca), or single keys.

    Raises:
        DatabaseError: the option file or the environment variable lacks something.
    """
    settings = site.database
    if settings.defaults_file is not None:
        place, remedy = str(settings.defaults_file), "it needs [client] with host, user and password"
        try:
            client = client_options(settings.defaults_file.read_text(encoding="utf-8"))
            port = int(client.get("port") or settings.port)
        except (OSError, ValueError) as error:
            raise DatabaseError(place, f"is no client's option file: {error}", remedy) from error
        if not client.get("user"):
            raise DatabaseError(place, "is no client's option file: no user in [client]", remedy)
        authority = settings.ca_certificate or next(
            (Path(client[key]) for key in ("ssl-ca", "ssl_ca") if client.get(key)), None
        )
        return Login(client.get("host") or "localhost", port, client["user"], client.get("password", ""), authority)
    assert settings.host is not None
    assert settings.user is not None
    assert settings.password_env is not None
    password = os.environ.get(settings.password_env)
    if password is None:
        raise DatabaseError(
            "site file, [database]",
            f"{settings.password_env} is not in the environment",
            f"export {settings.password_env}=…",
        )
    return Login(settings.host, settings.port, settings.user, password, settings.ca_certificate)


_BEFORE_COMMENT = re.compile(r"""(?:"(?:\\.|[^"\\])*\\?"?|'(?:\\.|[^'\\])*\\?'?|[^#"'])*""")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "s": " ", '"': '"', "'": "'", "\\": "\\"}


def client_options(text: str) -> dict[str, str]:
    """[client] of an option file, read as MariaDB reads it: quotes, backslashes, and # after a value (mysys/my_default.c)."""
    found: dict[str, str] = {}
    group = ""
    for line in map(str.strip, text.split("\n")):
        if header := re.match(r"\[([^\]]*)\]", line):
            group = header[1].strip()
        elif group == "client" and line and line[0] not in "#;!":
            before = _BEFORE_COMMENT.match(line)
            key, _, value = (before[0] if before else line).partition("=")
            value = value.strip()
            if len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]:
                value = value[1:-1]
            found[key.strip()] = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), value)
    return found


@contextmanager
def connect(site: Site, schema: str | None = None) -> Iterator[pymysql.Connection[DictCursor]]:
    """A connection to a schema (Neutron's unless told), closed afterwards. Nothing is committed by itself.

    Raises:
        DatabaseError: no connection, or the login is refused; and any error of a statement that is run inside.
        OvnshiftError: the site's addresses can't be reached from this machine (:meth:`Site.check_way`).
    """
    site.check_way()
    login = login_of(site)
    try:
        connection = pymysql.connect(
            host=login.host,
            port=login.port,
            user=login.user,
            password=login.password,
            database=schema if schema is not None else site.database.neutron,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=STATEMENT_SECONDS,
            write_timeout=STATEMENT_SECONDS,
            charset="utf8mb4",
            cursorclass=DictCursor,
            ssl={"ca": str(login.ca_certificate)} if login.ca_certificate else None,
        )
    except (pymysql.MySQLError, OSError) as error:
        raise DatabaseError(login.place, f"no connection: {said(error)}", "see [database] in the site file") from error
    try:
        with connection:
            yield connection
    except pymysql.MySQLError as error:
        raise DatabaseError(
            login.place, said(error), "see whether the database is well, and what this login may do"
        ) from error


def said(error: BaseException) -> str:
    """The server's words."""
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def rows(connection: pymysql.Connection[DictCursor], statement: str, *values: Any) -> list[dict[str, Any]]:
    """What a statement returns; values go beside it, never into it."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def identifier(name: str) -> str:
    """A name of a schema, table or column between backticks.

    Raises:
        ValueError: it has other characters than Neutron's names have.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", name):
        raise ValueError(f"{name!r} is no name of a schema, table or column")
    return f"`{name}`"
