"""Connections of the seed, made the way it makes them: from namespaces and from inside guests."""

from __future__ import annotations

import shlex
import textwrap

import paramiko

from lab import blueprint
from tests.lab.conftest import Lab

# A guest is reached through its network's DHCP namespace: SSH to the host, there a relay into the namespace.
_RELAY = textwrap.dedent(
    """
    import os, selectors, socket, sys
    peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    peer.settimeout(None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(peer, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            data = os.read(0, 65536) if key.fd == 0 else peer.recv(65536)
            if not data:
                sys.exit(0)
            peer.sendall(data) if key.fd == 0 else os.write(1, data)
    """
)


def ping(lab: Lab, host: str, namespace: str | None, address: str, *options: str) -> tuple[bool, str]:
    """``ping -c2`` from a namespace of a host; whether both came back, and what it printed."""
    prefix = ["sudo", "ip", "netns", "exec", namespace] if namespace else ["sudo"]
    result = lab.ssh(host, *prefix, "ping", "-c2", "-W2", *options, address)
    return result.returncode == 0, result.stdout + result.stderr


class Guest:
    """A login on a guest, by way of its network's DHCP namespace: SSH to the host, a relay there, SSH through it."""

    def __init__(self, lab: Lab, instance: blueprint.Instance, *, key: bool = False, host: str = "infra1") -> None:
        namespace = lab.namespace_of(instance.network)
        login = lab.site["guests"][0]
        relay = ["sudo", "ip", "netns", "exec", namespace, "python3", "-c", _RELAY, instance.address, "22"]
        settings = paramiko.SSHConfig.from_path(lab.site["ssh"]["config"]).lookup(host)
        self.host = paramiko.SSHClient()
        self.host.load_host_keys(settings["userknownhostsfile"])
        self.host.connect(
            settings["hostname"],
            username=settings["user"],
            key_filename=settings["identityfile"],
            allow_agent=False,
            look_for_keys=False,
        )
        transport = self.host.get_transport()
        assert transport is not None
        channel = transport.open_session()
        channel.exec_command(shlex.join(relay))
        self.client = paramiko.SSHClient()
        # Its host key is whatever it made at its first boot: there is nothing to compare it with.
        self.client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        self.client.connect(
            instance.address,
            username=login["user"],
            password=None if key else login["password"],
            key_filename=login["key"] if key else None,
            allow_agent=False,
            look_for_keys=False,
            sock=channel,
            banner_timeout=30,
            auth_timeout=30,
        )

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.host.close()

    def run(self, command: str) -> tuple[int, str]:
        """Run a command line in the guest's shell; its exit code and what it printed."""
        _stdin, stdout, stderr = self.client.exec_command(command, timeout=60)
        text = stdout.read().decode() + stderr.read().decode()
        return stdout.channel.recv_exit_status(), text
