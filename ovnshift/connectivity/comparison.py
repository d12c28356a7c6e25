"""What became of every cell: a measurement compared with the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from ovnshift.cloud.topology import Topology
from ovnshift.connectivity import silence
from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import Cell, CellRecord, Expectation, Kind, Outcome
from ovnshift.errors import OvnshiftError

KIND = "comparison"
VERSION = 1


class Fate(StrEnum):
    """What became of a cell."""

    KEPT = "kept"
    REGRESSED = "regressed"
    NEWLY_OPEN = "newly open"
    RECOVERED = "recovered"
    STILL_FAILING = "still failing"
    STILL_SILENT = "still silent"
    NO_VANTAGE = "no vantage"
    NOT_COMPARABLE = "not comparable"


# Why a cell that is kept is not as good as before, at the beginning of its reason.
LOST_EARLY = "lost packets in an earlier sweep, and none in the last"
WORSE = frozenset({Fate.REGRESSED, Fate.NEWLY_OPEN, Fate.NO_VANTAGE})


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Compared(_Value):
    """A cell before and after. ``after`` is None where there is no such cell any more."""

    before: CellRecord
    after: CellRecord | None
    fate: Fate
    reason: str = ""

    @property
    def cell(self) -> Cell:
        return self.before.cell


class Group(_Value):
    """Cells that got worse and that share something: a hypervisor, a router, a network; or nothing that is known.

    ``of``: how many cells share it and could tell. ``elsewhere``: how many of those got worse too, and are in an earlier group.
    """

    cause: str
    cells: tuple[Compared, ...]
    of: int
    elsewhere: int = 0

    @property
    def share(self) -> str:
        """How much of it got worse, for people: "5 of 8 cells"."""
        return f"{len(self.cells):,} of {self.of:,} {'cell' if self.of == 1 else 'cells'}"

    @property
    def also(self) -> str:
        """What is said of those that got worse too, for people; empty where all of them are here."""
        return f"{self.elsewhere:,} more got worse, and are named with another cause" if self.elsewhere else ""

    def __str__(self) -> str:
        return f"{self.cause}: {self.share}" + (f" ({self.also})" if self.also else "")


class Comparison(_Value):
    """All cells of a baseline, compared; and what became of the instances."""

    cells: tuple[Compared, ...]
    groups: tuple[Group, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    moved: tuple[str, ...]
    other_host_keys: tuple[str, ...]

    def counts(self) -> Counter[Fate]:
        """How many cells have each fate."""
        return Counter(each.fate for each in self.cells)

    @property
    def lost_early(self) -> list[Compared]:
        """Cells that are kept, and lost packets all the same before all was whole."""
        return [each for each in self.with_fate(Fate.KEPT) if each.reason.startswith(LOST_EARLY)]

    def with_fate(self, *fates: Fate) -> list[Compared]:
        return [each for each in self.cells if each.fate in fates]


def compare(before: Baseline, after: Baseline, topology: Topology | None = None) -> Comparison:
    """Compare a measurement with a baseline.

    Args:
        before: the baseline.
        after: what was measured since.
        topology: says what networks and routers are called, and what is behind floating IPs.

    Raises:
        OvnshiftError: they are of different clouds, are the same measurement, or one of them has measured nothing: comparing
            these would say nothing, and seem to say that all is well.
    """
    _check(before, after)
    now = {record.cell.id: record for record in after.cells}
    compared = tuple(_compare(record, now.get(record.cell.id), after) for record in before.cells)
    instances = {**before.instances, **after.instances}
    moved = tuple(
        f"{where.label}: {where.host} → {after.instances[id_].host}"
        for id_, where in before.instances.items()
        if id_ in after.instances and after.instances[id_].host != where.host
    )
    keys = tuple(
        f"{instances[id_].label if id_ in instances else id_}: {before.host_keys[id_]} → {key}"
        for id_, key in after.host_keys.items()
        if before.host_keys.get(id_, key) != key
    )
    hosts = {id_: where.host for id_, where in after.instances.items() if where.host}
    return Comparison(
        cells=compared,
        groups=tuple(_grouped(compared, topology, hosts)),
        gone=tuple(where.label for id_, where in before.instances.items() if id_ not in after.instances),
        new=tuple(where.label for id_, where in after.instances.items() if id_ not in before.instances),
        moved=moved,
        other_host_keys=keys,
    )


def _check(before: Baseline, after: Baseline) -> None:
    place = f"cloud {after.identity.cloud}"
    if before.identity != after.identity:
        raise OvnshiftError(
            place,
            f"the baseline is of {before.identity.cloud} at {before.identity.identity_endpoint}",
            "see --site and --change",
        )
    if before.begun_at == after.begun_at:
        raise OvnshiftError(place, "the baseline would be compared with itself", "measure again: pytest tests_post")
    for what, measured in (("the baseline", before), ("the measurement", after)):
        if not any(each.sent for record in measured.cells for each in record.measurements):
            raise OvnshiftError(
                place, f"{what} has not sent a single probe", "see the notes of the sweep, and record it anew"
            )


def _compare(before: CellRecord, after: CellRecord | None, measured: Baseline) -> Compared:
    fate, reason = _fate(before, after, measured)
    return Compared(before=before, after=after, fate=fate, reason=reason)


def _fate(before: CellRecord, after: CellRecord | None, measured: Baseline) -> tuple[Fate, str]:
    if after is None:
        ends = [end for end in (before.cell.source, before.cell.target) if end.kind == "instance"]
        gone = [end.label for end in ends if end.id not in measured.instances]
        stopped = [measured.not_covered[end.id] for end in ends if end.id in measured.not_covered]
        if gone:
            return Fate.NOT_COMPARABLE, f"{gone[0]} is gone"
        if before.outcome is Outcome.PASSED:
            return Fate.REGRESSED, stopped[0] if stopped else "there is no such cell any more"
        return Fate.NOT_COMPARABLE, "it was no more than failing before, and is no cell now"
    was, is_ = before.outcome, after.outcome
    detail = after.last.detail if after.last else ""
    if was is Outcome.NOT_MEASURED:
        return Fate.NOT_COMPARABLE, "it was not measured before"
    if is_ is Outcome.NOT_MEASURED:
        return Fate.NO_VANTAGE, detail
    if was is Outcome.SILENT:
        return _fate_of_silence(before, after, detail)
    if is_ is Outcome.PASSED:
        return (Fate.KEPT if was is Outcome.PASSED else Fate.RECOVERED), detail
    if was is Outcome.PASSED and before.cell.expectation is Expectation.KEPT_OUT:
        return Fate.NEWLY_OPEN, detail
    if was is Outcome.PASSED and (early := _lost_early(after)):
        return Fate.KEPT, f"{LOST_EARLY}: {early}"
    if was is Outcome.PASSED or (was is Outcome.FLAPPING and is_ in {Outcome.FAILED, Outcome.SILENT}):
        return Fate.REGRESSED, detail
    return Fate.STILL_FAILING, detail


def _fate_of_silence(before: CellRecord, after: CellRecord, detail: str) -> tuple[Fate, str]:
    """Who was kept out by security groups, and gets in although they are as they were, has found a hole."""
    if after.outcome in {Outcome.SILENT, Outcome.FAILED}:
        return Fate.STILL_SILENT, before.may_be_silent
    if before.may_be_silent == after.may_be_silent == silence.BY_GROUPS:
        return Fate.NEWLY_OPEN, f"it answers, and {after.may_be_silent}"
    return Fate.RECOVERED, detail


def _lost_early(record: CellRecord) -> str:
    """What was lost, if a cell lost some of its packets in an earlier sweep, never all, and none in the last one.

    A new path may lose its first packets: each router resolves a neighbour when it is first spoken to. Empty where it is not so.
    """
    earlier = record.measurements[:-1]
    if record.cell.expectation is not Expectation.REACHED:
        return ""
    if record.last is None or record.last.outcome is not Outcome.PASSED:
        return ""
    if any(each.outcome not in {Outcome.PASSED, Outcome.FLAPPING} for each in earlier):
        return ""
    return ", ".join(each.detail for each in earlier if each.outcome is Outcome.FLAPPING)


def _causes(cell: Cell, topology: Topology | None, hosts: Mapping[str, str]) -> Iterable[str]:
    """What a cell's packets share with those of others; a floating IP's also the hypervisor of the instance behind it."""
    for id_ in cell.via:
        if topology and id_ in topology.network:
            yield f"network {topology.network[id_].label}"
        elif topology and id_ in topology.router:
            yield f"router {topology.router[id_].label}"
        elif id_:
            yield id_
    for end in (cell.source, cell.target):
        behind = ""
        if end.kind == "instance":
            yield end.label
            behind = end.id
        elif end.kind == "floating IP" and topology and end.id in topology.floating_ip:
            instance = topology.instance_behind(topology.floating_ip[end.id])
            behind = instance.id if instance else ""
        if behind in hosts:
            yield f"hypervisor {hosts[behind]}"
    if cell.target.kind in {"metadata service", "outside", "floating IP"}:
        yield cell.target.label


def _speaks_against(each: Compared, expectation: Expectation) -> bool:
    """Whether a cell would be worse too, if something that its packets share were broken.

    What is dead keeps everything out, and what is open lets everything in; and a console log says how it was at the last boot.
    """
    console = each.cell.kind in {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA}
    return each.fate is Fate.KEPT and each.cell.expectation is expectation and not console


def _grouped(cells: Sequence[Compared], topology: Topology | None, hosts: Mapping[str, str]) -> Iterable[Group]:
    """Group what got worse by what it shares; what is newly open and what is lost each for itself: they don't have one cause."""
    causes = {each.cell.id: frozenset(_causes(each.cell, topology, hosts)) for each in cells}

    def groups(worse: Iterable[Compared], expectation: Expectation) -> Iterable[Group]:
        kept = (each.cell.id for each in cells if _speaks_against(each, expectation))
        return _explained(
            {each.cell.id: each for each in worse}, Counter(c for id_ in kept for c in causes[id_]), causes
        )

    for group in groups((each for each in cells if each.fate is Fate.NEWLY_OPEN), Expectation.KEPT_OUT):
        yield group.model_copy(update={"cause": f"{group.cause}, newly open"})
    yield from groups((each for each in cells if each.fate in WORSE - {Fate.NEWLY_OPEN}), Expectation.REACHED)


def _explained(
    worse: dict[str, Compared], against: Counter[str], causes: Mapping[str, frozenset[str]]
) -> Iterable[Group]:
    """First what explains most of it and is broken most completely.

    Cells that have their group are neither for nor against the causes that are looked for after it.

    Args:
        worse: what is to be explained, by the cells' ids.
        against: how many cells that are kept share each cause.
        causes: of each cell, by its id.
    """
    shared = Counter(cause for id_ in worse for cause in causes[id_])
    while worse:
        left = Counter(cause for id_ in worse for cause in causes[id_])
        if not left:
            yield Group(cause="nothing that they share", cells=tuple(worse.values()), of=len(worse))
            return
        best = max((count**2 / (count + against[cause]), shared[cause], cause) for cause, count in left.items())[-1]
        members = tuple(each for id_, each in worse.items() if best in causes[id_])
        yield Group(cause=best, cells=members, of=shared[best] + against[best], elsewhere=shared[best] - len(members))
        worse = {id_: each for id_, each in worse.items() if best not in causes[id_]}
