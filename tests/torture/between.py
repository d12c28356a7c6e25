"""A pytest plugin that kills its own run when a router has been taken from its agent, and before another one has it.

``pytest -p tests.torture.between``. Nothing is flushed, closed or told to anybody: as a power cut or ``kill -9`` would.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from ovnshift.cloud.topology import Agent
from ovnshift.evacuation.steps import MoveRouter


def _die(step: MoveRouter, agent: Agent) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(f"alive after a kill, with {step.title} and {agent.host}")


def pytest_configure() -> None:
    """In the place of what gives the router to an agent."""
    MoveRouter._add = _die  # type: ignore[method-assign, assignment]  # noqa: SLF001
