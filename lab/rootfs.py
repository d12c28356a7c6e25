"""What makes a host of the image: the files of its roles, rendered, and the units that it starts."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import jinja2

from lab import blueprint, store
from lab.blueprint import Host, Mechanism, Role
from lab.image import OPERATOR
from lab.run import run

FILES = Path(__file__).resolve().parent / "files"

_GROUPS_OF_ROLE: dict[Role, tuple[str, ...]] = {
    Role.CONTROL: ("nova", "neutron", "control"),
    Role.NETWORK: ("neutron", "agents", "network"),
    Role.COMPUTE: ("nova", "neutron", "agents", "compute"),
    Role.EDGE: ("edge",),
}
# Configuration holds passwords: it belongs to root and may be read by the service's group.
_GROUP_OF_FOLDER = {name: name for name in ("keystone", "glance", "placement", "nova", "neutron", "rabbitmq")}
_SECRET_PROGRAMS = {"lab-databases", "lab-identity"}


@dataclass(frozen=True)
class Plan:
    """Everything that the files of the hosts are rendered from."""

    record: store.Record
    secrets: store.Secrets

    def variables(self, host: Host) -> dict[str, object]:
        """The names that templates may use."""
        nics = [nic.name for nic in blueprint.nics_of(host, vlan=self.record.vlan)]
        return {
            "host": host,
            "hosts": blueprint.HOSTS,
            "addresses": self.record.addresses,
            "secrets": self.secrets,
            "vlan": self.record.vlan,
            "kvm": self.record.kvm,
            "mechanism": self.record.mechanism.value,
            "bridges": blueprint.bridges(vlan=self.record.vlan),
            "control": Role.CONTROL in host.roles,
            "network": Role.NETWORK in host.roles,
            "edge": Role.EDGE in host.roles,
            "provider_nics": [nic for nic in nics if nic not in ("eth0", "eth1")],
            "provider_networks": blueprint.PROVIDER_NETWORKS,
            "physical_networks": blueprint.physical_networks(vlan=self.record.vlan),
            "underlay_mtu": blueprint.UNDERLAY_MTU,
            "internet": blueprint.INTERNET,
            "project": blueprint.PROJECT,
        }


def groups_of(host: Host, mechanism: Mechanism = Mechanism.LINUXBRIDGE) -> list[str]:
    """The folders of ``lab/files`` that a host is made of; where two have the same file, the later one's stands."""
    groups = ["every"]
    for role in (Role.CONTROL, Role.NETWORK, Role.COMPUTE, Role.EDGE):
        if role in host.roles:
            groups.extend(_GROUPS_OF_ROLE[role])
    if host.has_tunnel:
        groups.append(mechanism.value)
    return list(dict.fromkeys(groups))


def templates(loader: jinja2.BaseLoader | None = None) -> jinja2.Environment:
    """The templates; a name that is not defined is an error, not an empty string.

    Args:
        loader: where they are; ``lab/files`` unless told.
    """
    return jinja2.Environment(
        loader=loader or jinja2.FileSystemLoader(FILES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701, these are configuration files, not HTML
    )


def furnish(host: Host, root: Path, plan: Plan) -> None:
    """Write a host's files into its root and enable its units.

    Args:
        host: the host.
        root: its mounted root; nothing may run in it.
        plan: what its files are rendered from.
    """
    groups = _group_ids(plan.record.image / "rootfs")
    environment = templates()
    variables = plan.variables(host)
    for group in groups_of(host, plan.record.mechanism):
        for source in sorted((FILES / group).rglob("*")):
            if not source.is_file():
                continue
            relative = source.relative_to(FILES / group)
            text = environment.get_template(str(Path(group) / relative)).render(variables)
            _write(root / relative, relative, text, groups)
    identity = store.identity_of(plan.record)
    machine_id = hashlib.sha256(f"ovnshift-lab {host.name}".encode()).hexdigest()[:32]
    _write(root / "etc/machine-id", Path("etc/machine-id"), machine_id + "\n", groups)
    for name in ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"):
        target = root / "etc/ssh" / name
        shutil.copy(identity / f"{host.name}_{name}", target)
        target.chmod(0o644 if name.endswith(".pub") else 0o600)
    home = root / "home" / OPERATOR
    owner = home.stat()
    authorized = home / ".ssh" / "authorized_keys"
    authorized.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(identity / "id_ed25519.pub", authorized)
    for path in (authorized.parent, authorized):
        os.chown(path, owner.st_uid, owner.st_gid)
    run(
        ["systemctl", f"--root={root}", "enable", "--quiet", *blueprint.units_of(host, plan.record.mechanism)],
        where=host.name,
    )


def _write(target: Path, relative: Path, text: str, groups: dict[str, int]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    group = _GROUP_OF_FOLDER.get(relative.parts[1]) if relative.parts[0] == "etc" and len(relative.parts) > 2 else None
    if relative.name in _SECRET_PROGRAMS:
        os.chown(target, 0, 0)
        target.chmod(0o700)
    elif relative.parent.name in ("bin", "sbin"):
        target.chmod(0o755)
    elif group is not None:
        os.chown(target, 0, groups[group])
        target.chmod(0o640)
    else:
        target.chmod(0o644)


def _group_ids(rootfs: Path) -> dict[str, int]:
    lines = (rootfs / "etc/group").read_text(encoding="utf-8").splitlines()
    return {fields[0]: int(fields[2]) for fields in (line.split(":") for line in lines)}
