"""A login on a guest by way of its network's namespace, and probes from inside it.

Nothing is installed anywhere: SSH to the host, there a small program that joins a TCP connection from the namespace to its
standard input and output, and over that SSH to the guest.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import paramiko
from paramiko.pkey import UnknownKeyType

from ovnshift.connectivity.cells import Vantage
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Connection
from ovnshift.hosts.programs import BOOTSTRAP, envelope, source
from ovnshift.site import Guest

# Runs in the guest's shell, whatever that is; what it is to do comes on its standard input, and never becomes part of a command.
PROGRAM = """
fetch() {
  rest=${1#http://}; host=${rest%%/*}; path=/${rest#*/}; code=
  command -v curl >/dev/null 2>&1 && code=$(curl -s -m 10 -o /dev/null -w '%{http_code}' "$1" 2>/dev/null)
  [ -n "$code" ] || { command -v wget >/dev/null 2>&1 && wget -q -T 10 -O /dev/null "$1" 2>/dev/null && code=200; }
  [ -n "$code" ] || code=$(printf 'GET %s HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n' "$path" "$host" | nc -w 5 "$host" 80 2>/dev/null |
    sed -n '1s/^HTTP[^ ]* \\([0-9]*\\).*/\\1/p')
  printf %s "$code"
}
banner() {
  if command -v bash >/dev/null 2>&1 && command -v timeout >/dev/null 2>&1; then
    out=$(timeout 10 bash -c 'exec 3<>"/dev/tcp/$0/$1" && read -r line <&3 && printf %s "$line"' "$1" "$2" 2>/dev/null)
  elif command -v nc >/dev/null 2>&1; then out=$(nc -w 10 "$1" "$2" </dev/null 2>/dev/null | head -n 1)
  else return; fi
  printf %s "${out:--}" | tr -d '\\r'
}
while read -r id kind count target port; do
  case "$kind" in
    ping) ( out=$(ping -c "$count" -W 5 "$target" 2>&1 | tail -n 2 | tr '\\n' '|'); printf '%s ping %s\\n' "$id" "$out" ) & ;;
    http) ( out=$(fetch "$target"); printf '%s http %s\\n' "$id" "$out" ) & ;;
    banner) ( out=$(banner "$target" "$port"); printf '%s banner %s\n' "$id" "$out" ) & ;;
    uptime) printf '%s uptime %s\\n' "$id" "$(uptime)" ;;
    addresses) printf '%s addresses %s\\n' "$id" "$(ip -o addr 2>/dev/null | tr -s ' \\n' ' |')" ;;
    pinned) printf '%s pinned %s\\n' "$id" "$(grep -rhsiE '^[[:space:]]*mtu[:= ]' \
      /etc/netplan /etc/network /etc/sysconfig/network-scripts \
      /etc/systemd/network 2>/dev/null | tr -s ' \\n' ' |')" ;;
    listening) printf '%s listening %s\\n' "$id" "$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | tr -s ' \\n' ' |')" ;;
  esac
done
wait
""".strip()

_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+)(?: packets)? received")
_TIMES = re.compile(r"= ([\d.]+)/([\d.]+)/([\d.]+)")


class GuestError(OvnshiftError):
    """A guest could not be logged in to, or not be asked."""


@dataclass(frozen=True)
class Question:
    """One thing that a guest is asked.

    ``ping`` an address, ``http`` a URL, the ``banner`` of a server at an address and port ("-" where it gave none, nothing where
    the guest has no program that connects), ``uptime``, ``addresses``, ``listening``, ``pinned``.
    """

    kind: str
    target: str = "-"
    count: int = 1
    port: int | None = None


@dataclass(frozen=True)
class PingAnswer:
    """What a guest's ping said. Times in milliseconds."""

    sent: int
    received: int
    times: tuple[float, float, float] | None
    text: str

    @classmethod
    def parse(cls, text: str) -> PingAnswer:
        """From the last two lines of busybox' or iputils' ping."""
        counts = _COUNTS.search(text)
        times = _TIMES.search(text)
        return cls(
            int(counts[1]) if counts else 0,
            int(counts[2]) if counts else 0,
            (float(times[1]), float(times[2]), float(times[3])) if times else None,
            text.strip("| "),
        )


def listens(answer: str, port: int) -> bool:
    """Whether a guest's /proc/net/tcp shows a listener (state 0A) on a port."""
    wanted = f":{port:04X}"
    for line in answer.split("|"):
        fields = line.split()
        if len(fields) > 3 and fields[1].endswith(wanted) and fields[3] == "0A":
            return True
    return False


