"""1 Look: whether this is the deploy host, and whether every file can be edited safely; before that nothing is written."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from ovnshift.deployments.openstack_ansible import generator
from ovnshift.deployments.openstack_ansible.directory import Directory, Plan
from ovnshift.deployments.openstack_ansible.release import Release
from ovnshift.deployments.staging import Staging, State
from ovnshift.site import Site

pytestmark = pytest.mark.stage


def test_this_is_the_deploy_host(directory: Directory, check: Check) -> None:
    """This machine has OpenStack-Ansible's files, and its inventory names the network and compute hosts of this cloud."""
    check.demand_none(
        directory.strangers(),
        "of the network and compute hosts are not in OpenStack-Ansible's inventory, so that this is another cloud's deploy host",
        remedy="run this on the deploy host of this cloud, or mend [groups] or deployment.directory in the site file",
    )
    check.note(str(directory.path))


def test_the_release_is_supported(release: Release, check: Check) -> None:
    """OpenStack-Ansible is of a release from Zed to 2024.2, whose names of groups and variables are known."""
    check.note(str(release))


def test_nobody_has_changed_what_was_staged(staging: Staging, check: Check) -> None:
    """What an earlier run staged for this change is as that run left it."""
    states = staging.states()
    changed = {path for path, state in states.items() if state is State.CHANGED}
    check.demand_none(
        [each for each in staging.drift() if each.partition(": ")[0] in changed],
        "of the staged files were changed by somebody since",
        remedy="take the change back by hand; or pytest -m stage --rollback --conflicts=overwrite, which keeps theirs beside "
        "the record, and stage anew",
    )
    check.note(f"{len(states)} files were staged before" if states else "nothing was staged before")


def test_every_file_can_be_edited(stage_plan: Plan, check: Check) -> None:
    """Every one of the six files is understood, and can be edited without touching anything else in it."""
    check.demand_none(
        stage_plan.refusals,
        "of the files can't be edited; none was written",
        remedy="each of them says what to do about it",
    )
    check.warn_of(stage_plan.remarks, "things to know before the window", remedy="see docs/openstack-ansible.md")
    check.note(
        f"{sum(change.needed for change in stage_plan.changes.values())} of {len(stage_plan.changes)} files have to change"
    )


def test_no_other_file_speaks_of_linuxbridge(directory: Directory, check: Check) -> None:
    """No other file of variables, groups or hosts sets what is staged, or binds anything to the LinuxBridge agents."""
    check.demand_none(
        directory.elsewhere(),
        "lines outside of the six files would undo what is staged",
        remedy="edit them by hand as docs/openstack-ansible.md shows, or move what they say into the six files",
    )


def test_the_generator_accepts_it(site: Site, directory: Directory, stage_plan: Plan, check: Check) -> None:
    """OpenStack-Ansible's own inventory generator, run on a copy, makes an inventory with chassis and without the old agents."""
    if generator.installed(site) is None:
        check.warn_of(
            [f"{site.deployment.checkout / generator.GENERATOR} is not there"],
            "thing could not be checked: what is staged was not run through the inventory generator",
            remedy="see deployment.checkout in the site file",
        )
        return
    found = generator.generated(site, directory, stage_plan.changes)
    check.demand_none(
        generator.problems(found, site),
        "things are wrong with the inventory that comes of it",
        remedy="see the groups in openstack_user_config.yml, conf.d and env.d; nothing was written",
    )
    check.note(f"{len(found['_meta']['hostvars'])} hosts and containers")
