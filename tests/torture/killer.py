"""A pytest plugin that kills its own run at an instant of a step, as a power cut or ``kill -9`` would.

``pytest -p tests.torture.killer`` with ``OVNSHIFT_KILL`` in the environment, JSON: ``step`` (its id in the journal), ``when``
("before" its intent is written, "during" it, "after" its outcome is written), ``delay`` (seconds into it, for "during"),
``alone`` (whether what the run has started lives on; else the whole process group is killed), and, so that no run gets past it,

- ``beside``: steps that are done side by side with it, and that wait until it has been killed,
- ``later``: steps at whose beginning it is killed at the latest,
- ``passed``: a file that is made when there was nothing left to do at that instant, and it was killed right after the step.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ovnshift.journal import Entry, Journal
from ovnshift.steps import Runner, Step

VARIABLE = "OVNSHIFT_KILL"
HELD_SECONDS = 900


class Killer:
    """Ends this process at a step.

    Args:
        step: its id; with ``*`` at its end, the first whose id begins so.
        when: "before", "during" or "after".
        delay: seconds after its intent was written, for "during".
        alone: leave the processes that were started alive.
        beside: ids of steps that wait for it.
        later: ids of steps before which it ends at the latest.
        passed: made when the instant did not come; where it is None, such a run goes on.
    """

    def __init__(
        self,
        step: str,
        when: str,
        delay: float,
        *,
        alone: bool,
        beside: Collection[str] = (),
        later: Collection[str] = (),
        passed: Path | None = None,
    ) -> None:
        self._step = step
        self._when = when
        self._delay = delay
        self._alone = alone
        self._beside = frozenset(beside)
        self._later = frozenset(later)
        self._passed = passed
        self._over = threading.Event()

    def _is_mine(self, step: str) -> bool:
        if self._step.endswith("*"):
            return step.startswith(self._step[:-1])
        return step == self._step

    def kill(self) -> None:
        """Nothing is flushed, closed or told to anybody."""
        if self._alone:
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    def _pass(self) -> None:
        if self._passed is not None:
            self._passed.touch()
            self.kill()

    def arm(self) -> None:
        """Wrap what does steps, and what the journal is told."""
        run, intend, done, already = Runner._run, Journal.intend, Journal.done, Journal.already  # noqa: SLF001

        def running(runner: Runner, step: Step) -> Entry | None:
            if step.id in self._later:
                self._pass()
            if step.id in self._beside:
                self._over.wait(HELD_SECONDS)
            mine = self._is_mine(step.id)
            try:
                entry = run(runner, step)
                if mine:
                    self._pass()
                return entry
            finally:
                # It failed: the others are done as ever, and the run ends with that.
                if mine:
                    self._over.set()

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

        Runner._run = running  # type: ignore[method-assign, assignment]  # noqa: SLF001
        Journal.intend = intending  # type: ignore[method-assign, assignment]
        Journal.done = having_done  # type: ignore[method-assign, assignment]
        Journal.already = having_found  # type: ignore[method-assign, assignment]


def pytest_configure() -> None:
    """Arm it, if the environment says so."""
    if order := os.environ.get(VARIABLE):
        values = json.loads(order)
        Killer(
            values["step"],
            values["when"],
            float(values["delay"]),
            alone=bool(values["alone"]),
            beside=values.get("beside", ()),
            later=values.get("later", ()),
            passed=Path(values["passed"]) if values.get("passed") else None,
        ).arm()
