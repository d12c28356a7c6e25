"""A pytest plugin that sets the clock of its own run when a step begins, as somebody or an NTP client would set the machine's.

``pytest -p tests.torture.stepping`` with ``OVNSHIFT_CLOCK`` in the environment, JSON: a list of ``[step, seconds]``. When the
first step begins whose id begins so, the clock is that much ahead of the machine's (behind it, where negative) from then on.
"""

from __future__ import annotations

import datetime
import json
import os
import threading
from typing import Any

import time_machine

from ovnshift.journal import Entry, Journal

VARIABLE = "OVNSHIFT_CLOCK"


class Stepper:
    """Sets the clock, each time at its step.

    Args:
        steps: the beginning of a step's id, and by how many seconds the clock is wrong from then on.
    """

    def __init__(self, steps: list[tuple[str, float]]) -> None:
        self._steps = steps
        self._lock = threading.Lock()
        self._travel: time_machine.travel | None = None

    def set(self, seconds: float) -> None:
        """Let the clock go on from another moment. Waits and durations, which don't go by it, are as before."""
        if self._travel is not None:
            self._travel.stop()
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        self._travel = time_machine.travel(moment, tick=True)
        self._travel.start()

    def arm(self) -> None:
        """Wrap what the journal is told."""
        intend = Journal.intend

        def intending(journal: Journal, step: str, *rest: Any) -> Entry:
            entry = intend(journal, step, *rest)
            with self._lock:
                mine = [each for each in self._steps if step.startswith(each[0])]
                self._steps = [each for each in self._steps if each not in mine]
                for _, seconds in mine:
                    self.set(seconds)
            return entry

        Journal.intend = intending  # type: ignore[method-assign, assignment]


def pytest_configure() -> None:
    """Arm it, if the environment says so."""
    if steps := os.environ.get(VARIABLE):
        Stepper([(step, float(seconds)) for step, seconds in json.loads(steps)]).arm()