class GuestSession:
    """An SSH connection to a guest.

    Args:
        connection: to the host of the vantage.
        vantage: where the guest is reached from.
        address: the guest's.
        seconds: bound of connecting and of logging in, each.
        port: of its SSH server.
    """

    def __init__(
        self, connection: Connection, vantage: Vantage, address: str, *, seconds: float, port: int = 22
    ) -> None:
        self.place = f"{address} from {vantage}"
        self._seconds = seconds
        task = {"namespace": vantage.namespace, "address": address, "port": port, "seconds": seconds}
        self._stream = connection.open("python3", "-c", BOOTSTRAP)
        try:
            program = source("ovnshift.connectivity.programs", "relay.py")
            self._send(envelope(program, task) + b"\n")
            self._transport = paramiko.Transport(self._stream)  # type: ignore[arg-type]
            self._transport.banner_timeout = seconds
            self._transport.handshake_timeout = seconds
            self._transport.start_client(timeout=seconds)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._stream.close()
            raise GuestError(
                self.place,
                f"no SSH with it: {error or type(error).__name__}",
                "see its console log: openstack console log show",
            ) from error

    def _send(self, data: bytes) -> None:
        while data:
            data = data[self._stream.send(data) :]

    def __enter__(self) -> GuestSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()
        self._stream.close()

    @property
    def host_key(self) -> str:
        """Kind and SHA-256 fingerprint of its host key, as ``ssh-keygen -l`` shows it."""
        key = self._transport.get_remote_server_key()
        digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode("ascii").rstrip("=")
        return f"{key.get_name()} SHA256:{digest}"

    def log_in(self, guest: Guest) -> None:
        """Log in with a key where one is given, else with a password.

        Raises:
            GuestError: the guest refuses, or does not answer in time.
            OvnshiftError: the key or the password can't be had on this machine.
        """
        assert guest.user is not None
        self._transport.auth_timeout = self._seconds
        try:
            if guest.key is not None:
                try:
                    self._transport.auth_publickey(guest.user, _private_key(guest.key))
                except paramiko.AuthenticationException:
                    if guest.secret() is None:
                        raise
            if not self._transport.is_authenticated():
                secret = guest.secret()
                assert secret is not None
                self._transport.auth_password(guest.user, secret)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise GuestError(
                self.place,
                f"the login of {guest.user} is refused: {error or type(error).__name__}",
                "see [[guests]] in the site file",
            ) from error

    def ask(self, questions: Sequence[Question], *, seconds: float) -> list[str]:
        """Ask the guest several things at once.

        Returns:
            The answers in the order of the questions; empty where the guest gave none.

        Raises:
            GuestError: the connection was lost, or the guest was not done in time.
        """
        lines = "".join(
            f"{n} {each.kind} {each.count} {each.target} {each.port or '-'}\n" for n, each in enumerate(questions)
        )
        answers = [""] * len(questions)
        output = bytearray()
        # paramiko waits without a bound for the answer to a request, which is lost where large packets are.
        watchdog = threading.Timer(seconds, self._transport.close)
        watchdog.start()
        problem: Exception | None = None
        try:
            channel = self._transport.open_session(timeout=self._seconds)
            channel.exec_command(shlex.join(["sh", "-c", PROGRAM]))
            channel.sendall(lines.encode("ascii"))
            channel.shutdown_write()
            while data := channel.recv(65536):
                output += data
        except (paramiko.SSHException, OSError, EOFError) as error:
            problem = error
        finally:
            watchdog.cancel()
            watchdog.join()
        if watchdog.finished.is_set() and not self._transport.is_active() and problem is None:
            problem = TimeoutError()
        if problem is not None:
            late = f"not done in {seconds:.0f} s (large packets may be lost on the way)"
            said = str(problem) if self._transport.is_active() else late
            raise GuestError(self.place, f"it stopped answering: {said}", "see its console log") from problem
        for number, rest in _numbered(output.decode("utf-8", "replace").splitlines()):
            if number < len(answers):
                answers[number] = rest
        return answers


def _private_key(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except (ValueError, TypeError, UnknownKeyType) as error:
        raise OvnshiftError(
            str(path), f"is no private key that can be used: {error}", "see key in [[guests]] of the site file"
        ) from error


def _numbered(lines: Iterable[str]) -> Iterable[tuple[int, str]]:
    for line in lines:
        number, _, rest = line.partition(" ")
        if number.isdigit():
            yield int(number), rest.partition(" ")[2]
