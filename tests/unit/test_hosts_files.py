from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

from lab import blueprint, guest, image, rootfs, store
from lab.blueprint import Host, Mechanism


def plan(tmp_path: Path, *, vlan: bool, kvm: bool = False, mechanism: Mechanism = Mechanism.LINUXBRIDGE) -> rootfs.Plan:
    record = store.Record(
        checkout=tmp_path,
        image=tmp_path / "image",
        kept=tmp_path / "kept",
        vlan=vlan,
        kvm=kvm,
        mechanism=mechanism,
    )
    return rootfs.Plan(record, store.Secrets.make())


def rendered(host: Host, plan: rootfs.Plan) -> dict[str, str]:
    files: dict[str, str] = {}
    environment = rootfs.templates()
    for group in rootfs.groups_of(host, plan.record.mechanism):
        for source in (rootfs.FILES / group).rglob("*"):
            if source.is_file():
                name = source.relative_to(rootfs.FILES)
                text = environment.get_template(str(name)).render(plan.variables(host))
                files["/" + str(source.relative_to(rootfs.FILES / group))] = text
    return files


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("vlan", [False, True])
@pytest.mark.parametrize("host", blueprint.HOSTS, ids=lambda host: host.name)
def test_every_file_renders_and_every_ini_parses(
    host: Host, tmp_path: Path, mechanism: Mechanism, *, vlan: bool
) -> None:
    files = rendered(host, plan(tmp_path, vlan=vlan, mechanism=mechanism))
    for name, text in files.items():
        assert "{{" not in text, name
        assert "{%" not in text, name
        if name.endswith((".conf", ".ini")) and name.startswith(
            ("/etc/nova", "/etc/neutron", "/etc/glance", "/etc/keystone")
        ):
            parser = configparser.RawConfigParser(strict=True)  # a section that comes twice is an error
            parser.read_string(text, name)


def test_flat_provider_networks_are_mapped_to_their_nics(tmp_path: Path) -> None:
    files = rendered(blueprint.CONTROL, plan(tmp_path, vlan=False))
    assert (
        "physical_interface_mappings = vlan100:eth2,vlan200:eth3\n"
        in files["/etc/neutron/plugins/ml2/linuxbridge_agent.ini"]
    )
    assert "flat_networks = vlan100,vlan200\n" in files["/etc/neutron/plugins/ml2/ml2_conf.ini"]


def test_vlan_provider_networks_share_a_nic(tmp_path: Path) -> None:
    files = rendered(blueprint.CONTROL, plan(tmp_path, vlan=True))
    assert "physical_interface_mappings = vlan:eth2\n" in files["/etc/neutron/plugins/ml2/linuxbridge_agent.ini"]
    assert "network_vlan_ranges = vlan:1:4094\n" in files["/etc/neutron/plugins/ml2/ml2_conf.ini"]
    edge = rendered(blueprint.EDGE, plan(tmp_path, vlan=True))["/etc/network/interfaces"]
    assert "iface eth2.100 inet static" in edge
    assert "type vlan id 200" in edge


def test_compute_hosts_have_no_database_login(tmp_path: Path) -> None:
    for host in blueprint.HOSTS[1:]:
        for name, text in rendered(host, plan(tmp_path, vlan=False)).items():
            assert "mysql+pymysql" not in text, f"{name} on {host.name}"


def test_an_undefined_name_in_a_template_is_an_error(tmp_path: Path) -> None:
    template = rootfs.templates().from_string("{{ no_such_name }}")
    with pytest.raises(Exception, match="no_such_name"):
        template.render(plan(tmp_path, vlan=False).variables(blueprint.CONTROL))


SCRIPTS = [
    path
    for folder in (guest.FILES, image.RECIPE, rootfs.FILES)
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash"))
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse(script: Path, tmp_path: Path) -> None:
    text = script.read_text(encoding="utf-8")
    if script.is_relative_to(rootfs.FILES):
        variables = plan(tmp_path, vlan=False).variables(blueprint.CONTROL)
        text = rootfs.templates().get_template(str(script.relative_to(rootfs.FILES))).render(variables)
    result = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_packages_are_pinned_where_the_version_matters() -> None:
    pinned = {line.split("=")[0] for line in image.packages() if "=" in line}
    assert {
        "neutron-linuxbridge-agent",
        "nova-compute",
        "ovn-central",
        "openvswitch-switch",
        "mariadb-server",
    } <= pinned
