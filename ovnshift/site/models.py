"""What a site file may say. Every key is here with what is allowed; an unknown key is an error."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, NoReturn, cast

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, IPvAnyAddress, model_validator

from ovnshift.errors import OvnshiftError


def _existing_file(path: Path) -> Path:
    expanded = path.expanduser()
    if not expanded.is_file():
        raise ValueError(f"there is no file {expanded}")
    return expanded


def _connection(spec: str) -> str:
    scheme, _, rest = spec.partition("://")
    if scheme not in {"ssh", "paramiko", "ansible", "local"} or (scheme != "local" and not rest):
        raise ValueError("a connection is ssh://[USER@]HOST[:PORT], paramiko://…, ansible://HOST or local://")
    return spec


def _ovsdb(remote: str) -> str:
    for each in remote.split(","):
        if not re.fullmatch(r"(tcp|ssl):(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d{1,5}|unix:/\S+", each):
            raise ValueError("an OVSDB remote is tcp:ADDRESS:PORT, ssl:ADDRESS:PORT or unix:/PATH; several with commas")
    return remote


Group = Literal["control", "network", "compute", "chassis", "edge"]
ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
Connection = Annotated[str, AfterValidator(_connection)]
OvsdbRemote = Annotated[str, AfterValidator(_ovsdb)]
# Of openstack-ansible's arguments the first; no option.
PlaybookName = Annotated[str, Field(pattern=r"^[A-Za-z0-9/][A-Za-z0-9_./-]*$")]
# As Linux names interfaces, which a bridge is (IFNAMSIZ).
BridgeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,14}$")]
# A name of a schema is put between backticks where SQL has no parameters for it.
SchemaName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,59}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cloud(_Section):
    """[cloud]: the entry of clouds.yaml with an administrator's login."""

    name: str
    clouds_file: ExistingFile | None = None
    only_through: str | None = Field(default=None, max_length=15)
    region: str | None = None


class Ssh(_Section):
    """[ssh]: how the hosts are logged in to."""

    config: ExistingFile | None = None
    identity_file: ExistingFile | None = None
    known_hosts: ExistingFile | None = None
    inventory: ExistingFile | None = None
    sudo: bool = True
    connect_seconds: int = Field(default=10, ge=1, le=120)


class Database(_Section):
    """[database]: a login that may read and change Neutron's schema."""

    defaults_file: ExistingFile | None = None
    host: str | None = None
    port: int = Field(default=3306, ge=1, le=65535)
    user: str | None = None
    password_env: str | None = None
    ca_certificate: ExistingFile | None = None
    neutron: SchemaName = "neutron"
    scratch: SchemaName = "ovnshift_scratch"

    @model_validator(mode="after")
    def _has_a_login(self) -> Database:
        if self.defaults_file is None and not (self.host and self.user and self.password_env):
            raise ValueError("either defaults_file, or host, user and password_env")
        if self.neutron == self.scratch:
            raise ValueError("scratch must not be Neutron's own schema")
        return self


class Ovn(_Section):
    """[ovn]: where OVN's databases are, or will be."""

    northbound: OvsdbRemote
    southbound: OvsdbRemote
    private_key: ExistingFile | None = None
    certificate: ExistingFile | None = None
    ca_certificate: ExistingFile | None = None
    geneve_port: int = Field(default=6081, ge=1, le=65535)
    max_header_size: int = Field(default=38, ge=30, le=256)

    @model_validator(mode="after")
    def _has_certificates(self) -> Ovn:
        given = [self.private_key, self.certificate, self.ca_certificate]
        if "ssl:" in f"{self.northbound},{self.southbound}" and not all(given):
            raise ValueError("ssl: needs private_key, certificate and ca_certificate")
        return self


