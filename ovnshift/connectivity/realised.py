"""What a host really has of a router, and what is missing of what Neutron says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from ovnshift.cloud.topology import OWNER_ROUTER_GATEWAY, FloatingIp, Port, Router, Subnet
from ovnshift.hosts import programs
from ovnshift.hosts.connection import Connection
from ovnshift.hosts.inventory import HostInventory

# How long traffic is counted for, in seconds.
TRAFFIC_SECONDS = 1.0
# Neutron's names for a router's devices (neutron_lib.constants, neutron/agent/l3/router_info.py): 14 characters.
_DEVICE = {True: "qg-", False: "qr-"}
_DEVICE_LENGTH = 14


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Device(_Value):
    """A link in a router's namespace; addresses with their prefix length."""

    mac: str | None
    addresses: tuple[str, ...]


ROUTER_NAMESPACE = "qrouter-"
# What an HA router has besides (neutron/agent/l3/ha_router.py).
HA_DEVICE = "ha-"
_HA_PROCESS = "keepalived"


def is_master(links: Iterable[tuple[str, Iterable[str]]]) -> bool:
    """Whether keepalived is an HA router's master where the router has these devices (name and addresses).

    It gives itself a second IPv4 address on the HA interface then, and takes it away when it no longer is (``get_primary_vip`` in
    neutron/agent/linux/keepalived.py).
    """
    return any(name.startswith(HA_DEVICE) and sum("." in each for each in addresses) > 1 for name, addresses in links)


class RouterState(_Value):
    """A router's namespace on a host. ``nat``: rules of iptables' nat table; ``processes``: names and resident kilobytes."""

    links: dict[str, Device]
    gateways: tuple[str, ...]
    nat: tuple[str, ...]
    processes: tuple[tuple[str, int], ...]
    packets_per_second: float = 0.0

    @property
    def of_ha(self) -> list[str]:
        """What is there of an HA router: as long as it is, keepalived may give addresses and take them away."""
        devices = [name for name in self.links if name.startswith(HA_DEVICE)]
        return [*devices, *dict.fromkeys(name for name, _ in self.processes if name.startswith(_HA_PROCESS))]

    @property
    def is_master(self) -> bool:
        """Whether its keepalived is the master."""
        return is_master((name, device.addresses) for name, device in self.links.items())

    @property
    def megabytes(self) -> float:
        """Memory that its processes have."""
        return sum(kilobytes for _, kilobytes in self.processes) / 1024


class HostState(_Value):
    """Routers on a host, and what the host carries.

    ``namespaces``: ids of all routers that have one; ``load``: the average of the last minute.
    """

    namespaces: tuple[str, ...]
    routers: dict[str, RouterState]
    available_megabytes: float
    load: float
    cores: int


def look(connection: Connection, routers: Iterable[str] | None = None, *, traffic: bool = False) -> HostState:
    """Look at routers on a host.

    Args:
        connection: to the host.
        routers: ids; all, where it is None.
        traffic: also count packets, which takes a second.

    Raises:
        HostError: it could not be asked.
    """
    task = {
        "routers": None if routers is None else list(routers),
        "traffic_seconds": TRAFFIC_SECONDS if traffic else 0.0,
    }
    (report,) = programs.run(connection, programs.source("ovnshift.hosts.programs", "routers.py"), task)
    return HostState.model_validate(report)


def masters_on(hosts: Mapping[str, HostInventory]) -> dict[str, list[str]]:
    """Which hosts' keepalived is the master of which HA router: by the router's id, without those that have none."""
    masters: dict[str, list[str]] = {}
    for host, inventory in sorted(hosts.items()):
        for name, links in inventory.namespaces.items():
            if name.startswith(ROUTER_NAMESPACE) and is_master((link.name, link.addresses) for link in links):
                masters.setdefault(name.removeprefix(ROUTER_NAMESPACE), []).append(host)
    return masters


def device_of(port: Port) -> str:
    """What Neutron calls a router's port in its namespace."""
    return f"{_DEVICE[port.device_owner == OWNER_ROUTER_GATEWAY]}{port.id}"[:_DEVICE_LENGTH]


def missing(
    router: Router,
    ports: Sequence[Port],
    floating_ips: Sequence[FloatingIp],
    subnets: Mapping[str, Subnet],
    state: RouterState | None,
) -> list[str]:
    """What a namespace lacks of a router: devices, addresses, routes, NAT.

    Args:
        router: as Neutron has it.
        ports: its interfaces and its gateway.
        floating_ips: that go through it.
        subnets: by id.
        state: the namespace; None where there is none.
    """
    if state is None:
        return ["there is no namespace"] if router.admin_state_up else []
    found = []
    for port in ports:
        if not port.admin_state_up:
            continue
        device = device_of(port)
        link = state.links.get(device)
        if link is None:
            found.append(f"no {device}")
            continue
        if link.mac != port.mac_address:
            found.append(f"{device} has the MAC {link.mac}, not {port.mac_address}")
        found += [f"{device} lacks {address}" for address in _addresses(port, subnets) if address not in link.addresses]
    gateway = next((port for port in ports if port.device_owner == OWNER_ROUTER_GATEWAY), None)
    if gateway is not None:
        found += _of_gateway(router, gateway, floating_ips, subnets, state)
    return found


def _addresses(port: Port, subnets: Mapping[str, Subnet]) -> list[str]:
    return [
        f"{fixed.ip_address}/{subnets[fixed.subnet_id].cidr.partition('/')[2]}"
        for fixed in port.fixed_ips
        if fixed.subnet_id in subnets
    ]


def _of_gateway(
    router: Router,
    gateway: Port,
    floating_ips: Sequence[FloatingIp],
    subnets: Mapping[str, Subnet],
    state: RouterState,
) -> list[str]:
    device = device_of(gateway)
    link = state.links.get(device)
    found = []
    for fixed in gateway.fixed_ips:
        subnet = subnets.get(fixed.subnet_id)
        if subnet is not None and subnet.gateway_ip and subnet.gateway_ip not in state.gateways:
            found.append(f"no default route to {subnet.gateway_ip}")
        if (
            router.snat
            and ":" not in fixed.ip_address
            and not _has_rule(state, f"-o {device} ", f"--to-source {fixed.ip_address}")
        ):
            found.append(f"no SNAT to {fixed.ip_address}")
    for each in floating_ips:
        if each.port_id is None or each.fixed_ip is None:
            continue
        if link is not None and f"{each.address}/32" not in link.addresses:
            found.append(f"{device} lacks {each.address}/32")
        if not _has_rule(state, f"-d {each.address}/32 ", f"--to-destination {each.fixed_ip}"):
            found.append(f"no DNAT of {each.address} to {each.fixed_ip}")
        if not _has_rule(state, f"-s {each.fixed_ip}/32 ", f"--to-source {each.address}"):
            found.append(f"no SNAT of {each.fixed_ip} to {each.address}")
    return found


def _has_rule(state: RouterState, match: str, target: str) -> bool:
    """Whether a rule has both; the target ends there or goes on with a space."""
    return any(match in rule and f"{target} " in f"{rule} " for rule in state.nat)
