"""Routers are moved from one L3 agent to others, on a cloud with Open vSwitch: the second scenario, whole."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from openstack.connection import Connection

from lab import blueprint
from lab.blueprint import Mechanism
from ovnshift.connectivity import outage
from ovnshift.journal import State, entries_of
from tests.lab.conftest import KEEP, SITE, Lab, LabCommand, bring_up
from tests.lab.machine_state import MachineState
from tests.lab.phase_runs import REPORTS, PhaseRun, run_phase
from tests.torture import saboteur

SCENARIO = "--scenario=router-evacuation"
CHANGE = "tests-evacuation"
FROM = "infra3"
MOVED = {"provider-router", "rtr-db"}


@pytest.fixture(scope="module")
def routed(lab_command: LabCommand, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with Open vSwitch; the machine is as it was afterwards."""
    if KEEP and Path("/sys/class/net", blueprint.LAB_VETH).exists():
        yield Lab(lab_command, MachineState.now(), "")
        return
    assert lab_command("down").returncode == 0
    before = MachineState.now()
    try:
        yield Lab(lab_command, before, bring_up(lab_command, request, f"--mechanism={Mechanism.OPENVSWITCH}"))
    finally:
        if not KEEP:
            result = lab_command("down")
            assert result.returncode == 0, result.stdout
            assert before.differences(MachineState.now()) == []


def agents_of_routers(cloud: Connection) -> dict[str, list[str]]:
    """The hosts whose L3 agents have each router."""
    network = cloud.network
    return {
        router.name: sorted(agent.host for agent in network.routers_hosting_l3_agents(router))
        for router in network.routers()
    }


def namespaces(lab: Lab, host: str) -> set[str]:
    """The ids of routers that have a namespace on a host."""
    return set(re.findall(r"qrouter-([0-9a-f-]{36})", lab.ssh(host, "ip netns list").stdout))


def phase(*arguments: str, change: str = CHANGE) -> PhaseRun:
    return run_phase(SCENARIO, *arguments, change=change, timeout=600)


def phase_without(cloud: Connection, host: str) -> PhaseRun:
    """The move, while a host's L3 agent is disabled."""
    (agent,) = cloud.network.agents(agent_type="L3 agent", host=host)
    cloud.network.update_agent(agent, admin_state_up=False)
    try:
        return phase("tests_migrate")
    finally:
        cloud.network.update_agent(agent, admin_state_up=True)


@pytest.fixture(scope="module")
def places(routed: Lab) -> dict[str, list[str]]:
    """Where routers are before anything is moved."""
    shutil.rmtree(REPORTS / CHANGE, ignore_errors=True)
    return agents_of_routers(routed.cloud())


def test_the_lab_is_the_seeds(routed: Lab, places: dict[str, list[str]]) -> None:
    """Three network nodes with L3 agents, plain routers on two of them, one HA router on all, one distributed."""
    kinds = {agent.agent_type for agent in routed.cloud().network.agents()}
    assert "Open vSwitch agent" in kinds
    assert "Linux bridge agent" not in kinds
    assert places == {
        "provider-router": [FROM],
        "rtr-db": [FROM],
        "rtr-web": ["infra2"],
        "rtr-ha": ["infra1", "infra2", "infra3"],
        "rtr-distributed": [],
    }
    assert routed.command("status").returncode == 0


def test_a_host_must_be_named(routed: Lab) -> None:
    assert routed.site
    run = phase("-m", "pre", change="tests-evacuation-odd")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "needs --from HOST" in run.output


def test_a_host_that_nobody_knows_is_refused(routed: Lab) -> None:
    assert routed.site
    run = phase("-m", "pre", "--from=gateway-9; reboot", change="tests-evacuation-odd")
    assert run.returncode == 1
    assert "no L3 agent is on gateway-9; reboot" in run.output
    assert "infra1, infra2, infra3" in run.output


