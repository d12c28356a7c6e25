"""The matrix as a picture: who reaches whom, as a table that needs neither colours nor scripts to be read."""

from __future__ import annotations

import collections
from collections.abc import Sequence, Set
from dataclasses import dataclass

from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import CellRecord, Endpoint, Outcome

# More rows or columns than this can't be read; then instances are shown by network.
MOST = 60
# Cells that a square tells about.
SHOWN = 20
SYMBOLS = {
    Outcome.PASSED: ("✓", "as it should be"),
    Outcome.FAILED: ("✗", "not as it should be"),
    Outcome.FLAPPING: ("≈", "flapping: now so, now so"),
    Outcome.NOT_MEASURED: ("?", "could not be measured"),
}
_WORST = (Outcome.FAILED, Outcome.FLAPPING, Outcome.NOT_MEASURED, Outcome.PASSED)
_ORDER = ("network", "instance", "floating IP", "outside", "metadata service")


@dataclass(frozen=True)
class Square:
    """All cells from one source to one target."""

    outcome: Outcome
    symbol: str
    lines: tuple[str, ...]

    @property
    def css(self) -> str:
        return str(self.outcome).replace(" ", "-")


@dataclass(frozen=True)
class Matrix:
    """Rows are sources, columns targets; None where nothing is measured."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    squares: tuple[tuple[Square | None, ...], ...]
    grouped: bool


def picture(baseline: Baseline, network_of: dict[str, str] | None = None) -> Matrix:
    """The matrix of a baseline.

    Args:
        baseline: what was measured.
        network_of: a label for each instance id, by which instances are grouped where there are too many of them.
    """
    ends = {end.id for record in baseline.cells for end in (record.cell.source, record.cell.target)}
    grouped = len(ends) > MOST and network_of is not None
    groups = network_of if grouped and network_of is not None else {}
    ids: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for record in baseline.cells:
        for end in (record.cell.source, record.cell.target):
            ids[end.kind, end.name].add(end.id)
    double = {heading for heading, found in ids.items() if len(found) > 1}
    squares: dict[tuple[tuple[int, str], tuple[int, str]], list[CellRecord]] = collections.defaultdict(list)
    for record in baseline.cells:
        row, column = (_heading(end, groups, double) for end in (record.cell.source, record.cell.target))
        squares[row, column].append(record)
    rows = sorted({row for row, _ in squares})
    columns = sorted({column for _, column in squares})
    return Matrix(
        tuple(label for _, label in rows),
        tuple(label for _, label in columns),
        tuple(tuple(_square(squares.get((row, column))) for column in columns) for row in rows),
        grouped,
    )


def _heading(end: Endpoint, groups: dict[str, str], double: Set[tuple[str, str]]) -> tuple[int, str]:
    if end.id in groups:
        return _ORDER.index(end.kind), f"instances on {groups[end.id]}"
    label = end.label
    if end.kind in {"network", "instance"} and end.name and (end.kind, end.name) not in double:
        label = label.removesuffix(f" ({end.id[:8]})")
    return _ORDER.index(end.kind), label


def _square(records: Sequence[CellRecord] | None) -> Square | None:
    if not records:
        return None
    outcomes = {record.outcome for record in records}
    worst = next(outcome for outcome in _WORST if outcome in outcomes)
    ordered = sorted(records, key=lambda record: _WORST.index(record.outcome))
    lines = [describe(record) for record in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        lines.append(f"… and {len(ordered) - SHOWN} more")
    return Square(worst, SYMBOLS[worst][0], tuple(lines))


def describe(record: CellRecord) -> str:
    """A cell in one line."""
    cell, last = record.cell, record.last
    text = f"{SYMBOLS[record.outcome][0]} {cell.kind}{f' {cell.port}' if cell.port else ''} {cell.address}"
    if last is None:
        return text
    if last.rtt_avg is not None and record.outcome is Outcome.PASSED:
        text += f", {last.rtt_avg:.1f} ms"
    if last.detail:
        text += f": {last.detail}"
    return f"{text} (from {last.vantage})" if last.vantage else text
