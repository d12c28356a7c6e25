"""The window once more after a way back: disturbed in the middle of steps, killed, and carried on each time to the same end."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from lab import blueprint, conditions, host
from ovnshift.connectivity import outage
from ovnshift.journal import entries_of
from tests.lab.conftest import Lab
from tests.lab.phase_runs import REPORTS, PhaseRun, run_phase
from tests.lab.state import HOSTS, hosts_units
from tests.lab.test_6_window import SECONDS
from tests.torture import killer, saboteur, stepping

CHANGE = "tests-second-window"
AWAY_SECONDS = 60
Fault = tuple[str, str, tuple[str, ...]]


def later(seconds: int, *command: str) -> str:
    """A line of shell that has systemd run a command after a while."""
    return f"systemd-run --quiet --collect --on-active={seconds} --timer-property=AccuracySec=1s {' '.join(command)}"


def shell(line: str) -> tuple[str, ...]:
    return ("sh", "-c", line)


APIS = "keystone neutron-server rabbitmq-server"
APIS_AWAY = shell(f"{later(AWAY_SECONDS, 'systemctl', 'start', APIS)} && systemctl stop {APIS}")
# Three times, with three keys: none of those is left that tokens were made with.
TOKENS_EXPIRE = shell(
    "for number in 1 2 3; do keystone-manage fernet_rotate --keystone-user keystone --keystone-group keystone; done"
)
# As a power cut is: an orderly restart would let the step end first.
REBOOT = ("systemd-run", "--quiet", "--collect", "--no-block", "systemctl", "reboot", "--force", "--force")
CUT_SSH = shell("pkill -KILL -f '^sshd: ' || true")
HANG_SSH = shell(f"{later(20, 'pkill', '-CONT', '-x', 'sshd')} && pkill -STOP -x sshd")
# As soon as it is there.
KILL_SYNC = shell(
    "systemd-run --quiet --collect --property=RuntimeMaxSec=60 sh -c "
    "'until pkill -KILL -f [n]eutron-ovn-db-sync-util; do :; done'"
)
RESTART_CENTRAL = ("systemctl", "restart", "ovn-central", "ovn-ovsdb-server-nb", "ovn-ovsdb-server-sb")


def disturbed(monkeypatch: pytest.MonkeyPatch, *faults: Fault) -> PhaseRun:
    """The window, with something done to the lab when a step begins."""
    monkeypatch.setenv(saboteur.VARIABLE, json.dumps(faults))
    plugins = ("-p", "tests.torture.saboteur", "-p", "tests.torture.stepping")
    return run_phase("tests_migrate", *plugins, change=CHANGE, timeout=SECONDS)


def killed(monkeypatch: pytest.MonkeyPatch, **order: Any) -> PhaseRun:
    """The window, killed at a step; a moment after it has begun, unless the order says otherwise."""
    monkeypatch.setenv(killer.VARIABLE, json.dumps({"when": "during", "delay": 0.3, "alone": False, **order}))
    return run_phase("tests_migrate", "-p", "tests.torture.killer", change=CHANGE, own_group=True, timeout=SECONDS)


def first_failure(run: PhaseRun) -> tuple[str, str]:
    wrong = run.with_result("failed", "error")
    assert run.returncode == 1, run.summary
    for name, message in list(wrong.items())[1:]:
        assert "blocked by" in message, (name, message)
    return next(iter(wrong.items()))


MARK = "/tmp/ovnshift-tests-a-name-was-run"
HOSTILE = f"a'b\"c;`touch {MARK}`$(touch {MARK})<script>alert(1)</script> --x"


def name_hostile_things(lab: Lab) -> None:
    """An instance, a network, a router, a port and a security group get a name that means something to shells, SQL and HTML."""
    cloud = lab.cloud("demo")
    server = cloud.compute.find_server("vm-app2", ignore_missing=False)
    cloud.compute.update_server(server, name=HOSTILE)
    made = cloud.network.create_network(name=HOSTILE)
    subnet = cloud.network.create_subnet(name=HOSTILE, network_id=made.id, ip_version=4, cidr="10.77.0.0/24")
    router = cloud.network.create_router(name=HOSTILE)
    cloud.network.add_interface_to_router(router, subnet.id)
    group = cloud.network.create_security_group(name=HOSTILE)
    cloud.network.create_port(name=HOSTILE, network_id=made.id, security_group_ids=[group.id])


@pytest.fixture(scope="module")
def ready(lab: Lab) -> Path:
    """A LinuxBridge cloud with a fresh baseline."""
    kinds = {agent.agent_type for agent in lab.cloud().network.agents()}
    assert "Linux bridge agent" in kinds, "these tests come after the way back"
    name_hostile_things(lab)
    shutil.rmtree(REPORTS / CHANGE, ignore_errors=True)
    run = run_phase("-m", "pre", change=CHANGE)
    assert run.returncode == 0, run.summary
    return run.reports


def test_apis_that_are_away_and_tokens_that_expire_are_waited_for(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keystone, Neutron and RabbitMQ stop while routers are made plain; then a hypervisor restarts while it is cleaned."""
    run = disturbed(
        monkeypatch,
        ("3 networks/plain/", "infra1", APIS_AWAY),
        ("4 stop instances/", "infra1", TOKENS_EXPIRE),
        ("6 clean hosts/host/compute1", "compute1", REBOOT),
    )
    name, message = first_failure(run)
    assert name == "test_hosts_are_cleaned", (message, run.summary)
    assert "compute1" in message
    assert run.results["test_ha_routers_are_made_plain"][0] == "passed"
    assert run.results["test_instances_are_stopped"][0] == "passed"
    assert "does not answer; tried again for" in run.output
    assert ready.is_dir()


