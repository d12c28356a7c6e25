from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovnshift.deployments import commands
from ovnshift.deployments.commands import DeploymentError
from ovnshift.deployments.deployer import deployer_of
from ovnshift.errors import OvnshiftError
from ovnshift.site import Site
from tests.unit import clouds

BOUND_SECONDS = 60.0
STOPPED_SECONDS = 10.0

Playbook = Callable[..., Site]


@pytest.fixture
def playbook(tmp_path: Path) -> Playbook:
    """A site whose deployer runs tasks on this very machine."""

    def write(tasks: str, *, hosts: int = 1, arguments: tuple[str, ...] = (), **limits: Any) -> Site:
        names = "\n".join(f"host{number:02}" for number in range(1, hosts + 1))
        inventory = tmp_path / "inventory.ini"
        inventory.write_text(
            f"[all]\n{names}\n[all:vars]\nansible_connection=local\nansible_python_interpreter={sys.executable}\n"
            f"ansible_remote_tmp={tmp_path}/remote\n",
            encoding="utf-8",
        )
        path = tmp_path / "playbook.yml"
        path.write_text(f"- name: Deploy\n  hosts: all\n  gather_facts: false\n  tasks:\n{tasks}", encoding="utf-8")
        return clouds.site(
            deployment={
                "kind": "packages",
                "inventory": inventory,
                "playbook": path,
                "command": [],
                "arguments": list(arguments),
            },
            limits={"deploy_seconds": BOUND_SECONDS, **limits},
        )

    return write


def deploy(site: Site, log: Path, home: Path, say: Callable[[str], None]) -> str:
    """What the window does."""
    return commands.run(deployer_of(site).commands(), site, log, home, say)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "evidence" / "deploy.log"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


def processes_with(marker: str) -> list[str]:
    """Command lines of this machine's processes that have it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if marker in words:
            found.append(words)
    return found


def waited_for(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_tasks_are_shown_as_they_come_and_all_of_it_is_kept(
    playbook: Playbook, tmp_path: Path, log: Path, home: Path
) -> None:
    site = playbook(
        f"""\
    - name: Write the größte file
      ansible.builtin.copy:
        dest: {tmp_path}/written
        content: "{{{{ word }}}}"
    - name: Say something
      ansible.builtin.debug:
        msg: in the log only
""",
        arguments=("--extra-vars", "word=deployed"),
    )
    log.parent.mkdir()
    log.write_text("what an earlier run said\n", encoding="utf-8")
    shown: list[tuple[str, bool]] = []
    recap = deploy(site, log, home, lambda line: shown.append((line, (tmp_path / "written").exists())))
    assert shown == [
        ("PLAY [Deploy]", False),
        ("TASK [Write the größte file]", False),
        ("changed: [host01]", True),
        ("TASK [Say something]", True),
        ("PLAY RECAP", True),
    ]
    assert (tmp_path / "written").read_text(encoding="utf-8") == "deployed"
    assert recap.startswith("host01 : ok=2 changed=1 unreachable=0 failed=0")
    kept = log.read_text(encoding="utf-8")
    assert kept.startswith("what an earlier run said\n")
    assert "in the log only" in kept
    assert "PLAY RECAP" in kept
    assert "\x1b" not in kept


def test_a_task_that_fails_is_told_with_its_message_and_the_log(
    playbook: Playbook, tmp_path: Path, log: Path, home: Path
) -> None:
    site = playbook(f"""\
    - name: Look at the disk
      ansible.builtin.fail:
        msg: no room on it
    - name: Never come here
      ansible.builtin.copy:
        dest: {tmp_path}/written
        content: too far
""")
    shown: list[str] = []
    with pytest.raises(DeploymentError) as caught:
        deploy(site, log, home, shown.append)
    assert caught.value.place == str(site.deployment.playbook)
    assert caught.value.problem.startswith("ended with 2: fatal: [host01]: FAILED!")
    assert "no room on it" in caught.value.problem
    assert str(log) in caught.value.next_step
    assert "run again as a whole" in caught.value.next_step
    assert not (tmp_path / "written").exists()
    assert [line[:30] for line in shown[:3]] == [
        "PLAY [Deploy]",
        "TASK [Look at the disk]",
        'fatal: [host01]: FAILED! => {"',
    ]
    assert "no room on it" in log.read_text(encoding="utf-8")


def test_a_playbook_that_ansible_does_not_understand_is_told(playbook: Playbook, log: Path, home: Path) -> None:
    site = playbook("    - name: Do what nobody can\n      no_such_module:\n")
    with pytest.raises(DeploymentError) as caught:
        deploy(site, log, home, print)
    assert "ERROR" in caught.value.problem
    assert "no_such_module" in caught.value.problem
    assert "no_such_module" in log.read_text(encoding="utf-8")


def test_among_many_hosts_the_one_that_failed_is_told(playbook: Playbook, log: Path, home: Path) -> None:
    site = playbook(
        """\
    - name: Look at the disk
      ansible.builtin.fail:
        msg: no room on it
      when: inventory_hostname == "host01"
