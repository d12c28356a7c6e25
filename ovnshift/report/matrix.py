"""The matrix as a picture: who reaches whom, as a table that needs neither colours nor scripts to be read."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import Cell, CellRecord, Endpoint, Outcome
from ovnshift.connectivity.comparison import WORSE, Compared, Comparison, Fate

# More rows or columns than this can't be read; then instances are shown by network, and the quietest rows and columns as one.
MOST = 60
# Cells that a square tells about.
SHOWN = 20
SHOWN_OF_CHANGE = 8
SYMBOLS = {
    Outcome.PASSED: ("✓", "as it should be"),
    Outcome.FAILED: ("✗", "not as it should be"),
    Outcome.FLAPPING: ("≈", "flapping: now so, now so"),
    Outcome.NOT_MEASURED: ("?", "could not be measured"),
    Outcome.SILENT: ("○", "silent, and need not answer"),
}
# The worst first.
FATES = {
    Fate.REGRESSED: "▼",
    Fate.NEWLY_OPEN: "!",
    Fate.NO_VANTAGE: "?",
    Fate.STILL_FAILING: "=",
    Fate.NOT_COMPARABLE: "≠",
    Fate.RECOVERED: "▲",
    Fate.KEPT: "✓",
    Fate.STILL_SILENT: "○",
}
QUIET = frozenset({Fate.KEPT, Fate.STILL_SILENT})
GONE = "·"
# Who answers something is not silent.
_WORST = (Outcome.FAILED, Outcome.FLAPPING, Outcome.NOT_MEASURED, Outcome.PASSED, Outcome.SILENT)
_WORST_FATE = tuple(FATES)
_ORDER = ("network", "instance", "floating IP", "outside", "metadata service")
_REST = ("namespaces", "instances", "floating IPs", "outside", "metadata service")

# Kinds in their order; those that stand for many last; what is written.
_Heading = tuple[int, bool, str]
_Item = TypeVar("_Item")
_Square = TypeVar("_Square")


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
class Change:
    """All cells from one source to one target, before and after: the worst of each, and the worst that became of one.

    ``after`` is None where none of the cells is there any more.
    """

    before: Outcome
    after: Outcome | None
    fate: Fate
    cells: int
    lines: tuple[str, ...]

    @property
    def css(self) -> str:
        return f"{str(self.fate).replace(' ', '-')}{' worse' if self.fate in WORSE else ''}"

    @property
    def mark(self) -> str:
        """What became of them as a symbol; none where nothing did."""
        return "" if self.fate in QUIET else FATES[self.fate]

    @property
    def halves(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Before and after: a class for the style sheet, and a symbol."""
        before = str(self.before).replace(" ", "-"), SYMBOLS[self.before][0]
        if self.after is None:
            return before, ("gone", GONE)
        return before, (str(self.after).replace(" ", "-"), SYMBOLS[self.after][0])

    def __str__(self) -> str:
        return f"{self.before}, then {self.after or 'gone'}: {self.fate}"


