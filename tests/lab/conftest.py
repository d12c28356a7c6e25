"""The lab that the tests bring up, and how they meet it: through the files that it writes for the suite, as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from lab import blueprint, host, paths
from tests.lab.machine_state import MachineState
from tests.lab.wires import wires

SITE = Path("/var/lib/ovnshift-lab/site")
LabCommand = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Lab:
    """The lab that is up."""

    command: LabCommand
    before: MachineState
    up_output: str
    site: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.site = tomllib.loads((SITE / "site.toml").read_text(encoding="utf-8"))

    def ssh(self, host: str, *command: str, timeout: float = 60, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command on a host over SSH, as the user that the site file's SSH configuration names."""
        return subprocess.run(
            ["ssh", "-F", self.site["ssh"]["config"], host, "--", *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def cloud(self, project: str = "") -> Connection:
        """Log in with the lab's clouds.yaml."""
        name = self.site["cloud"]["name"] + (f"-{project}" if project else "")
        config = OpenStackConfig(config_files=[self.site["cloud"]["clouds_file"]], load_envvars=False)
        return Connection(config=config.get_one(name))

    def namespace_of(self, network: str) -> str:
        """The DHCP namespace of a network."""
        found = self.cloud("demo").network.find_network(network, ignore_missing=False)
        return f"qdhcp-{found.id}"


def start_up_and_kill_it(hosts: int, seconds: float = 120) -> None:
    """Begin an ``up`` and kill it as soon as some hosts are there."""
    up = subprocess.Popen(
        [sys.executable, "-m", "lab", "up"], cwd=paths.PROJECT_ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + seconds
        while sum(host.leader(each) is not None for each in blueprint.HOSTS) < hosts:
            assert time.monotonic() < deadline, f"not {hosts} hosts came up within {seconds:.0f} s"
            assert up.poll() is None, "up ended"
            time.sleep(0.05)
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
        up.wait()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails is told with what the lab's wires look like: nobody can look at them afterwards."""
    report = yield
    if report.failed and item.get_closest_marker("lab") and Path("/sys/class/net", blueprint.LAB_VETH).exists():
        report.sections.append(("the tunnels' network", wires()))
    return report


# For whoever works on a test: use the lab that is up, and leave it up.
KEEP = os.environ.get("OVNSHIFT_TESTS_KEEP_LAB") == "1"


@pytest.fixture(scope="session")
def before(lab_command: LabCommand) -> MachineState:
    """The machine as it was without a lab; one that is up is taken down first, since these tests break it anyway."""
    if KEEP:
        return MachineState.now()
    result = lab_command("down")
    assert result.returncode == 0, result.stdout
    return MachineState.now()


@pytest.fixture(scope="session")
def lab(lab_command: LabCommand, before: MachineState, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab, up. Taken down at the end, whatever happened in between."""
    if KEEP and Path("/sys/class/net", blueprint.LAB_VETH).exists():
        # As it is: in the middle of a window nothing of what `up` waits for is there.
        yield Lab(lab_command, before, "")
        return
    try:
        yield Lab(lab_command, before, bring_up(lab_command, request))
    finally:
        if not KEEP:
            result = lab_command("down")
            assert result.returncode == 0, result.stdout


def bring_up(lab_command: LabCommand, request: pytest.FixtureRequest, *options: str) -> str:
    """Bring a lab up; what it says goes past pytest's capturing, since it takes a while."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write("\nbringing the lab up (the first time on a machine this takes about ten minutes)\n")
        sys.stdout.flush()
        result = lab_command("up", *options, timeout=1800)
        sys.stdout.write(result.stdout)
    assert result.returncode == 0, result.stdout
    return result.stdout
