"""The way back on the lab: after a finished window, and from the middle of one that was killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import paths
from ovnshift.journal import entries_of
from tests.lab.conftest import Lab
from tests.lab.faults import disturbed, shell
from tests.lab.phase_runs import REPORTS, PhaseRun, run_phase
from tests.lab.state import dhcp_ports, hosts_units, steady_rows
from tests.lab.test_6_window import CHANGE, SECONDS, STATE
from tests.torture import killer

AGAIN = "tests-window-again"
# What watches keepalived for the L3 agent can tell it of two changes the wrong way round. Here it says, of the first HA router
# that comes, some times that it is the master, however that is.
LIE = shell(
    "touch /run/ovnshift-tests-begun && systemd-run --quiet --collect --property=RuntimeMaxSec=300 sh -c '"
    "until state=$(find /var/lib/neutron/ha_confs -name state -newer /run/ovnshift-tests-begun | head -n 1) "
    '&& [ -n "$state" ] && grep -q backup "$state"; do sleep 0.2; done; '
    "for time in 1 2 3 4 5; do curl --silent --unix-socket /var/lib/neutron/keepalived-state-change "
    '-H "X-Neutron-Router-Id: $(basename "$(dirname "$state")")" -H "X-Neutron-State: primary" http://127.0.0.1/; '
    "sleep 1; done'"
)
FRESH = "tests-made-on-ovn"


def back(*options: str, change: str = CHANGE) -> PhaseRun:
    return run_phase("tests_migrate", "--rollback", *options, change=change, timeout=SECONDS)


def status(change: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests_migrate", "--status", f"--change={change}"],
        cwd=paths.PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def migrated(lab: Lab) -> dict[str, object]:
    """The migrated lab as the tests of the window leave it, and its state from before them."""
    agents = {agent.agent_type for agent in lab.cloud().network.agents()}
    if "OVN Controller agent" not in agents or not STATE.exists():
        pytest.fail("the lab is not migrated: these tests come after those of the window")
    found: dict[str, object] = json.loads(STATE.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def fresh_network(lab: Lab, migrated: dict[str, object]) -> str:
    """A network that was made on OVN, with a router."""
    assert migrated
    network = lab.cloud().network
    made = network.create_network(name=FRESH)
    subnet = network.create_subnet(name=FRESH, network_id=made.id, ip_version=4, cidr="10.88.0.0/24")
    router = network.create_router(name=FRESH)
    network.add_interface_to_router(router, subnet.id)
    assert network.get_network(made.id).provider_network_type == "geneve"
    return str(made.id)


def test_a_plan_of_the_way_back_names_what_came_since(lab: Lab, fresh_network: str) -> None:
    before = steady_rows(lab), hosts_units(lab)
    run = back("--plan")
    assert run.returncode == 0, run.summary
    assert "PLANNED: nothing was changed" in run.output
    assert f"network {FRESH} ({fresh_network[:8]}) (geneve): becomes a VXLAN network with the same key" in run.output
    assert "rows are put back" in run.output
    assert "systemctl enable --now neutron-linuxbridge-agent.service" in run.output
    assert (steady_rows(lab), hosts_units(lab)) == before


def test_rows_that_somebody_changed_stop_it(lab: Lab, fresh_network: str) -> None:
    assert fresh_network
    port = next(each for each in lab.cloud().network.ports() if each.name == "vm-app1-port")
    change = f"UPDATE neutron.ml2_port_bindings SET vif_type = '{{}}' WHERE port_id = '{port.id}'"  # noqa: S608, of the lab
    assert lab.ssh("infra1", "sudo mariadb", stdin=change.format("vhostuser")).returncode == 0
    try:
        run = back()
    finally:
        assert lab.ssh("infra1", "sudo mariadb", stdin=change.format("ovs")).returncode == 0
    assert run.returncode == 1
    found = run.with_result("failed", "error")
    assert next(iter(found)) == "test_no_row_is_in_the_way"
    assert port.id in found["test_no_row_is_in_the_way"]
    assert "--conflicts=overwrite" in found["test_no_row_is_in_the_way"]


@pytest.fixture(scope="module")
def rolled_back(fresh_network: str) -> PhaseRun:
    """With two agents, one of which is a standby for sure, that believe that they are active."""
    assert fresh_network
    with pytest.MonkeyPatch.context() as patch:
        return disturbed(
            patch,
            ("back 6 routers/", "infra2", LIE),
            ("back 6 routers/", "infra3", LIE),
            change=CHANGE,
            timeout=SECONDS,
            options=("--rollback",),
        )


def test_everything_is_undone(rolled_back: PhaseRun) -> None:
    assert rolled_back.returncode == 0, rolled_back.summary
    assert "keepalived is the master on infra" in rolled_back.output
    assert "it is disabled and enabled, so that its agents build it anew" in rolled_back.output
    assert "ROLLED BACK: everything is as it was" in rolled_back.output
    assert (rolled_back.reports / "rollback.html").stat().st_size < 2_000_000


def test_rows_units_and_files_are_what_they_were(lab: Lab, rolled_back: PhaseRun, migrated: dict[str, object]) -> None:
    assert rolled_back.returncode == 0
    assert steady_rows(lab) == migrated["rows"]
    assert hosts_units(lab) == migrated["hosts"]


def test_what_was_made_on_ovn_is_served_by_agents_now(lab: Lab, rolled_back: PhaseRun, fresh_network: str) -> None:
    assert rolled_back.returncode == 0
    network = lab.cloud().network
    assert network.get_network(fresh_network).provider_network_type == "vxlan"
    router = network.find_router(FRESH, ignore_missing=False)
    assert not router.is_ha
    (agent,) = network.get(f"/routers/{router.id}/l3-agents").json()["agents"]
    assert f"qrouter-{router.id}" in lab.ssh(agent["host"], "ip netns list").stdout
    for each in network.network_hosting_dhcp_agents(fresh_network):
        assert f"qdhcp-{fresh_network}" in lab.ssh(each.host, "ip netns list").stdout
    (subnet,) = network.subnets(network_id=fresh_network)
    network.remove_interface_from_router(router, subnet.id)
    network.delete_router(router)
    network.delete_network(fresh_network)


def test_dhcp_agents_are_where_they_were(lab: Lab, rolled_back: PhaseRun, migrated: dict[str, object]) -> None:
    assert rolled_back.returncode == 0
    assert dhcp_ports(lab) == migrated["dhcp"]


def test_the_status_says_that_it_is_undone(rolled_back: PhaseRun) -> None:
    assert rolled_back.returncode == 0
    assert "All of it is undone." in status(CHANGE)


@pytest.fixture(scope="module")
def killed(lab: Lab, rolled_back: PhaseRun) -> Path:
    """A second window, killed while hosts are being cleaned."""
    assert rolled_back.returncode == 0
    assert lab.site
    shutil.rmtree(REPORTS / AGAIN, ignore_errors=True)
    ready = run_phase("-m", "pre", change=AGAIN)
    assert ready.returncode == 0, ready.summary
    order = {"step": "6 clean hosts/*", "when": "during", "delay": 0.2, "alone": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(killer.VARIABLE, json.dumps(order))
        run = run_phase("tests_migrate", "-p", "tests.torture.killer", change=AGAIN, timeout=SECONDS, own_group=True)
    assert run.returncode == -signal.SIGKILL, run.summary
    return REPORTS / AGAIN / "journal.sqlite"


def test_from_the_middle_too(lab: Lab, killed: Path, migrated: dict[str, object]) -> None:
    assert any(entry.step.startswith("5 retire agents/Neutron's server") for entry in entries_of(killed))
    assert "to go back: pytest tests_migrate --rollback --plan" in status(AGAIN)
    run = back(change=AGAIN)
    assert run.returncode == 0, run.summary
    assert steady_rows(lab) == migrated["rows"]
    assert hosts_units(lab) == migrated["hosts"]
    shutil.rmtree(run.reports)