class Deployment(_Section):
    """[deployment]: who installs and configures services."""

    kind: Literal["packages", "openstack-ansible", "kolla-ansible", "devstack"]
    inventory: ExistingFile | None = None
    playbook: ExistingFile | None = None
    command: list[str] = []
    arguments: list[str] = []
    rollback: ExistingFile | None = None
    rollback_command: list[str] = []
    openstack_ansible: str = "openstack-ansible"
    playbooks: list[PlaybookName] = ["os-nova-install.yml", "os-neutron-install.yml"]
    directory: Path = Path("/etc/openstack_deploy")
    checkout: Path = Path("/opt/openstack-ansible")
    rename_bridges: dict[BridgeName, BridgeName] = {}
    sync_user: str = Field(default="neutron", pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    sync_config: list[str] = ["/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini"]

    @model_validator(mode="after")
    def _has_what_it_runs(self) -> Deployment:
        if self.kind in {"packages", "devstack"} and not (self.command or (self.inventory and self.playbook)):
            raise ValueError(f'kind = "{self.kind}" needs inventory and playbook, or command')
        if self.kind == "openstack-ansible" and not self.playbooks:
            raise ValueError("playbooks: at least one")
        chained = set(self.rename_bridges) & set(self.rename_bridges.values())
        if chained or len(set(self.rename_bridges.values())) < len(self.rename_bridges):
            raise ValueError("rename_bridges: each bridge gets a name of its own that none of them has now")
        return self


class Outside(_Section):
    """[outside]: a host in front of the cloud's gateways, and an address behind them."""

    host: str | None = None
    target: IPvAnyAddress | None = None


class Guest(_Section):
    """[[guests]]: how instances are logged in to. The first that fits an instance counts."""

    image: str | None = None
    project: str | None = None
    instance: str | None = None
    login: bool = True
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    password_env: str | None = None
    key: ExistingFile | None = None
    closed_port: int | None = Field(default=None, ge=1, le=65535)
    dhcp: bool = True
    silent: bool = False

    @model_validator(mode="after")
    def _can_log_in(self) -> Guest:
        if self.login and not (self.user and (self.password or self.password_env or self.key)):
            raise ValueError("either user with password, password_env or key, or login = false")
        return self

    def secret(self) -> str | None:
        """The password, from the file or the environment.

        Raises:
            OvnshiftError: the environment variable is not set.
        """
        if self.password_env is None:
            return self.password
        value = os.environ.get(self.password_env)
        if value is None:
            raise OvnshiftError(
                "site file, [[guests]]",
                f"{self.password_env} is not in the environment",
                f"export {self.password_env}=…",
            )
        return value


class Window(_Section):
    """[window]: when the cloud may be changed, with an offset from UTC."""

    opens: AwareDatetime
    closes: AwareDatetime

    @model_validator(mode="after")
    def _opens_before_it_closes(self) -> Window:
        if self.opens >= self.closes:
            raise ValueError("opens must be before closes")
        return self


class Limits(_Section):
    """[limits]: bounds and budgets."""

    probe_seconds: float = Field(default=2.0, gt=0, le=60)
    probe_count: int = Field(default=2, ge=1, le=20)
    banner_seconds: float = Field(default=10.0, gt=0, le=120)
    login_seconds: float = Field(default=45.0, gt=0, le=600)
    command_seconds: float = Field(default=60.0, gt=0, le=3600)
    clock_skew_seconds: float = Field(default=2.0, gt=0)
    free_megabytes: int = Field(default=500, ge=0)
    free_memory_megabytes: float = Field(default=256.0, ge=0)
    guest_pairs: int = Field(default=200, ge=0)
    parallel_logins: int = Field(default=6, ge=1, le=64)
    baseline_hours: float = Field(default=24.0, gt=0)
    parallel_routers: int = Field(default=1, ge=1, le=64)
    parallel_instances: int = Field(default=8, ge=1, le=200)
    stop_seconds: float = Field(default=180.0, gt=0, le=3600)
    start_seconds: float = Field(default=300.0, gt=0, le=3600)
    settle_seconds: float = Field(default=120.0, gt=0, le=3600)
    api_seconds: float = Field(default=180.0, ge=0, le=3600)
    deploy_seconds: float = Field(default=3600.0, gt=0, le=86400)
    sync_seconds: float = Field(default=3600.0, gt=0, le=86400)


class Absent:
    """In the place of a section that a site file does not have, and that only some work needs.

    Args:
        name: the section's.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, key: str) -> NoReturn:
        """Whoever asks needs it.

        Raises:
            OvnshiftError: it is not there.
        """
        if key.startswith("__"):
            raise AttributeError(key)
        raise OvnshiftError("site file", f"[{self._name}] is missing", "site.example.toml says what it holds")


class Site(_Section):
    """A site file, whole. What only a migration to OVN needs may be missing (:class:`Absent`)."""

    cloud: Cloud
    ssh: Ssh = Ssh()
    hosts: dict[str, Connection] = Field(min_length=1)
    groups: dict[Group, list[str]]
    database: Database
    ovn: Ovn = Field(default_factory=lambda: cast("Ovn", Absent("ovn")))
    deployment: Deployment = Field(default_factory=lambda: cast("Deployment", Absent("deployment")))
    outside: Outside = Outside()
    guests: list[Guest] = []
    window: Window | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _hosts_are_known(self) -> Site:
        for group, members in self.groups.items():
            for name in members:
                if name not in self.hosts:
                    raise ValueError(f"groups.{group}: {name!r} is not in [hosts], which has {', '.join(self.hosts)}")
        if not self.groups.get("compute"):
            raise ValueError("groups.compute: at least one host")
        plugging = {*self.group("network"), *self.group("compute")}
        if strange := [name for name in self.chassis if name not in plugging]:
            raise ValueError(f"groups.chassis: {', '.join(strange)} is in neither groups.network nor groups.compute")
        if strange := [name for name in self.group("compute") if name not in self.chassis]:
            raise ValueError(f"groups.chassis: every hypervisor is one, and {', '.join(strange)} would not be")
        if self.outside.host is not None and self.outside.host not in self.hosts:
            raise ValueError(f"outside.host: {self.outside.host!r} is not in [hosts]")
        if any(spec.startswith("ansible://") for spec in self.hosts.values()) and self.ssh.inventory is None:
            raise ValueError("ssh.inventory: ansible:// needs an inventory")
        return self

    def group(self, name: Group) -> list[str]:
        """The hosts of a group; none when the group is not there."""
        return self.groups.get(name, [])

    @property
    def chassis(self) -> list[str]:
        """The hosts that become OVN's chassis: all network and compute hosts, unless ``groups.chassis`` names them."""
        return self.group("chassis") or list(dict.fromkeys([*self.group("network"), *self.group("compute")]))

    @property
    def cloud_hosts(self) -> list[str]:
        """The hosts that are part of the cloud: all but those outside."""
        return [name for name in self.hosts if name not in self.group("edge")]

    def guest_for(self, *, image: str | None, project: str, instance: str, instance_id: str) -> Guest | None:
        """The first [[guests]] entry that fits an instance: each of its keys must, and one without keys fits all."""
        for guest in self.guests:
            if (
                guest.image in (None, image)
                and guest.project in (None, project)
                and guest.instance in (None, instance, instance_id)
            ):
                return guest
        return None

    def check_way(self) -> None:
        """Make sure that what is meant for this site can't leave by another way.

        Raises:
            OvnshiftError: the interface that the site names is not there.
        """
        interface = self.cloud.only_through
        if interface is not None and not Path("/sys/class/net", interface).exists():
            raise OvnshiftError(
                f"site {self.cloud.name}",
                f"its addresses are reached through {interface} only, and this machine has no such interface",
                "bring up what provides it; for the lab: python -m lab up",
            )
