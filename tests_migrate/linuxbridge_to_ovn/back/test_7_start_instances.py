"""Instances run again."""

from __future__ import annotations

import pytest

from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration import back
from ovnshift.migration.instances import EverythingAnswers
from ovnshift.migration.window import Window


@pytest.mark.goes_on
def test_instances_are_started(run: Run, window: Window, journal: Journal) -> None:
    """Every instance that ran before runs again, its ports ACTIVE and in their networks' bridges."""
    steps = back.started_again(window, journal)
    run(steps, what="of the instances", parallel=window.site.limits.parallel_instances)


@pytest.mark.goes_on
def test_agents_know_all_ends_of_tunnels(run: Run, window: Window) -> None:
    """Every host knows all others at the ends of its networks' tunnels: agents that start all at once lose some."""
    run(back.TunnelEnds(window))


@pytest.mark.goes_on
def test_everything_answers_again(run: Run, window: Window, journal: Journal) -> None:
    """Every instance and floating IP that answered before answers again: guests take a while to boot."""
    run([EverythingAnswers(window, back.START)] if back.started_again(window, journal) else [], what="of the addresses")
