"""Clouds made by hand: the seed document's, and whatever a test adds to it."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ovnshift.cloud.topology import (
    OWNER_COMPUTE,
    OWNER_HA_INTERFACE,
    Agent,
    FixedIp,
    FloatingIp,
    Instance,
    Network,
    Port,
    Project,
    Router,
    Subnet,
    Topology,
)
from ovnshift.hosts.inventory import HostInventory, Link
from ovnshift.site import Site


def id_of(*words: str) -> str:
    """An id that is the same each time."""
    digest = hashlib.sha256("/".join(words).encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


class Builder:
    """Collects objects as a person would describe them, and gives a topology."""

    def __init__(self, cloud: str = "seed", endpoint: str = "http://198.51.100.5:5000/v3") -> None:
        self.cloud = cloud
        self.endpoint = endpoint
        self.networks: list[Network] = []
        self.subnets: list[Subnet] = []
        self.ports: list[Port] = []
        self.routers: list[Router] = []
        self.floating_ips: list[FloatingIp] = []
        self.instances: list[Instance] = []
        self.agents: list[Agent] = []
        self.projects: dict[str, Project] = {}

    def project(self, name: str) -> str:
        self.projects[name] = Project(id=id_of("project", name), name=name)
        return self.projects[name].id

    def network(
        self,
        name: str,
        *cidrs: str,
        project: str = "demo",
        dhcp: bool = True,
        mtu: int = 1450,
        external: bool = False,
    ) -> Network:
        project_id = self.project(project)
        network_id = id_of("network", project, name)
        subnets = [
            Subnet(
                id=id_of("subnet", network_id, cidr),
                name=name,
                network_id=network_id,
                cidr=cidr,
                ip_version=ipaddress.ip_network(cidr).version,
                dhcp=dhcp,
                gateway_ip=str(ipaddress.ip_network(cidr)[1]),
            )
            for cidr in cidrs
        ]
        self.subnets += subnets
        network = Network(
            id=network_id,
            name=name,
            project_id=project_id,
            mtu=mtu,
            external=external,
            subnet_ids=tuple(subnet.id for subnet in subnets),
        )
        self.networks.append(network)
        return network

    def port(self, network: Network, addresses: Sequence[str], **values: Any) -> Port:
        fixed = []
        for address in addresses:
            subnet = next(
                each
                for each in self.subnets
                if each.network_id == network.id and ipaddress.ip_address(address) in ipaddress.ip_network(each.cidr)
            )
            fixed.append(FixedIp(subnet_id=subnet.id, ip_address=address))
        port = Port(
            id=id_of("port", network.id, *addresses, str(len(self.ports))),
            network_id=network.id,
            mac_address="fa:16:3e:00:00:01",
            status="ACTIVE",
            fixed_ips=tuple(fixed),
            **values,
        )
        self.ports.append(port)
        return port

    def router(self, name: str, *networks: Network, external: Network | None = None, project: str = "demo") -> Router:
        router = Router(
            id=id_of("router", project, name),
            name=name,
            project_id=self.project(project),
            status="ACTIVE",
            ha=True,
            external_network_id=external.id if external else None,
        )
        self.routers.append(router)
        for network in networks:
            subnet = next(each for each in self.subnets if each.network_id == network.id)
            assert subnet.gateway_ip is not None
            self.port(network, [subnet.gateway_ip], device_owner=OWNER_HA_INTERFACE, device_id=router.id)
        return router

    def instance(
        self,
        name: str,
        where: Mapping[str, Network],
        host: str,
        *,
        project: str = "demo",
        status: str = "ACTIVE",
        image: str = "cirros",
    ) -> Instance:
        instance = Instance(
            id=id_of("instance", project, name, str(len(self.instances))),
            name=name,
            project_id=self.project(project),
            status=status,
            host=host,
            image=image,
        )
        self.instances.append(instance)
        by_network: dict[str, list[str]] = {}
        for address, network in where.items():
            by_network.setdefault(network.id, []).append(address)
        for network in self.networks:
            if network.id in by_network:
                self.port(
                    network,
                    by_network[network.id],
                    device_owner=f"{OWNER_COMPUTE}nova",
                    device_id=instance.id,
                    host=host,
                )
        return instance

    def floating_ip(self, address: str, external: Network, instance: Instance | None, router: Router) -> FloatingIp:
        port = next((each for each in self.ports if instance and each.device_id == instance.id), None)
        floating_ip = FloatingIp(
            id=id_of("floating IP", address),
            project_id=self.project("demo"),
            address=address,
            network_id=external.id,
            port_id=port.id if port else None,
            router_id=router.id if port else None,
        )
        self.floating_ips.append(floating_ip)
        return floating_ip

    def agent(self, kind: str, host: str, *, alive: bool = True) -> None:
        self.agents.append(
            Agent(id=id_of(kind, host), name=kind, host=host, alive=alive, admin_state_up=True, binary="neutron-agent")
        )

    def topology(self) -> Topology:
        return Topology(
            cloud=self.cloud,
            identity_endpoint=self.endpoint,
            region="RegionOne",
            taken_at="2026-01-01T00:00:00+00:00",
            networks=tuple(self.networks),
            subnets=tuple(self.subnets),
            ports=tuple(self.ports),
            routers=tuple(self.routers),
            floating_ips=tuple(self.floating_ips),
            instances=tuple(self.instances),
            agents=tuple(self.agents),
            projects=tuple(self.projects.values()),
        )


class Seed(Builder):
    """The cloud of the seed document: its networks, routers, instances and floating IPs, with its names and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.vlan100 = self.network("vlan100", "192.168.100.0/24", external=True, mtu=1500)
        self.vlan200 = self.network("vlan200", "192.168.200.0/24", external=True, mtu=1500)
        self.web = self.network("web", "10.5.0.0/24")
        self.app = self.network("app", "172.25.0.0/24")
        self.db = self.network("db", "192.168.55.0/24")
        self.rtr_web = self.router("rtr-web", self.web, self.app, external=self.vlan100)
        self.rtr_db = self.router("rtr-db", self.db, external=self.vlan100)
        self.web1 = self.instance("vm-web1", {"10.5.0.121": self.web}, "compute1")
        self.web2 = self.instance("vm-web2", {"10.5.0.162": self.web}, "compute2")
        self.app1 = self.instance("vm-app1", {"172.25.0.50": self.app}, "compute1")
        self.app2 = self.instance("vm-app2", {"172.25.0.250": self.app}, "compute2")
        self.db1 = self.instance("vm-db1", {"192.168.55.21": self.db}, "compute1")
        self.db2 = self.instance("vm-db2", {"192.168.55.223": self.db}, "compute2")
        self.floating_ip("192.168.100.90", self.vlan100, self.web1, self.rtr_web)
        self.floating_ip("192.168.100.215", self.vlan100, self.db1, self.rtr_db)
        for host in ("infra1", "infra2", "infra3"):
            self.agent("DHCP agent", host)


