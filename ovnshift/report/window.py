"""The window as it is shown: what became of the cells, the runbook as done, and the outages; each bounded in size."""

from __future__ import annotations

import collections
import datetime
import itertools
import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import CellRecord, Outcome
from ovnshift.connectivity.comparison import WORSE, Compared, Comparison, Fate
from ovnshift.connectivity.outage import Chapter, NotWatched, Outage
from ovnshift.journal import Entry, State
from ovnshift.report.matrix import FATES, Change, Matrix, describe, describe_change, picture_of_change
from ovnshift.report.text import Room, clock, duration, line, moment, without_secrets

Evidence = Mapping[str, Sequence[tuple[str, str]]]

# Bytes in the HTML. With all of it used, the three parts stay well below what a ticket takes.
ROOM_FOR_CELLS = 300_000
ROOM_FOR_EVIDENCE = 300_000
ROOM_FOR_STEPS = 300_000
# Bytes of a piece of evidence, of a problem, of a line that proves something, and of what was found before a step.
MOST_EVIDENCE = 20_000
MOST_PROBLEM = 4_000
MOST_PROOF = 400
MOST_FOUND = 2_000
MOST_LINE = 600
# Causes, cells of a cause or in a list, names of instances, steps of a chapter that went well, lines that prove one.
MOST_GROUPS = 40
MOST_CELLS = 200
MOST_NAMES = 100
MOST_QUIET = 200
MOST_PROOFS = 8
# Targets in the picture, outages in the table.
MOST_ROWS = 150
MOST_IN_TABLE = 600
# Outages shorter than this, in seconds, are shown to the millisecond.
SHORT = 60.0
# A list of more than this is folded.
FEW = 12
# Gaps of several hosts that begin and end within this of each other have one cause; shorter ones are not worth a line.
MOMENT = datetime.timedelta(seconds=2)

STATES = {
    State.DONE: ("✓", "done"),
    State.ALREADY: ("=", "was so already"),
    State.FAILED: ("✗", "failed"),
    State.INTENDED: ("?", "begun, nobody knows its end"),
    State.UNDONE: ("↶", "undone"),
}
TROUBLED = (State.FAILED, State.INTENDED)


