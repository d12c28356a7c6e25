"""Cells: one thing each that is measured. A cell is named by who reaches whom and by what, never by the prober that is used."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ovnshift import names


class Kind(StrEnum):
    """By what somebody is reached."""

    PING = "ping"
    PING_WHOLE = "ping at MTU"
    SSH = "ssh"
    CLOSED_PORT = "closed port"
    METADATA = "metadata"
    DHCP = "dhcp"
    CONSOLE_DHCP = "dhcp in the console log"
    CONSOLE_METADATA = "metadata in the console log"


class Expectation(StrEnum):
    """What has to happen. That nothing passes, is measured like everything else."""

    REACHED = "reached"
    KEPT_OUT = "kept out"


class Outcome(StrEnum):
    """What a cell's measurements say about its expectation."""

    PASSED = "passed"
    FAILED = "failed"
    FLAPPING = "flapping"
    NOT_MEASURED = "not measured"
    SILENT = "silent"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Endpoint(_Value):
    """One end of a cell. ``id`` is Neutron's or Nova's; of the outside, and of what has no id, its address."""

    kind: Literal["network", "instance", "floating IP", "outside", "metadata service", "router"]
    id: str
    name: str

    @property
    def label(self) -> str:
        """For people."""
        if self.kind == "metadata service":
            return self.kind
        if self.kind in {"outside", "floating IP"}:
            return f"{self.kind} {self.id if self.kind == 'outside' else self.name}"
        named = names.label(self.name, self.id)
        return {"network": f"namespace of {named}", "router": f"router {named}"}.get(self.kind, named)


class Cell(_Value):
    """One thing that is measured.

    ``size``: bytes of an IP packet that must pass whole. ``via``: ids of what its packets share with others: networks, routers.
    """

    kind: Kind
    source: Endpoint
    target: Endpoint
    address: str
    port: int | None = None
    size: int | None = None
    expectation: Expectation = Expectation.REACHED
    across_hosts: bool = False
    routed: bool = False
    via: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Stays the same however the cell is measured."""
        where = f"{self.address}:{self.port}" if self.port else self.address
        return f"{self.kind}|{self.source.kind}/{self.source.id}|{self.target.kind}/{self.target.id}|{where}"

    def __str__(self) -> str:
        what = f"{self.kind} {self.port}" if self.kind == Kind.CLOSED_PORT else str(self.kind)
        at = (
            "" if self.address in self.target.label or self.target.kind == "metadata service" else f" at {self.address}"
        )
        return f"{what}: {self.source.label} → {self.target.label}{at}"


class Vantage(_Value):
    """Where packets are sent from: a namespace of a host (None: the host's own), from inside a guest, or a console log."""

    host: str
    namespace: str | None = None
    instance: str | None = None

    def __str__(self) -> str:
        place = f"{self.host}:{self.namespace}" if self.namespace else self.host
        return f"{self.instance} by way of {place}" if self.instance else place


class Measurement(_Value):
    """One measuring of a cell. Round-trip times in milliseconds; ``at`` is UTC, ISO 8601."""

    outcome: Outcome
    vantage: str = ""
    at: str
    sent: int = 0
    received: int = 0
    rtt_min: float | None = None
    rtt_avg: float | None = None
    rtt_max: float | None = None
    detail: str = ""


class CellRecord(_Value):
    """A cell with all of its measurements. ``may_be_silent``: why it need not answer; empty where it has to."""

    cell: Cell
    measurements: tuple[Measurement, ...]
    may_be_silent: str = ""

    @property
    def outcome(self) -> Outcome:
        """Their common outcome; flapping where they differ; silent where none passed and none had to."""
        found = self._measured
        return Outcome.SILENT if found is Outcome.FAILED and self.may_be_silent else found

    @property
    def _measured(self) -> Outcome:
        found = {each.outcome for each in self.measurements}
        if not found:
            return Outcome.NOT_MEASURED
        if len(found) == 1:
            return found.pop()
        measured = found - {Outcome.NOT_MEASURED}
        return measured.pop() if len(measured) == 1 else Outcome.FLAPPING

    @property
    def last(self) -> Measurement | None:
        return self.measurements[-1] if self.measurements else None
