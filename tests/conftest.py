"""What the suite's own tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def lab_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python -m lab …`` as a user would, with a bound on its time."""

    def run(*arguments: str, timeout: float = 900, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "lab", *arguments],
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        log = ROOT / "reports" / "lab-commands.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"$ python -m lab {' '.join(arguments)}\n{result.stdout}[exit {result.returncode}]\n\n")
        return result

    return run


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failure is told when it happens: the rest of the run takes half an hour."""
    if report.failed:
        sys.stderr.write(f"\n{report.nodeid} ({report.when})\n{report.longreprtext[-3000:]}\n")
