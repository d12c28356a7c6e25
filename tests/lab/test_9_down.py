"""``down`` gets back to a clean machine, whatever is left of the lab, and from whichever checkout."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from lab import blueprint, host, paths, processes, teardown
from tests.lab.conftest import Lab, LabCommand, start_up_and_kill_it
from tests.lab.machine_state import MachineState
from tests.lab.test_3_life import other_checkout


def assert_clean(before: MachineState) -> None:
    assert teardown.traces() == []
    assert before.differences(MachineState.now()) == []


def test_down_leaves_no_trace(lab: Lab) -> None:
    result = lab.command("down")
    assert result.returncode == 0, result.stdout
    assert_clean(lab.before)


def test_down_of_nothing_is_fine(lab: Lab) -> None:
    result = lab.command("down")
    assert result.returncode == 0
    assert "there is no lab on this machine" in result.stdout


def test_commands_that_need_a_lab_say_so(lab: Lab) -> None:
    for command in (("status",), ("reset",), ("shell", "infra1", "true"), ("logs", "infra1")):
        result = lab.command(*command)
        assert result.returncode == 1, command
        assert "python -m lab up" in result.stdout, command


def test_a_registry_that_fails_ends_with_what_to_do(lab: Lab, tmp_path: Path) -> None:
    result = lab.command(
        "up",
        OVNSHIFT_LAB_CACHE=str(tmp_path),
        http_proxy="http://127.0.0.1:9",
        https_proxy="http://127.0.0.1:9",
        timeout=300,
    )
    assert result.returncode == 1
    assert "`mmdebstrap" in result.stdout
    assert "if the package registry failed, run the same command again" in result.stdout
    assert lab.command("down").returncode == 0
    assert_clean(lab.before)


def test_another_checkout_removes_a_half_built_lab_whose_supervisors_were_killed(
    lab: Lab, lab_command: LabCommand, tmp_path: Path
) -> None:
    start_up_and_kill_it(hosts=2)
    for pid in processes.members():
        if "lab.supervisor" in processes.command_line(pid):
            os.kill(pid, signal.SIGKILL)
    result = lab_command("down", cwd=other_checkout(tmp_path))
    assert result.returncode == 0, result.stdout
    assert_clean(lab.before)


def test_down_does_without_its_record(lab: Lab) -> None:
    start_up_and_kill_it(hosts=1)
    paths.RECORD.write_text("{ rubbish", encoding="utf-8")
    for each in blueprint.HOSTS:
        (host.place(each) / "run.json").unlink(missing_ok=True)
    assert "down" in lab.command("status").stdout
    result = lab.command("down")
    assert result.returncode == 0, result.stdout
    assert_clean(lab.before)
