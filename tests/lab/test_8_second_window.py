"""The window once more after a way back: disturbed in the middle of steps, killed, and carried on each time to the same end.

The cloud is laid out as OpenStack-Ansible does it now: staged, deployed by ``openstack-ansible`` from what was staged, reached
through its inventory.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from lab import blueprint, conditions, host, layout
from ovnshift.connectivity import outage
from ovnshift.journal import State, entries_of
from tests.lab import faults
from tests.lab.conftest import SITE, Lab
from tests.lab.faults import Fault, later, shell
from tests.lab.phase_runs import REPORTS, PhaseRun, run_phase
from tests.lab.state import HOSTS, hosts_units
from tests.lab.test_6_window import SECONDS
from tests.torture import killer, saboteur, stepping

CHANGE = "tests-second-window"
AWAY_SECONDS = 60
APIS = "keystone neutron-server rabbitmq-server"
APIS_AWAY = shell(f"{later(AWAY_SECONDS, 'systemctl', 'start', APIS)} && systemctl stop {APIS}")
# Three times, with three keys: none of those is left that tokens were made with.
TOKENS_EXPIRE = shell(
    "for number in 1 2 3; do keystone-manage fernet_rotate --keystone-user keystone --keystone-group keystone; done"
)
# As a power cut is: an orderly restart would let the step end first.
REBOOT = ("systemd-run", "--quiet", "--collect", "--no-block", "systemctl", "reboot", "--force", "--force")
# The database at once: rows are changed in less time than it takes to restart.
REBOOT_BEFORE_ROWS = shell(f"pkill -KILL -x mariadbd && {' '.join(REBOOT)}")
# As a playbook leaves it that was killed before its handlers ran: this one has told nova-compute there of OVN before.
CHANGED_BEFORE = ("touch", "/etc/nova/nova-compute.conf")
CUT_SSH = shell("pkill -KILL -f '^sshd: ' || true")
HANG_SSH = shell(f"{later(20, 'pkill', '-CONT', '-x', 'sshd')} && pkill -STOP -x sshd")
# As soon as it is there; and not what looks for its place.
KILL_SYNC = shell(
    "systemd-run --quiet --collect --property=RuntimeMaxSec=60 sh -c "
    "'until pkill -KILL -f \"python3 [^ ]*[n]eutron-ovn-db-sync-util\"; do :; done'"
)
RESTART_CENTRAL = ("systemctl", "restart", "ovn-central", "ovn-ovsdb-server-nb", "ovn-ovsdb-server-sb")


def disturbed(monkeypatch: pytest.MonkeyPatch, *done: Fault) -> PhaseRun:
    return faults.disturbed(monkeypatch, *done, change=CHANGE, timeout=SECONDS)


def killed(monkeypatch: pytest.MonkeyPatch, *options: str, **order: Any) -> PhaseRun:
    """The window, killed at a step; a moment after it has begun, unless the order says otherwise."""
    monkeypatch.setenv(killer.VARIABLE, json.dumps({"when": "during", "delay": 0.3, "alone": False, **order}))
    plugin = ("-p", "tests.torture.killer")
    return run_phase("tests_migrate", *plugin, *options, change=CHANGE, own_group=True, timeout=SECONDS)


def first_failure(run: PhaseRun) -> tuple[str, str]:
    wrong = run.with_result("failed", "error")
    assert run.returncode == 1, run.summary
    for name, message in list(wrong.items())[1:]:
        assert "blocked by" in message, (name, message)
    return next(iter(wrong.items()))


def lab_site() -> dict[str, Any]:
    """The site file as the lab writes it now."""
    return tomllib.loads((SITE / "site.toml").read_text(encoding="utf-8"))


MARK = "/tmp/ovnshift-tests-a-name-was-run"
HOSTILE = f"a'b\"c;`touch {MARK}`$(touch {MARK})<script>alert(1)</script> --x"

# Clears a terminal, and stands on it in a line of its own.
FORGED = "\x1b[2J\nREADY: forged"


def name_hostile_things(lab: Lab) -> None:
    """An instance, a network, a router, a port and a security group get a name that means something to shells, SQL and HTML.

    Nova takes no control characters in names; Neutron takes all.
    """
    cloud = lab.cloud("demo")
    server = cloud.compute.find_server("vm-app2", ignore_missing=False)
    cloud.compute.update_server(server, name=HOSTILE)
    name = f"{HOSTILE}{FORGED}"
    made = cloud.network.create_network(name=name)
    subnet = cloud.network.create_subnet(name=name, network_id=made.id, ip_version=4, cidr="10.77.0.0/24")
    router = cloud.network.create_router(name=name)
    cloud.network.add_interface_to_router(router, subnet.id)
    group = cloud.network.create_security_group(name=name)
    cloud.network.create_port(name=name, network_id=made.id, security_group_ids=[group.id])


def limit_what_the_sync_leaves_out(lab: Lab) -> None:
    """The external network gets a QoS policy, and floating IPs and gateways have it from there."""
    network = lab.cloud().network
    policy = network.create_qos_policy(name=f"{HOSTILE}{FORGED}", description="of the external network")
    for direction in ("egress", "ingress"):
        network.create_qos_bandwidth_limit_rule(policy.id, max_kbps=100_000, direction=direction)
    external = network.find_network(blueprint.FLOATING_NETWORK, ignore_missing=False)
    network.update_network(external.id, qos_policy_id=policy.id)


def deployers_files() -> dict[str, tuple[bytes, int]]:
    """What the deploy host's directory holds, with permissions."""
    return {
        str(path.relative_to(layout.DIRECTORY)): (path.read_bytes(), path.stat().st_mode)
        for path in sorted(layout.DIRECTORY.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def untouched(lab: Lab) -> dict[str, tuple[bytes, int]]:
    """The lab laid out as OpenStack-Ansible does it, and its files before anything is staged in them."""
    kinds = {agent.agent_type for agent in lab.cloud().network.agents()}
    assert "Linux bridge agent" in kinds, "these tests come after the way back"
    done = lab.command("up", "--layout", "openstack-ansible", timeout=600)
    assert done.returncode == 0, done.stdout
    return deployers_files()


@pytest.fixture(scope="module")
def ready(lab: Lab, untouched: dict[str, tuple[bytes, int]]) -> Path:
    """A LinuxBridge cloud with a fresh baseline, and the deployer's files staged."""
    assert untouched
    name_hostile_things(lab)
    limit_what_the_sync_leaves_out(lab)
    shutil.rmtree(REPORTS / CHANGE, ignore_errors=True)
    run = run_phase("-m", "stage", change=CHANGE)
    assert run.returncode == 0, run.summary
    run = run_phase("-m", "pre", change=CHANGE)
    assert run.returncode == 0, run.summary
    assert run.results["test_the_deployer_makes_the_chassis"][0] == "passed"
    assert "READY: forged" in run.output
    assert "\x1b" not in run.output
    assert [line for line in run.output.splitlines() if line.startswith("READY: forged")] == []
    return run.reports


def test_a_lab_goes_back_to_no_other_layout(lab: Lab, ready: Path) -> None:
    assert ready.is_dir()
    done = lab.command("up", "--layout", "packages")
    assert done.returncode == 1
    assert "laid out as openstack-ansible does it, not as packages" in done.stdout


def test_ansible_reaches_the_hosts_by_the_deployers_groups(ready: Path) -> None:
    """As the seed's author stopped his agents."""
    assert ready.is_dir()
    command = [str(layout.PROGRAMS / "ansible"), "network_hosts,compute_hosts", "-m", "shell"]
    done = subprocess.run(
        [*command, "-a", "ls /openstack/venvs/neutron-*/bin/neutron-ovn-db-sync-util"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(line.split()[0] for line in done.stdout.splitlines() if "CHANGED" in line) == sorted(HOSTS)


def test_a_file_that_was_changed_since_keeps_the_window_shut(ready: Path) -> None:
    """A line goes missing between staging and the window, and in the middle of the night somebody would wonder."""
    path = layout.DIRECTORY / "openstack_user_config.yml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('        network_interface: "eth2"\n', ""), encoding="utf-8")
    try:
        run = run_phase("tests_migrate", change=CHANGE, timeout=SECONDS)
    finally:
        path.write_text(text, encoding="utf-8")
    name, message = first_failure(run)
    assert name == "test_the_deployers_files_are_staged", (message, run.summary)
    assert str(path) in message
    assert '-        network_interface: "eth2"' in message
    assert not (ready / "backups" / "topology.json").exists()


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


def until_up(name: str, *units: str) -> None:
    """Wait until a host that has restarted lets people in, and runs these units."""
    found = blueprint_host(name)

    def answers() -> bool:
        return host.leader(found) is not None and all(
            host.ask(found, "systemctl", "is-active", "--quiet", unit).returncode == 0 for unit in ("ssh", *units)
        )

    Retrying(retry=retry_if_result(lambda up: not up), stop=stop_after_delay(180), wait=wait_fixed(1))(answers)
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


def test_a_controller_that_loses_power_before_rows_are_changed(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the database, Keystone and RabbitMQ on it; and with Neutron's server, which comes up by itself with OVN's driver."""
    run = disturbed(
        monkeypatch,
        ("7 deploy OVN/playbook", "compute1", CHANGED_BEFORE),
        ("8 database/rows", "infra1", REBOOT_BEFORE_ROWS),
    )
    assert "restarted, since its configuration was newer: nova-compute.service on compute1" in run.output
    name, message = first_failure(run)
    assert name == "test_rows_are_converted", (message, run.summary)
    assert "infra1" in message or "database" in message
    until_up("infra1", "mariadb", "rabbitmq-server", "keystone", "neutron-server")
    assert ready.is_dir()


def test_a_kill_while_rows_are_changed(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = killed(monkeypatch, step="8 database/rows", delay=0.05)
    assert run.returncode == -9, run.summary
    assert ready.is_dir()


def test_a_sync_that_is_killed_is_named(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = disturbed(monkeypatch, ("9 sync/repair", "infra1", KILL_SYNC))
    name, message = first_failure(run)
    assert name == "test_the_northbound_database_is_written", (message, run.summary)
    assert "ended with" in message
    assert ready.is_dir()


def test_a_kill_while_old_agents_are_listed_and_ovn_is_asked(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neutron with OVN's driver knows no routers of L3 agents, and says 404 when it is asked for them.

    OVN's databases restart before that, while Neutron's server starts.
    """
    monkeypatch.setenv(saboteur.VARIABLE, json.dumps([("9 sync/api", "infra1", RESTART_CENTRAL)]))
    run = killed(monkeypatch, "-p", "tests.torture.saboteur", step="9 sync/api", when="after")
    assert run.returncode == -9, run.summary
    assert ready.is_dir()


def test_it_comes_to_the_same_end(lab: Lab, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host hangs, connections are cut, tokens expire and the clock is set on the way."""
    monkeypatch.setenv(
        stepping.VARIABLE, json.dumps([["10 agents and left-overs/agents", 3600], ["11 start instances/", -1800]])
    )
    run = disturbed(
        monkeypatch,
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
        assert ("ovn-controller.service" in units) == (name in lab_site()["groups"]["chassis"]), name
        assert "neutron-linuxbridge-agent.service" not in units, name


def test_limits_that_the_sync_leaves_out_are_in_ovn(lab: Lab, ready: Path) -> None:
    (entry,) = [each for each in entries_of(ready / "journal.sqlite") if each.step.endswith("/limits")]
    assert entry.state is State.DONE, "the sync leaves nothing out any more: so much the better"
    network = lab.cloud().network
    wanted = {each.id for each in (*network.ips(), *network.routers()) if each.name != f"{HOSTILE}{FORGED}"}
    command = (
        "sudo",
        "ovn-nbctl",
        "--db=tcp:198.18.0.11:6641",
        "--format=json",
        "--columns=external_ids",
        "list",
        "QoS",
    )
    rows = json.loads(lab.ssh("infra1", *command).stdout)["data"]
    assert {value for ((_, ids),) in rows for _, value in ids} == wanted
    assert len(rows) == 2 * len(wanted), "each in both directions"


def test_runs_that_were_killed_leave_nothing_here(ready: Path) -> None:
    """Neither logins nor sockets; what cannot but be left by a run that is killed, the next one takes away."""
    assert ready.is_dir()
    assert list(Path("/tmp").glob("ovnshift-*")) == []


def test_names_reach_no_shell_and_no_page_as_they_are(lab: Lab, ready: Path) -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in ready.glob("*.html")}
    assert {"pre.html", "migrate.html", "post.html"} <= set(pages)
    assert any("alert(1)" in page for page in pages.values())
    assert [name for name, page in pages.items() if "<script>alert(1)" in page] == []
    assert not Path(MARK).exists()
    for name in HOSTS:
        assert lab.ssh(name, f"sudo test ! -e {MARK}").returncode == 0, name


def test_every_file_of_the_deployers_goes_back_byte_for_byte(
    ready: Path, untouched: dict[str, tuple[bytes, int]]
) -> None:
    """Though openstack-ansible has written its inventory anew meanwhile."""
    assert deployers_files() != untouched
    run = run_phase("-m", "stage", "--rollback", change=CHANGE)
    assert run.returncode == 0, run.summary
    assert deployers_files() == untouched
    assert ready.is_dir()
