"""The window on the lab: planned, broken in many ways, carried on each time, and proved in the end."""

from __future__ import annotations

import configparser
import contextlib
import json
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from keystoneauth1.exceptions import ClientException
from openstack.connection import Connection
from openstack.exceptions import ConflictException, SDKException
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from lab import host
from lab.blueprint import host_named
from ovnshift import site as sites
from ovnshift.migration.guard import CloudLock
from tests.lab.conftest import SITE, Lab
from tests.lab.faults import disturbed, later, shell
from tests.lab.phase_runs import REPORTS, PhaseRun, run_phase
from tests.lab.state import api_state, dhcp_ports, hosts_units, steady_rows
from tests.lab.test_2_pre import changed_site

CHANGE = "tests-window"
SECONDS = 900
FULL = "ovnshift-tests-full"
# The lab as it was before the window, for the tests of the way back.
STATE = REPORTS / CHANGE / "state-before.json"
# An agent that comes to a router only after a while, as one with hundreds of them does.
BUSY = "systemctl kill --kill-whom=main --signal"
BUSY_AGENT = shell(f"{later(12, BUSY, 'CONT', 'neutron-l3-agent')} && {BUSY} STOP neutron-l3-agent")
# Of MariaDB's tables those that agents and services write to all the time.
LIVELY = {"agents", "standardattributes", "ovn_hash_ring", "ml2_vxlan_endpoints", "ha_router_agent_port_bindings"}


def migrate(*options: str) -> PhaseRun:
    return run_phase("tests_migrate", *options, change=CHANGE, timeout=SECONDS)


