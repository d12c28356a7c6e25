"""The migrated lab, broken on purpose: post names each thing with its cause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.conftest import Lab
from tests.lab.phase_runs import PhaseRun, run_phase
from tests.lab.test_2_pre import changed_site
from tests.lab.test_6_window import CHANGE, SECONDS

FLOATING_IP = "192.168.100.215"


def run(lab: Lab, host: str, command: str, stdin: str = "") -> str:
    done = lab.ssh(host, command, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def northbound(lab: Lab, command: str) -> str:
    return run(lab, "infra1", f"sudo ovn-nbctl --db={lab.site['ovn']['northbound']} {command}")


def repair(lab: Lab) -> None:
    """What was taken from the northbound database comes back."""
    tool = "sudo runuser -u neutron -- neutron-ovn-db-sync-util --config-file /etc/neutron/neutron.conf"
    run(lab, "infra1", f"{tool} --config-file /etc/neutron/plugins/ml2/ml2_conf.ini --ovn-neutron_sync_mode repair")


@pytest.fixture(scope="module")
def migrated(lab: Lab) -> None:
    """The lab as the tests of the window leave it."""
    agents = {agent.agent_type for agent in lab.cloud().network.agents()}
    if "OVN Controller agent" not in agents or "L3 agent" in agents:
        pytest.fail("the lab is not migrated: these tests come after those of the window")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lab's, that waits less for what does not come."""
    shorter = ("[limits]\n", "[limits]\nstart_seconds = 60.0\nsettle_seconds = 30.0\n")
    return f"--site={changed_site(tmp_path_factory.mktemp('broken'), shorter)}"


@pytest.fixture(scope="module")
def four_breakages(lab: Lab, migrated: None, site: str) -> Iterator[PhaseRun]:
    """A wrong bridge mapping, a lost NAT entry, a chassis whose controller is stopped, a binding row set back."""
    del migrated
    network = lab.cloud().network
    port = next(each for each in network.ports() if each.name == "vm-app1-port")
    router = next(each for each in network.routers() if each.name == "rtr-db")
    mappings = run(lab, "infra3", "sudo ovs-vsctl get open_vswitch . external_ids:ovn-bridge-mappings")
    run(lab, "infra3", "sudo ovs-vsctl set open_vswitch . external_ids:ovn-bridge-mappings=nowhere:br-ex")
    run(lab, "infra3", "sudo systemctl restart ovn-controller")
    northbound(lab, f"lr-nat-del neutron-{router.id} dnat_and_snat {FLOATING_IP}")
    run(lab, "compute2", "sudo systemctl stop ovn-controller")
    rows = f"UPDATE neutron.ml2_port_bindings SET vif_type = '{{}}' WHERE port_id = '{port.id}'"  # noqa: S608, an id of the lab
    run(lab, "infra1", "sudo mariadb", stdin=rows.format("bridge"))
    try:
        yield run_phase("tests_post", site, change=CHANGE, timeout=SECONDS)
    finally:
        run(lab, "infra1", "sudo mariadb", stdin=rows.format("ovs"))
        run(lab, "compute2", "sudo systemctl start ovn-controller")
        run(lab, "infra3", f"sudo ovs-vsctl set open_vswitch . external_ids:ovn-bridge-mappings={mappings}")
        run(lab, "infra3", "sudo systemctl restart ovn-controller")
        repair(lab)


def test_a_wrong_bridge_mapping_is_named(four_breakages: PhaseRun) -> None:
    assert four_breakages.returncode == 1
    assert "WORSE THAN BEFORE" in four_breakages.output
    message = four_breakages.results["test_chassis_and_tunnels_are_right"][1]
    assert "infra3 maps no bridge to physical network" in message


def test_a_lost_nat_entry_is_named(four_breakages: PhaseRun) -> None:
    message = four_breakages.results["test_ovn_has_what_neutron_has"][1]
    assert "NAT entry" in message
    assert f"dnat_and_snat {FLOATING_IP}" in message
    assert "is missing in OVN" in message
    assert f"floating IP {FLOATING_IP}" in four_breakages.results["test_no_cell_got_worse"][1]
    assert FLOATING_IP in four_breakages.results["test_the_sync_finds_nothing"][1]


def test_a_stopped_controller_is_named(four_breakages: PhaseRun) -> None:
    """It takes its chassis out of the southbound database when it ends."""
    assert "no chassis has the host name compute2" in four_breakages.results["test_chassis_and_tunnels_are_right"][1]
    assert "agent on compute2" in four_breakages.results["test_only_ovns_agents_are_left"][1]
    assert "hypervisor compute2: " in four_breakages.results["test_no_cell_got_worse"][1]


def test_a_binding_that_was_set_back_is_named(four_breakages: PhaseRun) -> None:
    assert "1 bindings of LinuxBridge" in four_breakages.results["test_no_row_is_left_of_the_old_driver"][1]
    assert "vm-app1-port" in four_breakages.results["test_neutron_says_ovn"][1]


def test_evidence_is_in_the_report(four_breakages: PhaseRun) -> None:
    page = (four_breakages.reports / "post.html").read_text(encoding="utf-8")
    assert "ovn-trace" in page
    assert "OVN&#39;s port binding" in page
    assert len(page) < 2_000_000
    assert any(FLOATING_IP in path.name for path in (four_breakages.reports / "evidence").glob("*.txt"))


@pytest.fixture(scope="module")
def dropped_group(lab: Lab, four_breakages: PhaseRun, site: str) -> Iterator[tuple[PhaseRun, str]]:
    """The port group of the instances' security group is dropped: nothing lets them be reached any more."""
    assert four_breakages.returncode == 1
    network = lab.cloud().network
    port = next(each for each in network.ports() if each.name == "vm-app1-port")
    group = f"pg_{port.security_group_ids[0].replace('-', '_')}"
    northbound(lab, f"pg-del {group}")
    try:
        yield run_phase("tests_post", site, change=CHANGE, timeout=SECONDS), group
    finally:
        repair(lab)


def test_a_dropped_port_group_is_named(dropped_group: tuple[PhaseRun, str]) -> None:
    post, group = dropped_group
    assert post.returncode == 1
    assert f"port group {group} is missing in OVN" in post.results["test_ovn_has_what_neutron_has"][1]
    assert "groups of cells got worse" in post.results["test_no_cell_got_worse"][1]
    assert post.results["test_nothing_is_newly_open"][0] == "passed"
