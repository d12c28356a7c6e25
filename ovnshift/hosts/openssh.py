"""``ssh://``: the OpenSSH client with the operator's own configuration (jump hosts, agents, certificates); and ``local://``."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from ovnshift import files
from ovnshift.hosts.connection import (
    CommandTimedOut,
    Completed,
    Connection,
    HostError,
    HostKeyChanged,
    LoginRefused,
    Stream,
    Unreachable,
)

_READY = b"ovnshift-ready\n"
# A socket's path has to be short.
SOCKETS = Path("/tmp")
PREFIX = "ovnshift-"
_TRANSPORT_FAILED = 255


class ProcessStream(Stream):
    """The pipes of a process as a stream."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._seconds: float | None = None
        self.closed = False

    def send(self, data: bytes) -> int:
        return os.write(self._stdin.fileno(), data)

    def recv(self, size: int) -> bytes:
        try:
            readable, _, _ = select.select([self._stdout], [], [], self._seconds)
            if readable:
                return os.read(self._stdout.fileno(), size)
        except ValueError:  # closed meanwhile, by another thread
            return b""
        raise TimeoutError("nothing came")

    def settimeout(self, seconds: float | None) -> None:
        self._seconds = seconds

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()


class Local(Connection):
    """This machine."""

    def _argv(self, command: str) -> list[str]:
        return shlex.split(command)

    def _run(self, command: str, stdin: bytes, seconds: float) -> Completed:
        try:
            result = subprocess.run(self._argv(command), input=stdin, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise CommandTimedOut(
                self.name, f"{command[:120]} did not end in {seconds:.0f} s", "see what the host is doing"
            ) from error
        except FileNotFoundError as error:
            return Completed(127, b"", f"{error.filename}: not found".encode())
        return Completed(result.returncode, result.stdout, result.stderr)

    def _open(self, command: str) -> Stream:
        process = subprocess.Popen(
            self._argv(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return ProcessStream(process)

    def close(self) -> None:
        """Nothing is open."""


class OpenSsh(Local):
    """One OpenSSH master connection, over which every command is a session of its own.

    The master's remote command is a ``cat`` whose standard input is a pipe from here: when this process ends, however it ends,
    the pipe closes, and with it the connection.

    Args:
        name: what the site file calls the host.
        options: arguments of ``ssh`` that say where to and how, the destination last.
        sudo: whether commands run as root.
        seconds: the bound of a command.
        connect_seconds: the bound of connecting.
    """

    def __init__(self, name: str, options: list[str], *, sudo: bool, seconds: float, connect_seconds: float) -> None:
        super().__init__(name, sudo=sudo, seconds=seconds)
        self._options = options
        self._connect_seconds = connect_seconds
        self._master: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def _argv(self, command: str) -> list[str]:
        with self._lock:
            if self._master is not None and self._master.poll() is not None:
                self._forget()
            if self._master is None:
                self._connect()
            assert self._directory is not None
            path = Path(self._directory.name, "s")
        return ["ssh", "-T", "-o", f"ControlPath={path}", "-o", "ControlMaster=no", *self._options, command]

    def _run(self, command: str, stdin: bytes, seconds: float) -> Completed:
        result = super()._run(command, stdin, seconds)
        # ssh's own failures end with 255; a program's 255 has no master that is gone.
        if result.returncode == _TRANSPORT_FAILED and (self._master is None or self._gone()):
            raise Unreachable(
                self.name,
                f"the connection was lost: {result.complaint or 'ssh ended'}",
                f"see whether {self.name} is up; what the command did before is unknown",
            )
        return result

    def _gone(self) -> bool:
        assert self._master is not None
        try:
            self._master.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _connect(self) -> None:
        files.remove_left_overs(SOCKETS, PREFIX)
        self._directory = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=SOCKETS)
        errors = Path(self._directory.name, "errors")
        path = Path(self._directory.name, "s")
        argv = ["ssh", "-T", "-M", "-o", f"ControlPath={path}", "-o", "ControlPersist=no", "-o", "LogLevel=ERROR"]
        argv += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", *self._options]
        with errors.open("wb") as stream:
            master = subprocess.Popen(
                [*argv, "echo ovnshift-ready && exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
            )
        self._master = master
        if not self._answers(master):
            complaint = " ".join(errors.read_text(encoding="utf-8", errors="replace").split())
            self._forget()
            raise translated(self.name, complaint or f"no answer in {self._connect_seconds:.0f} s")

    def _answers(self, master: subprocess.Popen[bytes]) -> bool:
        assert master.stdout is not None
        received = b""
        # ConnectTimeout bounds the connection; a server that accepts it and then hangs is bounded here.
        deadline = time.monotonic() + 2 * self._connect_seconds
        while _READY not in received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([master.stdout], [], [], left)[0]:
                return False
            data = os.read(master.stdout.fileno(), 4096)
            if not data:
                master.wait(timeout=self._connect_seconds)
                return False
            received += data
        return True

    def _forget(self) -> None:
        if self._master is not None:
            self._master.kill()
            self._master.wait()
            for pipe in (self._master.stdin, self._master.stdout):
                if pipe is not None:
                    pipe.close()
            self._master = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def close(self) -> None:
        with self._lock:
            self._forget()


def translated(name: str, complaint: str) -> HostError:
    """The error that OpenSSH's words mean."""
    text = complaint.lower()
    if "host key verification failed" in text or "host identification has changed" in text:
        return HostKeyChanged(
            name,
            f"its host key is not the one that is known: {complaint[-200:]}",
            "find out why; if it was reinstalled, put its new key into known_hosts",
        )
    if "permission denied" in text or "too many authentication failures" in text:
        return LoginRefused(
            name, f"the login was refused: {complaint[-200:]}", "see [ssh] in the site file, and the key"
        )
    return Unreachable(
        name, f"can't be reached: {complaint[-200:]}", f"try ssh {name} by hand; see [hosts] in the site file"
    )