def counted(number: int, one: str, many: str | None = None) -> str:
    """How many, as "1 cell" or "3,000 cells"."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


@dataclass(frozen=True)
class Listed:
    """The first lines of a list, and of how many; each with what it is and what is said of it."""

    lines: tuple[tuple[str, str], ...]
    of: int

    @property
    def more(self) -> int:
        return self.of - len(self.lines)


@dataclass(frozen=True)
class Cause:
    """Cells that got worse by one cause, with what was collected of it."""

    name: str
    share: str
    fates: str
    cells: Listed
    evidence: tuple[tuple[str, str], ...]
    open: bool


@dataclass(frozen=True)
class ComparedView:
    """A comparison, for its template."""

    good: bool
    said: str
    when: str
    causes: tuple[Cause, ...]
    causes_left: str
    evidence: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, Fate, int], ...]
    changes: tuple[tuple[str, Listed], ...]
    matrix: Matrix[Change]
    lists: tuple[tuple[str, Listed], ...]


def compared(
    comparison: Comparison, before: Baseline, after: Baseline, network_of: dict[str, str], evidence: Evidence
) -> ComparedView:
    """What a comparison says, for people."""
    room, evidence_room = Room(ROOM_FOR_CELLS), Room(ROOM_FOR_EVIDENCE)
    counts = comparison.counts()
    worse = sum(counts[fate] for fate in WORSE)
    causes = tuple(
        Cause(
            name=group.cause,
            share=group.share,
            fates="; ".join(filter(None, (_fates(group.cells), group.also))),
            cells=_cells(sorted(group.cells, key=lambda each: tuple(FATES).index(each.fate)), room),
            evidence=_pieces(evidence.get(group.cause, ()), evidence_room),
            open=len(group.cells) <= FEW,
        )
        for group in comparison.groups[:MOST_GROUPS]
    )
    left = comparison.groups[MOST_GROUPS:]
    named = {group.cause for group in comparison.groups}
    others = [piece for cause, pieces in evidence.items() if cause not in named for piece in pieces]
    known = {each.cell.id for each in comparison.cells}
    unheard = [
        record
        for record in after.cells
        if record.cell.id not in known and record.outcome not in {Outcome.PASSED, Outcome.SILENT}
    ]
    total = len(comparison.cells)
    if not total:
        said = "There is nothing to compare: the baseline has no cells."
    elif worse:
        said = f"{worse:,} of {counted(total, 'cell')} got worse, by {counted(len(comparison.groups), 'cause')}."
    elif counts[Fate.KEPT] + counts[Fate.STILL_SILENT] == total:
        said = f"No cell got worse: all {total:,} are as they were before."
    else:
        said = f"No cell got worse: {counts[Fate.KEPT]:,} of {total:,} are as they were before."
    return ComparedView(
        good=bool(total) and not worse,
        said=said,
        when=f"Before: {_span_of(before)}. After: {_span_of(after)}.",
        causes=causes,
        causes_left=""
        if not left
        else f"… and {counted(sum(len(group.cells) for group in left), 'cell')} by {counted(len(left), 'more cause')}.",
        evidence=_pieces(others, evidence_room),
        counts=tuple((symbol, fate, counts[fate]) for fate, symbol in FATES.items()),
        changes=tuple(
            (title, _plain(names, room, MOST_NAMES))
            for title, names in (
                ("Instances that are gone", comparison.gone),
                ("Instances that are new", comparison.new),
                ("Instances that moved to another hypervisor", comparison.moved),
                ("Instances that show another SSH host key", comparison.other_host_keys),
            )
            if names
        ),
        matrix=picture_of_change(comparison, network_of),
        lists=tuple(
            (title, listed)
            for title, listed in (
                ("no vantage: could be measured before, and not after", _of(comparison, Fate.NO_VANTAGE, room)),
                ("still failing: as before", _of(comparison, Fate.STILL_FAILING, room)),
                ("recovered: did not pass before, and does now", _of(comparison, Fate.RECOVERED, room)),
                ("not comparable", _of(comparison, Fate.NOT_COMPARABLE, room)),
                ("new since the baseline, and not passing", _new(unheard, room)),
                ("notes of the measurement after", _plain(after.notes, room, MOST_CELLS)),
            )
            if listed.of
        ),
    )


def _span_of(baseline: Baseline) -> str:
    begun, ended = moment(baseline.begun_at), moment(baseline.ended_at)
    sweeps = counted(baseline.sweeps, "sweep")
    return f"{begun:%Y-%m-%d} {clock(begun)} to {clock(ended, begun.date())} UTC, {sweeps}"


def _fates(cells: Iterable[Compared]) -> str:
    found = collections.Counter(each.fate for each in cells)
    return ", ".join(f"{found[fate]:,} {fate}" for fate in FATES if found[fate])


def _of(comparison: Comparison, fate: Fate, room: Room) -> Listed:
    return _cells(comparison.with_fate(fate), room)


def _cells(cells: Sequence[Compared], room: Room) -> Listed:
    return _listed(
        ((f"{FATES[each.fate]} {each.cell}", describe_change(each)) for each in cells), len(cells), room, MOST_CELLS
    )


def _new(records: Sequence[CellRecord], room: Room) -> Listed:
    return _listed(((str(each.cell), describe(each)) for each in records), len(records), room, MOST_CELLS)


def _plain(lines: Sequence[str], room: Room, most: int) -> Listed:
    return _listed(((each, "") for each in lines), len(lines), room, most)


def _listed(lines: Iterable[tuple[str, str]], of: int, room: Room, most: int) -> Listed:
    shown: list[tuple[str, str]] = []
    for what, said in itertools.islice(lines, most):
        taken = room.take(what, MOST_LINE), room.take(said, MOST_LINE)
        if taken[0] is None or taken[1] is None:
            break
        shown.append((taken[0], taken[1]))
    return Listed(tuple(shown), of)


def _pieces(pieces: Iterable[tuple[str, str]], room: Room) -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            line(title, MOST_LINE),
            room.take(text, MOST_EVIDENCE) or "not shown: the report would become too large",
        )
        for title, text in pieces
    )


@dataclass(frozen=True)
class StepRow:
    """A step as it is shown. ``found`` is JSON."""

    title: str
    state: State
    symbol: str
    word: str
    began: str
    took: str
    attempts: str
    problem: str
    proof: tuple[str, ...]
    found: str


@dataclass(frozen=True)
class ChapterOfSteps:
    """The steps of a chapter as they are shown; ``left`` says what is not."""

    name: str
    symbol: str
    said: str
    open: bool
    rows: tuple[StepRow, ...]
    left: str


@dataclass(frozen=True)
class StepsView:
    """A journal, for its template."""

    good: bool
    said: str
    chapters: tuple[ChapterOfSteps, ...]
    left_out: int


def steps(entries: Sequence[Entry], now: datetime.datetime | None) -> StepsView:
    """The runbook as done."""
    by_chapter: dict[str, list[Entry]] = collections.defaultdict(list)
    for entry in sorted(entries, key=lambda each: each.number):
        by_chapter[entry.chapter].append(entry)
    shown: dict[str, list[Entry]] = {}
    for chapter, mine in by_chapter.items():
        quiet = {entry.step for entry in mine if entry.state not in TROUBLED}
        quiet_shown = set(itertools.islice((entry.step for entry in mine if entry.step in quiet), MOST_QUIET))
        shown[chapter] = [entry for entry in mine if entry.step not in quiet or entry.step in quiet_shown]
    texts = _texts([entry for mine in shown.values() for entry in mine])
    counts = collections.Counter(entry.state for entry in entries)
    troubled = sum(counts[state] for state in TROUBLED)
    return StepsView(
        good=bool(entries) and not troubled,
        said=_steps_said(entries, counts, len(by_chapter), now),
        chapters=tuple(_chapter_of_steps(name, mine, shown[name], texts.of, now) for name, mine in by_chapter.items()),
        left_out=texts.left_out,
    )


@dataclass(frozen=True)
class _Texts:
    of: Mapping[str, tuple[str, tuple[str, ...], str]]
    left_out: int


def _texts(entries: Sequence[Entry]) -> _Texts:
    """Each step's problem, proof and what was found before it; problems take the room first, then proofs."""
    room = Room(ROOM_FOR_STEPS)
    problems = {
        entry.step: room.take(entry.problem, MOST_PROBLEM) or line(without_secrets(entry.problem[:1000]), 160)
        for entry in entries
        if entry.problem
    }
    proofs: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        lines = _lines_of(entry.proof)
        taken = (room.take(each, MOST_PROOF) for each in lines[:MOST_PROOFS])
        proofs[entry.step] = tuple(each for each in taken if each is not None)
        if len(lines) > MOST_PROOFS:
            proofs[entry.step] += (f"… and {len(lines) - MOST_PROOFS} more",)
    found = {
        entry.step: room.take(json.dumps(without_secrets(entry.found), indent=1, ensure_ascii=False), MOST_FOUND) or ""
        for entry in sorted(entries, key=lambda each: (each.state not in TROUBLED, each.number))
        if entry.found not in (None, [], {}, "")
    }
    return _Texts(
        {
            entry.step: (problems.get(entry.step, ""), proofs[entry.step], found.get(entry.step, ""))
            for entry in entries
        },
        room.left_out,
    )


