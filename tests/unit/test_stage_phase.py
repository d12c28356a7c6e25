from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ovnshift.deployments.openstack_ansible.directory import (
    ENV_NEUTRON,
    ENV_NOVA,
    INVENTORY,
    USER_CONFIG,
    USER_VARIABLES,
)
from tests.unit.osa.deploy_host import NAMES, after, before, deploy_host, install_generator
from tests.unit.test_window_phase import started

Done = subprocess.CompletedProcess[str]
RENAMED = 'rename_bridges = { br-vlan = "br-ex" }'


class Host:
    """A deploy host, and a copy of the project's entrance that writes its reports beside it."""

    def __init__(self, project: Path, root: Path) -> None:
        self._copy = root / "copy"
        self._copy.mkdir()
        for name in ("conftest.py", "pytest.ini"):
            shutil.copy(project / name, self._copy / name)
        for name in ("fixtures", "tests_stage", "tests_pre"):
            shutil.copytree(project / name, self._copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self._copy / "ovnshift").symlink_to(project / "ovnshift")
        self.deploy = root / "openstack_deploy"
        self.root = root
        self.site = deploy_host(root, options=RENAMED)
        self.reports = self._copy / "reports" / "rehearsal"

    def run(self, *arguments: str) -> Done:
        done = started(self._copy, "-p", "no:cacheprovider", f"--site={self.site}", "-m", "stage", *arguments)
        assert "INTERNALERROR" not in done.stdout, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        return done

    def files(self) -> dict[str, tuple[bytes, int]]:
        return {
            str(path.relative_to(self.deploy)): (path.read_bytes(), path.stat().st_mode)
            for path in sorted(self.deploy.rglob("*"))
            if path.is_file()
        }

    def texts(self) -> dict[str, str]:
        return {name: (self.deploy / name).read_text(encoding="utf-8") for name in NAMES}


@pytest.fixture
def host(project: Path, tmp_path: Path) -> Host:
    return Host(project, tmp_path)


AFTER = {name: after(name) for name in NAMES}


def words(done: Done) -> list[str]:
    return re.findall(r"^ *(ok|warn|FAIL|ERROR|block)   ", done.stdout, re.MULTILINE)


def test_a_plan_shows_every_difference_and_changes_nothing(host: Host) -> None:
    untouched = host.files()
    done = host.run("--plan")
    assert done.returncode == 0, done.stdout
    assert "PLANNED: nothing was changed" in done.stdout
    for shown in (
        "-neutron_plugin_type: ml2.lxb",
        "+neutron_plugin_type: ml2.ovn",
        '+        container_bridge: "br-ex"',
        "+    contains: {}",
        '-            "compute1",',
        '+  - name: "openvswitch"',
    ):
        assert f"      {shown}\n" in done.stdout
    assert "not for reports" not in done.stdout
    assert host.files() == untouched
    assert {path.name for path in host.reports.iterdir()} == {"stage-plan.html", "stage-plan.xml"}
    assert "<pre>--- " in (host.reports / "stage-plan.html").read_text(encoding="utf-8").replace("&lt;", "<").replace(
        "&gt;", ">"
    )


def test_files_are_staged_and_put_back(host: Host) -> None:
    untouched = host.files()
    done = host.run()
    assert done.returncode == 0, done.stdout
    assert "STAGED: the deployer's files say OVN" in done.stdout
    assert host.texts() == AFTER
    staged = host.files()
    assert {name: mode for name, (_, mode) in staged.items()} == {name: mode for name, (_, mode) in untouched.items()}
    again = host.run()
    assert again.returncode == 0, again.stdout
    assert again.stdout.count("says so already") == 6
    assert host.files() == staged
    planned = host.run("--rollback", "--plan")
    assert planned.returncode == 0, planned.stdout
    assert planned.stdout.count("staged; is put back") == 6
    assert host.files() == staged
    back = host.run("--rollback")
    assert back.returncode == 0, back.stdout
    assert "ROLLED BACK: every file is as it was" in back.stdout
    assert host.files() == untouched
    assert {path.name for path in host.reports.iterdir() if path.suffix == ".html"} == {
        "stage.html",
        "stage-rollback.html",
        "stage-rollback-plan.html",
    }
    report = (host.reports / "stage.html").read_text(encoding="utf-8")
    assert "STAGED" in report
    assert "not for reports" not in report


def test_files_that_were_made_are_taken_away_again(host: Host) -> None:
    for name in (ENV_NEUTRON, ENV_NOVA):
        (host.deploy / name).unlink()
    (host.deploy / "env.d").rmdir()
    untouched = host.files()
    assert host.run().returncode == 0
    assert (host.deploy / ENV_NOVA).exists()
    assert host.run("--rollback").returncode == 0
    assert host.files() == untouched
    assert not (host.deploy / "env.d").exists()


