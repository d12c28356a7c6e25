from __future__ import annotations

import sys
from pathlib import Path

from ovnshift.deployments.openstack_ansible.directory import (
    ENV_NEUTRON,
    ENV_NOVA,
    INVENTORY,
    NETWORK_HOSTS,
    USER_CONFIG,
    USER_VARIABLES,
)
from tests.unit.test_site import GOOD

HERE = Path(__file__).parent
NAMES = {
    USER_VARIABLES: "user_variables",
    NETWORK_HOSTS: "network_hosts",
    ENV_NEUTRON: "env_neutron",
    ENV_NOVA: "env_nova",
    USER_CONFIG: "user_config",
    INVENTORY: "inventory",
}
PIN = "neutron_git_install_branch: {0}-eom\nneutron_git_track_branch: stable/{0}\n"


def before(name: str) -> str:
    return _text(name, "before")


def after(name: str) -> str:
    return _text(name, "after")


def _text(name: str, when: str) -> str:
    return (HERE / f"{NAMES[name]}.{when}.{'json' if name == INVENTORY else 'yml'}").read_text(encoding="utf-8")


def deploy_host(root: Path, *, release: str = "2024.2", options: str = "") -> Path:
    """A deploy host's directory and checkout below root, with a site file beside them.

    Returns:
        The site file.
    """
    deploy, checkout = root / "openstack_deploy", root / "openstack-ansible"
    for name in NAMES:
        (deploy / name).parent.mkdir(parents=True, exist_ok=True)
        (deploy / name).write_text(before(name), encoding="utf-8")
    (deploy / USER_VARIABLES).chmod(0o640)
    (deploy / "user_secrets.yml").write_text("keystone_auth_admin_password: hidden\n", encoding="utf-8")
    pin = checkout / "inventory" / "group_vars" / "neutron_all" / "source_git.yml"
    pin.parent.mkdir(parents=True)
    pin.write_text(PIN.format(release), encoding="utf-8")
    (root / "clouds.yaml").write_text("clouds: {}\n", encoding="utf-8")
    site = root / "site.toml"
    lines = f'kind = "openstack-ansible"\ndirectory = "{deploy}"\ncheckout = "{checkout}"\n{options}'
    text = GOOD.replace('kind = "kolla-ansible"', lines).replace(
        '"mycloud"', f'"mycloud"\nclouds_file = "{root}/clouds.yaml"', 1
    )
    site.write_text(text, encoding="utf-8")
    return site


def install_generator(root: Path) -> Path:
    """Put a generator into the checkout that puts hosts into groups by env.d, as far as the tests look at it."""
    program = root / "openstack-ansible" / "inventory" / "dynamic_inventory.py"
    text = (HERE / "generator.py").read_text(encoding="utf-8")
    program.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    program.chmod(0o755)
    return program