def _lines_of(proof: Any) -> list[str]:
    if proof is None:
        return []
    lines = proof if isinstance(proof, list) else [proof]
    return [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in without_secrets(lines)]


def _steps_said(
    entries: Sequence[Entry], counts: Mapping[State, int], chapters: int, now: datetime.datetime | None
) -> str:
    if not entries:
        return "No step was begun: the journal of this change is empty."
    span = _span(entries, now)
    total = f"{counted(len(entries), 'step')} in {counted(chapters, 'chapter')}"
    in_all = f", {span}" if span else ""
    if counts[State.FAILED] or counts[State.INTENDED]:
        return f"Of {total}, {_states(counts)}{in_all}."
    if counts[State.UNDONE] == len(entries):
        return f"All of {total} {'is' if len(entries) == 1 else 'are'} undone{in_all}."
    return f"{total}: {_states(counts)}{in_all}."


def _states(counts: Mapping[State, int]) -> str:
    order = (State.FAILED, State.INTENDED, State.DONE, State.ALREADY, State.UNDONE)
    words = {
        State.FAILED: "failed",
        State.INTENDED: "begun with no known end",
        State.DONE: "done",
        State.ALREADY: "so already",
        State.UNDONE: "undone",
    }
    return ", ".join(f"{counts[state]:,} {words[state]}" for state in order if counts[state])


