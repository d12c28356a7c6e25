"""Results of checks, and the verdict that they add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What a check said. An error says that it could not look; that is not the cloud's failure, and not success either."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    ERROR = "error"
    BLOCKED = "blocked"

    def of(self, number: int) -> str:
        """After a number: "1 warning", "2 warnings", "2 failed"."""
        return f"{self}s" if number > 1 and self in {Outcome.WARNING, Outcome.ERROR} else str(self)


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be: what, which objects, and what mends it."""

    what: str
    objects: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        lines = [self.what + (":" if self.objects else "")]
        lines += [f"  - {each}" for each in self.objects[:MOST]]
        if len(self.objects) > MOST:
            lines.append(f"  … and {len(self.objects) - MOST} more; the report has them all")
        return "\n".join([*lines, f"remedy: {self.remedy}"])


MOST = 15


class NotReady(AssertionError):
    """A check has failed: its finding has to be mended."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


@dataclass
class CheckResult:
    """One check. Seconds."""

    name: str
    title: str
    outcome: Outcome
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """Whether to go on, and why not."""

    good: bool
    headline: str
    reasons: tuple[str, ...]
    counts: Counter[Outcome]

    def __str__(self) -> str:
        return "\n".join([self.headline, *(f"  - {reason}" for reason in self.reasons)])


def verdict(results: Sequence[CheckResult], *, good: str, bad: str) -> Verdict:
    """What results add up to.

    Nothing checked is not good. A warning doesn't stand in the way.

    Args:
        results: of all checks that ran.
        good: the headline when nothing stands in the way ("Ready").
        bad: the headline otherwise.
    """
    counts = Counter(result.outcome for result in results)
    by_reason: dict[str, list[str]] = {}
    for result in results:
        if _stands_in_the_way(result):
            by_reason.setdefault(_why(result), []).append(result.title)
    # One cause, as an API that is down, stops many checks; it is one reason.
    reasons = [
        f"{titles[0]}: {why}" if len(titles) == 1 else f"{why} (this stopped {len(titles)} checks)"
        for why, titles in by_reason.items()
    ]
    if not results:
        reasons = ["nothing was checked"]
    headline = bad if reasons else good
    said = ", ".join(f"{counts[outcome]} {outcome.of(counts[outcome])}" for outcome in Outcome if counts[outcome])
    return Verdict(not reasons, f"{headline} ({said or 'no checks'})", tuple(reasons), counts)


def _stands_in_the_way(result: CheckResult) -> bool:
    return result.outcome in {Outcome.FAILED, Outcome.ERROR, Outcome.BLOCKED}


def _why(result: CheckResult) -> str:
    return "; ".join(finding.what for finding in result.findings) or "no reason was given"


def named(labels: Iterable[object]) -> tuple[str, ...]:
    """Objects as text, in an order that is the same each time."""
    return tuple(sorted(str(label) for label in labels))
