"""All hosts of a site: connections that are made when they are first needed, and work on several at once."""

from __future__ import annotations

import concurrent.futures
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from testinfra.backend import get_backend_class, parse_hostspec
from testinfra.backend.base import BaseBackend
from testinfra.backend.paramiko import ParamikoBackend
from testinfra.backend.ssh import SshBackend
from testinfra.utils.ansible_runner import AnsibleRunner

from ovnshift.hosts.connection import Connection, HostError
from ovnshift.hosts.openssh import Local, OpenSsh
from ovnshift.hosts.paramiko_ssh import Paramiko
from ovnshift.site import Site

Answer = TypeVar("Answer")


class Fleet:
    """The hosts of a site, by the names that the site file gives them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._connections: dict[str, Connection] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Connection:
        """The connection to a host.

        Raises:
            HostError: the site file has no such host, or its connection string leads nowhere.
        """
        with self._lock:
            if name not in self._connections:
                self.site.check_way()
                self._connections[name] = connect(self.site, name)
            return self._connections[name]

    def each(
        self, names: Iterable[str], ask: Callable[[Connection], Answer]
    ) -> tuple[dict[str, Answer], dict[str, HostError]]:
        """Ask hosts at the same time.

        Returns:
            The answers, and the errors of those that could not be asked, by name, in the order of the names.
        """
        names = list(names)
        answers: dict[str, Answer] = {}
        errors: dict[str, HostError] = {}

        def one(name: str) -> Answer:
            return ask(self[name])

        if not names:
            return answers, errors
        with concurrent.futures.ThreadPoolExecutor(max_workers=min(32, len(names))) as pool:
            for name, job in [(name, pool.submit(one, name)) for name in names]:
                try:
                    answers[name] = job.result()
                except HostError as error:
                    errors[name] = error
        return answers, errors

    def every(self, names: Iterable[str], ask: Callable[[Connection], Answer]) -> dict[str, Answer]:
        """Ask hosts at the same time, all of which have to answer.

        Raises:
            HostError: one could not be asked; of several, the first in the order of the names.
        """
        answers, errors = self.each(names, ask)
        for error in errors.values():
            raise error
        return answers

    def close(self) -> None:
        with self._lock:
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()


def connect(site: Site, name: str) -> Connection:
    """The connection that a site file's connection string means; nothing is sent yet.

    Raises:
        HostError: there is no such host, or its inventory does not know it.
    """
    spec = site.hosts.get(name)
    if spec is None:
        raise HostError(name, "is not in the site file", f"add it to [hosts], which has {', '.join(site.hosts)}")
    bounds = {"seconds": site.limits.command_seconds}
    backend = _backend(site, name, spec)
    if isinstance(backend, SshBackend):
        return OpenSsh(
            name, _options(site, backend), sudo=backend.sudo, connect_seconds=site.ssh.connect_seconds, **bounds
        )
    if isinstance(backend, ParamikoBackend):
        return Paramiko(
            name,
            backend.host.name,
            user=backend.host.user,
            port=int(backend.host.port) if backend.host.port else None,
            config=site.ssh.config,
            identity_file=site.ssh.identity_file,
            known_hosts=site.ssh.known_hosts,
            sudo=backend.sudo,
            connect_seconds=site.ssh.connect_seconds,
            **bounds,
        )
    return Local(name, sudo=backend.sudo, **bounds)


def _backend(site: Site, name: str, spec: str) -> BaseBackend:
    target, options = parse_hostspec(spec)
    kind = options.pop("connection")
    options.setdefault("sudo", site.ssh.sudo)
    if kind == "ansible":
        _put_ansible_on_path()
        host = AnsibleRunner.get_runner(str(site.ssh.inventory)).get_host(target)
        if (
            host is None
            or not isinstance(host.backend, BaseBackend)
            or host.backend.NAME not in {"ssh", "paramiko", "local"}
        ):
            raise HostError(
                name,
                f"{site.ssh.inventory} gives no SSH or local connection for {target}",
                "see ansible-inventory --host, or write ssh:// in the site file",
            )
        # An inventory's become counts as well.
        host.backend.sudo = host.backend.sudo or options["sudo"]
        return host.backend
    backend = get_backend_class(kind)
    return backend(**options) if kind == "local" else backend(target, **options)


def _put_ansible_on_path() -> None:
    """Testinfra runs ``ansible-inventory`` by name; a virtual environment that was not activated is not on the path."""
    beside = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    if beside not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([beside, path])


def _options(site: Site, backend: SshBackend) -> list[str]:
    options = shlex.split(backend.ssh_extra_args or "")
    settings = {
        "User": backend.host.user,
        "Port": backend.host.port,
        "ConnectTimeout": str(site.ssh.connect_seconds),
        "BatchMode": "yes",
        "UserKnownHostsFile": str(site.ssh.known_hosts) if site.ssh.known_hosts else None,
    }
    config = backend.ssh_config or site.ssh.config
    if config is not None:
        options += ["-F", str(config)]
    for key, value in settings.items():
        if value:
            options += ["-o", f"{key}={value}"]
    identity = backend.ssh_identity_file or site.ssh.identity_file
    if identity is not None:
        options += ["-i", str(identity)]
    return [*options, "--", backend.host.name]