def _span(entries: Sequence[Entry], now: datetime.datetime | None) -> str:
    """From the first step's beginning to the last one's end, in words."""
    begun = min(moment(entry.begun_at) for entry in entries)
    ends = [moment(entry.ended_at) for entry in entries if entry.ended_at]
    if now is not None and len(ends) < len(entries):
        return f"{duration((now - begun).total_seconds())} so far, since {begun:%Y-%m-%d} {clock(begun)} UTC"
    if not ends:
        return f"since {begun:%Y-%m-%d} {clock(begun)} UTC"
    ended = max(ends)
    return (
        f"{duration((ended - begun).total_seconds())}, "
        f"{begun:%Y-%m-%d} {clock(begun)} to {clock(ended, begun.date())} UTC"
    )


def _chapter_of_steps(
    name: str,
    entries: Sequence[Entry],
    shown: Sequence[Entry],
    texts: Mapping[str, tuple[str, tuple[str, ...], str]],
    now: datetime.datetime | None,
) -> ChapterOfSteps:
    counts = collections.Counter(entry.state for entry in entries)
    left = collections.Counter(entry.state for entry in entries) - collections.Counter(entry.state for entry in shown)
    worst = next(state for state in (*TROUBLED, *STATES) if counts[state])
    day = moment(entries[0].begun_at).date()
    return ChapterOfSteps(
        name=name,
        symbol=STATES[worst][0],
        said=f"{counted(len(entries), 'step')}: {_states(counts)}; {_span(entries, now)}",
        open=any(counts[state] for state in TROUBLED),
        rows=tuple(_step_row(entry, day, *texts[entry.step], now) for entry in shown),
        left=f"… and {_states(left)} that are not listed here." if left else "",
    )


def _step_row(
    entry: Entry,
    day: datetime.date,
    problem: str,
    proof: tuple[str, ...],
    found: str,
    now: datetime.datetime | None,
) -> StepRow:
    begun = moment(entry.begun_at)
    ended = moment(entry.ended_at) if entry.ended_at else None
    symbol, word = STATES[entry.state]
    if entry.state is State.ALREADY:
        took = ""
    elif ended is not None:
        took = duration((ended - begun).total_seconds())
    else:
        took = f"{duration((now - begun).total_seconds())} so far" if now else "not known"
    return StepRow(
        title=entry.title,
        state=entry.state,
        symbol=symbol,
        word=word,
        began=clock(begun, day),
        took=took,
        # The time between attempts is in it too: only the first one's beginning is in the journal.
        attempts=f"{entry.attempts} attempts" if entry.attempts > 1 else "",
        problem=problem,
        proof=proof,
        found=found,
    )


WIDTH, LEFT, RIGHT = 1200, 250, 930
_NICE = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_KINDS = ("floating IP", "instance")
# Where in the picture a moment is.
_Place = Callable[[datetime.datetime], float]


@dataclass(frozen=True)
class Band:
    """A chapter in the picture."""

    name: str
    label: str
    said: str
    x: float
    width: float
    label_x: float
    label_y: float
    shaded: bool


