"""3 Prove: the files as they are on disk now say all of it."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.options import planning
from ovnshift.deployments.openstack_ansible.directory import Directory
from ovnshift.deployments.openstack_ansible.release import Release
from ovnshift.deployments.staging import Staging

pytestmark = pytest.mark.stage


def test_nothing_is_left_to_stage(
    request: pytest.FixtureRequest, directory: Directory, release: Release, staging: Staging, check: Check
) -> None:
    """Read again, no file needs an edit, and each has the checksum that was written down."""
    if planning(request.config):
        check.note("looked at after the files are written")
        return
    again = directory.plan(release)
    check.demand_none(
        [*again.refusals, *(str(change.path) for change in again.changes.values() if change.needed), *staging.drift()],
        "of the files are not as they were staged",
        remedy="see who else writes to them, and run this again",
    )
