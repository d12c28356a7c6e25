"""One connection to one host: bounded commands with standard input, and streams into its namespaces.

testinfra reads connection strings and inventories, and gives its vocabulary (``service``, ``file``, ``package``) on top of a
connection. Commands go over this module, because testinfra's own backends neither bound a command nor feed one, and
its paramiko backend accepts any host key.
"""

from __future__ import annotations

import abc
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import testinfra.host
from testinfra.backend.base import BaseBackend, CommandResult

from ovnshift.errors import OvnshiftError

KEEP_OUTPUT = 400


class HostError(OvnshiftError):
    """A host could not be asked, or a command on it did not do what it should."""


class Unreachable(HostError):
    """No connection, or the one that was there is gone."""


class HostKeyChanged(HostError):
    """The host shows another key than the one that is known, or none is known."""


class LoginRefused(HostError):
    """The host is there and does not let us in."""


class SudoRefused(HostError):
    """Logged in, but root's rights are not given without a password."""


class CommandTimedOut(HostError):
    """A command did not end in its time; whether it had its effect is unknown."""


class CommandFailed(HostError):
    """A command ended with a non-zero exit code."""


@dataclass(frozen=True)
class Completed:
    """How a command on a host ended."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def complaint(self) -> str:
        """The end of what it printed about a failure, in one line."""
        text = (self.stderr or self.stdout).decode("utf-8", "replace")
        return " ".join(text.split())[-KEEP_OUTPUT:]


class Stream(abc.ABC):
    """Standard input and output of a command that runs on, as the socket that paramiko wants."""

    closed = False

    @property
    def _closed(self) -> bool:
        # paramiko's Transport.close asks a socket for this.
        return self.closed

    @abc.abstractmethod
    def send(self, data: bytes) -> int: ...

    @abc.abstractmethod
    def recv(self, size: int) -> bytes: ...

    @abc.abstractmethod
    def settimeout(self, seconds: float | None) -> None: ...

    @abc.abstractmethod
    def close(self) -> None: ...


class Connection(abc.ABC):
    """A login on a host.

    Args:
        name: what the site file calls it.
        sudo: whether commands run as root through sudo.
        seconds: how long a command may take unless it says otherwise.
    """

    def __init__(self, name: str, *, sudo: bool, seconds: float) -> None:
        self.name = name
        self.sudo = sudo
        self.seconds = seconds

    @abc.abstractmethod
    def _run(self, command: str, stdin: bytes, seconds: float) -> Completed: ...

    @abc.abstractmethod
    def _open(self, command: str) -> Stream: ...

    @abc.abstractmethod
    def close(self) -> None:
        """End it, and everything on this machine that belongs to it."""

    def run(self, *argv: str, stdin: bytes = b"", seconds: float | None = None, user: bool = False) -> Completed:
        """Run a program, whatever its exit code.

        Args:
            argv: the program and its arguments; no shell sees them.
            stdin: its standard input.
            seconds: how long it may take.
            user: as who logged in, without sudo.

        Raises:
            HostError: it could not be run, or did not end in time.
        """
        result = self._run(self._command(argv, user=user), stdin, seconds or self.seconds)
        if self.sudo and not user and result.returncode == 1 and b"sudo: " in result.stderr:
            raise SudoRefused(
                self.name, f"sudo was refused: {result.complaint}", "give the login sudo without a password (NOPASSWD)"
            )
        return result

    def check(self, *argv: str, stdin: bytes = b"", seconds: float | None = None) -> str:
        """Run a program that must succeed; what it printed.

        Raises:
            CommandFailed: it did not; the message has what it said.
            HostError: as :meth:`run`.
        """
        result = self.run(*argv, stdin=stdin, seconds=seconds)
        if result.returncode != 0:
            raise CommandFailed(
                self.name,
                f"{shlex.join(argv)[:120]} ended with {result.returncode}: {result.complaint}",
                f"run it on {self.name} and see",
            )
        return result.text

    def open(self, *argv: str) -> Stream:
        """Start a program whose standard input and output are a stream."""
        return self._open(self._command(argv, user=False))

    def _command(self, argv: Sequence[str], *, user: bool) -> str:
        return shlex.join(["sudo", "-n", "--", *argv] if self.sudo and not user else argv)

    @property
    def testinfra(self) -> testinfra.host.Host:
        """The host in testinfra's words."""
        return testinfra.host.Host(_Backend(self))


class _Backend(BaseBackend):  # type: ignore[misc]
    NAME = "ovnshift"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.name)
        self._connection = connection
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        line = self.get_command(command, *args)
        result = self._connection.run("/bin/sh", "-c", line)
        return self.result(result.returncode, line.encode(), result.stdout, result.stderr)


def reason(error: OSError | EOFError) -> str:
    """What an error of a socket says, also when it has no text."""
    if isinstance(error, socket.gaierror | TimeoutError):
        return str(error) or "timed out"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