@dataclass(frozen=True)
class Bar:
    """An outage in the picture."""

    x: float
    width: float
    back: bool
    said: str


@dataclass(frozen=True)
class TargetRow:
    """A target in the picture; one without bars is a heading."""

    y: float
    label: str
    name: str
    bars: tuple[Bar, ...]
    said: str
    back: bool


@dataclass(frozen=True)
class Picture:
    """The timeline in units of its view box; ``top`` is where its rows begin."""

    height: float
    top: float
    bottom: float
    row: float
    font: float
    bands: tuple[Band, ...]
    ticks: tuple[tuple[float, str], ...]
    rows: tuple[TargetRow, ...]


@dataclass(frozen=True)
class OutageRow:
    """An outage in the table."""

    target: str
    address: str
    lost: str
    lost_in: str
    back: str
    back_in: str
    length: str
    seconds: str
    is_back: bool


@dataclass(frozen=True)
class OutagesView:
    """Outages, for their template."""

    good: bool
    said: str
    day: str
    picture: Picture | None
    not_drawn: int
    rows: tuple[OutageRow, ...]
    not_listed: int
    chapters: tuple[tuple[str, str, str, str], ...]
    pauses: str
    notes: Listed
    gaps: Listed


@dataclass(frozen=True)
class _Target:
    kind: str
    label: str
    address: str
    outages: tuple[Outage, ...]

    @property
    def back(self) -> bool:
        return all(each.back_at for each in self.outages)

    @property
    def longest(self) -> float:
        return max(each.seconds for each in self.outages)


def gaps(not_watched: Sequence[NotWatched], day: datetime.date | None) -> list[str]:
    """A line for each time in which hosts were not watched from, those of one cause together.

    A run's end, and what it begins with, come to each host within moments of each other.
    """
    together: list[list[NotWatched]] = []
    for gap in sorted(not_watched, key=lambda each: (each.why, each.since)):
        last = together[-1][0] if together else None
        if (
            last
            and last.why == gap.why
            and all(
                abs(moment(one) - moment(other)) < MOMENT
                for one, other in ((last.since, gap.since), (last.until, gap.until))
            )
        ):
            together[-1].append(gap)
        elif gap.seconds >= MOMENT.total_seconds():
            together.append([gap])
    return [
        f"{clock(moment(first.since), day)} to {clock(moment(first.until), day)} UTC, {duration(first.seconds)}: {first.why} "
        f"({', '.join(sorted({each.host for each in group}))})"
        for group in sorted(together, key=lambda each: each[0].since)
        for first in group[:1]
    ]


def outages(
    found: Sequence[Outage],
    chapters: Sequence[Chapter],
    starved: Mapping[str, float],
    notes: Sequence[str],
    not_watched: Sequence[NotWatched] = (),
) -> OutagesView:
    """The outages against the chapters."""
    targets = _targets(found)
    worst = sorted(targets, key=lambda each: (each.back, -each.longest, each.label))
    moments = [moment(each.begun_at) for each in chapters] + [moment(each.ended_at) for each in chapters]
    moments += [moment(each.lost_at) for each in found] + [_until(each) for each in found]
    first, last = (min(moments), max(moments)) if moments else (None, None)
    day = first.date() if first else None
    table = [(target, outage) for target in worst for outage in target.outages]
    return OutagesView(
        good=all(each.back for each in targets),
        said=_outages_said(found, targets),
        day=f"{first:%Y-%m-%d}" if first else "",
        picture=_picture(_by_kind(worst[:MOST_ROWS]), chapters, first, last) if found and first and last else None,
        not_drawn=max(len(worst) - MOST_ROWS, 0),
        rows=tuple(_outage_row(target, outage, day) for target, outage in table[:MOST_IN_TABLE]),
        not_listed=max(len(table) - MOST_IN_TABLE, 0),
        chapters=tuple(
            (
                each.name,
                clock(moment(each.begun_at), day),
                clock(moment(each.ended_at), day),
                duration((moment(each.ended_at) - moment(each.begun_at)).total_seconds()),
            )
            for each in chapters
        ),
        pauses=", ".join(
            f"{host} {duration(seconds)}" for host, seconds in sorted(starved.items(), key=lambda each: -each[1])
        ),
        notes=_plain(notes, Room(50_000), MOST_CELLS),
        gaps=_plain(gaps(not_watched, day), Room(50_000), MOST_CELLS),
    )