def test_the_generator_judges_a_copy_of_what_is_staged(host: Host) -> None:
    install_generator(host.root)
    done = host.run()
    assert done.returncode == 0, done.stdout
    assert "5 hosts and containers" in done.stdout
    assert host.texts() == AFTER
    assert words(done).count("warn") == 1, "only the remarks, as the generator was there"


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        (ENV_NOVA, "- nova_compute\n", "- no_such_component\n", "refuses what is staged: .*no_such_component"),
        (ENV_NOVA, "- compute_containers\n", "- ours\n", "neutron_ovn_controller lacks compute1"),
        (USER_CONFIG, "network_hosts: *", "network-northd_hosts: *", "neutron_ovn_northd has no hosts"),
    ],
)
def test_what_the_generator_refuses_is_not_written(host: Host, name: str, old: str, new: str, says: str) -> None:
    install_generator(host.root)
    (host.deploy / name).write_text(before(name).replace(old, new), encoding="utf-8")
    untouched = host.files()
    done = host.run()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert re.search(says, done.stdout), done.stdout
    assert "NOT STAGED" in done.stdout
    assert host.files() == untouched


def test_one_file_that_can_not_be_edited_keeps_all_from_being_written(host: Host) -> None:
    (host.deploy / USER_VARIABLES).write_text("neutron_plugin_type: ml2.ovs\n", encoding="utf-8")
    (host.deploy / ENV_NOVA).write_text("a: 1\na: 2\n", encoding="utf-8")
    untouched = host.files()
    done = host.run()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert f"{host.deploy}/user_variables.yml, line 1: neutron_plugin_type is ml2.ovs" in done.stdout
    assert f"{host.deploy}/env.d/nova.yml, line 2: has the key 'a' again" in done.stdout
    assert "2 of the files can't be edited; none was written" in done.stdout
    assert "block" in words(done)
    assert host.files() == untouched
    assert not (host.reports / "staging").exists()


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda host: shutil.rmtree(host.deploy), "openstack_deploy: is not there"),
        (lambda host: (host.deploy / INVENTORY).unlink(), "has no openstack_inventory.json"),
        (
            lambda host: (host.deploy / INVENTORY).write_text('{"_meta": {"hostvars": {"other1": {}}}}'),
            "2 of the network and compute hosts are not in OpenStack-Ansible's inventory",
        ),
        (
            lambda host: host.site.write_text(host.site.read_text().replace("openstack-ansible", "kolla-ansible")),
            "kind is kolla-ansible, which has no files to stage",
        ),
        (
            lambda host: (host.deploy / "user_more.yml").write_text("x: 1\nneutron_plugin_type: ml2.lxb\n"),
            "user_more.yml, line 2: neutron_plugin_type",
        ),
        (
            lambda host: (
                (host.deploy / ENV_NOVA).with_name("ours.yml").write_text("a:\n - neutron_linuxbridge_agent\n")
            ),
            "ours.yml, line 2: neutron_linuxbridge_agent",
        ),
        (
            lambda host: shutil.rmtree(host.root / "openstack-ansible"),
            "does not say which release of OpenStack-Ansible",
        ),
    ],
    ids=[
        "no directory",
        "no inventory",
        "another cloud",
        "another deployer",
        "variables elsewhere",
        "env.d elsewhere",
        "no release",
    ],
)
def test_the_wrong_host_is_refused(host: Host, break_it: object, says: str) -> None:
    assert callable(break_it)
    break_it(host)
    untouched = host.files()
    done = host.run()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert says in done.stdout
    assert host.files() == untouched


def test_a_file_that_somebody_changed_since_is_named(host: Host) -> None:
    assert host.run().returncode == 0
    path = host.deploy / USER_CONFIG
    path.write_text(path.read_text(encoding="utf-8") + "# theirs\n", encoding="utf-8")
    changed = host.files()
    for arguments in ((), ("--rollback",)):
        done = host.run(*arguments)
        assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
        assert f"{path}: " in done.stdout
        assert "changed by somebody since" in done.stdout
        assert host.files() == changed
    assert host.run("--rollback", "--conflicts=overwrite").returncode == 0
    assert host.texts() == {name: before(name) for name in NAMES}


def test_an_inventory_that_ansible_wrote_anew_is_no_obstacle(host: Host) -> None:
    assert host.run().returncode == 0
    path = host.deploy / INVENTORY
    path.write_text(re.sub(r"\[\s+\]", "[]", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert host.run().returncode == 0
    path.write_text(before(INVENTORY).replace("infra3", "infra4"), encoding="utf-8")
    done = host.run()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 of the staged files were changed by somebody since" in done.stdout


@pytest.mark.parametrize("arguments", [["-k", "nova"], ["tests_stage/openstack_ansible/test_2_files.py"]], ids=" ".join)
def test_a_part_of_it_is_refused(host: Host, arguments: list[str]) -> None:
    untouched = host.files()
    done = host.run(*arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "staging is run as a whole and in its order" in done.stdout
    assert host.files() == untouched


def test_the_mark_chooses_the_phase_and_the_default_stays(project: Path, tmp_path: Path) -> None:
    def listed(*arguments: str) -> set[str]:
        done = started(project, "--collect-only", "-q", "-p", "no:cacheprovider", *arguments)
        return {name.split("/")[0] for name in re.findall(r"^\S+::\S+", done.stdout, re.MULTILINE)}

    del tmp_path
    assert listed("-m", "stage") == {"tests_stage"}
    assert listed("tests_stage") == {"tests_stage"}
    assert listed() == {"tests_pre"}
