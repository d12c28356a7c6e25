"""``paramiko://``: SSH without the OpenSSH client, with its configuration file and known hosts."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import paramiko

from ovnshift.hosts.connection import (
    CommandTimedOut,
    Completed,
    Connection,
    HostKeyChanged,
    LoginRefused,
    Stream,
    Unreachable,
    reason,
)


class ChannelStream(Stream):
    """A channel as a stream."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self.closed = False

    def send(self, data: bytes) -> int:
        return self._channel.send(data)

    def recv(self, size: int) -> bytes:
        return self._channel.recv(size)

    def settimeout(self, seconds: float | None) -> None:
        self._channel.settimeout(seconds)

    def close(self) -> None:
        self.closed = True
        self._channel.close()


class Paramiko(Connection):
    """One transport, over which every command is a channel of its own.

    Args:
        name: what the site file calls the host.
        host: where to; what an SSH configuration says of it counts.
        user: as who, unless the configuration says.
        port: where it listens, unless the configuration says.
        config: an SSH configuration file.
        identity_file: a private key, unless the configuration names one.
        known_hosts: a file, unless the configuration names one or the user's own is meant.
        sudo: whether commands run as root.
        seconds: the bound of a command.
        connect_seconds: the bound of connecting.
    """

    def __init__(
        self,
        name: str,
        host: str,
        *,
        user: str | None,
        port: int | None,
        config: Path | None,
        identity_file: Path | None,
        known_hosts: Path | None,
        sudo: bool,
        seconds: float,
        connect_seconds: float,
    ) -> None:
        super().__init__(name, sudo=sudo, seconds=seconds)
        settings = paramiko.SSHConfig.from_path(str(config)).lookup(host) if config else {"hostname": host}
        self._host = settings["hostname"]
        self._user = user or settings.get("user")
        self._port = port or int(settings.get("port", 22))
        self._keys = (
            [str(identity_file)]
            if identity_file
            else [str(Path(k).expanduser()) for k in settings.get("identityfile", [])]
        )
        self._known_hosts = str(known_hosts) if known_hosts else settings.get("userknownhostsfile")
        self._connect_seconds = connect_seconds
        self._client: paramiko.SSHClient | None = None
        self._lock = threading.Lock()

    def _transport(self) -> paramiko.Transport:
        with self._lock:
            if self._client is not None:
                transport = self._client.get_transport()
                if transport is not None and transport.is_active():
                    return transport
                self._client.close()
            self._client = self._connect()
            transport = self._client.get_transport()
            assert transport is not None
            transport.set_keepalive(5)
            return transport

    def _connect(self) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            if self._known_hosts:
                client.load_host_keys(str(Path(self._known_hosts).expanduser()))
            else:
                client.load_system_host_keys()
            client.connect(
                self._host,
                port=self._port,
                username=self._user,
                key_filename=self._keys or None,  # type: ignore[arg-type]  # paramiko takes a list as well
                timeout=self._connect_seconds,
                banner_timeout=self._connect_seconds,
                auth_timeout=self._connect_seconds,
            )
        except paramiko.BadHostKeyException as error:
            client.close()
            raise HostKeyChanged(
                self.name, "its host key is not the one that is known", "find out why, then mend known_hosts"
            ) from error
        except (paramiko.AuthenticationException, paramiko.PasswordRequiredException) as error:
            client.close()
            raise LoginRefused(
                self.name, f"the login was refused: {error}", "see [ssh] in the site file, and the key"
            ) from error
        except paramiko.SSHException as error:
            client.close()
            if "not found in known_hosts" in str(error):
                raise HostKeyChanged(
                    self.name, f"its host key is not known: {error}", "compare it, then put it into known_hosts"
                ) from error
            raise Unreachable(self.name, f"can't be reached: {error}", f"try ssh {self._host} by hand") from error
        except OSError as error:
            client.close()
            raise Unreachable(
                self.name,
                f"can't be reached: {reason(error)}",
                f"try ssh {self._host} by hand; see [hosts] in the site file",
            ) from error
        return client

    def _session(self, command: str) -> paramiko.Channel:
        transport = self._transport()
        # paramiko waits without a bound for the answer to a request.
        watchdog = threading.Timer(2 * self._connect_seconds, transport.close)
        watchdog.start()
        try:
            channel = transport.open_session(timeout=self._connect_seconds)
            channel.exec_command(command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise Unreachable(
                self.name, f"the connection was lost: {error or type(error).__name__}", f"see whether {self.name} is up"
            ) from error
        finally:
            watchdog.cancel()
            watchdog.join()
        return channel

    def _run(self, command: str, stdin: bytes, seconds: float) -> Completed:
        channel = self._session(command)
        deadline = time.monotonic() + seconds
        output: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        # Both outputs are read while standard input is written, or a full window would stop all three.
        readers = [
            threading.Thread(target=_drain, args=(read, output[kind]), daemon=True)
            for kind, read in (("stdout", channel.recv), ("stderr", channel.recv_stderr))
        ]
        for reader in readers:
            reader.start()
        try:
            channel.settimeout(seconds)
            channel.sendall(stdin)
            channel.shutdown_write()
            if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            for reader in readers:
                reader.join(max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise CommandTimedOut(
                self.name, f"{command[:120]} did not end in {seconds:.0f} s", "see what the host is doing"
            ) from error
        except OSError as error:
            if not channel.exit_status_ready():  # a program that does not read all of its input ends all the same
                raise Unreachable(
                    self.name, f"the connection was lost: {reason(error)}", f"see whether {self.name} is up"
                ) from error
        finally:
            status = channel.exit_status
            channel.close()
        if status < 0:
            raise Unreachable(
                self.name,
                "the connection was lost while a command ran",
                f"see whether {self.name} is up; what it did is unknown",
            )
        return Completed(status, bytes(output["stdout"]), bytes(output["stderr"]))

    def _open(self, command: str) -> Stream:
        return ChannelStream(self._session(command))

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def _drain(read: object, into: bytearray) -> None:
    assert callable(read)
    while data := read(65536):
        into += data