@pytest.fixture(scope="module")
def ready(places: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> PhaseRun:
    """The cloud is ready; the host is named as in the seed, by its Juju unit."""
    assert places
    status = tmp_path_factory.mktemp("juju") / "status.json"
    machine = {"hostname": FROM, "dns-name": "10.5.0.159", "instance-id": "c8c75144-7a5b-49c0-bfb5-4910c6501f21"}
    units = {"neutron-gateway/2": {"machine": "14"}}
    content = {"machines": {"14": machine}, "applications": {"neutron-gateway": {"units": units}}}
    status.write_text(json.dumps(content), encoding="utf-8")
    return phase("-m", "pre", "--from=neutron-gateway/2", f"--juju-status={status}")


def test_it_is_ready(ready: PhaseRun) -> None:
    assert ready.returncode == 0, ready.summary
    assert f"READY: the routers of {FROM} can be moved" in ready.output
    # The one with the most ports first, each to the host with the fewest routers.
    assert re.search(rf"provider-router \(\w+\): {FROM} → infra1", ready.output)
    assert re.search(rf"rtr-db \(\w+\): {FROM} → infra[12]", ready.output)
    assert re.search(r"rtr-ha \(\w+\) stays: it is HA: infra1, infra2 take over", ready.output)


def test_a_plan_says_all_of_it_and_moves_nothing(routed: Lab, ready: PhaseRun, places: dict[str, list[str]]) -> None:
    assert ready.returncode == 0
    run = phase("tests_migrate", "--plan")
    assert run.returncode == 0, run.summary
    assert run.output.count("openstack network agent remove router --l3") == len(MOVED)
    assert run.output.count("openstack network agent add router --l3") == len(MOVED)
    assert agents_of_routers(routed.cloud()) == places


def test_a_kill_between_remove_and_add_is_made_good(routed: Lab, ready: PhaseRun) -> None:
    """The run dies when a router is nowhere; the next one gives it to the agent that it was meant for."""
    assert ready.returncode == 0
    killed = phase("tests_migrate", "-p", "tests.torture.between")
    assert killed.returncode == -signal.SIGKILL, killed.summary
    nowhere = {name for name, hosts in agents_of_routers(routed.cloud()).items() if not hosts} - {"rtr-distributed"}
    assert len(nowhere) == 1
    (entry,) = [each for each in entries_of(REPORTS / CHANGE / "journal.sqlite") if each.state is State.INTENDED]
    assert nowhere.pop() in entry.title


def test_a_router_that_is_nowhere_goes_back_if_its_target_is_disabled(routed: Lab, ready: PhaseRun) -> None:
    """The first thing that the next run does, and the only one: the rest is not begun."""
    assert ready.returncode == 0
    cloud = routed.cloud()
    run = phase_without(cloud, "infra1")
    assert run.returncode == 1
    assert (
        "the L3 agent on infra1 is disabled, and gets no router" in run.with_result("failed")["test_routers_are_moved"]
    )
    assert f"was put back on {FROM}" in run.output
    assert {name: agents_of_routers(cloud)[name] for name in MOVED} == {name: [FROM] for name in MOVED}


@pytest.fixture(scope="module")
def moved(ready: PhaseRun) -> PhaseRun:
    """Every router is where it was to go. The agent is disabled when they are gone."""
    assert ready.returncode == 0
    return phase("tests_migrate", "--disable-agent")


def test_every_router_is_moved(routed: Lab, moved: PhaseRun, places: dict[str, list[str]]) -> None:
    assert moved.returncode == 0, moved.summary
    assert "MOVED: every router is where it was to go, and forwards there" in moved.output
    cloud = routed.cloud()
    now = agents_of_routers(cloud)
    for name, hosts in now.items():
        if name in MOVED:
            assert len(hosts) == 1
            assert hosts != [FROM]
            router = cloud.network.find_router(name, ignore_missing=False)
            assert router.id in namespaces(routed, hosts[0])
            assert router.id not in namespaces(routed, FROM)
        else:
            assert hosts == places[name]


def test_a_disabled_agent_still_has_its_ha_router(routed: Lab, moved: PhaseRun) -> None:
    """The lab's Neutron has the setting that disabling needs not, so that it was disabled last."""
    assert moved.returncode == 0
    assert "a disabled agent would drop its routers: it is disabled when they are gone" in moved.output
    (agent,) = routed.cloud().network.agents(agent_type="L3 agent", host=FROM)
    assert not agent.is_admin_state_up


def test_each_outage_is_in_the_report(moved: PhaseRun) -> None:
    """From both sides, in milliseconds, with how much shorter it may have been."""
    assert moved.returncode == 0
    for name in MOVED:
        assert re.search(rf"{name} \(\w+\): [0-9.]+: [0-9,]+ ms, at most [0-9,]+ ms less", moved.output), moved.output
    record = outage.read(moved.reports / "outages.jsonl")
    kinds = {each.target.kind for each in outage.outages(record, ())}
    assert kinds == {"router", "floating IP"}
    html = (moved.reports / "migrate.html").read_text(encoding="utf-8")
    assert "provider-router" in html
    assert len(html) < 2_000_000


@pytest.fixture(scope="module")
def proved(moved: PhaseRun) -> PhaseRun:
    assert moved.returncode == 0
    return phase("tests_post")


def test_the_host_can_be_taken_down(proved: PhaseRun) -> None:
    assert proved.returncode == 0, proved.summary
    assert f"SAFE: {FROM} can be taken down" in proved.output
    compared = json.loads((proved.reports / "comparison.json").read_text(encoding="utf-8"))
    fates = {each["fate"] for each in compared["content"]["cells"]}
    assert fates == {"kept"}


def test_everything_comes_home(routed: Lab, proved: PhaseRun, places: dict[str, list[str]]) -> None:
    assert proved.returncode == 0
    run = phase("tests_migrate", "--rollback", "--parallel=2")
    assert run.returncode == 0, run.summary
    assert "ROLLED BACK: everything is as it was" in run.output
    cloud = routed.cloud()
    assert agents_of_routers(cloud) == places
    (agent,) = cloud.network.agents(agent_type="L3 agent", host=FROM)
    assert agent.is_admin_state_up


def test_a_target_that_is_disabled_gets_nothing(routed: Lab, proved: PhaseRun, places: dict[str, list[str]]) -> None:
    """Nothing is taken away for it."""
    assert proved.returncode == 0
    assert phase("-m", "pre", f"--from={FROM}", "--to=infra1").returncode == 0
    cloud = routed.cloud()
    run = phase_without(cloud, "infra1")
    assert run.returncode == 1
    assert next(iter(run.with_result("failed"))) == "test_the_plan_can_be_done"
    assert "infra1: its L3 agent is disabled" in run.output
    now = agents_of_routers(cloud)
    assert {name: now[name] for name in MOVED} == {name: places[name] for name in MOVED}


def test_a_router_that_is_not_built_comes_back(
    routed: Lab, proved: PhaseRun, places: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent that gets it dies at that very moment, when Neutron still calls it alive; the others are not begun."""
    assert proved.returncode == 0
    site = tmp_path / "site.toml"
    text = SITE.joinpath("site.toml").read_text(encoding="utf-8")
    site.write_text(text.replace("[limits]", "[limits]\nsettle_seconds = 30"), encoding="utf-8")
    faults = [["4 move routers/move/", "infra1", ["systemctl", "stop", "neutron-l3-agent"]]]
    monkeypatch.setenv(saboteur.VARIABLE, json.dumps(faults))
    try:
        run = phase("tests_migrate", f"--site={site}", "-p", "tests.torture.saboteur")
    finally:
        routed.ssh("infra1", "sudo systemctl start neutron-l3-agent", timeout=400)
    assert run.returncode == 1
    (message,) = run.with_result("failed").values()
    assert "built on infra1: not within 30 s" in message
    assert "not begun, since another has failed" in message
    assert "was put back on infra3" in run.output
    now = agents_of_routers(routed.cloud())
    assert {name: now[name] for name in MOVED} == {name: places[name] for name in MOVED}