CIRROS = {"image": "cirros", "user": "cirros", "password": "gocubsgo"}


def site(**changes: Any) -> Site:
    """A site file for the seed's hosts; values of sections are merged, other values replaced."""
    values: dict[str, Any] = {
        "cloud": {"name": "seed"},
        "hosts": {name: f"ssh://{name}" for name in ("infra1", "infra2", "infra3", "compute1", "compute2")},
        "groups": {
            "control": ["infra1"],
            "network": ["infra1", "infra2", "infra3"],
            "compute": ["compute1", "compute2"],
        },
        "database": {"host": "192.0.2.10", "user": "ovnshift", "password_env": "OVNSHIFT_TEST_PASSWORD"},
        "ovn": {"northbound": "tcp:192.0.2.11:6641", "southbound": "tcp:192.0.2.11:6642"},
        "deployment": {"kind": "devstack", "command": ["true"]},
        "guests": [CIRROS],
    }
    for key, value in changes.items():
        old = values.get(key)
        values[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return Site.model_validate(values)


def link(name: str, *addresses: str) -> Link:
    return Link(
        name=name,
        kind="veth",
        master=None,
        mtu=1450,
        up=True,
        mac=None,
        vlan=None,
        vni=None,
        parent=None,
        addresses=addresses,
    )


def inventory(hostname: str, **namespaces: tuple[Link, ...]) -> HostInventory:
    return HostInventory(
        hostname=hostname,
        fqdn=hostname,
        python="3.11.2",
        kernel="6.1",
        links=(),
        namespaces=namespaces,
        domains=None,
        udp_ports=(),
        free_megabytes={},
        units={},
        tools={},
        foreign_runs=(),
        openvswitch=None,
        ovs_hostname=None,
        clock_error=0.0,
        clock_bound=0.0,
    )


def inventories(hosts: Mapping[str, Sequence[str]]) -> dict[str, HostInventory]:
    """Hosts with the names of their namespaces."""
    return {
        host: inventory(host, **{name: (link("eth0"),) for name in namespaces}) for host, namespaces in hosts.items()
    }
