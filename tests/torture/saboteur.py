"""A pytest plugin that does something to the lab at the moment when a step of its own run begins.

``pytest -p tests.torture.saboteur`` with ``OVNSHIFT_FAULTS`` in the environment, JSON: a list of ``[step, host, command]``. The
first step whose id begins so has its intent in the journal when the command begins on that host, past SSH; each is done once.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from typing import Any

from lab import host
from lab.blueprint import host_named
from ovnshift.journal import Entry, Journal

VARIABLE = "OVNSHIFT_FAULTS"
FAULT_SECONDS = 60


class Saboteur:
    """Does its faults, each at its step.

    Args:
        faults: the beginning of the step's id, the host, and the command.
    """

    def __init__(self, faults: list[tuple[str, str, list[str]]]) -> None:
        self._faults = faults
        self._lock = threading.Lock()

    def arm(self) -> None:
        """Wrap what the journal is told."""
        intend = Journal.intend

        def intending(journal: Journal, step: str, *rest: Any) -> Entry:
            entry = intend(journal, step, *rest)
            with self._lock:
                mine = [fault for fault in self._faults if step.startswith(fault[0])]
                self._faults = [fault for fault in self._faults if fault not in mine]
            for _, name, command in mine:
                self._do(name, command)
            return entry

        Journal.intend = intending  # type: ignore[method-assign, assignment]

    @staticmethod
    def _do(name: str, command: list[str]) -> None:
        found = host_named(name)
        assert found is not None, name
        done = subprocess.run(
            host.inside(found, *command), capture_output=True, text=True, timeout=FAULT_SECONDS, check=False
        )
        assert done.returncode == 0, (name, command, done.stderr)


def pytest_configure() -> None:
    """Arm it, if the environment says so."""
    if faults := os.environ.get(VARIABLE):
        Saboteur([(step, name, list(command)) for step, name, command in json.loads(faults)]).arm()
