"""The lab's cloud as data: hosts, what runs on each, networks, routers, instances. Named and numbered as in the seed."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# 198.18.0.0/15 is set aside for benchmarks of network gear (RFC 2544), so that no LAN collides with it.
DEFAULT_MANAGEMENT = "198.18.0.0/24"
TUNNEL = ipaddress.ip_network("198.18.1.0/24")
# An address in the world outside (RFC 5737, TEST-NET-2) that only `edge` has: what instances reach through SNAT.
INTERNET = "198.51.100.1"
UNDERLAY_MTU = 1500

FABRIC = "ovnshift-lab"
LAB_VETH = "ovnlab0"
MACHINE_PREFIX = "ovnshift-lab-"


class Role(StrEnum):
    """What a host is for. Names a folder of ``lab/files`` and a group of the Ansible inventory."""

    CONTROL = "control"
    NETWORK = "network"
    COMPUTE = "compute"
    EDGE = "edge"


class Mechanism(StrEnum):
    """The driver that plugs ports: the one that a cloud migrates from, or the one whose routers are moved between hosts."""

    LINUXBRIDGE = "linuxbridge"
    OPENVSWITCH = "openvswitch"


class Layout(StrEnum):
    """Whose clouds the lab looks like: services as packages have them, or as OpenStack-Ansible deploys them."""

    PACKAGES = "packages"
    OPENSTACK_ANSIBLE = "openstack-ansible"


@dataclass(frozen=True)
class Host:
    """One systemd-nspawn host. ``index`` is the last octet of its addresses."""

    name: str
    index: int
    roles: frozenset[Role]

    @property
    def machine(self) -> str:
        """The name systemd-nspawn knows it by."""
        return MACHINE_PREFIX + self.name

    @property
    def tunnel_address(self) -> str:
        return str(TUNNEL[self.index])

    @property
    def has_tunnel(self) -> bool:
        return Role.EDGE not in self.roles


HOSTS: tuple[Host, ...] = (
    Host("infra1", 11, frozenset({Role.CONTROL, Role.NETWORK})),
    Host("infra2", 12, frozenset({Role.NETWORK})),
    Host("infra3", 13, frozenset({Role.NETWORK})),
    Host("compute1", 21, frozenset({Role.COMPUTE})),
    Host("compute2", 22, frozenset({Role.COMPUTE})),
    Host("edge", 31, frozenset({Role.EDGE})),
)
CONTROL = HOSTS[0]
EDGE = HOSTS[-1]


def with_role(role: Role) -> list[Host]:
    """The hosts that have a role, in the order of :data:`HOSTS`."""
    return [host for host in HOSTS if role in host.roles]


def host_named(name: str) -> Host | None:
    """The host of that name, or None."""
    return next((host for host in HOSTS if host.name == name), None)


CONTROL_UNITS: tuple[str, ...] = (
    "mariadb.service",
    "epmd.service",
    "rabbitmq-server.service",
    "memcached.service",
    "lab-databases.service",
    "lab-identity.service",
    "keystone.service",
    "glance-api.service",
    "placement-api.service",
    "nova-api.service",
    "nova-api-metadata.service",
    "nova-conductor.service",
    "nova-scheduler.service",
    "neutron-server.service",
)
NETWORK_UNITS: tuple[str, ...] = (
    "lab-privsep.service",
    "neutron-l3-agent.service",
    "neutron-dhcp-agent.service",
    "neutron-metadata-agent.service",
)
COMPUTE_UNITS: tuple[str, ...] = (
    "libvirtd.service",
    "virtlogd.socket",
    "nova-compute.service",
)
EDGE_UNITS: tuple[str, ...] = ("lab-whoami.socket",)
EVERYWHERE_UNITS: tuple[str, ...] = ("networking.service", "ssh.service", "dbus.socket")

# On every host that plugs ports.
PLUGGING_UNITS: dict[Mechanism, tuple[str, ...]] = {
    Mechanism.LINUXBRIDGE: ("neutron-linuxbridge-agent.service",),
    Mechanism.OPENVSWITCH: ("openvswitch-switch.service", "lab-bridges.service", "neutron-openvswitch-agent.service"),
}

_UNITS: dict[Role, tuple[str, ...]] = {
    Role.CONTROL: CONTROL_UNITS,
    Role.NETWORK: NETWORK_UNITS,
    Role.COMPUTE: COMPUTE_UNITS,
    Role.EDGE: EDGE_UNITS,
}


def units_of(host: Host, mechanism: Mechanism = Mechanism.LINUXBRIDGE) -> list[str]:
    """The units that are enabled on a host, without repetition."""
    units = list(EVERYWHERE_UNITS)
    for role in (Role.CONTROL, Role.NETWORK, Role.COMPUTE, Role.EDGE):
        if role in host.roles:
            units.extend(_UNITS[role])
    if host.has_tunnel:
        units.extend(PLUGGING_UNITS[mechanism])
    return list(dict.fromkeys(units))


@dataclass(frozen=True)
class TenantNetwork:
    """A VXLAN network with one subnet that has DHCP."""

    name: str
    cidr: str


@dataclass(frozen=True)
class ProviderNetwork:
    """An external network. ``vlan`` is its tag where the kernel has 8021q; else it is flat on a NIC of its own."""

    name: str
    cidr: str
    vlan: int
    pool: tuple[str, str]
    interface_when_flat: str

    @property
    def gateway(self) -> str:
        """Its first address, which `edge` has."""
        return str(ipaddress.ip_network(self.cidr)[1])


@dataclass(frozen=True)
class Router:
    """A router, perhaps with a gateway on a provider network.

    ``host`` is the network node that a router which is neither HA nor distributed is put on.
    """

    name: str
    networks: tuple[str, ...]
    gateway: str | None
    ha: bool = True
    distributed: bool = False
    host: str | None = None


@dataclass(frozen=True)
class Instance:
    """An instance at a fixed address on a fixed hypervisor, perhaps with a floating IP on vlan100."""

    name: str
    network: str
    address: str
    hypervisor: str
    floating_ip: str | None = None


TENANT_NETWORKS: tuple[TenantNetwork, ...] = (
    TenantNetwork("web", "10.5.0.0/24"),
    TenantNetwork("app", "172.25.0.0/24"),
    TenantNetwork("db", "192.168.55.0/24"),
)
PROVIDER_NETWORKS: tuple[ProviderNetwork, ...] = (
    ProviderNetwork("vlan100", "192.168.100.0/24", 100, ("192.168.100.2", "192.168.100.254"), "eth2"),
    ProviderNetwork("vlan200", "192.168.200.0/24", 200, ("192.168.200.2", "192.168.200.254"), "eth3"),
)
ROUTERS: tuple[Router, ...] = (
    Router("rtr-web", ("web", "app"), "vlan100"),
    Router("rtr-db", ("db",), "vlan100"),
)
INSTANCES: tuple[Instance, ...] = (
    Instance("vm-web1", "web", "10.5.0.121", "compute2", "192.168.100.90"),
    Instance("vm-web2", "web", "10.5.0.162", "compute1"),
    Instance("vm-app1", "app", "172.25.0.50", "compute1"),
    Instance("vm-app2", "app", "172.25.0.250", "compute2"),
    Instance("vm-db1", "db", "192.168.55.21", "compute1", "192.168.100.215"),
    Instance("vm-db2", "db", "192.168.55.223", "compute2"),
)


@dataclass(frozen=True)
class Contents:
    """What is in the cloud besides its networks."""

    routers: tuple[Router, ...]
    instances: tuple[Instance, ...]


# Routers that can be moved, one that need not be (its other instances take over) and one that can't be.
_ROUTERS_TO_MOVE: tuple[Router, ...] = (
    Router("provider-router", ("app",), "vlan100", ha=False, host="infra3"),
    Router("rtr-db", ("db",), "vlan100", ha=False, host="infra3"),
    Router("rtr-web", ("web",), "vlan100", ha=False, host="infra2"),
    Router("rtr-ha", (), "vlan200"),
    Router("rtr-distributed", (), None, ha=False, distributed=True),
)
_BEHIND_THEM: tuple[Instance, ...] = (
    Instance("vm-web1", "web", "10.5.0.121", "compute2", "192.168.100.90"),
    Instance("vm-app1", "app", "172.25.0.50", "compute1", "192.168.100.150"),
    Instance("vm-app2", "app", "172.25.0.250", "compute2"),
    Instance("vm-db1", "db", "192.168.55.21", "compute1", "192.168.100.215"),
)
CONTENTS: dict[Mechanism, Contents] = {
    Mechanism.LINUXBRIDGE: Contents(ROUTERS, INSTANCES),
    Mechanism.OPENVSWITCH: Contents(_ROUTERS_TO_MOVE, _BEHIND_THEM),
}

PROJECT = "demo"
FLOATING_NETWORK = "vlan100"
SECURITY_GROUP = "ping-and-ssh"
FLAVOR = "lab-guest"
# MiB. 64 is too little for the kernel.
GUEST_MEMORY = 96
IMAGE = "lab-guest"
KEYPAIR = "lab"
GUEST_USER = "cirros"
GUEST_PASSWORD = "gocubsgo"  # noqa: S105, the one that CirrOS tells everybody at its login prompt
# Listens in every guest; the security group does not let it in.
CLOSED_PORT = 8080


class Addresses:
    """The management network and who has which address on it."""

    def __init__(self, management: str = DEFAULT_MANAGEMENT) -> None:
        self.network = ipaddress.ip_network(management)
        if self.network.version != 4 or self.network.prefixlen != 24:
            raise ValueError(f"the management network must be an IPv4 /24, not {management}")
        if self.network.overlaps(TUNNEL):
            raise ValueError(f"{management} overlaps the lab's tunnel network {TUNNEL}")

    @property
    def machine(self) -> str:
        """This machine's own address on the management network."""
        return str(self.network[1])

    def of(self, host: Host) -> str:
        """A host's management address."""
        return str(self.network[host.index])

    @property
    def control(self) -> str:
        """Where the APIs, the database and the message bus are."""
        return self.of(CONTROL)


