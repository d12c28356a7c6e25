"""2 Files: each is kept as it is, then written whole; its difference is shown."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.options import planning
from fixtures.staging import StageFile
from ovnshift.deployments.openstack_ansible.directory import (
    ENV_NEUTRON,
    ENV_NOVA,
    INVENTORY,
    NETWORK_HOSTS,
    USER_CONFIG,
    USER_VARIABLES,
    Plan,
)
from ovnshift.deployments.staging import Staging

pytestmark = pytest.mark.stage


def test_all_files_are_kept_as_they_are(
    request: pytest.FixtureRequest, staging: Staging, stage_plan: Plan, check: Check
) -> None:
    """Every file that changes is copied, and written down with checksums, before the first of them is touched."""
    if not planning(request.config):
        staging.begin(list(stage_plan.changes.values()))
    for change in stage_plan.changes.values():
        if change.needed:
            check.note(f"{change.path}{'' if change.before is not None else ' (is made)'}")


def test_user_variables(stage_file: StageFile) -> None:
    """user_variables.yml chooses ML2/OVN, its router plugin and qos, and has geneve among the types of networks."""
    stage_file(USER_VARIABLES)


def test_group_vars_of_network_hosts(stage_file: StageFile) -> None:
    """group_vars/network_hosts has Open vSwitch's kernel module loaded."""
    stage_file(NETWORK_HOSTS)


def test_env_of_neutron(stage_file: StageFile) -> None:
    """env.d/neutron.yml has OVN's controller and northd, and an agents' container without agents."""
    stage_file(ENV_NEUTRON)


def test_env_of_nova(stage_file: StageFile) -> None:
    """env.d/nova.yml makes hypervisors OVN's chassis, without the LinuxBridge agent."""
    stage_file(ENV_NOVA)


def test_user_config(stage_file: StageFile) -> None:
    """openstack_user_config.yml has geneve in the place of vxlan, and provider networks bound to OVN's controllers."""
    stage_file(USER_CONFIG)


def test_inventory(stage_file: StageFile) -> None:
    """openstack_inventory.json has nobody in the groups of L3, DHCP, LinuxBridge and metadata agents any more."""
    stage_file(INVENTORY)
