"""Programs that run on hosts: standard library only, Python 3.8 and later, sent over standard input and never installed."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from ovnshift.hosts.connection import CommandFailed, Connection

# Reads one line with a length, then a program of so many bytes, and runs it. Not a byte more is taken: the rest of standard input
# is the program's own.
BOOTSTRAP = """
i = open(0, "rb", buffering=0, closefd=False)
n = int(i.readline())
p = b""
while len(p) < n:
    p += i.read(n - len(p)) or exit("the program was cut off")
exec(compile(p, "ovnshift", "exec"))
""".strip()


class PythonMissing(CommandFailed):
    """The host has no Python 3."""


def source(package: str, name: str) -> bytes:
    """A program's text."""
    return resources.files(package).joinpath(name).read_bytes()


def envelope(program: bytes, task: Any) -> bytes:
    """Standard input for :data:`BOOTSTRAP`: the program, then its task as JSON."""
    return b"%d\n%b%b" % (len(program), program, json.dumps(task).encode("utf-8"))


def run(connection: Connection, program: bytes, task: Any, *, seconds: float | None = None) -> list[Any]:
    """Run a program on a host.

    Args:
        connection: to the host.
        program: its text; it reads its task as JSON from standard input and prints JSON lines.
        task: JSON-able.
        seconds: how long it may take.

    Returns:
        What it printed, one value a line.

    Raises:
        PythonMissing: the host has no ``python3``.
        CommandFailed: the program ended with an error, or printed something else.
        HostError: the host could not be asked.
    """
    result = connection.run("python3", "-c", BOOTSTRAP, stdin=envelope(program, task), seconds=seconds)
    if result.returncode == 127 or (result.returncode == 1 and b"python3: command not found" in result.stderr):
        raise PythonMissing(connection.name, "has no python3", "install python3 on it")
    if result.returncode != 0:
        raise CommandFailed(
            connection.name,
            f"the program that looks around there ended with {result.returncode}: {result.complaint}",
            "see whether its Python 3 and iproute2 work",
        )
    try:
        return [json.loads(line) for line in result.text.splitlines() if line.strip()]
    except ValueError as error:
        raise CommandFailed(
            connection.name, f"printed something that is no JSON: {error}", "see what its login shell prints by itself"
        ) from error
