"""The lab as OpenStack-Ansible lays out a cloud: this machine is the deploy host, and hosts have its virtual environments.

What is deployed is the same cloud. Neutron's programs move to where OpenStack-Ansible has them, and this machine gets a directory
as ``/etc/openstack_deploy``, a checkout with a generator of inventories and playbooks, and the commands ``openstack-ansible`` and
``ansible``.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import jinja2

from lab import blueprint, host, paths, rootfs, store
from lab.blueprint import Host, Role
from lab.image import OPERATOR
from lab.run import run

SOURCE = Path(__file__).resolve().parent / "deploy"
DIRECTORY = paths.SITE / "openstack_deploy"
CHECKOUT = paths.SITE / "openstack-ansible"
PROGRAMS = paths.SITE / "bin"
REMOVE = CHECKOUT / "playbooks" / "ovn-remove.yml"
GENERATOR = CHECKOUT / "inventory" / "dynamic_inventory.py"
BRIDGE_NOW, BRIDGE_THEN = "br-vlan", "br-ex"

_NEUTRON = "--config-file=/etc/neutron/neutron.conf"
_ML2 = "--config-file=/etc/neutron/plugins/ml2"
# Programs with their arguments, as their units give them.
_UNITS = {
    "neutron-server": f"{_NEUTRON} {_ML2}/ml2_conf.ini",
    "neutron-linuxbridge-agent": f"{_NEUTRON} {_ML2}/ml2_conf.ini {_ML2}/linuxbridge_agent.ini",
    "neutron-l3-agent": f"{_NEUTRON} --config-dir=/etc/neutron/agent.conf.d --config-file=/etc/neutron/l3_agent.ini",
    "neutron-dhcp-agent": f"{_NEUTRON} --config-file=/etc/neutron/dhcp_agent.ini",
    "neutron-metadata-agent": f"{_NEUTRON} --config-file=/etc/neutron/metadata_agent.ini",
    "neutron-ovn-metadata-agent": f"{_NEUTRON} --config-file=/etc/neutron/neutron_ovn_metadata_agent.ini",
}
_OTHERS = ("neutron-ovn-db-sync-util", "neutron-rpc-server", "neutron-api")
# A unit that the host does not have gets no drop-in: systemd would take that for a unit.
_LAY_OUT = """\
set -eu
version=$(dpkg-query --show --showformat='${Version}' neutron-common | sed 's/^[0-9]*://; s/-.*//')
[ -n "$version" ]
venv=/openstack/venvs/neutron-$version/bin
mkdir -p "$venv"
move() {
    if [ -e "/usr/bin/$1" ]; then mv "/usr/bin/$1" "$venv/$1"; fi
}
unit() {
    move "$1"
    name=$1 && shift
    systemctl cat "$name.service" >/dev/null 2>&1 || return 0
    mkdir -p "/etc/systemd/system/$name.service.d"
    printf '[Service]\\nExecStart=\\nExecStart=%s %s\\n' "$venv/$name" "$*" \
        > "/etc/systemd/system/$name.service.d/openstack-ansible.conf"
}
"""


def bridges_now(*, vlan: bool) -> list[str]:
    """The bridges of the physical networks, as an operator called them who had no Open vSwitch in mind."""
    return [bridge.replace(BRIDGE_THEN, BRIDGE_NOW) for bridge, _ in blueprint.bridges(vlan=vlan).values()]


def lay_out(each: Host) -> None:
    """Put a host's programs of Neutron where OpenStack-Ansible has them; what is there already stays. What runs runs on.

    Raises:
        LabError: it can't be done; the message says why.
    """
    lines = [f"unit {name} {arguments}" for name, arguments in _UNITS.items()]
    lines += [f"move {name}" for name in _OTHERS]
    host.execute(each, "sh", "-s", stdin="\n".join([_LAY_OUT, *lines, "systemctl daemon-reload", ""]))


def write(record: store.Record, secrets: store.Secrets, *, anew: bool) -> None:
    """Make this machine a deploy host, in the lab's own directory.

    Args:
        record: the lab.
        secrets: its passwords.
        anew: throw away what is in the directory; else one that is there is left alone, since somebody may have staged in it.
    """
    _write_checkout()
    variables = {
        "addresses": record.addresses,
        "bridges": dict(
            zip(blueprint.physical_networks(vlan=record.vlan).items(), bridges_now(vlan=record.vlan), strict=True)
        ),
        "checkout": CHECKOUT,
        "control": blueprint.CONTROL,
        "directory": DIRECTORY,
        "groups": {role: blueprint.with_role(role) for role in Role},
        "known_hosts": paths.SITE / "known_hosts",
        "operator": OPERATOR,
        "private_key": paths.SITE / "id_ed25519",
        "provider_nics": list(blueprint.physical_networks(vlan=record.vlan).values()),
        "programs": Path(sys.executable).parent,
        "secrets": secrets,
        "tunnel_interface": "eth1",
        "tunnel_network": blueprint.TUNNEL,
        "underlay_mtu": blueprint.UNDERLAY_MTU,
        "vlan": record.vlan,
    }
    _render(SOURCE / "openstack_ansible" / "scripts", PROGRAMS, variables, mode=0o755)
    if DIRECTORY.exists() and not anew:
        return
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    partial = DIRECTORY.with_name(f".{DIRECTORY.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _render(SOURCE / "openstack_ansible" / "deploy", partial, variables, mode=0o600)
    run([str(GENERATOR), "--config", str(partial), "--list"], env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    partial.rename(DIRECTORY)


def _write_checkout() -> None:
    shutil.rmtree(CHECKOUT, ignore_errors=True)
    shutil.copytree(SOURCE / "openstack_ansible" / "inventory", CHECKOUT / "inventory")
    shutil.copytree(SOURCE / "openstack_ansible" / "playbooks", CHECKOUT / "playbooks")
    for part in ("tasks", "templates"):
        shutil.copytree(SOURCE / part, CHECKOUT / "playbooks" / part)
    shutil.copy(SOURCE / "back.yml", REMOVE)
    # The interpreter that has what it needs, as bootstrap-ansible.sh names it; and the lab's directory in the place of /etc's.
    text = GENERATOR.read_text(encoding="utf-8").partition("\n")[2].replace("/etc/openstack_deploy", str(DIRECTORY))
    paths.write_atomically(GENERATOR, f"#!{sys.executable}\n{text}", mode=0o755)


def _render(source: Path, target: Path, variables: dict[str, object], *, mode: int) -> None:
    environment = rootfs.templates(jinja2.FileSystemLoader(source))
    for path in sorted(source.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(source))
            paths.write_atomically(target / name, environment.get_template(name).render(variables), mode=mode)
