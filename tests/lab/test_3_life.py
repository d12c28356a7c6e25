"""The lab's life: twice up, two at once, a half-built one, bad luck, reboots."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from lab import blueprint, host, paths
from tests.lab.conftest import Lab, LabCommand, start_up_and_kill_it


def leaders() -> dict[str, int | None]:
    return {each.name: host.leader(each) for each in blueprint.HOSTS}


def test_a_second_up_changes_nothing(lab: Lab) -> None:
    before = leaders()
    result = lab.command("up")
    assert result.returncode == 0, result.stdout
    assert "0 of 6 to be started" in result.stdout
    assert leaders() == before


def test_a_second_command_beside_the_first_is_told_who_works(lab: Lab) -> None:
    with paths.LOCK.open("a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write("`python -m lab reset` (process 4711)")
        stream.flush()
        for command in ("up", "reset", "down"):
            result = lab.command(command, timeout=30)
            assert result.returncode == 1
            assert "`python -m lab reset` (process 4711)" in result.stdout
        stream.truncate(0)
    assert lab.command("status").returncode == 0


@pytest.mark.usefixtures("lab")
def test_another_checkout_is_told_whose_lab_it_is(lab_command: LabCommand, tmp_path: Path) -> None:
    other = other_checkout(tmp_path)
    result = lab_command("up", cwd=other, timeout=60)
    assert result.returncode == 1
    assert f"a lab that {paths.PROJECT_ROOT} built is on this machine" in result.stdout
    assert "python -m lab down" in result.stdout


def other_checkout(tmp_path: Path) -> Path:
    target = tmp_path / "other checkout"
    shutil.copytree(paths.PROJECT_ROOT / "lab", target / "lab")
    return target


def test_shell_runs_a_command_with_its_exit_code(lab: Lab) -> None:
    assert lab.command("shell", "compute2", "hostname").stdout == "compute2\n"
    assert lab.command("shell", "compute2", "sh", "-c", "exit 7").returncode == 7


def test_logs_show_a_unit_of_a_host(lab: Lab) -> None:
    result = lab.command("logs", "infra2", "neutron-l3-agent", "-n", "5")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) >= 5
    assert " infra2 " in result.stdout


@pytest.mark.parametrize("arguments", [("shell", "nosuch"), ("logs", "in;fra1"), ("explode",), ()])
def test_wrong_usage_says_what_there_is(lab: Lab, arguments: tuple[str, ...]) -> None:
    result = lab.command(*arguments, timeout=30)
    assert result.returncode == 2
    assert "usage:" in result.stdout


def test_status_names_what_is_wrong(lab: Lab) -> None:
    assert lab.ssh("compute1", "sudo systemctl stop nova-compute").returncode == 0
    try:
        result = lab.command("status")
        assert result.returncode == 1
        assert "on compute1: nova-compute inactive" in " ".join(result.stdout.split())
    finally:
        lab.ssh("compute1", "sudo systemctl start nova-compute")
    assert lab.command("status").returncode == 0


def test_a_host_that_reboots_comes_back_with_its_instances(lab: Lab) -> None:
    assert lab.ssh("compute2", "sudo touch /run/before-the-reboot").returncode == 0
    lab.ssh("compute2", "sudo systemctl reboot")

    def rebooted() -> bool:
        result = lab.ssh("compute2", "test ! -e /run/before-the-reboot && systemctl is-active sshd")
        return result.returncode == 0

    Retrying(retry=retry_if_result(lambda done: not done), stop=stop_after_delay(120), wait=wait_fixed(1))(rebooted)
    result = lab.command("up")
    assert result.returncode == 0, result.stdout
    assert "0 of 6 to be started" in result.stdout, "the host was not rebooted by itself"


def test_an_up_that_was_killed_is_finished_by_the_next(lab: Lab) -> None:
    assert lab.command("down").returncode == 0
    start_up_and_kill_it(hosts=1)
    # Worse than that: one host dies and another has lost its supervisor.
    host.stop([blueprint.HOSTS[1]], orderly=False)
    supervisor = host.supervisor(blueprint.HOSTS[4])
    if supervisor is not None:
        os.kill(supervisor, signal.SIGKILL)
    result = lab.command("up")
    assert result.returncode == 0, result.stdout
    assert json.loads(lab.command("status", "--json").stdout)["wrong"] == []
