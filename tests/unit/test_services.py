from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ovnshift.cloud.topology import AGENT_OPENVSWITCH
from ovnshift.deployments import commands
from ovnshift.deployments.deployer import deployer_of, services_of
from ovnshift.deployments.services import DEVSTACK, OPENSTACK_ANSIBLE, PACKAGES, Services, find_tool, program_of
from ovnshift.errors import OvnshiftError
from ovnshift.hosts.openssh import Local
from ovnshift.site.models import Absent, Deployment
from tests.unit import clouds

EACH = [PACKAGES, OPENSTACK_ANSIBLE, DEVSTACK]


@pytest.mark.parametrize("services", EACH, ids=["packages", "openstack-ansible", "devstack"])
def test_every_unit_is_one_that_systemd_takes_and_stands_once(services: Services) -> None:
    named = [*services.agents, *services.api, *services.chassis, *services.switch, *services.central]
    assert all(re.fullmatch(r"(devstack@)?[a-z][a-z0-9-]*\.service", unit) for unit in named)
    assert len(named) == len(set(named))


def test_each_kind_of_the_site_file_is_known_or_said_not_to_be() -> None:
    kinds = Deployment.model_json_schema()["properties"]["kind"]["enum"]
    known = {}
    for kind in kinds:
        with contextlib.suppress(OvnshiftError):
            known[kind] = deployer_of(clouds.site(deployment={"kind": kind, "command": ["true"]})).services
    assert known == {"packages": PACKAGES, "openstack-ansible": OPENSTACK_ANSIBLE, "devstack": DEVSTACK}


@pytest.mark.parametrize("services", EACH, ids=["packages", "openstack-ansible", "devstack"])
def test_every_agents_unit_is_one_that_is_stopped_and_its_program_is_looked_for(services: Services) -> None:
    stopped = {unit: program_of(unit) for unit in services.agents}
    for kind, unit in services.of_agents.items():
        if kind != AGENT_OPENVSWITCH:
            assert stopped[unit] == PACKAGES.of_agents[kind].removesuffix(".service")
    assert program_of(services.api[0]) == "neutron-server"
    assert {"ovn-controller", "neutron-ovn-metadata-agent"} <= {program_of(unit) for unit in services.chassis}


def test_a_site_without_a_deployer_has_services_all_the_same() -> None:
    site = clouds.site()
    assert services_of(site) is DEVSTACK
    assert services_of(site.model_copy(update={"deployment": Absent("deployment")})) is PACKAGES


def test_a_tool_is_the_newest_of_those_that_are_there(tmp_path: Path) -> None:
    here = Local("here", sudo=False, seconds=30)
    glob = f"{tmp_path}/neutron-*/bin/a tool"
    (tmp_path / "neutron-30.0.0" / "bin").mkdir(parents=True)
    # Each is newer than those before it.
    for release in ("9.4.0", "28.4.0", "29.2.1.dev3", "29.2.1.dev12", "29.2.1", "29.10.0"):
        place = tmp_path / f"neutron-{release}" / "bin"
        place.mkdir(parents=True)
        (place / "a tool").touch()
        assert find_tool(here, [f"{tmp_path}/other-*/a tool", glob]) == f"{place}/a tool"
    assert find_tool(here, ["by-its-name", glob]) == "by-its-name"


def test_a_tool_that_is_nowhere_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(commands.DeploymentError, match="has none of"):
        find_tool(Local("here", sudo=False, seconds=30), [f"{tmp_path}/no-such-*/tool", "/no/such/directory/tool"])


def test_what_a_killed_run_left_for_ansible_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, mine = (tmp_path / f"{commands.HOME_PREFIX}{pid}-abc" for pid in (ended.pid, os.getpid()))
    (left / "tmp").mkdir(parents=True)
    mine.mkdir()
    with commands.ansible_home() as home:
        assert home.is_dir()
        assert not left.exists()
        assert mine.exists()
    assert not home.exists()
