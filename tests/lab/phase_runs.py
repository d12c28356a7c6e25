"""Phases run as an operator runs them, and what their JUnit reports say."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from lab import paths
from lab.site import SITE_FILE

# Characters of a summary.
ROOM = 2000
REPORTS = paths.PROJECT_ROOT / "reports"


@dataclass(frozen=True)
class PhaseRun:
    """A phase that has ended. ``results``: name of the test → passed, failed or error, with the message."""

    returncode: int
    output: str
    reports: Path
    results: dict[str, tuple[str, str]]

    def with_result(self, *wanted: str) -> dict[str, str]:
        """Names and messages of the tests that ended so."""
        return {name: message for name, (result, message) in self.results.items() if result in wanted}

    @property
    def summary(self) -> str:
        """What went wrong, short enough to be read in a list of failures."""
        wrong = self.with_result("failed", "error", "skipped")
        if not wrong:
            return self.output[-ROOM:]
        first = [f"{name}: {message}" for name, message in wrong.items() if "blocked by" not in message]
        return "\n".join(each[: ROOM // 4] for each in first[:4])


def run_phase(*arguments: str, change: str, timeout: float = 400, own_group: bool = False) -> PhaseRun:
    """Run pytest with these arguments for a change, on the lab; in a process group of its own if it is to kill that."""
    phase = next((each for each in ("migrate", "post") if f"tests_{each}" in arguments), "pre")
    name = "rollback" if "--rollback" in arguments else phase
    if "stage" in arguments:
        name = "stage-rollback" if "--rollback" in arguments else "stage"
    if "--plan" in arguments:
        name = "plan" if name == "migrate" else f"{name}-plan"
    reports = REPORTS / change
    junit = reports / f"{name}.xml"
    junit.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", f"--site={SITE_FILE}", *arguments, f"--change={change}"],
        cwd=paths.PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
        start_new_session=own_group,
    )
    results = {}
    if junit.exists():
        for case in ET.parse(junit).iter("testcase"):  # noqa: S314, our own file
            found = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
            result = "passed" if found is None else {"failure": "failed"}.get(found.tag, found.tag)
            results[case.attrib["name"]] = (result, "" if found is None else f"{found.get('message')}\n{found.text}")
    return PhaseRun(done.returncode, done.stdout, reports, results)
