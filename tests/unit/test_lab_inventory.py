"""The lab's generator of inventories: the part of OpenStack-Ansible's own that the lab's files use."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import layout, paths

SOURCE = layout.SOURCE / "openstack_ansible" / "inventory"
GENERATOR = SOURCE / "dynamic_inventory.py"
PARTS = runpy.run_path(str(GENERATOR))
CONFIG: dict[str, Any] = {
    "global_overrides": {"provider_networks": [{"network": {"type": "vxlan"}}]},
    "network-infra_hosts": {"infra1": {"ip": "192.0.2.1"}},
    "network-agent_hosts": {
        "infra1": {"ip": "192.0.2.1"},
        "infra2": {"ip": "192.0.2.2", "host_vars": {"tunnel_address": "198.51.100.2"}},
    },
    "compute_hosts": {"compute1": {"ip": "192.0.2.3"}},
    "storage_hosts": None,
}
# What OpenStack-Ansible's own generator makes of the two files of env.d that are staged on Zed.
STAGED: dict[str, Any] = {
    "container_skel": {
        "neutron_agents_container": {"contains": {}},
        "nova_compute_container": {"contains": ["neutron_ovn_controller", "neutron_ovn_gateway", "nova_compute"]},
    }
}


def skeletons(more: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = PARTS["merged"](PARTS["environment"]([SOURCE / "env.d"]), more or {})
    return found


def generated(config: dict[str, Any], more: dict[str, Any] | None = None, kept: dict[str, Any] | None = None) -> Any:
    return PARTS["generate"](config, skeletons(more), kept if kept is not None else {})


def test_hosts_are_in_the_groups_of_what_their_containers_hold() -> None:
    made = generated(CONFIG)
    assert made["neutron_server"]["hosts"] == ["infra1"]
    assert made["neutron_l3_agent"]["hosts"] == ["infra1", "infra2"]
    assert sorted(made["neutron_linuxbridge_agent"]["hosts"]) == ["compute1", "infra1", "infra2"]
    assert "network-agent_hosts" in made["network_hosts"]["children"]
    assert made["all"]["vars"]["provider_networks"] == [{"network": {"type": "vxlan"}}]
    assert made["_meta"]["hostvars"]["infra2"] == {
        "ansible_host": "192.0.2.2",
        "management_address": "192.0.2.2",
        "physical_host": "infra2",
        "tunnel_address": "198.51.100.2",
    }


def test_what_is_staged_makes_chassis_of_hypervisors_only() -> None:
    made = generated(CONFIG, STAGED)
    assert made["neutron_ovn_controller"]["hosts"] == ["compute1"]
    for group in ("neutron_l3_agent", "neutron_dhcp_agent", "neutron_linuxbridge_agent", "neutron_metadata_agent"):
        assert made[group]["hosts"] == [], group


def test_nobody_leaves_a_group_by_being_left_out() -> None:
    """So that the agents' members have to be taken out of the inventory by whoever stages."""
    made = generated(CONFIG, STAGED, kept=generated(CONFIG))
    assert sorted(made["neutron_linuxbridge_agent"]["hosts"]) == ["compute1", "infra1", "infra2"]


@pytest.mark.parametrize(
    ("skeleton", "says"),
    [
        ({"contains": ["opendaylight"]}, "nova_compute_container contains opendaylight, which no component_skel has"),
        ({"properties": {"is_metal": False}}, "nova_compute_container is not on metal"),
    ],
)
def test_what_it_can_not_make_is_refused(skeleton: dict[str, Any], says: str) -> None:
    with pytest.raises(PARTS["ConfigurationError"], match=says):
        generated(CONFIG, {"container_skel": {"nova_compute_container": skeleton}})


