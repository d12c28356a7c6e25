"""A cloud's Neutron and Nova objects at one moment, as typed values that are written to ``topology.json``.

Names are for people and may be anything, also the same twice; everything refers by id.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Any

from pydantic import BaseModel, ConfigDict

from ovnshift import names

# Neutron's constants.py and neutron_lib.constants
OWNER_DHCP = "network:dhcp"
OWNER_METADATA = "network:distributed"  # OVN's
OWNER_ROUTER_INTERFACE = "network:router_interface"
OWNER_HA_INTERFACE = "network:ha_router_replicated_interface"
OWNER_DVR_INTERFACE = "network:router_interface_distributed"
OWNER_ROUTER_GATEWAY = "network:router_gateway"
OWNER_ROUTER_HA = "network:router_ha_interface"
OWNER_COMPUTE = "compute:"
ROUTER_INTERFACES = frozenset({OWNER_ROUTER_INTERFACE, OWNER_HA_INTERFACE, OWNER_DVR_INTERFACE})
AGENT_LINUXBRIDGE = "Linux bridge agent"
AGENT_OPENVSWITCH = "Open vSwitch agent"
AGENT_L3 = "L3 agent"
AGENT_DHCP = "DHCP agent"
AGENT_METADATA = "Metadata agent"
AGENT_METERING = "Metering agent"
TUNNELLED = frozenset({"vxlan", "gre", "geneve"})


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str = ""

    @property
    def label(self) -> str:
        """For people."""
        return names.label(self.name, self.id)


class Segment(BaseModel):
    """One segment of a network (provider attributes, or an element of ``segments``)."""

    model_config = ConfigDict(frozen=True)

    network_type: str
    physical_network: str | None = None
    segmentation_id: int | None = None


class Network(_Value):
    """A network. ``mtu`` in bytes."""

    project_id: str
    mtu: int
    external: bool = False
    shared: bool = False
    port_security: bool = True
    segments: tuple[Segment, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    availability_zones: tuple[str, ...] = ()
    qos_policy_id: str | None = None

    @property
    def tunnelled(self) -> bool:
        """Whether it runs over the underlay."""
        return any(segment.network_type in TUNNELLED for segment in self.segments)

    @property
    def is_ha_network(self) -> bool:
        """Whether Neutron made it for VRRP between HA routers (it belongs to no project, l3_hamode_db.py)."""
        return not self.project_id and self.name.startswith("HA network tenant ")


class Subnet(_Value):
    """A subnet."""

    network_id: str
    cidr: str
    ip_version: int
    dhcp: bool
    gateway_ip: str | None = None
    pools: tuple[tuple[str, str], ...] = ()
    dns_nameservers: tuple[str, ...] = ()
    ipv6_address_mode: str | None = None

    @property
    def pool_size(self) -> int:
        """How many addresses its allocation pools have."""
        return sum(int(ipaddress.ip_address(last)) - int(ipaddress.ip_address(first)) + 1 for first, last in self.pools)

    def in_pool(self, address: str) -> bool:
        """Whether an address lies in an allocation pool."""
        number = int(ipaddress.ip_address(address))
        return any(int(ipaddress.ip_address(a)) <= number <= int(ipaddress.ip_address(b)) for a, b in self.pools)


class FixedIp(BaseModel):
    """An address of a port."""

    model_config = ConfigDict(frozen=True)

    subnet_id: str
    ip_address: str


class Port(_Value):
    """A port with its binding."""

    project_id: str = ""
    network_id: str
    mac_address: str
    device_owner: str = ""
    device_id: str = ""
    status: str
    admin_state_up: bool = True
    fixed_ips: tuple[FixedIp, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    port_security: bool = True
    allowed_address_pairs: tuple[str, ...] = ()
    host: str = ""
    vif_type: str = ""
    vnic_type: str = "normal"
    vif_details: dict[str, Any] = {}
    profile: dict[str, Any] = {}
    qos_policy_id: str | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its fixed addresses."""
        return tuple(fixed.ip_address for fixed in self.fixed_ips)

    @property
    def of_instance(self) -> bool:
        """Whether Nova plugs it."""
        return self.device_owner.startswith(OWNER_COMPUTE)


class Router(_Value):
    """A router; ``qos_policy_id`` is its gateway's."""

    project_id: str
    status: str
    admin_state_up: bool = True
    ha: bool = False
    distributed: bool = False
    flavor_id: str | None = None
    external_network_id: str | None = None
    external_addresses: tuple[str, ...] = ()
    snat: bool = True
    availability_zone_hints: tuple[str, ...] = ()
    qos_policy_id: str | None = None


class FloatingIp(_Value):
    """A floating IP; ``port_id`` is None while it is nobody's."""

    project_id: str
    address: str
    network_id: str
    port_id: str | None = None
    fixed_ip: str | None = None
    router_id: str | None = None
    status: str = ""
    port_forwardings: int = 0
    qos_policy_id: str | None = None


class QosPolicy(_Value):
    """A QoS policy, with the kinds of its rules ("bandwidth_limit")."""

    description: str = ""
    rules: tuple[str, ...] = ()


class Rule(_Value):
    """A security group rule."""

    direction: str
    ethertype: str
    protocol: str | None = None
    port_min: int | None = None
    port_max: int | None = None
    remote_group_id: str | None = None
    remote_prefix: str | None = None
    remote_address_group_id: str | None = None