def _until(outage: Outage) -> datetime.datetime:
    if outage.back_at:
        return moment(outage.back_at)
    return moment(outage.lost_at) + datetime.timedelta(seconds=max(outage.seconds, 0))


def _targets(found: Sequence[Outage]) -> list[_Target]:
    by_target: dict[tuple[str, str, str], list[Outage]] = collections.defaultdict(list)
    for each in found:
        by_target[each.target.kind, each.target.id, each.address].append(each)
    return [
        _Target(
            kind=mine[0].target.kind,
            label=mine[0].target.label,
            address=mine[0].address,
            outages=tuple(sorted(mine, key=lambda each: moment(each.lost_at))),
        )
        for mine in by_target.values()
    ]


def _by_kind(targets: Sequence[_Target]) -> list[tuple[str, list[_Target]]]:
    kinds = [*_KINDS, *sorted({each.kind for each in targets} - set(_KINDS))]
    grouped = [(kind, [each for each in targets if each.kind == kind]) for kind in kinds]
    return [(kind, mine) for kind, mine in grouped if mine]


def _outages_said(found: Sequence[Outage], targets: Sequence[_Target]) -> str:
    if not found:
        return "No outage was seen."
    lengths = [duration(each.seconds) for each in sorted(found, key=lambda each: each.seconds) if each.back_at]
    away = [target for target in targets if not target.back]
    came = "" if not lengths else lengths[0] if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]}"
    were = f"{counted(len(targets), 'target')} {'was' if len(targets) == 1 else 'were'} away"
    times = f", {len(found):,} times in all," if len(found) > len(targets) else ""
    if not away:
        return f"{were}{times} for {came}; 0 not back."
    seconds = max(target.outages[-1].seconds for target in away)
    not_back = f"{len(away):,} not back, away for {duration(seconds)} when watching ended"
    return f"{were}{times} for {came}; {not_back}." if came else f"{were}{times}; {not_back}."


def _outage_row(target: _Target, outage: Outage, day: datetime.date | None) -> OutageRow:
    return OutageRow(
        target=target.label,
        address=outage.address,
        lost=clock(moment(outage.lost_at), day),
        lost_in=outage.lost_in or "none",
        back=clock(moment(outage.back_at), day) if outage.back_at else "not back",
        back_in=(outage.back_in or "none") if outage.back_at else "",
        length=f"{duration(outage.seconds)}{'' if outage.back_at else ' so far'}",
        seconds=_exactly(outage),
        is_back=outage.back_at is not None,
    )


def _exactly(outage: Outage) -> str:
    """In seconds; a short one in milliseconds, since that is what is asked of it."""
    if outage.seconds < SHORT:
        return f"{outage.seconds:.3f} (up to {outage.error_seconds:.3f} less)"
    return f"{outage.seconds:.1f} (up to {outage.error_seconds:.1f} less)"


