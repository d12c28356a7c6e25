from __future__ import annotations

import os
from pathlib import Path

import pytest

from ovnshift.deployments.openstack_ansible.directory import (
    ENV_NEUTRON,
    FILES,
    INVENTORY,
    NETWORK_HOSTS,
    USER_CONFIG,
    USER_VARIABLES,
    Directory,
    drift,
    staging_in,
)
from ovnshift.deployments.openstack_ansible.release import SUPPORTED
from ovnshift.deployments.staging import StagingError
from ovnshift.site import Site, SiteError, load
from tests.unit.osa.deploy_host import before, deploy_host

NEWEST = SUPPORTED[-1]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return load(deploy_host(tmp_path))


def planned(site: Site) -> dict[str, str]:
    plan = Directory(site).plan(NEWEST)
    assert not plan.refusals
    return {name: change.after.decode() for name, change in plan.changes.items()}


def refusal(site: Site) -> str:
    (one,) = Directory(site).plan(NEWEST).refusals
    return str(one)


def test_all_six_files_are_planned_with_the_inventory_last(site: Site) -> None:
    assert list(planned(site)) == list(FILES)
    assert FILES[-1] == INVENTORY
    assert all(change.needed for change in Directory(site).plan(NEWEST).changes.values())


@pytest.mark.parametrize(
    ("group", "wanted"),
    [
        ("network_hosts", "- network_containers"),
        ("network-infra_hosts", "- network-infra_containers"),
        ("network-northd_hosts", None),
    ],
)
def test_northd_goes_where_hosts_are(site: Site, group: str, wanted: str | None) -> None:
    path = site.deployment.directory / USER_CONFIG
    path.write_text(before(USER_CONFIG).replace("network_hosts: *", f"{group}: *"), encoding="utf-8")
    (site.deployment.directory / ENV_NEUTRON).unlink()
    made = planned(site)[ENV_NEUTRON]
    assert ("neutron_ovn_northd_container" in made) == (wanted is not None)
    assert wanted is None or wanted in made


def test_hosts_in_conf_d_count_as_well(site: Site) -> None:
    path = site.deployment.directory / USER_CONFIG
    path.write_text(before(USER_CONFIG).replace("network_hosts: *", "storage_hosts: *"), encoding="utf-8")
    assert "no hosts for ovn-northd" in refusal(site)
    (site.deployment.directory / "conf.d").mkdir()
    (site.deployment.directory / "conf.d" / "net.yml").write_text("network_hosts: {a: {ip: 192.0.2.1}}\n")
    assert "- network_containers" in planned(site)[ENV_NEUTRON]


def test_variables_of_the_group_may_have_an_ending(site: Site) -> None:
    plain = site.deployment.directory / NETWORK_HOSTS
    plain.rename(plain.with_name("network_hosts.yml"))
    assert Directory(site).plan(NEWEST).changes[NETWORK_HOSTS].path.name == "network_hosts.yml"
    plain.touch()
    assert "stands beside network_hosts.yml" in refusal(site)
    plain.unlink()
    plain.mkdir()
    assert "is a directory" in refusal(site)


def test_text_in_another_encoding_is_refused_with_its_line(site: Site) -> None:
    (site.deployment.directory / USER_VARIABLES).write_bytes(b"a: 1\nb: \xe4\n")
    assert "user_variables.yml, line 2: is no UTF-8 text" in refusal(site)


def test_full_names_are_those_of_the_inventorys_short_ones(site: Site) -> None:
    hosts = {"infra1.example.org": "ssh://infra1", "compute9": "ssh://compute9"}
    groups = {"control": ["infra1.example.org"], "network": ["infra1.example.org"], "compute": ["compute9"]}
    other = Site.model_validate({**site.model_dump(exclude_unset=True), "hosts": hosts, "groups": groups})
    assert Directory(other).strangers() == ["compute9"]


def test_comments_speak_of_linuxbridge_as_they_like(site: Site) -> None:
    (site.deployment.directory / "user_more.yml").write_text("x: 1 # ml2.lxb\n# neutron_plugin_type: ml2.lxb\n")
    assert Directory(site).elsewhere() == []


def test_a_directory_that_may_not_be_read_is_an_error_that_says_so(site: Site) -> None:
    site.deployment.directory.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(StagingError, match="can't be looked into: Permission denied"):
            Directory(site)
    finally:
        os.seteuid(0)


def test_drift_is_what_is_not_staged_or_not_any_more(site: Site, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    directory = Directory(site)
    staging = staging_in(directory, reports)
    assert [each.partition(": ")[2] for each in drift(site, reports)] == ["is not staged"] * 6
    changes = list(directory.plan(NEWEST).changes.values())
    staging.begin(changes)
    for change in changes:
        staging.stage(change.path)
    assert drift(site, reports) == []
    path = site.deployment.directory / USER_VARIABLES
    path.write_text(path.read_text().replace("ml2.ovn", "ml2.lxb"))
    (found,) = drift(site, reports)
    assert found.startswith(f"{path}: changed by somebody since")
    assert "-neutron_plugin_type: ml2.ovn\n+neutron_plugin_type: ml2.lxb" in found


@pytest.mark.parametrize(
    "renamed",
    [
        '{ br-vlan = "br-ex", br-flat = "br-ex" }',
        '{ br-vlan = "br-flat", br-flat = "br-ex" }',
        '{ br-vlan = "a name" }',
        '{ br-vlan = "br-with-a-long-name" }',
    ],
)
def test_bridges_that_would_be_confused_are_refused(tmp_path: Path, renamed: str) -> None:
    path = deploy_host(tmp_path, options=f"rename_bridges = {renamed}")
    with pytest.raises(SiteError, match="rename_bridges"):
        load(path)