class SecurityGroup(_Value):
    """A security group."""

    project_id: str
    rules: tuple[Rule, ...] = ()


class Instance(_Value):
    """An instance."""

    project_id: str
    status: str
    task_state: str | None = None
    host: str | None = None
    hypervisor: str | None = None
    libvirt_name: str | None = None
    image_id: str | None = None
    image: str | None = None
    config_drive: bool = False

    @property
    def active(self) -> bool:
        """Whether Nova says that it runs."""
        return self.status == "ACTIVE"


class Agent(_Value):
    """A Neutron agent; its name is its kind ("L3 agent")."""

    host: str
    alive: bool
    admin_state_up: bool
    binary: str
    availability_zone: str | None = None
    configurations: dict[str, Any] = {}


class Hypervisor(_Value):
    """A nova-compute service; its name is Nova's host."""

    state: str
    status: str
    hostname: str = ""
    disabled_reason: str | None = None


class Project(_Value):
    """A project."""

    enabled: bool = True


class Topology(BaseModel):
    """Everything that a migration looks at."""

    model_config = ConfigDict(frozen=True)

    cloud: str
    identity_endpoint: str
    region: str
    taken_at: str
    networks: tuple[Network, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    ports: tuple[Port, ...] = ()
    routers: tuple[Router, ...] = ()
    floating_ips: tuple[FloatingIp, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    qos_policies: tuple[QosPolicy, ...] = ()
    instances: tuple[Instance, ...] = ()
    agents: tuple[Agent, ...] = ()
    hypervisors: tuple[Hypervisor, ...] = ()
    projects: tuple[Project, ...] = ()
    extensions: tuple[str, ...] = ()
    metering_labels: tuple[str, ...] = ()
    routers_of_agents: dict[str, tuple[str, ...]] = {}
    services: dict[str, str] = {}

    @functools.cached_property
    def network(self) -> dict[str, Network]:
        return {each.id: each for each in self.networks}

    @functools.cached_property
    def subnet(self) -> dict[str, Subnet]:
        return {each.id: each for each in self.subnets}

    @functools.cached_property
    def port(self) -> dict[str, Port]:
        return {each.id: each for each in self.ports}

    @functools.cached_property
    def router(self) -> dict[str, Router]:
        return {each.id: each for each in self.routers}

    @functools.cached_property
    def instance(self) -> dict[str, Instance]:
        return {each.id: each for each in self.instances}

    @functools.cached_property
    def floating_ip(self) -> dict[str, FloatingIp]:
        return {each.id: each for each in self.floating_ips}

    @functools.cached_property
    def project(self) -> dict[str, Project]:
        return {each.id: each for each in self.projects}

    @functools.cached_property
    def security_group(self) -> dict[str, SecurityGroup]:
        return {each.id: each for each in self.security_groups}

    @functools.cached_property
    def ports_of_instance(self) -> dict[str, tuple[Port, ...]]:
        """The ports of each instance, by its id; only of instances that exist."""
        found: dict[str, list[Port]] = {each.id: [] for each in self.instances}
        for port in self.ports:
            if port.of_instance and port.device_id in found:
                found[port.device_id].append(port)
        return {id_: tuple(ports) for id_, ports in found.items()}

    @functools.cached_property
    def ports_of_network(self) -> dict[str, tuple[Port, ...]]:
        found: dict[str, list[Port]] = {each.id: [] for each in self.networks}
        for port in self.ports:
            found.setdefault(port.network_id, []).append(port)
        return {id_: tuple(ports) for id_, ports in found.items()}

    @functools.cached_property
    def ports_of_router(self) -> dict[str, tuple[Port, ...]]:
        """The ports that each router forwards by, its interfaces and its gateway; only of routers that have some."""
        found: dict[str, list[Port]] = {}
        for port in self.ports:
            if port.device_owner in ROUTER_INTERFACES or port.device_owner == OWNER_ROUTER_GATEWAY:
                found.setdefault(port.device_id, []).append(port)
        return {id_: tuple(ports) for id_, ports in found.items()}

    @functools.cached_property
    def dhcp_ports(self) -> dict[str, dict[str, Port]]:
        """The DHCP agents' ports of each network that has some, by host."""
        found: dict[str, dict[str, Port]] = {}
        for port in self.ports:
            if port.device_owner == OWNER_DHCP and port.host:
                found.setdefault(port.network_id, {})[port.host] = port
        return found

    @functools.cached_property
    def routers_of_network(self) -> dict[str, tuple[str, ...]]:
        """The ids of the routers that have an interface on a network."""
        found: dict[str, list[str]] = {}
        for port in self.ports:
            if port.device_owner in ROUTER_INTERFACES and port.device_id not in found.setdefault(port.network_id, []):
                found[port.network_id].append(port.device_id)
        return {id_: tuple(ids) for id_, ids in found.items()}

    def agents_of(self, kind: str) -> list[Agent]:
        """The agents of a kind ("L3 agent")."""
        return [agent for agent in self.agents if agent.name == kind]

    def project_label(self, project_id: str) -> str:
        """A project's name for people, or its id."""
        project = self.project.get(project_id)
        return project.label if project else (project_id or "no project")

    def instance_behind(self, floating_ip: FloatingIp) -> Instance | None:
        """The instance that a floating IP leads to, when it runs."""
        port = self.port.get(floating_ip.port_id or "")
        instance = self.instance.get(port.device_id) if port and port.of_instance else None
        return instance if instance is not None and instance.active else None
