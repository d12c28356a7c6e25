"""What the LinuxBridge, L3, DHCP and metadata agents leave on a host when they are stopped, and its removal.

Only what belongs to a Neutron object is touched; what merely looks like it is reported as strange. The agents have to be stopped
before, and so have the instances: a tap that a process has open is reported as in use and stays, with its bridge and its filters.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovnshift.hosts import programs
from ovnshift.hosts.connection import CommandFailed, Connection

# A look at a large host, and the last commands of a removal whose time is over.
LOOK_SECONDS = 120.0

Kind = Literal[
    "process", "namespace", "tap", "vlan", "address", "bridge", "vxlan", "iptables chain", "ebtables chain", "ipset"
]
State = Literal["found", "removed", "left", "strange", "in use"]
Id = Annotated[str, Field(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z")]
Vlan = tuple[str | None, Annotated[int, Field(ge=1, le=4094)]]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Belongings(_Value):
    """Neutron's objects, by which what is on a host is known.

    The same for every host, and taken before the migration changes anything, so that ports which Neutron deletes on the way
    (those of DHCP agents and HA routers) are among them. From a topology:

    * ``networks``, ``routers``, ``ports``: the ids of all of them, HA networks and agents' ports included.
    * ``security_groups``: their ids, and those of address groups where rules use any (they have sets, too).
    * ``vnis``: ``segmentation_id`` of each segment whose ``network_type`` is vxlan.
    * ``vlans``: for each segment whose type is vlan, the physical interface and the ``segmentation_id``. The interface is what
      ``interface_mappings`` in a LinuxBridge agent's configurations has for the segment's physical network: one pair for each
      interface that any host has for it, or None where no agent says.
    * ``interfaces``: everything in those ``interface_mappings``. Addresses go back to these; a network card, a bond or a team is
      recognized without being named, a VLAN interface or a veth that carries a flat network is not.
    """

    networks: tuple[Id, ...] = ()
    routers: tuple[Id, ...] = ()
    ports: tuple[Id, ...] = ()
    vnis: tuple[Annotated[int, Field(ge=0, lt=2**24)], ...] = ()
    vlans: tuple[Vlan, ...] = ()
    security_groups: tuple[Id, ...] = ()
    interfaces: tuple[str, ...] = ()


class Leftover(_Value):
    """Something that the agents left, or that looks like it.

    ``found`` can be removed; ``removed`` was; ``left`` could not be, and ``why`` says what stood in the way; ``strange`` is of no
    known object, or can't be told from somebody else's, and is never touched; ``in use`` belongs to an instance that runs.
    ``command`` is what removes it, for people.
    """

    kind: Kind
    name: str
    state: State
    why: str = ""
    command: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.state}" + (f" ({self.why})" if self.why else "")


def look(connection: Connection, belongings: Belongings) -> list[Leftover]:
    """What is there, in the order in which it would be removed. Changes nothing.

    Returns:
        What is ``found``, ``strange`` and ``in use``. A packet filter that can't be looked at (a tool is missing, or failed) is
        ``strange``, with the tool as its name.

    Raises:
        PythonMissing: the host has no ``python3``.
        CommandFailed: the host's links, routes or processes could not be read.
        HostError: the host could not be asked.
    """
    return _run(connection, belongings, apply=False, seconds=0)


def remove(connection: Connection, belongings: Belongings, seconds: float = 120) -> list[Leftover]:
    """Remove what is known, again and again until nothing of it is left or the time is over.

    Addresses and routes of a bridge are on its physical interface before it goes, so that the host is not cut off. After an error
    it can be called again: it begins with what is there then. That something could not be removed is no error but ``left``.

    Args:
        connection: to the host.
        belongings: of all of Neutron.
        seconds: how long it may try.

    Returns:
        What is ``removed``, ``left``, ``strange`` and ``in use``. Only a host without ``left`` and ``in use`` is clean. That
        something is in use is not waited for.

    Raises:
        PythonMissing: the host has no ``python3``; nothing was changed.
        CommandFailed: the host's links, routes or processes could not be read; some of it may be removed.
        CommandTimedOut: it did not end long after its time; some of it may be removed.
        HostError: the host could not be asked; how far it came is unknown.
    """
    return _run(connection, belongings, apply=True, seconds=seconds)


def _run(connection: Connection, belongings: Belongings, *, apply: bool, seconds: float) -> list[Leftover]:
    task: dict[str, Any] = {**belongings.model_dump(), "apply": apply, "seconds": seconds}
    program = programs.source("ovnshift.hosts.programs", "clean.py")
    lines = programs.run(connection, program, task, seconds=seconds + LOOK_SECONDS)
    try:
        return [Leftover.model_validate(line) for line in lines]
    except ValidationError as error:
        raise CommandFailed(
            connection.name, f"printed something else than what it found: {error}", "see what its login shell prints"
        ) from error