""",
        hosts=45,
        arguments=("--forks", "2"),
    )
    with pytest.raises(DeploymentError, match=r"ended with 2: .*host01.*no room on it"):
        deploy(site, log, home, print)


HANGS = """\
    - name: Wait for what never comes
      ansible.builtin.wait_for:
        path: {tmp_path}/never
        timeout: 600
"""


def test_a_playbook_that_takes_too_long_is_stopped_and_nothing_of_it_is_left(
    playbook: Playbook, tmp_path: Path, log: Path, home: Path
) -> None:
    site = playbook(HANGS.format(tmp_path=tmp_path), deploy_seconds=8.0)
    seen: list[str] = []

    def say(line: str) -> None:
        if line.startswith("TASK"):
            # The task's own process, beside Ansible's: otherwise there would be nothing to be left.
            assert waited_for(lambda: [each for each in running() if "wait_for.py" in each], STOPPED_SECONDS)
            seen.extend(running())

    def running() -> list[str]:
        return processes_with(str(tmp_path))

    begun = time.monotonic()
    with pytest.raises(DeploymentError) as caught:
        deploy(site, log, home, say)
    took = time.monotonic() - begun
    assert any("ansible-playbook" in each for each in seen)
    assert any("wait_for.py" in each for each in seen)
    assert "was not done in 8 s and was stopped; last: " in caught.value.problem
    assert "TASK [Wait for what never comes]" in caught.value.problem
    assert str(log) in caught.value.next_step
    assert "limits.deploy_seconds" in caught.value.next_step
    assert took < 8.0 + STOPPED_SECONDS
    assert waited_for(lambda: not running(), STOPPED_SECONDS), running()


def test_a_run_that_is_killed_takes_its_playbook_along(
    playbook: Playbook, tmp_path: Path, log: Path, home: Path
) -> None:
    """Or it would go on beside the next run's, and talk to hosts that nobody looks after."""
    site = playbook(HANGS.format(tmp_path=tmp_path))

    def playbooks() -> list[str]:
        return [each for each in processes_with(str(tmp_path)) if "ansible-playbook" in each]

    child = os.fork()
    if child == 0:
        try:
            deploy(site, log, home, lambda _: None)
        finally:
            os._exit(1)
    try:
        assert waited_for(playbooks, BOUND_SECONDS)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert waited_for(lambda: not playbooks(), STOPPED_SECONDS), playbooks()


def test_whoever_looks_may_break_it_off_and_nothing_of_it_is_left(
    playbook: Playbook, tmp_path: Path, log: Path, home: Path
) -> None:
    site = playbook(HANGS.format(tmp_path=tmp_path))

    def interrupt(line: str) -> None:
        if line.startswith("TASK"):
            assert waited_for(lambda: any("wait_for.py" in each for each in running()), STOPPED_SECONDS)
            raise KeyboardInterrupt

    def running() -> list[str]:
        return processes_with(str(tmp_path))

    with pytest.raises(KeyboardInterrupt):
        deploy(site, log, home, interrupt)
    assert waited_for(lambda: not running(), STOPPED_SECONDS), running()


def unused(line: str) -> None:
    raise AssertionError(line)


def test_a_log_that_is_a_directory_is_told(playbook: Playbook, tmp_path: Path, log: Path, home: Path) -> None:
    site = playbook(HANGS.format(tmp_path=tmp_path))
    log.mkdir(parents=True)
    with pytest.raises(DeploymentError, match=r"deploy\.log: can't be written: Is a directory") as caught:
        deploy(site, log, home, unused)
    assert "run this again" in caught.value.next_step
    assert waited_for(lambda: not processes_with(str(tmp_path)), STOPPED_SECONDS)


def test_a_log_for_which_there_is_no_room_is_told(playbook: Playbook, home: Path) -> None:
    site = playbook("    - name: Say something\n      ansible.builtin.debug:\n        msg: nothing\n")
    with pytest.raises(DeploymentError, match="/dev/full: can't be written: No space left on device") as caught:
        deploy(site, Path("/dev/full"), home, print)
    assert "make room" in caught.value.next_step


def test_a_log_whose_directory_can_not_be_made_is_told(playbook: Playbook, tmp_path: Path, home: Path) -> None:
    site = playbook(HANGS.format(tmp_path=tmp_path))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OvnshiftError, match="file"):
        deploy(site, tmp_path / "file" / "deploy.log", home, unused)


