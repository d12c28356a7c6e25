"""Rows of OVN's databases, as far as a migration looks at them, read at one moment. Names as in ovn-nb(5) and ovn-sb(5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SwitchPort:
    """Logical_Switch_Port. ``up`` is None while northd has not said."""

    name: str
    switch: str
    type: str
    addresses: tuple[str, ...]
    tag: int | None
    options: Mapping[str, str]
    up: bool | None
    external_ids: Mapping[str, str]
    dhcp_options: str | None


@dataclass(frozen=True)
class RouterPort:
    """Logical_Router_Port; chassis by priority, highest first, of Gateway_Chassis or the HA_Chassis_Group."""

    name: str
    router: str
    mac: str
    networks: tuple[str, ...]
    chassis: tuple[str, ...]
    external_ids: Mapping[str, str]


@dataclass(frozen=True)
class Nat:
    """NAT of a router."""

    router: str
    type: str
    external_ip: str
    logical_ip: str
    external_ids: Mapping[str, str]


@dataclass(frozen=True)
class PortGroup:
    """Port_Group: names of its ports, and the security group rules that its ACLs are made of."""

    name: str
    ports: frozenset[str]
    acls: int
    rules: frozenset[str]


@dataclass(frozen=True)
class DhcpOptions:
    """DHCP_Options."""

    id: str
    cidr: str
    options: Mapping[str, str]
    external_ids: Mapping[str, str]


@dataclass(frozen=True)
class North:
    """The northbound database.

    Switches and routers: name → external_ids. ``limits``: external_ids of its table QoS. ``number``: of its last change
    (NB_Global.nb_cfg).
    """

    switches: Mapping[str, Mapping[str, str]]
    switch_ports: Mapping[str, SwitchPort]
    routers: Mapping[str, Mapping[str, str]]
    router_ports: Mapping[str, RouterPort]
    nats: tuple[Nat, ...]
    port_groups: Mapping[str, PortGroup]
    dhcp_options: Mapping[str, DhcpOptions]
    number: int = 0
    limits: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class Chassis:
    """Chassis; ``encaps``: (type, address); ``number``: of the last change that it has confirmed (Chassis_Private.nb_cfg)."""

    name: str
    hostname: str
    encaps: tuple[tuple[str, str], ...]
    options: Mapping[str, str]
    number: int = 0

    @property
    def gateway(self) -> bool:
        """Whether routers' gateways may be on it."""
        return "enable-chassis-as-gw" in self.options.get("ovn-cms-options", "").split(",")

    @property
    def mappings(self) -> Mapping[str, str]:
        """Physical network → bridge."""
        pairs = self.options.get("ovn-bridge-mappings", "").split(",")
        return {name: bridge for name, _, bridge in (pair.partition(":") for pair in pairs) if bridge}


@dataclass(frozen=True)
class PortBinding:
    """Port_Binding: on which chassis, and whether its flows are there."""

    name: str
    type: str
    chassis: str | None
    up: bool


@dataclass(frozen=True)
class South:
    """The southbound database."""

    chassis: Mapping[str, Chassis]
    bindings: Mapping[str, PortBinding]
    datapaths: frozenset[str] = field(default_factory=frozenset)

    def host_of(self, port: str) -> str | None:
        """The host name of the chassis that a port is bound on."""
        binding = self.bindings.get(port)
        chassis = self.chassis.get(binding.chassis) if binding is not None and binding.chassis else None
        return chassis.hostname if chassis is not None else None
