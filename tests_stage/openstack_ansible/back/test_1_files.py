"""1 Files: what was staged is put back, byte for byte, or taken away where it was not there."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.options import planning
from ovnshift.deployments.staging import Staging, State

pytestmark = pytest.mark.stage


def test_every_file_is_put_back(request: pytest.FixtureRequest, staging: Staging, check: Check) -> None:
    """Every file that was staged in this change is as it was, unless somebody has changed it since; then none is touched."""
    overwrite = request.config.getoption("conflicts") == "overwrite"
    if planning(request.config):
        for path, state in staging.states().items():
            check.note(f"{path}: {state}{'' if state is State.BEFORE else '; is put back'}")
        if not staging.states():
            check.note("nothing was staged in this change")
        return
    done = staging.undo(overwrite=overwrite)
    for path in done:
        check.note(path)
    if not done:
        check.note("nothing was staged in this change, or all of it is put back")
