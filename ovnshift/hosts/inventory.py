"""What a host has: links, namespaces, running domains, units, room, clock."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from ovnshift.hosts import programs
from ovnshift.hosts.connection import Connection, HostError
from ovnshift.hosts.fleet import Fleet


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Link(_Value):
    """A network interface. ``mtu`` in bytes; addresses with their prefix length."""

    name: str
    kind: str
    master: str | None
    mtu: int
    up: bool
    mac: str | None
    vlan: int | None
    vni: int | None
    parent: str | None
    addresses: tuple[str, ...]


class Unit(_Value):
    """A systemd unit: ActiveState, UnitFileState, and files of its configuration that were changed after it had been started."""

    active: str
    enabled: str
    changed_since: tuple[str, ...] = ()


class HostInventory(_Value):
    """A host at one moment.

    ``clock_error`` in seconds, positive when the host is ahead of this machine, known to ``clock_bound`` seconds (half the time
    that asking took). ``domains`` is uuid → libvirt's name, None where there is no libvirt. ``name_servers`` are its resolver's.
    """

    hostname: str
    fqdn: str
    python: str
    kernel: str
    links: tuple[Link, ...]
    namespaces: dict[str, tuple[Link, ...]]
    domains: dict[str, str] | None
    udp_ports: tuple[int, ...]
    free_megabytes: dict[str, int]
    units: dict[str, Unit]
    tools: dict[str, bool]
    foreign_runs: tuple[str, ...]
    name_servers: tuple[str, ...] = ()
    openvswitch: str | None
    ovs_hostname: str | None
    clock_error: float
    clock_bound: float

    @property
    def bridges(self) -> list[Link]:
        """Linux bridges."""
        return [link for link in self.links if link.kind == "bridge"]

    @property
    def taps(self) -> list[Link]:
        """Tap devices: of instances, and of agents' ports."""
        return [link for link in self.links if link.name.startswith("tap")]

    def link_with(self, address: str) -> Link | None:
        """The link that has an address."""
        return next((link for link in self.links if address in {a.split("/")[0] for a in link.addresses}), None)


def look(connection: Connection, *, disks: Iterable[str], domains: bool, units: Iterable[str] = ()) -> HostInventory:
    """Look around on a host.

    Args:
        connection: to it.
        disks: paths whose file systems' room is told.
        domains: whether libvirt is asked.
        units: of systemd, whose state is told.

    Raises:
        HostError: it could not be asked.
    """
    task = {"units": list(units), "disks": list(disks), "domains": domains}
    connection.run("true", user=True)  # so that the time of connecting is not taken for the clock's error
    before = time.time()
    (report,) = programs.run(connection, programs.source("ovnshift.hosts.programs", "look.py"), task)
    after = time.time()
    bound = (after - before) / 2
    found = report.pop("time")
    return HostInventory(**report, clock_error=found - (before + after) / 2, clock_bound=bound)


def look_everywhere(
    fleet: Fleet, names: Iterable[str], units: Iterable[str] = ()
) -> tuple[dict[str, HostInventory], dict[str, HostError]]:
    """Look around on several hosts at once; inventories, and the errors of those that could not be asked."""
    computes = set(fleet.site.group("compute"))
    disks = ["/etc", "/var/lib", "/var/log"]
    units = sorted(set(units))

    def ask(connection: Connection) -> HostInventory:
        return look(connection, disks=disks, domains=connection.name in computes, units=units)

    return fleet.each(names, ask)
