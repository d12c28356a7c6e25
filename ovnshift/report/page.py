"""Pages: the parts that stand above pytest-html's table of checks."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import markupsafe

from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import Outcome
from ovnshift.connectivity.comparison import Comparison
from ovnshift.connectivity.outage import Chapter, NotWatched, Outage
from ovnshift.journal import Entry
from ovnshift.names import printable
from ovnshift.report import window
from ovnshift.report.matrix import FATES, QUIET, SYMBOLS, describe, picture
from ovnshift.report.result import CheckResult, Verdict
from ovnshift.report.text import duration

__all__ = ["STYLE", "comparison", "duration", "finding", "matrix", "outages", "steps", "summary"]

STYLE = Path(__file__).with_name("templates") / "style.css"


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ovnshift.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _text(value: object) -> object:
    """What stands in a page: names and logs may have characters that no page can have."""
    return printable(value) if isinstance(value, str) and not isinstance(value, markupsafe.Markup) else value


def summary(verdict: Verdict, results: list[CheckResult], facts: dict[str, str]) -> str:
    """The verdict, what the run was about, and the findings with their remedies, as HTML."""
    return _environment().get_template("summary.html").render(verdict=verdict, results=results, facts=facts)


def matrix(baseline: Baseline, network_of: dict[str, str]) -> str:
    """The matrix of a baseline with its legend and its numbers, as HTML."""
    return (
        _environment()
        .get_template("matrix.html")
        .render(
            baseline=baseline,
            matrix=picture(baseline, network_of),
            counts=baseline.counts(),
            symbols=SYMBOLS,
            troubled=[
                (str(record.cell), describe(record))
                for record in baseline.with_outcome(Outcome.FAILED, Outcome.FLAPPING, Outcome.NOT_MEASURED)
            ],
        )
    )


def finding(result: CheckResult) -> str:
    """What a check found, for its row in the table, as HTML."""
    return _environment().get_template("finding.html").render(result=result)


def comparison(
    comparison: Comparison,
    before: Baseline,
    after: Baseline,
    network_of: dict[str, str],
    evidence: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> str:
    """What became of the cells: what got worse by its causes, then the matrix before and after in one picture, as HTML.

    Args:
        comparison: what became of each cell.
        before: the baseline.
        after: what was measured since.
        network_of: a label for each instance id.
        evidence: what was collected, titles with texts, by the cause of a group.
    """
    view = window.compared(comparison, before, after, network_of, evidence or {})
    marks = {fate: symbol for fate, symbol in FATES.items() if fate not in QUIET}
    return _environment().get_template("comparison.html").render(view=view, symbols=SYMBOLS, marks=marks)


def steps(entries: Sequence[Entry], now: datetime.datetime | None = None) -> str:
    """The runbook as done, chapter by chapter, as HTML.

    Args:
        entries: of the journal.
        now: to say how long those that have not ended have been going on.
    """
    return _environment().get_template("steps.html").render(view=window.steps(entries, now), few=window.FEW)


def outages(
    outages: Sequence[Outage],
    chapters: Sequence[Chapter],
    starved: Mapping[str, float],
    notes: Sequence[str],
    not_watched: Sequence[NotWatched] = (),
) -> str:
    """The outages: a timeline against the chapters, and a table, as HTML.

    Args:
        outages: of all targets.
        chapters: of the window.
        starved: the longest pause of the prober itself, by host, in seconds.
        notes: about the watching, for people.
        not_watched: times in which nobody watched from a host.
    """
    view = window.outages(outages, chapters, starved, notes, not_watched)
    return (
        _environment()
        .get_template("outages.html")
        .render(view=view, left=window.LEFT, right=window.RIGHT, width=window.WIDTH)
    )