@dataclass(frozen=True)
class Matrix(Generic[_Square]):
    """Rows are sources, columns targets; None where nothing is measured."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    squares: tuple[tuple[_Square | None, ...], ...]
    grouped: bool


def picture(baseline: Baseline, network_of: dict[str, str] | None = None) -> Matrix[Square]:
    """The matrix of a baseline.

    Args:
        baseline: what was measured.
        network_of: a label for each instance id, by which instances are grouped where there are too many of them.
    """
    return _laid_out(
        [(record.cell, record) for record in baseline.cells],
        network_of,
        lambda record: -_WORST.index(record.outcome),
        _square,
    )


def picture_of_change(comparison: Comparison, network_of: dict[str, str] | None = None) -> Matrix[Change]:
    """The matrix before and after, in one.

    Args:
        comparison: what became of the cells.
        network_of: a label for each instance id, by which instances are grouped where there are too many of them.
    """
    return _laid_out(
        [(each.cell, each) for each in comparison.cells],
        network_of,
        lambda each: -_WORST_FATE.index(each.fate),
        _change,
    )


def _laid_out(
    items: Sequence[tuple[Cell, _Item]],
    network_of: dict[str, str] | None,
    weight: Callable[[_Item], int],
    square: Callable[[Sequence[_Item]], _Square],
) -> Matrix[_Square]:
    """Cells as rows and columns; the larger the weight of an item, the sooner its row and column are shown by themselves."""
    ends = {end.id for cell, _ in items for end in (cell.source, cell.target)}
    grouped = len(ends) > MOST and network_of is not None
    groups = network_of if grouped and network_of is not None else {}
    ids: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for cell, _ in items:
        for end in (cell.source, cell.target):
            ids[end.kind, end.name].add(end.id)
    double = {heading for heading, found in ids.items() if len(found) > 1}
    placed = [
        (_heading(cell.source, groups, double), _heading(cell.target, groups, double), item) for cell, item in items
    ]
    shown_rows = _fewer((row, weight(item)) for row, _, item in placed)
    shown_columns = _fewer((column, weight(item)) for _, column, item in placed)
    squares: dict[tuple[_Heading, _Heading], list[_Item]] = collections.defaultdict(list)
    for row, column, item in placed:
        squares[shown_rows[row], shown_columns[column]].append(item)
    rows = sorted(set(shown_rows.values()))
    columns = sorted(set(shown_columns.values()))
    return Matrix(
        tuple(label for *_, label in rows),
        tuple(label for *_, label in columns),
        tuple(
            tuple(square(squares[row, column]) if (row, column) in squares else None for column in columns)
            for row in rows
        ),
        grouped,
    )


def _fewer(headings: Iterable[tuple[_Heading, int]]) -> Mapping[_Heading, _Heading]:
    """What each heading is shown as: where there are too many, those of the least weight as one of each kind."""
    heaviest: dict[_Heading, int] = {}
    for heading, weight in headings:
        heaviest[heading] = max(weight, heaviest.get(heading, weight))
    if len(heaviest) <= MOST:
        return {heading: heading for heading in heaviest}
    ordered = sorted(heaviest, key=lambda heading: (-heaviest[heading], heading))
    alone, rest = ordered[: MOST - len(_ORDER)], ordered[MOST - len(_ORDER) :]
    many = collections.Counter(kind for kind, *_ in rest)
    return {heading: heading for heading in alone} | {
        heading: (heading[0], True, f"{_REST[heading[0]]} ({many[heading[0]]} more)") for heading in rest
    }


def _heading(end: Endpoint, groups: Mapping[str, str], double: Set[tuple[str, str]]) -> _Heading:
    if end.id in groups:
        return _ORDER.index(end.kind), False, f"instances on {groups[end.id]}"
    label = end.label
    if end.kind in {"network", "instance"} and end.name and (end.kind, end.name) not in double:
        label = label.removesuffix(f" ({end.id[:8]})")
    return _ORDER.index(end.kind), False, label


def _square(records: Sequence[CellRecord]) -> Square:
    outcomes = {record.outcome for record in records}
    worst = next(outcome for outcome in _WORST if outcome in outcomes)
    ordered = sorted(records, key=lambda record: _WORST.index(record.outcome))
    return Square(worst, SYMBOLS[worst][0], _first([describe(record) for record in ordered[:SHOWN]], len(ordered)))


def _change(compared: Sequence[Compared]) -> Change:
    was, is_ = {each.before.outcome for each in compared}, {each.after.outcome for each in compared if each.after}
    ordered = sorted(compared, key=lambda each: _WORST_FATE.index(each.fate))
    changed = [each for each in ordered if each.fate not in QUIET]
    return Change(
        before=next(outcome for outcome in _WORST if outcome in was),
        after=next((outcome for outcome in _WORST if outcome in is_), None),
        fate=ordered[0].fate,
        cells=len(compared),
        lines=_first([_changed(each) for each in changed[:SHOWN_OF_CHANGE]], len(changed)),
    )


def _first(lines: Sequence[str], of: int) -> tuple[str, ...]:
    return (*lines, f"… and {of - len(lines)} more") if of > len(lines) else tuple(lines)


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
    if record.outcome is Outcome.SILENT:
        text += f"; {record.may_be_silent}"
    return f"{text} (from {last.vantage})" if last.vantage else text


def describe_change(compared: Compared) -> str:
    """A cell before and after, in one line, without its name: what was seen, what is seen, from where, and why it counts."""
    if compared.after is None:
        return f"{_seen(compared.before)} → {GONE} {compared.reason}".rstrip()
    text = f"{_seen(compared.before)} → {_seen(compared.after)}"
    last = compared.after.last
    if compared.reason and (last is None or compared.reason != last.detail):
        text += f"; {compared.reason}"
    return f"{text} (from {last.vantage})" if last and last.vantage else text


def _changed(compared: Compared) -> str:
    cell = compared.cell
    port = f" {cell.port}" if cell.port else ""
    return f"{FATES[compared.fate]} {cell.kind}{port} {cell.address}: {describe_change(compared)}"


def _seen(record: CellRecord) -> str:
    last = record.last
    symbol = SYMBOLS[record.outcome][0]
    if last is None:
        return symbol
    if last.rtt_avg is not None and record.outcome is Outcome.PASSED:
        symbol += f" {last.rtt_avg:.1f} ms"
    return f"{symbol} {last.detail}" if last.detail else symbol
