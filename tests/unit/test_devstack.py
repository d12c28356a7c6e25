"""DevStack's entry, and what `ci/devstack` has for it. (DevStack itself is tried by its jobs.)"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ovnshift import site as sites
from ovnshift.deployments.deployer import deployer_of
from ovnshift.deployments.services import DEVSTACK

SCRIPTS = ("turn-to-ovn", "write-site", "furnish", "run-phases")


@pytest.fixture
def devstack(project: Path) -> Path:
    return project / "ci" / "devstack"


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_bash_that_parses_and_may_be_run(devstack: Path, name: str) -> None:
    script = devstack / name
    assert os.access(script, os.X_OK)
    assert run("bash", "-n", script).stderr == ""
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")


def localrc(devstack: Path) -> dict[str, str]:
    text = (devstack / "local.conf").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", text, re.MULTILINE))


def test_both_jobs_and_the_local_conf_ask_for_the_same_cloud(devstack: Path) -> None:
    job = next(
        each["job"] for each in yaml.safe_load((devstack / "zuul.yaml").read_text(encoding="utf-8")) if "job" in each
    )
    mine = localrc(devstack)
    for name, value in job["vars"]["devstack_localrc"].items():
        assert mine[name] == str(value), name
    services = job["vars"]["devstack_services"]
    text = (devstack / "local.conf").read_text(encoding="utf-8")
    for verb, wanted in (("enable", True), ("disable", False)):
        named = " ".join(re.findall(rf"^{verb}_service (.*)$", text, re.MULTILINE)).split()
        assert [name for name in named if services.get(name, wanted) is not wanted] == []
        assert {name for name, state in services.items() if state is wanted} <= set(named)
    for name in ("run", "post-run"):
        assert (devstack.parent.parent / job[name]).is_file()
    workflow = yaml.safe_load((devstack / "github-actions.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["migrate"]["steps"]
    assert any("ci/devstack/local.conf" in step.get("run", "") for step in steps)
    assert any("ci/devstack/run-phases" in step.get("run", "") for step in steps)


def test_the_site_file_that_is_written_loads(devstack: Path, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds with spaces.yaml"
    clouds.write_text("clouds: {devstack-admin: {}}\n", encoding="utf-8")
    done = run(
        devstack / "write-site",
        tmp_path / "site",
        CLOUDS_FILE=str(clouds),
        SERVICE_HOST="192.0.2.7",
    )
    assert done.returncode == 0, done.stderr
    site = sites.load(Path(done.stdout.strip()))
    assert len(site.hosts) == 1
    assert site.chassis == list(site.hosts)
    assert site.ovn.northbound == "tcp:192.0.2.7:6641"
    deployer = deployer_of(site)
    assert deployer.services is DEVSTACK
    assert [command.words for command in deployer.commands()] == [(str(devstack / "turn-to-ovn"),)]
    assert [command.words for command in deployer.undo_commands()] == [(str(devstack / "turn-to-ovn"), "--back")]
    login = tmp_path / "site" / "database.cnf"
    assert login.stat().st_mode & 0o077 == 0


def test_without_devstack_nothing_is_touched(devstack: Path, tmp_path: Path) -> None:
    done = run(devstack / "turn-to-ovn", DEVSTACK=str(tmp_path))
    assert done.returncode == 1
    assert f"there is no DevStack in {tmp_path}" in done.stderr
    done = run(devstack / "turn-to-ovn", "--bakc", DEVSTACK=str(tmp_path))
    assert done.returncode != 0
