"""Pages: the parts that stand above pytest-html's table of checks."""

from __future__ import annotations

from pathlib import Path

import jinja2

from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import Outcome
from ovnshift.report.matrix import SYMBOLS, describe, picture
from ovnshift.report.result import CheckResult, Verdict

STYLE = Path(__file__).with_name("templates") / "style.css"


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ovnshift.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


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
