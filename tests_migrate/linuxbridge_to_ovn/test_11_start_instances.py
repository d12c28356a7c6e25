"""11 Start instances: those that ran before."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.options import planning
from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration.instances import EverythingAnswers, StartInstance, stopped_by_us
from ovnshift.migration.window import Window


@pytest.mark.goes_on
def test_instances_are_started(
    run: Run, window: Window, journal: Journal, check: Check, request: pytest.FixtureRequest
) -> None:
    """Every instance that ran before runs again; its ports are up by Neutron and by OVN, on its own hypervisor."""
    steps = [StartInstance(window, entry.found["id"]) for entry in stopped_by_us(journal.entries())]
    if planning(request.config) and not steps:
        steps = [StartInstance(window, each.id) for each in window.before.instances if each.active]
    run(steps, what="of the instances", parallel=window.site.limits.parallel_instances)
    check.warn_of(
        [f"{step.title}: {retry}" for step in steps for retry in step.retries],
        "starts failed at first and passed by themselves",
        remedy="nothing; Nova is known for it on the first start after the change",
    )


@pytest.mark.goes_on
def test_everything_answers_again(run: Run, window: Window) -> None:
    """Every instance and floating IP that answered when the window opened answers again."""
    run(EverythingAnswers(window))