def blueprint_host(name: str) -> blueprint.Host:
    found = blueprint.host_named(name)
    assert found is not None
    return found


def until_up(name: str) -> None:
    found = blueprint_host(name)

    def answers() -> bool:
        return (
            host.leader(found) is not None
            and host.ask(found, "systemctl", "is-active", "--quiet", "ssh").returncode == 0
        )

    Retrying(retry=retry_if_result(lambda up: not up), stop=stop_after_delay(120), wait=wait_fixed(1))(answers)
    # The lab holds a hypervisor's nova-compute back after a start until it is told that the network is there; `up` does that.
    conditions.let_instances_start()


def test_connections_that_are_cut_while_the_playbook_runs(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready.is_dir()
    until_up("compute1")
    run = disturbed(
        monkeypatch, ("7 deploy OVN/playbook", "compute2", ("systemctl", "stop", "ssh.socket", "ssh.service"))
    )
    assert host.ask(blueprint_host("compute2"), "systemctl", "start", "ssh.service").returncode == 0
    name, message = first_failure(run)
    assert name == "test_ovn_is_deployed", message
    assert "compute2" in message
    assert "compute1 was started at" in run.output


def test_a_kill_while_the_playbook_runs(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run alone is killed: its playbook goes on without it for a while."""
    run = killed(monkeypatch, step="7 deploy OVN/playbook", delay=8, alone=True)
    assert run.returncode == -9, run.summary
    assert ready.is_dir()


def test_a_kill_after_rows_were_changed(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = killed(monkeypatch, step="8 database/rows", delay=0.05)
    assert run.returncode == -9, run.summary
    assert ready.is_dir()


def test_a_sync_that_is_killed_is_named(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = disturbed(monkeypatch, ("9 sync/repair", "infra1", KILL_SYNC))
    name, message = first_failure(run)
    assert name == "test_the_northbound_database_is_written", (message, run.summary)
    assert "ended with" in message
    assert ready.is_dir()


def test_it_comes_to_the_same_end(lab: Lab, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OVN's databases restart, a host hangs, connections are cut, tokens expire and the clock is set on the way."""
    monkeypatch.setenv(
        stepping.VARIABLE, json.dumps([["10 agents and left-overs/agents", 3600], ["11 start instances/", -1800]])
    )
    run = disturbed(
        monkeypatch,
        ("9 sync/api", "infra1", RESTART_CENTRAL),
        ("10 agents and left-overs/agents", "infra3", HANG_SSH),
        ("10 agents and left-overs/structure", "infra1", CUT_SSH),
        ("11 start instances/", "infra1", TOKENS_EXPIRE),
    )
    assert run.returncode == 0, run.summary
    ended = [entry.ended_at or "" for entry in entries_of(ready / "journal.sqlite")]
    assert any(later < earlier for earlier, later in itertools.pairwise(ended)), "the clock was not set"
    away = [each.seconds for each in outage.outages(outage.read(ready / "outages.jsonl"), ())]
    assert max(away) < SECONDS * 3, "an outage has the hours in it that the clock was set by"
    post = run_phase("tests_post", change=CHANGE, timeout=SECONDS)
    assert post.returncode == 0, post.summary
    content = json.loads((ready / "comparison.json").read_text(encoding="utf-8"))["content"]
    assert {cell["fate"] for cell in content["cells"]} == {"kept"}
    for name, units in hosts_units(lab).items():
        assert "ovn-controller.service" in units, name
        assert "neutron-linuxbridge-agent.service" not in units, name


def test_names_reach_no_shell_and_no_page_as_they_are(lab: Lab, ready: Path) -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in ready.glob("*.html")}
    assert {"pre.html", "migrate.html", "post.html"} <= set(pages)
    assert any("alert(1)" in page for page in pages.values())
    assert [name for name, page in pages.items() if "<script>alert(1)" in page] == []
    assert not Path(MARK).exists()
    for name in HOSTS:
        assert lab.ssh(name, f"sudo test ! -e {MARK}").returncode == 0, name
