"""`pytest -m pre` on the lab, as an operator runs it: green on a cloud that is well, red with a remedy where it is broken."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from openstack.connection import Connection
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from lab import blueprint
from ovnshift.connectivity import baseline as baselines
from ovnshift.connectivity.cells import Cell, Kind, Outcome
from ovnshift.connectivity.silence import JUDGED
from ovnshift.hosts.programs import BOOTSTRAP
from tests.lab.conftest import SITE, Lab
from tests.lab.phase_runs import REPORTS, PhaseRun, run_phase

CHANGE = "TEST-pre"
# As keepalived gives the HA interface of its master one (lib/neutron/ha_confs); 1 to a few are its own there.
SECOND_MASTER = "169.254.0.250/24"
CHANGED_SINCE = "/etc/neutron/dhcp_agent.ini"


@pytest.fixture(scope="module")
def reports() -> Iterator[Path]:
    directory = REPORTS / CHANGE
    shutil.rmtree(directory, ignore_errors=True)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def green(lab: Lab, reports: Path) -> PhaseRun:
    assert lab.site["hosts"]
    return dataclasses.replace(run_phase("-m", "pre", change=CHANGE), reports=reports)


@pytest.fixture(scope="module")
def baseline(green: PhaseRun) -> baselines.Baseline:
    return baselines.read(green.reports / "baseline.json")


def has(cells: list[Cell], kind: Kind, source: str, target: str, address: str) -> bool:
    return any(
        cell.kind == kind and cell.source.name == source and cell.target.name == target and cell.address == address
        for cell in cells
    )


def test_a_cloud_that_is_well_is_ready(green: PhaseRun) -> None:
    assert green.returncode == 0, green.output
    assert "READY: nothing stands in the way" in green.output
    assert green.with_result("failed", "error", "skipped") == {}
    assert len(green.results) > 30


def test_every_check_is_a_line_that_starts_and_one_that_ends(green: PhaseRun) -> None:
    assert green.output.count("  …     Every Neutron agent is alive and enabled\n") == 1
    assert green.output.count("   ok   Every Neutron agent is alive and enabled (") == 1
    assert "\x1b" not in green.output


def test_the_baseline_holds_the_seeds_connections(baseline: baselines.Baseline) -> None:
    cells = [record.cell for record in baseline.cells]
    for instance in blueprint.INSTANCES:
        for kind in (Kind.PING, Kind.PING_WHOLE, Kind.SSH, Kind.CLOSED_PORT):
            assert has(cells, kind, instance.network, instance.name, instance.address), (kind, instance.name)
        assert has(cells, Kind.METADATA, instance.name, "metadata", "169.254.169.254")
        assert has(cells, Kind.DHCP, instance.name, instance.name, instance.address)
        assert has(cells, Kind.PING, instance.name, "outside", blueprint.INTERNET)
        if instance.floating_ip is not None:
            assert has(cells, Kind.PING, "edge", instance.floating_ip, instance.floating_ip)
            assert has(cells, Kind.SSH, "edge", instance.floating_ip, instance.floating_ip)
    # The seed's own: across hosts, routed, and to a floating IP.
    assert has(cells, Kind.PING, "vm-db1", "vm-db2", "192.168.55.223")
    assert has(cells, Kind.PING, "vm-web2", "vm-app1", "172.25.0.50")
    assert has(cells, Kind.PING, "vm-web2", "vm-app2", "172.25.0.250")
    assert has(cells, Kind.PING, "vm-web1", "192.168.100.215", "192.168.100.215")
    assert {record.outcome for record in baseline.cells} == {Outcome.PASSED}
    assert all(len(record.measurements) == 2 for record in baseline.cells)


def test_the_baseline_says_what_was_measured(baseline: baselines.Baseline) -> None:
    pings = [record.last for record in baseline.cells if record.cell.kind is Kind.PING]
    assert all(each is not None and each.sent >= 2 and each.rtt_avg is not None and each.vantage for each in pings)
    logins = [
        record.last
        for record in baseline.cells
        if record.cell.kind is Kind.SSH and record.cell.source.kind == "network"
    ]
    assert all(each is not None and "uptime:" in each.detail and "load average" in each.detail for each in logins)
    assert len(baseline.host_keys) == len(blueprint.INSTANCES)
    assert len(set(baseline.host_keys.values())) == len(blueprint.INSTANCES)
    assert baseline.identity.region == "RegionOne"


def test_the_topology_is_written(green: PhaseRun) -> None:
    topology = json.loads((green.reports / "topology.json").read_text(encoding="utf-8"))["content"]
    assert {each["name"] for each in topology["instances"]} == {each.name for each in blueprint.INSTANCES}
    assert sum(each["ha"] for each in topology["routers"]) == len(blueprint.ROUTERS)


def test_no_secret_is_in_what_was_written(lab: Lab, green: PhaseRun) -> None:
    clouds = yaml.safe_load((SITE / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]
    secrets = {each["auth"]["password"] for each in clouds.values()}
    secrets |= {
        line.split("=")[1].strip() for line in (SITE / "database.cnf").read_text().splitlines() if "password" in line
    }
    secrets.add(lab.site["guests"][0]["password"])
    for path in green.reports.rglob("*"):
        if path.is_file() and "backups" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not [secret for secret in secrets if secret in text], path
    assert not [secret for secret in secrets if secret in green.output]


def test_nothing_is_left_on_hosts_or_here(lab: Lab, green: PhaseRun) -> None:
    assert green.returncode == 0
    assert not list(Path("/tmp").glob("ovnshift-*"))
    shown = subprocess.run(["pgrep", "-f", "ovnshift-ready"], capture_output=True, text=True, check=False)
    assert shown.stdout == ""
    schemas = lab.ssh("infra1", "sudo", "mariadb", "-N", stdin="SHOW DATABASES LIKE 'ovnshift%';")
    assert (schemas.returncode, schemas.stdout) == (0, "")
    for host in ("infra1", "infra2", "infra3", "compute1", "edge"):
        running = lab.ssh(host, "ps", "-eo", "args").stdout.splitlines()
        assert running
        assert not [line for line in running if BOOTSTRAP.splitlines()[0] in line]


def wait_until(what: Callable[[], bool], seconds: float) -> None:
    Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(1), retry=retry_if_result(lambda found: not found))(what)


@pytest.fixture(scope="class")
def broken(lab: Lab, green: PhaseRun) -> Iterator[PhaseRun]:
    """Seven things broken at once, each of which has checks of its own."""
    assert green.returncode == 0
    admin, demo = lab.cloud(), lab.cloud("demo")
    undo: list[Callable[[], object]] = []
    try:
        break_things(lab, admin, demo, undo)
        yield run_phase("-m", "pre", change=CHANGE)
    finally:
        for each in reversed(undo):
            each()
        wait_until(lambda: all(agent.is_alive for agent in admin.network.agents()), 120)


def break_things(lab: Lab, admin: Connection, demo: Connection, undo: list[Callable[[], object]]) -> None:
    # An agent that has stopped
    assert lab.ssh("infra3", "sudo", "systemctl", "stop", "neutron-metadata-agent").returncode == 0
    undo.append(lambda: lab.ssh("infra3", "sudo", "systemctl", "start", "neutron-metadata-agent"))
    # An instance that was shut off behind Nova's back
    server = admin.compute.find_server("vm-db2", all_projects=True, ignore_missing=False)
    assert lab.ssh("compute2", "sudo", "virsh", "suspend", server.id).returncode == 0
    undo.append(lambda: lab.ssh("compute2", "sudo", "virsh", "resume", server.id))
    # A security group that was opened
    group = demo.network.find_security_group(blueprint.SECURITY_GROUP, ignore_missing=False)
    rule = demo.network.create_security_group_rule(
        security_group_id=group.id,
        direction="ingress",
        protocol="tcp",
        port_range_min=blueprint.CLOSED_PORT,
        port_range_max=blueprint.CLOSED_PORT,
    )
    undo.append(lambda: demo.network.delete_security_group_rule(rule))
    # A subnet that is full
    network = demo.network.create_network(name="full")
    undo.append(lambda: demo.network.delete_network(network))
    subnet = demo.network.create_subnet(
        network_id=network.id,
        name="full",
        ip_version=4,
        cidr="10.99.0.0/29",
        gateway_ip=None,
        enable_dhcp=True,
        allocation_pools=[{"start": "10.99.0.1", "end": "10.99.0.4"}],
    )
    port = demo.network.create_port(network_id=network.id, name="last", fixed_ips=[{"subnet_id": subnet.id}])
    undo.append(lambda: demo.network.delete_port(port))
    # An underlay that does not carry what tunnels need
    assert lab.ssh("compute1", "sudo", "ip", "link", "set", "eth1", "mtu", "1400").returncode == 0
    undo.append(lambda: lab.ssh("compute1", "sudo", "ip", "link", "set", "eth1", "mtu", "1500"))

    # A router that another host takes for its own besides
    router = demo.network.find_router("rtr-web", ignore_missing=False)
    standby = next(a.host for a in admin.network.routers_hosting_l3_agents(router) if a.ha_state == "standby")
    namespace = ("sudo", "ip", "-n", f"qrouter-{router.id}")
    links = json.loads(lab.ssh(standby, *namespace, "-json", "link", "show").stdout)
    (device,) = [link["ifname"] for link in links if link["ifname"].startswith("ha-")]
    assert lab.ssh(standby, *namespace, "address", "add", SECOND_MASTER, "dev", device).returncode == 0
    undo.append(lambda: lab.ssh(standby, *namespace, "address", "del", SECOND_MASTER, "dev", device))
    # An agent whose configuration was changed since it was started
    changed = lab.ssh("infra2", "sudo", "stat", "--format=@%Y", CHANGED_SINCE).stdout.strip()
    assert lab.ssh("infra2", "sudo", "touch", CHANGED_SINCE).returncode == 0
    undo.append(lambda: lab.ssh("infra2", "sudo", "touch", f"--date={changed}", CHANGED_SINCE))

    def settled() -> bool:
        dead = [agent for agent in admin.network.agents(host="infra3") if not agent.is_alive]
        taken = list(admin.network.ports(network_id=network.id))
        return len(dead) == 1 and len(taken) == 4

    wait_until(settled, 150)


class TestBroken:
    def test_exactly_the_right_checks_are_red(self, broken: PhaseRun) -> None:
        assert broken.returncode == 1, broken.output
        assert "NOT READY" in broken.output
        red = broken.with_result("failed", "error")
        assert set(red) == {
            "test_agents_are_alive",
            "test_ha_routers_have_one_master",
            "test_every_subnet_has_a_free_address",
            "test_the_underlay_carries_geneve",
            "test_instances_run_where_nova_says",
            "test_instances_are_reached",
            "test_cells_are_measured",
            "test_closed_ports_are_closed",
            "test_nothing_got_worse_since_the_last_baseline",
        }, broken.output
        assert "Metadata agent on infra3" in red["test_agents_are_alive"]
        assert re.search(r"rtr-web \(\w+\): infra\d, infra\d$", red["test_ha_routers_have_one_master"], re.MULTILINE)
        assert "10.99.0.0/29" in red["test_every_subnet_has_a_free_address"]
        assert "compute1" in red["test_the_underlay_carries_geneve"]
        assert "vm-db2" in red["test_instances_run_where_nova_says"]
        assert "vm-db2" in red["test_instances_are_reached"]
        assert all(name in red["test_closed_ports_are_closed"] for name in ("vm-web1", "vm-app2", "8080"))
        for name, message in red.items():
            assert "remedy: " in message, name

    def test_configuration_that_no_agent_has_read_is_warned_of(self, green: PhaseRun, broken: PhaseRun) -> None:
        assert "run with an older configuration" not in green.output
        assert "run with an older configuration" in broken.output
        assert f"neutron-dhcp-agent.service on infra2: {CHANGED_SINCE}" in broken.output

    def test_the_older_baseline_is_kept(self, broken: PhaseRun, baseline: baselines.Baseline) -> None:
        kept = list(broken.reports.glob("baseline-*.json"))
        assert len(kept) == 1
        assert baselines.read(kept[0]) == baseline


def test_whom_security_groups_keep_out_need_not_answer(lab: Lab, tmp_path: Path) -> None:
    """One of seven machines lets nobody in, and nobody may log in to it."""
    demo = lab.cloud().connect_as_project("demo")
    entry = '[[guests]]\ninstance = "vm-closed"\nlogin = false\nclosed_port = 8080\n\n[[guests]]\n'
    site = changed_site(tmp_path, ("[[guests]]\n", entry))
    group = demo.network.create_security_group(name="nobody gets in")
    server = demo.compute.create_server(
        name="vm-closed",
        image_id=demo.image.find_image(blueprint.IMAGE, ignore_missing=False).id,
        flavor_id=demo.compute.find_flavor(blueprint.FLAVOR, ignore_missing=False).id,
        networks=[{"uuid": demo.network.find_network("app", ignore_missing=False).id}],
        security_groups=[{"name": group.name}],
    )
    try:
        demo.compute.wait_for_server(server, wait=120)
        run = run_phase("-m", "pre", f"--site={site}", change=f"{CHANGE}-silent")
    finally:
        demo.compute.delete_server(server)
        demo.compute.wait_for_delete(server, wait=60)
        demo.network.delete_security_group(group)
    found = baselines.read(run.reports / "baseline.json")
    shutil.rmtree(run.reports)
    assert run.returncode == 0, run.output
    assert "READY" in run.output
    to_it = [record for record in found.cells if record.cell.target.id == server.id]
    silent = {record.cell.id for record in found.with_outcome(Outcome.SILENT)}
    assert silent == {record.cell.id for record in to_it if record.cell.kind in JUDGED}
    assert f"{len(silent)} cells are silent, where security groups let nobody in" in run.output
    assert {record.outcome for record in to_it if record.cell.kind is Kind.CLOSED_PORT} == {Outcome.NOT_MEASURED}
    others = [each for each in found.cells if server.id not in {each.cell.source.id, each.cell.target.id}]
    assert {record.outcome for record in others} == {Outcome.PASSED}


@pytest.fixture(scope="module")
def odd_site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site file in which hosts are wrong, each in its own way."""
    directory = tmp_path_factory.mktemp("site")
    assert lab.site["hosts"]
    known = (SITE / "known_hosts").read_text(encoding="utf-8").splitlines()
    changed = [
        line if not line.startswith("infra3,") else f"{line.split()[0]} {known[0].split(' ', 1)[1]}" for line in known
    ]
    (directory / "known_hosts").write_text("\n".join(changed) + "\n", encoding="utf-8")
    return changed_site(
        directory,
        ("sudo = true\n", f'sudo = true\nconnect_seconds = 3\nknown_hosts = "{directory / "known_hosts"}"\n'),
        ("[hosts]\n", '[hosts]\ngone = "ssh://198.18.0.99"\nstranger = "ssh://nobody@infra2"\n'),
    )


