"""What each deployer calls the services that a migration stops, starts and looks for, and where it puts the sync tool."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ovnshift.cloud.topology import AGENT_DHCP, AGENT_L3, AGENT_LINUXBRIDGE, AGENT_METADATA, AGENT_OPENVSWITCH
from ovnshift.deployments.commands import DeploymentError
from ovnshift.hosts import Connection
from ovnshift.hosts.connection import CommandFailed


class Services(Protocol):
    """systemd's units on a cloud's hosts, and the sync tool."""

    @property
    def agents(self) -> tuple[str, ...]:
        """What ML2/LinuxBridge runs on network and compute hosts."""

    @property
    def api(self) -> tuple[str, ...]:
        """Neutron's server, in one piece or in several."""

    @property
    def chassis(self) -> tuple[str, ...]:
        """What OVN runs on a chassis."""

    @property
    def configured(self) -> tuple[str, ...]:
        """What runs on chassis and hypervisors by files that a deployer changes for OVN."""

    @property
    def switch(self) -> tuple[str, ...]:
        """Open vSwitch."""

    @property
    def central(self) -> tuple[str, ...]:
        """OVN's databases and northd."""

    @property
    def of_agents(self) -> Mapping[str, str]:
        """The unit of each kind of agent, by what Neutron calls the kind ("L3 agent")."""

    @property
    def sync_tool(self) -> tuple[str, ...]:
        """Where ``neutron-ovn-db-sync-util`` may be on a control host: names or globs, the first that is there counts."""


# Names of Debian, Ubuntu and RDO.
_CONFIGURED = (
    "neutron-ovn-metadata-agent.service",
    "neutron-ovn-agent.service",
    "nova-compute.service",
    "openstack-nova-compute.service",
)
_SWITCH = ("openvswitch-switch.service", "openvswitch.service")
_CENTRAL = (
    "ovn-central.service",
    "ovn-northd.service",
    "ovn-ovsdb-server-nb.service",
    "ovn-ovsdb-server-sb.service",
)


_OF_AGENTS = {
    AGENT_LINUXBRIDGE: "neutron-linuxbridge-agent.service",
    AGENT_OPENVSWITCH: "neutron-openvswitch-agent.service",
    AGENT_L3: "neutron-l3-agent.service",
    AGENT_DHCP: "neutron-dhcp-agent.service",
    AGENT_METADATA: "neutron-metadata-agent.service",
}


@dataclass(frozen=True)
class Units:
    """:class:`Services` as data."""

    agents: tuple[str, ...]
    api: tuple[str, ...]
    chassis: tuple[str, ...]
    configured: tuple[str, ...] = _CONFIGURED
    switch: tuple[str, ...] = _SWITCH
    central: tuple[str, ...] = _CENTRAL
    of_agents: Mapping[str, str] = field(default_factory=lambda: dict(_OF_AGENTS))
    sync_tool: tuple[str, ...] = ("neutron-ovn-db-sync-util",)


# Debian's, Ubuntu's and RDO's packages call them the same.
PACKAGES = Units(
    (
        "neutron-linuxbridge-agent.service",
        "neutron-linuxbridge-cleanup.service",
        "neutron-l3-agent.service",
        "neutron-dhcp-agent.service",
        "neutron-metadata-agent.service",
        "neutron-metering-agent.service",
    ),
    ("neutron-server.service", "neutron-api.service", "neutron-rpc-server.service"),
    ("neutron-ovn-metadata-agent.service", "ovn-controller.service", "ovn-host.service"),
)
# The os_neutron role calls its units as packages do (vars/main.yml, service_name); their programs are in a virtual environment.
OPENSTACK_ANSIBLE = Units(
    PACKAGES.agents,
    (*PACKAGES.api, "neutron-periodic-workers.service", "neutron-ovn-maintenance-worker.service"),
    PACKAGES.chassis,
    sync_tool=("/openstack/venvs/neutron-*/bin/neutron-ovn-db-sync-util",),
)
# lib/neutron and lib/neutron_plugins/ovn_agent of DevStack; OVN's own units carry devstack@ where it was built from source.
DEVSTACK = Units(
    tuple(f"devstack@q-{name}.service" for name in ("agt", "l3", "dhcp", "meta", "metering")),
    (
        "devstack@q-svc.service",
        "devstack@neutron-api.service",
        "devstack@neutron-rpc-server.service",
        "devstack@neutron-periodic-workers.service",
        "devstack@neutron-ovn-maintenance-worker.service",
    ),
    (
        "devstack@q-ovn-metadata-agent.service",
        "devstack@q-ovn-agent.service",
        "devstack@ovn-controller.service",
        "ovn-controller.service",
        "ovn-host.service",
    ),
    ("devstack@q-ovn-metadata-agent.service", "devstack@q-ovn-agent.service", "devstack@n-cpu.service"),
    ("devstack@ovs-vswitchd.service", "devstack@ovsdb-server.service", *_SWITCH),
    ("devstack@ovn-northd.service", *_CENTRAL),
    of_agents={
        AGENT_LINUXBRIDGE: "devstack@q-agt.service",
        AGENT_OPENVSWITCH: "devstack@q-agt.service",
        AGENT_L3: "devstack@q-l3.service",
        AGENT_DHCP: "devstack@q-dhcp.service",
        AGENT_METADATA: "devstack@q-meta.service",
    },
    sync_tool=("/opt/stack/data/venv/bin/neutron-ovn-db-sync-util", "neutron-ovn-db-sync-util"),
)


# DevStack's short names of what the others call as their programs are called.
_PROGRAMS = {
    "q-agt": "neutron-linuxbridge-agent",
    "q-l3": "neutron-l3-agent",
    "q-dhcp": "neutron-dhcp-agent",
    "q-meta": "neutron-metadata-agent",
    "q-metering": "neutron-metering-agent",
    "q-svc": "neutron-server",
    "q-ovn-metadata-agent": "neutron-ovn-metadata-agent",
    "q-ovn-agent": "neutron-ovn-agent",
}


def program_of(unit: str) -> str:
    """What the processes of a unit are called."""
    name = unit.removesuffix(".service").removeprefix("devstack@")
    return _PROGRAMS.get(name, name)


def _version_in(path: str) -> list[str | int]:
    """Numbers as numbers: 29.2.1.dev12 comes after 29.2.1.dev3, and 29.2.1 after both."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", path)]


def find_tool(host: Connection, places: Sequence[str]) -> str:
    """Where a program is on a host.

    Args:
        host: the connection to it.
        places: names, which its PATH finds, or globs of paths (``*`` stands for slashes too); the first that is there counts.

    Returns:
        A name, or of the paths that a glob fits the one with the highest version in it.

    Raises:
        DeploymentError: it is in none of them.
        HostError: the host can't be asked.
    """
    for place in places:
        if "/" not in place:
            return place
        fixed = place.partition("*")[0]
        found = host.run("find", fixed.rpartition("/")[0] or "/", "-path", place, "-print")
        if found.returncode not in {0, 1}:
            raise CommandFailed(host.name, f"find ended with {found.returncode}: {found.complaint}", "run this again")
        if paths := sorted(found.text.splitlines(), key=_version_in):
            return paths[-1]
    raise DeploymentError(
        host.name, f"has none of {', '.join(places)}", "see deployment.kind, and whether Neutron's OVN tools are there"
    )
