"""What is done to the lab while a window runs, and the window that it is done to."""

from __future__ import annotations

import json

import pytest

from tests.lab.phase_runs import PhaseRun, run_phase
from tests.torture import saboteur

# The beginning of a step, a host, and the command that is run there when that step begins.
Fault = tuple[str, str, tuple[str, ...]]


def later(seconds: int, *command: str) -> str:
    """A line of shell that has systemd run a command after a while."""
    return f"systemd-run --quiet --collect --on-active={seconds} --timer-property=AccuracySec=1s {' '.join(command)}"


def shell(line: str) -> tuple[str, ...]:
    """A command for a fault."""
    return ("sh", "-c", line)


def disturbed(
    monkeypatch: pytest.MonkeyPatch, *faults: Fault, change: str, timeout: float, options: tuple[str, ...] = ()
) -> PhaseRun:
    """The window, with something done to the lab when a step begins."""
    monkeypatch.setenv(saboteur.VARIABLE, json.dumps(faults))
    plugins = ("-p", "tests.torture.saboteur", "-p", "tests.torture.stepping")
    return run_phase("tests_migrate", *plugins, *options, change=change, timeout=timeout)