def inside(name: str, *command: str, stdin: str = "") -> str:
    """Run a command on a host by the way that does not need its SSH."""
    found = host_named(name)
    assert found is not None
    done = subprocess.run(
        host.inside(found, *command), input=stdin, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def only(run: PhaseRun, name: str) -> str:
    """What the one step said that did not succeed; all later ones are blocked by it."""
    wrong = run.with_result("failed", "error")
    first = next(iter(wrong))
    assert first == name, (first, wrong[first], run.summary)
    for step, message in list(wrong.items())[1:]:
        assert "blocked by" in message, (step, message)
    assert run.returncode == 1
    assert "NOT MIGRATED" in run.output
    return wrong[first]


@pytest.fixture(scope="module")
def prepared(lab: Lab) -> PhaseRun:
    shutil.rmtree(REPORTS / CHANGE, ignore_errors=True)
    assert lab.site
    run = run_phase("-m", "pre", change=CHANGE)
    assert run.returncode == 0, run.summary
    state = {"rows": steady_rows(lab), "hosts": hosts_units(lab), "dhcp": dhcp_ports(lab)}
    STATE.write_text(json.dumps(state), encoding="utf-8")
    STATE.chmod(0o600)
    return run


def database(lab: Lab) -> dict[str, str]:
    """Checksums of Neutron's tables, but those that change by themselves."""
    names = lab.ssh("infra1", "sudo mariadb -N", stdin="SHOW TABLES FROM neutron").stdout.split()
    steady = [name for name in names if name not in LIVELY]
    lines = lab.ssh(
        "infra1", "sudo mariadb -N", stdin=f"CHECKSUM TABLE {', '.join(f'neutron.{name}' for name in steady)}"
    )
    return dict(line.split("\t") for line in lines.stdout.splitlines())


def hosts_state(lab: Lab) -> dict[str, str]:
    """What of Neutron and OVN runs and is configured on the hosts."""
    script = (
        "ip netns list | cut -d' ' -f1 | sort; ip -br link | awk '{print $1}' | sort; "
        "systemctl list-units --plain --no-legend --state=active 'neutron*' 'ovn*' 'openvswitch*' 'nova*' | awk '{print $1}'; "
        "sudo find /etc/neutron /etc/nova /etc/default -type f -exec sha256sum {} + | sort -k2"
    )
    return {name: lab.ssh(name, script).stdout for name in ("infra1", "infra2", "infra3", "compute1", "compute2")}


def test_a_plan_shows_all_and_changes_nothing(lab: Lab, prepared: PhaseRun) -> None:
    assert prepared.returncode == 0
    state = database(lab), hosts_state(lab), api_state(lab)
    assert len(state[0]) > 100
    run = migrate("--plan")
    assert (database(lab), hosts_state(lab), api_state(lab)) == state
    assert run.returncode == 0, run.summary
    assert "PLANNED: nothing was changed" in run.output
    for word in (
        "openstack network set --mtu 1442",
        "openstack router set --no-ha",
        "openstack server stop",
        "compute2: systemctl disable --now neutron-linuxbridge-agent.service",
        "infra1: systemctl stop neutron-server.service",
        "ip netns delete qdhcp-",
        "ansible-playbook --inventory",
        "vif_type: bridge → ovs",
        "driver: linuxbridge → ovn",
        "network_type: vxlan → geneve",
        "--ovn-neutron_sync_mode repair",
        "openstack network agent delete",
        "openstack server start",
    ):
        assert word in run.output, word
    rows = (run.reports / "evidence" / "rows-planned.txt").read_text(encoding="utf-8").splitlines()
    assert len(rows) > 80
    assert not (run.reports / "backups" / "topology.json").exists()
    assert (run.reports / "plan.html").stat().st_size < 2_000_000


def test_without_a_baseline_the_window_stays_shut(lab: Lab) -> None:
    state = database(lab), api_state(lab)
    run = run_phase("tests_migrate", change=f"{CHANGE}-none", timeout=SECONDS)
    shutil.rmtree(run.reports)
    assert run.returncode == 1
    found = run.with_result("failed", "error")
    assert "record it anew" in found["test_the_baseline_is_of_this_cloud_and_fresh"]
    assert all(
        "blocked by" in each for name, each in found.items() if name != "test_the_baseline_is_of_this_cloud_and_fresh"
    )
    assert (database(lab), api_state(lab)) == state


def test_a_second_run_at_the_same_time_is_refused(prepared: PhaseRun) -> None:
    assert prepared.returncode == 0
    with CloudLock(sites.load(SITE / "site.toml")):
        run = migrate()
    assert run.returncode == 1
    assert "is being migrated from" in run.output
    assert not (run.reports / "backups" / "topology.json").exists()


@pytest.fixture(scope="module")
def full_subnet(lab: Lab, prepared: PhaseRun) -> Iterator[Callable[[], None]]:
    """A subnet without a free address, made after the readiness checks: OVN's metadata port finds no place in it."""
    assert prepared.returncode == 0
    network = lab.cloud().network
    for old in network.networks(name=FULL):
        remove(lab.cloud(), old.id)
    made = network.create_network(name=FULL)
    subnet = network.create_subnet(name=FULL, network_id=made.id, ip_version=4, cidr="10.99.99.0/29")

    def fill() -> list[str]:
        used = {fixed["ip_address"] for port in network.ports(network_id=made.id) for fixed in port.fixed_ips}
        wanted = {f"10.99.99.{number}" for number in range(2, 7)}
        for address in wanted - used:
            # The DHCP agents take theirs meanwhile.
            with contextlib.suppress(ConflictException):
                network.create_port(
                    name=FULL, network_id=made.id, fixed_ips=[{"subnet_id": subnet.id, "ip_address": address}]
                )
        return sorted(wanted - used)

    Retrying(retry=retry_if_result(bool), stop=stop_after_delay(60), wait=wait_fixed(1))(fill)

    def make_room() -> None:
        mine = [port for port in network.ports(network_id=made.id) if port.name == FULL]
        for port in mine:
            network.delete_port(port.id)

    yield make_room
    remove(lab.cloud(), made.id)


def remove(cloud: Connection, network_id: str) -> None:
    for port in list(cloud.network.ports(network_id=network_id)):
        if not port.device_owner.startswith("network:"):
            cloud.network.delete_port(port.id)
    cloud.network.delete_network(network_id)


def test_a_playbook_that_fails_on_one_host_is_named(
    prepared: PhaseRun, full_subnet: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, an L3 agent has other things to do while a router is made plain."""
    assert prepared.returncode == 0
    assert callable(full_subnet)
    playbook = tmp_path / "fails.yml"
    task = {
        "name": "Does not work",
        "ansible.builtin.fail": {"msg": "no such package here"},
        "when": "inventory_hostname == 'compute2'",
    }
    playbook.write_text(
        json.dumps([{"hosts": "compute_hosts", "gather_facts": False, "tasks": [task]}]), encoding="utf-8"
    )
    original = re.search(r'playbook = "(.*)"', (SITE / "site.toml").read_text(encoding="utf-8"))
    assert original
    site = changed_site(tmp_path, (original[1], str(playbook)))
    run = disturbed(
        monkeypatch,
        ("3 networks/plain/", "infra1", BUSY_AGENT),
        change=CHANGE,
        timeout=SECONDS,
        options=(f"--site={site}",),
    )
    message = only(run, "test_ovn_is_deployed")
    assert "compute2" in message
    assert "no such package here" in message
    assert "no such package here" in (run.reports / "evidence" / "deploy.log").read_text(encoding="utf-8")


@contextmanager
def without_ssh(name: str) -> Iterator[None]:
    inside(name, "systemctl", "stop", "ssh.socket", "ssh.service")
    inside(name, "sh", "-c", "pkill -x sshd || true")
    try:
        yield
    finally:
        inside(name, "systemctl", "start", "ssh.service")


def test_a_host_that_vanishes_between_chapters_is_named(prepared: PhaseRun) -> None:
    assert prepared.returncode == 0
    with without_ssh("compute2"):
        run = migrate()
    assert run.returncode == 1
    wrong = run.with_result("failed", "error")
    assert "compute2" in next(iter(wrong.values()))
    assert all("blocked by" in message for message in list(wrong.values())[1:])


def test_a_sync_that_breaks_off_is_seen(prepared: PhaseRun, full_subnet: Callable[[], None]) -> None:
    """In Zed the tool itself fails when it makes a network for which there is no address for a metadata port."""
    assert prepared.returncode == 0
    assert callable(full_subnet)
    run = migrate()
    message = only(run, "test_the_northbound_database_is_written")
    assert "the sync ended with 1" in message
    assert "No more IP addresses available" in message
    assert run.results["test_rows_are_converted"][0] == "passed"


def test_errors_in_the_log_of_a_sync_that_ends_with_0_are_seen(
    lab: Lab, prepared: PhaseRun, full_subnet: Callable[[], None]
) -> None:
    """When the network is there already, it says so in its log only, and ends with 0."""
    assert prepared.returncode == 0
    run = migrate()
    message = only(run, "test_the_northbound_database_is_written")
    assert "the sync ended with 0, and its log has an error" in message
    assert "Could not allocate IP addresses for metadata port" in message
    # What the message asks for, as an operator would: Neutron's server for a moment, and room in the subnet.
    assert lab.ssh("infra1", "sudo systemctl start neutron-server").returncode == 0
    until(lambda: list(lab.cloud().network.networks()))
    full_subnet()
    assert lab.ssh("infra1", "sudo systemctl stop neutron-server").returncode == 0


def test_an_instance_that_does_not_start_is_reported_and_the_others_go_on(
    lab: Lab, prepared: PhaseRun, tmp_path: Path
) -> None:
    assert prepared.returncode == 0
    cloud = lab.cloud()
    lab.ssh("infra1", "sudo systemctl start neutron-server")
    servers = {
        server.name: server.id for server in until(lambda: list(cloud.compute.servers(details=True, all_projects=True)))
    }
    lab.ssh("infra1", "sudo systemctl stop neutron-server")
    victim = servers["vm-app2"]
    where = next(
        name
        for name in ("compute1", "compute2")
        if lab.ssh(name, f"sudo test -d /var/lib/nova/instances/{victim}").returncode == 0
    )
    disk = f"/var/lib/nova/instances/{victim}/disk"
    assert lab.ssh(where, f"sudo mv {disk} {disk}.away").returncode == 0
    site = changed_site(tmp_path, ("[limits]\n", "[limits]\nstart_seconds = 60.0\n"))
    try:
        run = migrate(f"--site={site}")
    finally:
        assert lab.ssh(where, f"sudo mv {disk}.away {disk}").returncode == 0
    wrong = run.with_result("failed", "error")
    assert set(wrong) == {"test_instances_are_started", "test_everything_answers_again"}, run.summary
    assert "1 of 6 of the instances failed" in wrong["test_instances_are_started"]
    assert "vm-app2" in wrong["test_instances_are_started"]
    assert "vm-app2" in wrong["test_everything_answers_again"]
    statuses = {server.name: server.status for server in cloud.compute.servers(details=True, all_projects=True)}
    assert {name for name, status in statuses.items() if status == "ACTIVE"} == set(statuses) - {"vm-app2"}


def until(ask: Callable[[], list[Any]]) -> list[Any]:
    """What an API says once it answers."""

    def attempt() -> list[Any] | None:
        try:
            return ask()
        except (ClientException, SDKException):
            # It is just starting.
            return None

    found = Retrying(retry=retry_if_result(lambda answer: not answer), stop=stop_after_delay(120), wait=wait_fixed(1))(
        attempt
    )
    assert found
    return found


def test_a_port_that_does_not_become_active_is_reported(lab: Lab, prepared: PhaseRun, tmp_path: Path) -> None:
    """The instance of before starts now, and its hypervisor's ovn-controller hangs. (One that is stopped is deployed again.)"""
    assert prepared.returncode == 0
    cloud = lab.cloud()
    victim = next(
        server for server in cloud.compute.servers(details=True, all_projects=True) if server.name == "vm-app2"
    )
    if victim.status == "ERROR":
        cloud.compute.reset_server_state(victim.id, "active")
        cloud.compute.stop_server(victim.id)
        Retrying(
            retry=retry_if_result(lambda status: status != "SHUTOFF"), stop=stop_after_delay(60), wait=wait_fixed(1)
        )(lambda: cloud.compute.get_server(victim.id).status)
    assert lab.ssh(victim.compute_host, "sudo pkill -STOP -x ovn-controller").returncode == 0
    site = changed_site(tmp_path, ("[limits]\n", "[limits]\nstart_seconds = 40.0\nsettle_seconds = 20.0\n"))
    try:
        run = migrate(f"--site={site}")
    finally:
        assert lab.ssh(victim.compute_host, "sudo pkill -CONT -x ovn-controller").returncode == 0
    assert run.returncode == 1
    wrong = run.with_result("failed", "error")
    assert next(iter(wrong)) == "test_instances_are_started", run.summary
    assert "the ports of vm-app2" in wrong["test_instances_are_started"]
    assert "are up: not within 40 s" in wrong["test_instances_are_started"]


@pytest.fixture(scope="module")
def migrated(lab: Lab, prepared: PhaseRun) -> PhaseRun:
    assert prepared.returncode == 0
    assert lab.site
    return migrate()


def test_it_carries_on_to_the_end(migrated: PhaseRun) -> None:
    assert migrated.returncode == 0, migrated.summary
    assert "MIGRATED: every step is done and proved" in migrated.output
    assert all(result == "passed" for result, _ in migrated.results.values())
    page = (migrated.reports / "migrate.html").read_text(encoding="utf-8")
    assert len(page) < 2_000_000
    assert "8 database" in page


def test_outages_are_measured(migrated: PhaseRun) -> None:
    lines = [json.loads(line) for line in (migrated.reports / "outages.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 20
    page = (migrated.reports / "migrate.html").read_text(encoding="utf-8")
    for name in ("vm-web1", "vm-db2", "192.168.100.90"):
        assert name in page


def test_libvirt_waited_for_the_switch_with_each_instance(lab: Lab, migrated: PhaseRun) -> None:
    """Where os-vif adds the port, a tap may be down for good: lab/image.py, _plug_by_libvirt."""
    assert migrated.returncode == 0
    plugged = [
        line.split()[1:3]
        for name in ("compute1", "compute2")
        for instance in lab.ssh(name, "sudo", "virsh", "list", "--name").stdout.split()
        for line in lab.ssh(name, "sudo", "virsh", "domiflist", instance).stdout.strip().splitlines()[2:]
    ]
    assert plugged == [["bridge", "br-int"]] * 6


def test_run_again_it_does_nothing(lab: Lab, migrated: PhaseRun) -> None:
    assert migrated.returncode == 0
    state = database(lab), api_state(lab)
    begun = time.monotonic()
    run = migrate()
    assert run.returncode == 0, run.summary
    assert time.monotonic() - begun < SECONDS
    assert (database(lab), api_state(lab)) == state


def test_post_proves_it(migrated: PhaseRun) -> None:
    assert migrated.returncode == 0
    run = run_phase("tests_post", change=CHANGE, timeout=SECONDS)
    assert run.returncode == 0, run.summary
    assert "PROVED: nothing is worse than before" in run.output
    content = json.loads((run.reports / "comparison.json").read_text(encoding="utf-8"))["content"]
    assert {cell["fate"] for cell in content["cells"]} == {"kept"}
    assert len(content["cells"]) >= 86
    assert (run.reports / "post.html").stat().st_size < 2_000_000


def secrets() -> dict[str, bytes]:
    """The lab's own passwords and keys, by where they are from."""
    clouds = yaml.safe_load((SITE / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]
    found = {f"clouds.yaml, {name}": each["auth"]["password"] for name, each in clouds.items()}
    database = configparser.ConfigParser()
    database.read(SITE / "database.cnf")
    found["database.cnf"] = database["client"]["password"].strip('"')
    site = tomllib.loads((SITE / "site.toml").read_text(encoding="utf-8"))
    found |= {f"guest {number}": each["password"] for number, each in enumerate(site["guests"]) if "password" in each}
    found["id_ed25519"] = (SITE / "id_ed25519").read_text(encoding="utf-8").splitlines()[2]
    return {place: secret.encode() for place, secret in found.items()}


def test_secrets_are_nowhere_and_files_private(lab: Lab, migrated: PhaseRun) -> None:
    """Nor in what sudo and sshd log on the hosts: arguments of commands end there. Archives of configuration hold them."""
    known = secrets()
    assert len(known) >= 5
    assert all(len(secret) >= 8 for secret in known.values())
    files = [path for path in migrated.reports.rglob("*") if path.is_file()]
    assert len(files) > 20
    said = [
        f"{place} in {path}"
        for path in files
        for place, secret in known.items()
        if path.suffixes != [".tar", ".gz"] and secret in path.read_bytes()
    ]
    assert said == []
    modes = {path: path.stat().st_mode & 0o077 for path in [migrated.reports, *migrated.reports.rglob("*")]}
    assert [path for path, mode in modes.items() if mode] == []
    for name in ("infra1", "infra2", "compute1"):
        logged = lab.ssh(name, "sudo journalctl --no-pager --output=cat _COMM=sudo + _COMM=sshd").stdout
        assert "COMMAND=" in logged, name
        assert [place for place, secret in known.items() if secret.decode() in logged] == [], name