def gateway_of(network: str) -> str:
    """The address of the router on a tenant network: the first one."""
    return next(str(ipaddress.ip_network(each.cidr)[1]) for each in TENANT_NETWORKS if each.name == network)


def physical_networks(*, vlan: bool) -> dict[str, str]:
    """Physical network → the NIC that leads to it, on every host."""
    if vlan:
        return {"vlan": "eth2"}
    return {network.name: network.interface_when_flat for network in PROVIDER_NETWORKS}


def bridges(*, vlan: bool) -> dict[str, tuple[str, str]]:
    """Physical network → (bridge of Open vSwitch, NIC in it), on every host that plugs ports with it."""
    mappings = physical_networks(vlan=vlan)
    return {name: (f"br-ex{number or ''}", nic) for number, (name, nic) in enumerate(mappings.items())}


@dataclass(frozen=True)
class Nic:
    """A NIC of a host and the fabric's bridge that it is plugged into."""

    name: str
    bridge: str


FABRIC_BRIDGES: tuple[str, ...] = ("br-mgmt", "br-vxlan", "br-vlan", "br-vlan200")


def nics_of(host: Host, *, vlan: bool) -> Sequence[Nic]:
    """A host's NICs: management, tunnels, and one for each physical network."""
    nics = [Nic("eth0", "br-mgmt")]
    if host.has_tunnel:
        nics.append(Nic("eth1", "br-vxlan"))
    nics.append(Nic("eth2", "br-vlan"))
    if not vlan:
        nics.append(Nic("eth3", "br-vlan200"))
    return nics