def _picture(
    groups: Sequence[tuple[str, Sequence[_Target]]],
    chapters: Sequence[Chapter],
    first: datetime.datetime,
    last: datetime.datetime,
) -> Picture:
    span = max((last - first).total_seconds(), 1.0)

    def at(when: datetime.datetime) -> float:
        return round(LEFT + (RIGHT - LEFT) * (when - first).total_seconds() / span, 1)

    day = first.date()
    bands, lanes = _bands(chapters, at, day)
    count = sum(len(targets) for _, targets in groups)
    row = round(min(max(1100 / max(count, 1), 9.5), 22), 1)
    font = round(min(row - 2, 12), 1)
    top = y = 8.0 + 16 * lanes
    rows: list[TargetRow] = []
    for kind, targets in groups:
        y += 18
        heading = f"{kind}s" if len(groups) > 1 or kind != "instance" else "instances"
        rows.append(TargetRow(round(y - 4, 1), heading, "", (), "", back=True))
        for target in targets:
            rows.append(
                TargetRow(
                    y=round(y, 1),
                    label=_fitted(_short(target), LEFT - 12, font),
                    name=f"{target.label}, {target.address}",
                    bars=tuple(_bar(target, each, at, day) for each in target.outages),
                    said=_row_said(target, day),
                    back=target.back,
                )
            )
            y += row
    step = next((each for each in _NICE if span / each <= 7), _NICE[-1])
    begin = first.timestamp() - first.timestamp() % step + step
    ticks = []
    while begin <= last.timestamp():
        when = datetime.datetime.fromtimestamp(begin, datetime.UTC)
        ticks.append((at(when), f"{when:%H:%M:%S}" if step < 60 else f"{when:%H:%M}"))
        begin += step
    bottom = round(y + 4, 1)
    return Picture(round(bottom + 22, 1), top, bottom, row, font, bands, tuple(ticks), tuple(rows))


def _short(target: _Target) -> str:
    """What a row under the heading of its kind is called."""
    label = target.label.removeprefix(f"{target.kind} ")
    return label if target.address in label else f"{label} {target.address}"


def _bar(target: _Target, outage: Outage, at: _Place, day: datetime.date) -> Bar:
    begin, end = at(moment(outage.lost_at)), at(_until(outage))
    return Bar(
        x=min(begin, RIGHT - 2),
        width=round(max(end - begin, 2), 1),
        back=outage.back_at is not None,
        said=f"{target.label}: {_outage_said(outage, day)}",
    )


def _outage_said(outage: Outage, day: datetime.date) -> str:
    lost = clock(moment(outage.lost_at), day)
    if outage.back_at is None:
        return f"{lost} → not back, {duration(outage.seconds)}"
    return f"{lost} → {clock(moment(outage.back_at), day)}, {duration(outage.seconds)}"


def _row_said(target: _Target, day: datetime.date) -> str:
    if len(target.outages) == 1:
        return _outage_said(target.outages[0], day)
    end = f"longest {duration(target.longest)}" if target.back else "not back"
    return f"{len(target.outages)} outages, {end}"


def _bands(chapters: Sequence[Chapter], at: _Place, day: datetime.date) -> tuple[tuple[Band, ...], int]:
    """Chapters with their names on as few lines as there are without one over another."""
    ends: list[float] = []
    places = []
    for each in chapters:
        label = _fitted(each.name, 180, 11)
        wide = _width(label, 11) + 10
        x = min(at(moment(each.begun_at)) + 3, RIGHT - wide)
        lane = next((number for number, end in enumerate(ends) if end <= x), len(ends))
        ends[lane : lane + 1] = [x + wide]
        places.append((each, label, x, lane))
    return tuple(
        Band(
            name=each.name,
            label=label,
            said=f"{each.name}: {clock(moment(each.begun_at), day)} to {clock(moment(each.ended_at), day)}",
            x=at(moment(each.begun_at)),
            width=round(max(at(moment(each.ended_at)) - at(moment(each.begun_at)), 1), 1),
            label_x=round(x, 1),
            label_y=14 + 16 * lane,
            shaded=number % 2 == 0,
        )
        for number, (each, label, x, lane) in enumerate(places)
    ), len(ends)


def _width(text: str, font: float) -> float:
    """About how wide a text is drawn."""
    return sum(font * (1.05 if unicodedata.east_asian_width(each) in "WF" else 0.58) for each in text)


def _fitted(text: str, width: float, font: float) -> str:
    text = line(text, 200)
    while text and _width(text, font) > width:
        text = f"{text[:-2]}…" if len(text) > 2 else ""
    return text
