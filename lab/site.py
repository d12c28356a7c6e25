"""What the lab tells the suite: the files that an operator of any cloud would have. The suite reads nothing else of the lab."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from lab import blueprint, layout, paths, rootfs, store
from lab.blueprint import Role
from lab.image import OPERATOR

CLOUD_NAME = "ovnshift-lab"
SITE_FILE = paths.SITE / "site.toml"
CLOUDS = paths.SITE / "clouds.yaml"
SSH_CONFIG = paths.SITE / "ssh_config"
KNOWN_HOSTS = paths.SITE / "known_hosts"
INVENTORY = paths.SITE / "inventory.yml"
DATABASE_LOGIN = paths.SITE / "database.cnf"
PRIVATE_KEY = paths.SITE / "id_ed25519"
PLAYBOOK = Path(__file__).resolve().parent / "deploy" / "ovn.yml"


def write(record: store.Record, secrets: store.Secrets, *, anew: bool = False) -> None:
    """Write all of them; they hold logins, so only root may read them.

    Args:
        record: the lab.
        secrets: its passwords.
        anew: also what an operator may have changed since: the deploy host's directory.
    """
    paths.SITE.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity = store.identity_of(record)
    shutil.copy(store.keys(identity), PRIVATE_KEY)
    PRIVATE_KEY.chmod(0o600)
    shutil.copy(store.keys(identity).with_suffix(".pub"), PRIVATE_KEY.with_suffix(".pub"))
    paths.write_atomically(KNOWN_HOSTS, _known_hosts(record, identity))
    paths.write_atomically(CLOUDS, yaml.safe_dump(_clouds(record, secrets), sort_keys=False))
    paths.write_atomically(INVENTORY, yaml.safe_dump(_inventory(record, secrets), sort_keys=False))
    variables = {
        "addresses": record.addresses,
        "closed_port": blueprint.CLOSED_PORT,
        "cloud_name": CLOUD_NAME,
        "clouds": CLOUDS,
        "control": blueprint.CONTROL,
        "database_login": DATABASE_LOGIN,
        "edge": blueprint.EDGE,
        "groups": {role: [host.name for host in blueprint.with_role(role)] for role in Role},
        "guest_password": blueprint.GUEST_PASSWORD,
        "guest_user": blueprint.GUEST_USER,
        "hosts": blueprint.HOSTS,
        "image": blueprint.IMAGE,
        "internet": blueprint.INTERNET,
        "inventory": INVENTORY,
        "known_hosts": KNOWN_HOSTS,
        "operator": OPERATOR,
        "playbook": PLAYBOOK,
        "rollback": PLAYBOOK.with_name("back.yml"),
        "private_key": PRIVATE_KEY,
        "secrets": secrets,
        "ssh_config": SSH_CONFIG,
        "lab_veth": blueprint.LAB_VETH,
        "layout": record.layout.value,
        "bridges": layout.bridges_now(vlan=record.vlan),
        "deploy_host": layout,
    }
    environment = rootfs.templates()
    for target, template in (
        (SITE_FILE, "site/site.toml"),
        (SSH_CONFIG, "site/ssh_config"),
        (DATABASE_LOGIN, "site/database.cnf"),
    ):
        paths.write_atomically(target, environment.get_template(template).render(variables))
    if record.layout is blueprint.Layout.OPENSTACK_ANSIBLE:
        layout.write(record, secrets, anew=anew)


def _known_hosts(record: store.Record, identity: Path) -> str:
    lines = []
    for host in blueprint.HOSTS:
        kind, key = store.host_key(identity, host).with_suffix(".pub").read_text(encoding="ascii").split()[:2]
        lines.append(f"{host.name},{record.addresses.of(host)} {kind} {key}")
    return "\n".join(lines) + "\n"


def _clouds(record: store.Record, secrets: store.Secrets) -> dict[str, Any]:
    def login(user: str, password: str, project: str) -> dict[str, Any]:
        return {
            "auth": {
                "auth_url": f"http://{record.addresses.control}:5000",
                "username": user,
                "password": password,
                "project_name": project,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "region_name": "RegionOne",
            "identity_api_version": 3,
        }

    return {
        "clouds": {
            CLOUD_NAME: login("admin", secrets.admin, "admin"),
            f"{CLOUD_NAME}-{blueprint.PROJECT}": login("demo", secrets.demo, blueprint.PROJECT),
        }
    }


def _inventory(record: store.Record, secrets: store.Secrets) -> dict[str, Any]:
    hosts = {
        host.name: {"ansible_host": record.addresses.of(host), "tunnel_address": host.tunnel_address}
        for host in blueprint.HOSTS
    }
    return {
        "all": {
            "hosts": hosts,
            "vars": {
                "ansible_user": OPERATOR,
                "ansible_become": True,
                "ansible_python_interpreter": "/usr/bin/python3",
                # A module goes over the connection's standard input, without a file on the host.
                "ansible_pipelining": True,
                "ansible_ssh_private_key_file": str(PRIVATE_KEY),
                "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={KNOWN_HOSTS} -o StrictHostKeyChecking=yes",
                "control_address": record.addresses.control,
                "metadata_secret": secrets.metadata,
                "tunnel_interface": "eth1",
                "underlay_mtu": blueprint.UNDERLAY_MTU,
                "physical_networks": [
                    {"name": name, "interface": nic, "bridge": bridge}
                    for name, (bridge, nic) in blueprint.bridges(vlan=record.vlan).items()
                ],
                "provider_nics": ",".join(blueprint.physical_networks(vlan=record.vlan).values()),
                "vlan": record.vlan,
            },
            "children": {
                "control_hosts": {"hosts": {host.name: {} for host in blueprint.with_role(Role.CONTROL)}},
                "network_hosts": {"hosts": {host.name: {} for host in blueprint.with_role(Role.NETWORK)}},
                "compute_hosts": {"hosts": {host.name: {} for host in blueprint.with_role(Role.COMPUTE)}},
            },
        }
    }
