"""11 Start instances: those that ran before."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.options import planning
from fixtures.window import Run
from ovnshift.connectivity import outage
from ovnshift.connectivity.outage import Monitor
from ovnshift.journal import Journal
from ovnshift.migration.instances import StartInstance, stopped_by_us
from ovnshift.migration.window import Window, outage_record, wait_until


def _away(window: Window) -> list[str]:
    """What answered when the window opened, and does not now."""
    lost = outage.outages(outage.read(outage_record(window.reports)), [])
    return [f"{each.target.label} at {each.address}" for each in lost if each.back_at is None]


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
def test_everything_answers_again(window: Window, monitor: Monitor | None, check: Check) -> None:
    """Every instance and floating IP that answered when the window opened answers again."""
    if monitor is None:
        check.note("watch until everything that answered before the window answers again")
        return
    wait_until(
        "everything answers again",
        window.site.limits.start_seconds,
        lambda: ", ".join(_away(window)) or None,
        remedy="pytest tests_post says what is wrong with them",
        every=2.0,
    )
    found = outage.outages(outage.read(outage_record(window.reports)), [])
    longest = max((each.seconds for each in found), default=0.0)
    check.note(f"{len(found)} outages, the longest {longest:.0f} s")