def changed_site(directory: Path, *changes: tuple[str, str]) -> Path:
    """The lab's site file with some text replaced."""
    text = (SITE / "site.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = directory / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_hosts_that_cannot_be_used_are_named_and_stop_nothing_else(odd_site: Path) -> None:
    run = run_phase("-m", "pre", f"--site={odd_site}", change=f"{CHANGE}-hosts")
    shutil.rmtree(run.reports)
    assert run.returncode == 1
    message = run.results["test_every_host_lets_us_in"][1]
    assert "gone: can't be reached" in message
    assert "stranger: the login was refused" in message
    assert "infra3: its host key is not the one that is known" in message
    # A host of which nothing can be seen stops what depends on it, and nothing else.
    assert {"test_agents_are_alive", "test_bindings_are_sane", "test_the_database_can_be_restored"} <= {
        name for name, (result, _) in run.results.items() if result == "passed"
    }


def test_a_wrong_password_is_one_reason(lab: Lab, tmp_path: Path) -> None:
    clouds = (SITE / "clouds.yaml").read_text(encoding="utf-8")
    wrong = yaml.safe_load(clouds)
    for each in wrong["clouds"].values():
        each["auth"]["password"] = "wrong"  # noqa: S105
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    site = changed_site(tmp_path, (lab.site["cloud"]["clouds_file"], str(tmp_path / "clouds.yaml")))
    run = run_phase("-m", "pre", f"--site={site}", change=f"{CHANGE}-password")
    shutil.rmtree(run.reports)
    assert run.returncode == 1
    assert run.output.count("the login is refused") >= 1
    assert "(this stopped " in run.output
    assert run.results["test_every_host_lets_us_in"][0] == "passed"
    assert run.results["test_the_database_can_be_restored"][0] == "passed"


def test_a_lab_that_is_down_is_not_looked_for_elsewhere(lab: Lab, tmp_path: Path) -> None:
    site = changed_site(tmp_path, (lab.site["cloud"]["only_through"], "notthere0"))
    run = run_phase("-m", "pre", f"--site={site}", change=f"{CHANGE}-way")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "reached through notthere0 only" in run.output
    assert run.results == {}
