"""The baseline: all cells of a cloud as they were, in a file that can be trusted."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydantic
from pydantic import BaseModel, ConfigDict

from ovnshift import files
from ovnshift.cloud.topology import Topology
from ovnshift.connectivity.cells import CellRecord, Kind, Outcome
from ovnshift.connectivity.measure import Sweep
from ovnshift.connectivity.plan import Plan
from ovnshift.errors import OvnshiftError

KIND = "baseline"
VERSION = 1


class Identity(BaseModel):
    """Which cloud a baseline is of."""

    model_config = ConfigDict(frozen=True)

    cloud: str
    identity_endpoint: str
    region: str


class Whereabouts(BaseModel):
    """An instance, and the hypervisor that it ran on."""

    model_config = ConfigDict(frozen=True)

    label: str
    host: str | None


class Baseline(BaseModel):
    """All cells with their measurements. ``left_out`` counts pairs of guests outside the sample."""

    model_config = ConfigDict(frozen=True)

    identity: Identity
    begun_at: str
    ended_at: str
    sweeps: int
    cells: tuple[CellRecord, ...]
    host_keys: dict[str, str]
    instances: dict[str, Whereabouts] = {}
    left_out: int = 0
    not_covered: dict[str, str] = {}
    without_vantage_afterwards: dict[str, str] = {}
    pinned_mtu: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    def counts(self) -> Counter[Outcome]:
        """How many cells have each outcome."""
        return Counter(record.outcome for record in self.cells)

    def with_outcome(self, *outcomes: Outcome) -> list[CellRecord]:
        return [record for record in self.cells if record.outcome in outcomes]


def identity_of(topology: Topology) -> Identity:
    """What ties a baseline to a cloud: where its Keystone is, and the region."""
    return Identity(cloud=topology.cloud, identity_endpoint=topology.identity_endpoint, region=topology.region)


def assemble(
    topology: Topology,
    plan: Plan,
    sweeps: Sequence[Sweep],
    *,
    begun_at: str,
    ended_at: str,
    without_vantage_afterwards: Mapping[str, str],
    may_be_silent: Mapping[str, str] | None = None,
) -> Baseline:
    """Put sweeps together.

    Args:
        topology: the cloud.
        plan: what was measured.
        sweeps: the measurements.
        begun_at: UTC, ISO 8601.
        ended_at: UTC, ISO 8601.
        without_vantage_afterwards: reasons, by the cells' ids.
        may_be_silent: reasons, by the cells' ids (:func:`ovnshift.connectivity.silence.reasons`).

    Raises:
        OvnshiftError: nothing was measured; that is no baseline.
    """
    records = _records(plan, sweeps, may_be_silent or {})
    if not any(record.outcome is not Outcome.NOT_MEASURED for record in records):
        raise OvnshiftError(
            f"cloud {topology.cloud}",
            f"none of {len(records)} cells could be measured"
            if records
            else "there is nothing to measure: no instance has an address",
            "a baseline of nothing would prove nothing afterwards; start an instance, or see the notes of the sweep",
        )
    keys: dict[str, str] = {}
    for sweep in sweeps:
        keys.update(sweep.host_keys)
    return Baseline(
        identity=identity_of(topology),
        begun_at=begun_at,
        ended_at=ended_at,
        sweeps=len(sweeps),
        cells=records,
        host_keys=keys,
        instances={each.id: Whereabouts(label=each.label, host=each.host) for each in topology.instances},
        left_out=plan.left_out,
        not_covered=plan.not_covered,
        without_vantage_afterwards=dict(without_vantage_afterwards),
        pinned_mtu={label: line for sweep in sweeps for label, line in sweep.pinned_mtu.items()},
        notes=tuple(dict.fromkeys(note for sweep in sweeps for note in sweep.notes)),
    )


def _records(plan: Plan, sweeps: Sequence[Sweep], may_be_silent: Mapping[str, str]) -> tuple[CellRecord, ...]:
    """Cells with their measurements. Who answers small packets has to answer whole ones."""
    answering = {
        (cell.source.id, cell.target.id, cell.address)
        for cell in plan.cells
        for sweep in sweeps
        if cell.kind is Kind.PING and sweep.measurements[cell.id].received
    }
    return tuple(
        CellRecord(
            cell=cell,
            measurements=tuple(sweep.measurements[cell.id] for sweep in sweeps),
            may_be_silent=""
            if cell.kind is Kind.PING_WHOLE and (cell.source.id, cell.target.id, cell.address) in answering
            else may_be_silent.get(cell.id, ""),
        )
        for cell in plan.cells
    )


def save(path: Path, baseline: Baseline) -> Path | None:
    """Write it; one that is there already is kept beside it, under the time when it was recorded.

    Returns:
        Where the older one is now, None when there was none.

    Raises:
        OvnshiftError: it can't be written, or the older one can't be moved.
    """
    older = keep(path)
    files.write_document(path, KIND, VERSION, baseline.model_dump(mode="json"))
    return older


def keep(path: Path) -> Path | None:
    """Give a baseline that is there a name with the time of its last change; it is never overwritten."""
    if not path.exists():
        return None
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    stem = f"{path.stem}-{changed:%Y%m%dT%H%M%SZ}"
    target = path.with_name(f"{stem}{path.suffix}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{stem}-{number}{path.suffix}")
    try:
        target.hardlink_to(path)  # a copy by another name: there is a baseline at every moment
    except OSError as error:
        raise OvnshiftError(
            str(path), f"the older baseline can't be kept: {error.strerror}", "mend the directory"
        ) from error
    return target


def read(path: Path, topology: Topology | None = None) -> Baseline:
    """Read a baseline, and check that it is whole and of this cloud.

    Args:
        path: the file.
        topology: of the cloud that it must be of.

    Raises:
        OvnshiftError: it is missing, edited, empty, of a later version, or of another cloud.
    """
    content = files.read_document(path, KIND, VERSION)
    try:
        baseline = Baseline.model_validate(content)
    except pydantic.ValidationError as error:
        raise OvnshiftError(
            str(path), f"can't be understood: {error.errors()[0]['msg']}", "record it anew: pytest -m pre"
        ) from error
    if not baseline.cells:
        raise OvnshiftError(str(path), "has no cells", "record it anew: pytest -m pre")
    if topology is not None and baseline.identity != identity_of(topology):
        raise OvnshiftError(
            str(path),
            f"is of {_said(baseline.identity)}, not of {_said(identity_of(topology))}",
            "name the right site file or change (--site, --change), or record a baseline of this cloud",
        )
    return baseline


def _said(identity: Identity) -> str:
    return f"{identity.cloud} at {identity.identity_endpoint}, region {identity.region}"


def age_seconds(baseline: Baseline) -> float:
    """How long ago it was finished."""
    return (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(baseline.ended_at)).total_seconds()
