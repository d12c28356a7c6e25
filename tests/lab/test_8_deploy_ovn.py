"""The lab's deployer: an Ansible playbook that turns the services to OVN, as operators' deployers do; here run once more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.lab.conftest import Lab

pytestmark = pytest.mark.usefixtures("deployed")


def deploy(lab: Lab, *options: str) -> subprocess.CompletedProcess[str]:
    deployment = lab.site["deployment"]
    program = Path(sys.executable).with_name("ansible-playbook")
    return subprocess.run(
        [str(program), "-i", deployment["inventory"], deployment["playbook"], *options],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false"},
    )


def southbound(lab: Lab, table: str, columns: str) -> list[list[str]]:
    """Rows of a table of OVN's southbound database."""
    command = ["sudo", "ovn-sbctl", f"--db={lab.site['ovn']['southbound']}", "--format=json", f"--columns={columns}"]
    found: list[list[str]] = json.loads(lab.ssh("infra1", *command, "list", table).stdout)["data"]
    return found


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> subprocess.CompletedProcess[str]:
    return deploy(lab)


def test_the_playbook_goes_through(deployed: subprocess.CompletedProcess[str]) -> None:
    assert deployed.returncode == 0, deployed.stdout[-3000:] + deployed.stderr
    assert "failed=0" in deployed.stdout


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    again = deploy(lab)
    assert again.returncode == 0, again.stdout[-3000:]
    changed = re.findall(r"changed=(\d+)", again.stdout)
    assert len(changed) == 5
    assert set(changed) == {"0"}, again.stdout


def test_every_host_is_a_chassis_by_its_own_name_with_geneve(lab: Lab) -> None:
    rows = southbound(lab, "Chassis", "name,hostname")
    hosts = {"infra1", "infra2", "infra3", "compute1", "compute2"}
    assert {name for name, _hostname in rows} == {hostname for _name, hostname in rows} == hosts
    encaps = southbound(lab, "Encap", "type,ip")
    assert {kind for kind, _ip in encaps} == {"geneve"}
    assert {ip for _kind, ip in encaps} == {f"198.18.1.{index}" for index in (11, 12, 13, 21, 22)}


def test_bridges_mappings_and_gateways(lab: Lab) -> None:
    for host in ("infra1", "infra2", "infra3", "compute1", "compute2"):
        settings = lab.ssh(host, "sudo ovs-vsctl get open_vswitch . external-ids").stdout
        mappings = re.search(r'ovn-bridge-mappings="([^"]*)"', settings)
        assert mappings, settings
        for mapping in mappings[1].split(","):
            bridge = mapping.split(":")[1]
            assert lab.ssh(host, "sudo", "ovs-vsctl", "list-ports", bridge).stdout.split(), (
                f"{bridge} on {host} has no NIC"
            )
        assert ("enable-chassis-as-gw" in settings) == host.startswith("infra")


def test_tunnel_addresses_still_reach_each_other(lab: Lab) -> None:
    for index in (12, 13, 21, 22):
        result = lab.ssh("infra1", f"ping -c2 -W2 -M do -s 1472 198.18.1.{index}")
        assert result.returncode == 0, result.stdout


def test_neutron_lists_the_ovn_agents(lab: Lab) -> None:
    """As the issue of a uwsgi server has shown, this takes a server that reads the southbound database."""
    wanted = {("OVN Controller Gateway agent", f"infra{number}") for number in (1, 2, 3)}
    wanted |= {
        (kind, f"compute{number}") for number in (1, 2) for kind in ("OVN Controller agent", "OVN Metadata agent")
    }

    def alive() -> set[tuple[str, str]]:
        return {(agent.agent_type, agent.host) for agent in lab.cloud().network.agents() if agent.is_alive}

    Retrying(
        retry=retry_if_result(lambda found: not wanted <= found),
        stop=stop_after_delay(90),
        wait=wait_fixed(2),
        retry_error_callback=lambda _state: None,
    )(alive)
    assert wanted <= alive()