def test_without_ansible_it_says_how_to_get_it(
    playbook: Playbook, tmp_path: Path, log: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = playbook(HANGS.format(tmp_path=tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeploymentError, match="ansible-playbook is not on this machine") as caught:
        deploy(site, log, home, unused)
    assert caught.value.next_step == "make setup installs it into .venv"


def test_a_site_that_can_not_be_reached_is_not_deployed(playbook: Playbook, tmp_path: Path, home: Path) -> None:
    site = playbook(HANGS.format(tmp_path=tmp_path))
    site = site.model_copy(update={"cloud": site.cloud.model_copy(update={"only_through": "nosuch0"})})
    with pytest.raises(OvnshiftError, match="reached through nosuch0 only"):
        deploy(site, tmp_path / "evidence" / "deploy.log", home, unused)
    assert not (tmp_path / "evidence").exists()


def test_no_name_of_a_playbook_is_taken_for_an_option(playbook: Playbook) -> None:
    site = playbook("", arguments=("--forks", "20"))
    inventory, path = str(site.deployment.inventory), str(site.deployment.playbook)
    (command,) = deployer_of(site).commands()
    assert command.words == ("ansible-playbook", "--inventory", inventory, "--forks", "20", "--", path)


def program(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "deploy ovn;"
    path.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


def commanded(*words: str | Path, **more: Any) -> Site:
    deployment = {"kind": "devstack", "command": [*map(str, words)], **more}
    return clouds.site(deployment=deployment, limits={"deploy_seconds": BOUND_SECONDS})


def test_a_program_of_the_operators_is_run_with_its_arguments_as_they_are(
    tmp_path: Path, log: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    path = program(tmp_path, 'echo "got $# [$1] ${VIRTUAL_ENV-none} ${PYTHONPATH-none}"\n')
    assert deploy(commanded(path, "a b; $(c)"), log, home, unused) == "deployment: 1 commands ended well"
    assert log.read_text(encoding="utf-8") == "got 1 [a b; $(c)] none none\n"


def test_a_program_that_fails_is_told_with_its_last_words(tmp_path: Path, log: Path, home: Path) -> None:
    path = program(tmp_path, "echo one; echo no room; exit 3\n")
    with pytest.raises(DeploymentError, match=r"ended with 3: one \| no room") as caught:
        deploy(commanded(path), log, home, unused)
    assert caught.value.place == str(path)


@pytest.mark.parametrize("how", ["the run is killed", "it takes too long"])
def test_what_a_wrapper_has_started_ends_with_it(tmp_path: Path, log: Path, home: Path, how: str) -> None:
    """As openstack-ansible starts ansible-playbook, and waits."""
    path = program(tmp_path, f"sh -c 'while :; do sleep 1; done' {tmp_path}/inner\necho never\n")
    site = commanded(path)

    def inner() -> list[str]:
        return [each for each in processes_with(f"{tmp_path}/inner") if "sleep 1" in each]

    if how == "it takes too long":
        site = site.model_copy(update={"limits": site.limits.model_copy(update={"deploy_seconds": 2.0})})
        with pytest.raises(DeploymentError, match="was not done in 2 s and was stopped"):
            deploy(site, log, home, unused)
    else:
        child = os.fork()
        if child == 0:
            try:
                deploy(site, log, home, lambda _: None)
            finally:
                os._exit(1)
        try:
            assert waited_for(inner, BOUND_SECONDS)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert waited_for(lambda: not inner(), STOPPED_SECONDS), inner()
    assert "never" not in log.read_text(encoding="utf-8")


def test_a_program_that_is_not_there_is_told(tmp_path: Path, log: Path, home: Path) -> None:
    site = commanded(tmp_path / "none")
    with pytest.raises(DeploymentError, match="none is not on this machine"):
        deployer_of(site).check(home)
    with pytest.raises(DeploymentError, match="none is not on this machine"):
        deploy(site, log, home, unused)
    path = tmp_path / "not to be run"
    path.write_text("", encoding="utf-8")
    with pytest.raises(DeploymentError, match="not to be run is not on this machine"):
        deployer_of(commanded(path)).check(home)


def test_the_way_back_has_a_program_of_its_own(tmp_path: Path) -> None:
    path = program(tmp_path, "")
    site = commanded(path, rollback_command=[str(path), "back"])
    assert [command.words for command in deployer_of(site).undo_commands()] == [(str(path), "back")]
    assert deployer_of(commanded(path)).undo_commands() == []


def test_another_program_is_another_deployment(tmp_path: Path) -> None:
    path = program(tmp_path, "one\n")
    before = deployer_of(commanded(path)).decides()
    program(tmp_path, "two\n")
    assert deployer_of(commanded(path)).decides() != before


def test_a_deployer_that_nobody_knows_is_refused() -> None:
    with pytest.raises(OvnshiftError, match=r"deployment\.kind kolla-ansible: its services are not known"):
        deployer_of(clouds.site(deployment={"kind": "kolla-ansible"}))
