"""A pytest plugin that kills its own run at an instant of a step, as a power cut or ``kill -9`` would.

``pytest -p tests.torture.killer`` with ``OVNSHIFT_KILL`` in the environment, JSON: ``step`` (its id in the journal), ``when``
("before" its intent is written, "during" it, "after" its outcome is written), ``delay`` (seconds into it, for "during") and
``alone`` (whether what the run has started lives on; else the whole process group is killed).
"""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

from ovnshift.journal import Entry, Journal

VARIABLE = "OVNSHIFT_KILL"


class Killer:
    """Ends this process at a step.

    Args:
        step: its id; with ``*`` at its end, the first whose id begins so.
        when: "before", "during" or "after".
        delay: seconds after its intent was written, for "during".
        alone: leave the processes that were started alive.
    """

    def __init__(self, step: str, when: str, delay: float, *, alone: bool) -> None:
        self._step = step
        self._when = when
        self._delay = delay
        self._alone = alone

    def _is_mine(self, step: str) -> bool:
        if self._step.endswith("*"):
            return step.startswith(self._step[:-1])
        return step == self._step

    def kill(self) -> None:
        """Nothing is flushed, closed or told to anybody."""
        if self._alone:
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    def arm(self) -> None:
        """Wrap what the journal is told."""
        intend, done, already = Journal.intend, Journal.done, Journal.already

        def intending(journal: Journal, step: str, *rest: Any) -> Entry:
            mine = self._is_mine(step)
            if mine and self._when == "before":
                self.kill()
            entry = intend(journal, step, *rest)
            if mine and self._when == "during":
                timer = threading.Timer(self._delay, self.kill)
                timer.daemon = True
                timer.start()
            return entry

        def having_done(journal: Journal, step: str, proof: Any) -> None:
            done(journal, step, proof)
            if self._is_mine(step) and self._when == "after":
                self.kill()

        def having_found(journal: Journal, step: str, chapter: str, title: str, proof: Any) -> None:
            if self._is_mine(step) and self._when == "before":
                self.kill()
            already(journal, step, chapter, title, proof)
            if self._is_mine(step) and self._when == "after":
                self.kill()

        Journal.intend = intending  # type: ignore[method-assign, assignment]
        Journal.done = having_done  # type: ignore[method-assign, assignment]
        Journal.already = having_found  # type: ignore[method-assign, assignment]


def pytest_configure() -> None:
    """Arm it, if the environment says so."""
    if order := os.environ.get(VARIABLE):
        values = json.loads(order)
        Killer(values["step"], values["when"], float(values["delay"]), alone=bool(values["alone"])).arm()