def deploy_host(tmp_path: Path) -> Path:
    directory = tmp_path / "openstack_deploy"
    directory.mkdir()
    (directory / "openstack_user_config.yml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return directory


def listed(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(GENERATOR), "--config", str(directory), "--list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_keeps_what_it_prints_and_the_next_run_changes_nothing(tmp_path: Path) -> None:
    directory = deploy_host(tmp_path)
    first = listed(directory)
    assert first.returncode == 0, first.stderr
    kept = directory / "openstack_inventory.json"
    assert json.loads(kept.read_text(encoding="utf-8")) == json.loads(first.stdout)
    written = kept.stat().st_mtime_ns
    assert listed(directory).stdout == first.stdout
    assert kept.stat().st_mtime_ns == written
    assert sorted(path.name for path in directory.iterdir()) == [
        "openstack_inventory.json",
        "openstack_user_config.yml",
    ]


@pytest.mark.parametrize("text", ["- a list", "a: [", "compute_hosts: {compute1: {}}"])
def test_a_configuration_that_says_nothing_it_understands_is_an_error(tmp_path: Path, text: str) -> None:
    directory = deploy_host(tmp_path)
    (directory / "openstack_user_config.yml").write_text(text, encoding="utf-8")
    done = listed(directory)
    assert done.returncode == 1
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert not (directory / "openstack_inventory.json").exists()


def test_the_checkout_has_all_that_its_playbooks_include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHECKOUT", "GENERATOR", "REMOVE"):
        place = getattr(layout, name).relative_to(paths.SITE)
        monkeypatch.setattr(layout, name, tmp_path / place)
    layout._write_checkout()  # noqa: SLF001
    assert (
        (tmp_path / "openstack-ansible/inventory/dynamic_inventory.py").read_text().startswith(f"#!{sys.executable}\n")
    )
    playbook = shutil.which("ansible-playbook", path=str(Path(sys.executable).parent))
    assert playbook is not None
    for path in sorted((tmp_path / "openstack-ansible/playbooks").glob("*.yml")):
        done = subprocess.run(
            [playbook, "--syntax-check", "-i", "infra1,", str(path)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (path, done.stderr)


GENEVE = {"type": "geneve", "range": "1:1000", "net_name": "geneve", "container_bridge": "br-vxlan"}
FLAT = {"type": "flat", "net_name": "flat", "container_bridge": "br-flat", "network_interface": "veth2"}
VLAN = {"type": "vlan", "range": "1:1", "net_name": "vlan", "container_bridge": "br-ex", "network_interface": "eth3"}
CHASSIS = ["neutron_ovn_controller"]
# What a staged directory says, and what of it os-neutron-install.yml deploys by.
STAGED_VARIABLES: dict[str, Any] = {
    "neutron_plugin_type": "ml2.ovn",
    "neutron_plugin_base": ["neutron.services.ovn_l3.plugin.OVNL3RouterPlugin", "qos"],
    "neutron_ml2_drivers_type": "geneve,vxlan,vlan,flat",
    "provider_networks": [{"network": {**each, "group_binds": CHASSIS}} for each in (GENEVE, FLAT, VLAN)],
}
BY_ALL: dict[str, Any] = {
    "ovn": True,
    "service_plugins": "neutron.services.ovn_l3.plugin.OVNL3RouterPlugin,qos",
    "type_drivers": "geneve,vxlan,vlan,flat",
    "tenant_network_types": "geneve",
    "geneve_ranges": "1:1000",
    "flat_networks": ["flat"],
    "vlan_ranges": ["vlan:1:1"],
    "physical_networks": [
        {"name": "flat", "bridge": "br-flat", "interface": "veth2"},
        {"name": "vlan", "bridge": "br-ex", "interface": "eth3"},
    ],
}


def networks(*each: dict[str, Any]) -> dict[str, Any]:
    return {"provider_networks": [{"network": {"group_binds": CHASSIS, **network}} for network in each]}


@pytest.mark.parametrize(
    ("changed", "comes_out"),
    [
        ({}, {}),
        ({"neutron_plugin_type": "ml2.lxb"}, {"ovn": False}),
        ({"neutron_plugin_base": ["router", "qos"]}, {"service_plugins": "router,qos"}),
        ({"neutron_ml2_drivers_type": "vxlan,vlan,flat"}, {"type_drivers": "vxlan,vlan,flat"}),
        (
            networks({**GENEVE, "type": "vxlan"}, FLAT, VLAN),
            {"geneve_ranges": "", "tenant_network_types": "vxlan"},
        ),
        (
            networks(GENEVE, {**FLAT, "group_binds": ["neutron_linuxbridge_agent"]}, VLAN),
            {"flat_networks": [], "physical_networks": BY_ALL["physical_networks"][1:]},
        ),
        (
            networks(GENEVE, FLAT, {key: value for key, value in VLAN.items() if key != "network_interface"}),
            {
                "physical_networks": [
                    BY_ALL["physical_networks"][0],
                    {"name": "vlan", "bridge": "br-ex", "interface": ""},
                ]
            },
        ),
    ],
    ids=["as staged", "plugin type", "plugins", "types", "vxlan", "a network bound to the old agent", "no interface"],
)
def test_a_line_that_is_not_staged_comes_out_wrong(
    tmp_path: Path, changed: dict[str, Any], comes_out: dict[str, Any]
) -> None:
    told, playbook = tmp_path / "told.json", tmp_path / "playbook.yml"
    shown = ", ".join(f"'{name}': {name}" for name in BY_ALL)
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(layout.SOURCE / "openstack_ansible/playbooks/vars/neutron.yml")],
        "tasks": [{"ansible.builtin.copy": {"dest": str(told), "content": f"{{{{ {{{shown}}} | to_json }}}}"}}],
    }
    playbook.write_text(yaml.safe_dump([play]), encoding="utf-8")
    (tmp_path / "variables.json").write_text(json.dumps({**STAGED_VARIABLES, **changed}), encoding="utf-8")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            f"ansible_python_interpreter={sys.executable}",
            "-e",
            f"@{tmp_path / 'variables.json'}",
            str(playbook),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(told.read_text(encoding="utf-8")) == {**BY_ALL, **comes_out}
