"""2 Back up: what there is to go back to."""

from __future__ import annotations

from fixtures.evacuation import Emptied
from fixtures.window import Run
from ovnshift.evacuation.steps import KeepPlan
from ovnshift.migration.backups import KeepTopology
from ovnshift.migration.window import Window


def test_what_exists_is_kept(run: Run, window: Window) -> None:
    """The cloud's objects as they are, are kept: everything later is compared with them."""
    run(KeepTopology(window))


def test_the_plan_is_kept(run: Run, window: Window, emptied: Emptied) -> None:
    """Which router goes where is kept: a run that is interrupted carries on with that."""
    run(KeepPlan(window, emptied.evacuation))
