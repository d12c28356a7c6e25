from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from ovnshift.cloud.topology import (
    OWNER_COMPUTE,
    OWNER_ROUTER_GATEWAY,
    OWNER_ROUTER_INTERFACE,
    FloatingIp,
    Network,
    Port,
    Router,
    Rule,
    SecurityGroup,
    Segment,
    Topology,
)
from ovnshift.migration.structure import differences
from ovnshift.ovn.rows import Chassis, DhcpOptions, Nat, North, PortGroup, RouterPort, South, SwitchPort
from tests.unit.clouds import Builder, id_of

GATEWAY, OTHER = "chassis-of-infra1", "chassis-of-compute1"
VLAN = Segment(network_type="vlan", physical_network="physnet1", segmentation_id=100)
FLAT = Segment(network_type="flat", physical_network="physnet2")
GENEVE = Segment(network_type="geneve", segmentation_id=7)


class Cloud(Builder):
    """A small cloud on OVN: a provider network of each kind, a tenant's with each IP version, a router, three instances."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, SecurityGroup] = {}
        self.default, self.web_group = self.group("default", 2), self.group("web", 1)
        self.outside = self.carried(self.network("outside", "198.51.100.0/24", external=True, dhcp=False), VLAN)
        self.plain = self.carried(self.network("plain", "192.0.2.0/24", mtu=1500), FLAT)
        self.web = self.carried(self.network("web", "10.5.0.0/24", mtu=1442), GENEVE)
        self.six = self.carried(self.network("six", "2001:db8:5::/64", dhcp=False, mtu=1442), GENEVE)
        self.metadata = {
            network.id: self.plug(network, *addresses, device_owner="network:distributed", port_security=False)
            for network, addresses in (
                (self.outside, ()),
                (self.plain, ("192.0.2.2",)),
                (self.web, ("10.5.0.2",)),
                (self.six, ()),
            )
        }
        self.rtr = Router(
            id=id_of("router", "rtr"),
            name="rtr",
            project_id=self.project("demo"),
            status="ACTIVE",
            external_network_id=self.outside.id,
            external_addresses=("198.51.100.7",),
        )
        self.routers.append(self.rtr)
        owner = {"device_owner": OWNER_ROUTER_INTERFACE, "device_id": self.rtr.id}
        self.web_gateway = self.plug(self.web, "10.5.0.1", **owner)
        self.six_gateway = self.plug(self.six, "2001:db8:5::1", **owner)
        self.way_out = self.plug(self.outside, "198.51.100.7", device_owner=OWNER_ROUTER_GATEWAY, device_id=self.rtr.id)
        self.vm1 = self.guest("vm1", self.web, "10.5.0.11", self.default, self.web_group)
        self.vm2 = self.guest("vm2", self.plain, "192.0.2.12", self.default)
        self.vm3 = self.guest("vm3", self.web, "10.5.0.13")
        self.given("198.51.100.90", self.vm1)

    def group(self, name: str, rules: int) -> SecurityGroup:
        group = SecurityGroup(
            id=id_of("group", name),
            name=name,
            project_id=self.project("demo"),
            rules=tuple(
                Rule(id=id_of("rule", name, str(number)), direction="ingress", ethertype="IPv4")
                for number in range(rules)
            ),
        )
        self.groups[name] = group
        return group

    def carried(self, network: Network, *segments: Segment) -> Network:
        changed = network.model_copy(update={"segments": segments})
        self.networks[self.networks.index(network)] = changed
        return changed

    def plug(self, network: Network, *addresses: str, **values: Any) -> Port:
        port = self.port(network, addresses, **values)
        number = len(self.ports)
        self.ports[-1] = port.model_copy(update={"mac_address": f"fa:16:3e:00:00:{number:02x}"})
        return self.ports[-1]

    def guest(self, name: str, network: Network, address: str, *groups: SecurityGroup) -> Port:
        return self.plug(
            network,
            address,
            name=f"port of {name}",
            device_owner=f"{OWNER_COMPUTE}nova",
            device_id=id_of("instance", name),
            security_group_ids=tuple(group.id for group in groups),
            port_security=bool(groups),
        )

    def given(self, address: str, port: Port | None, **values: Any) -> None:
        self.plug(self.outside, address, device_owner="network:floatingip")
        self.floating_ips.append(
            FloatingIp(
                id=id_of("floating IP", address),
                project_id=self.project("demo"),
                address=address,
                network_id=self.outside.id,
                port_id=port.id if port else None,
                fixed_ip=port.addresses[0] if port else None,
                router_id=self.rtr.id if port else None,
                **values,
            )
        )

    def router_is(self, **values: Any) -> None:
        self.routers[0] = self.routers[0].model_copy(update=values)

    def subnets_are(self, network: Network, **values: Any) -> None:
        self.subnets = [
            each.model_copy(update=values) if each.network_id == network.id else each for each in self.subnets
        ]

    def topology(self) -> Topology:
        return super().topology().model_copy(update={"security_groups": tuple(self.groups.values())})


@dataclass
class Rows:
    """Rows of OVN's databases for a cloud, made without the code under test, to be changed by a test."""

    switches: dict[str, Mapping[str, str]]
    switch_ports: dict[str, SwitchPort]
    routers: dict[str, Mapping[str, str]]
    router_ports: dict[str, RouterPort]
    nats: list[Nat]
    port_groups: dict[str, PortGroup]
    dhcp_options: dict[str, DhcpOptions]
    chassis: dict[str, Chassis]

    def north(self) -> North:
        return North(
            switches=self.switches,
            switch_ports=self.switch_ports,
            routers=self.routers,
            router_ports=self.router_ports,
            nats=tuple(self.nats),
            port_groups=self.port_groups,
            dhcp_options=self.dhcp_options,
        )

    def south(self) -> South:
        return South(chassis=self.chassis, bindings={})


def chassis(name: str, options: str = "") -> Chassis:
    return Chassis(name, name, (("geneve", "192.0.2.200"),), {"ovn-cms-options": options})


def switch_port(name: str, switch: Network, **values: Any) -> SwitchPort:
    rest: dict[str, Any] = {
        "type": "",
        "addresses": (),
        "tag": None,
        "options": {},
        "up": True,
        "external_ids": {},
        "dhcp_options": None,
        **values,
    }
    return SwitchPort(name=name, switch=f"neutron-{switch.id}", **rest)


def localnet(name: str, network: Network, physical: str, tag: int | None) -> SwitchPort:
    return switch_port(
        name, network, type="localnet", addresses=("unknown",), tag=tag, options={"network_name": physical}
    )


def router_port(cloud: Cloud, port: Port, network: str, *on: str) -> RouterPort:
    return RouterPort(f"lrp-{port.id}", f"neutron-{cloud.rtr.id}", port.mac_address, (network,), on, {})


def subnet_options(cloud: Cloud, network: Network, mtu: str) -> DhcpOptions:
    subnet = next(each for each in cloud.subnets if each.network_id == network.id)
    return DhcpOptions(f"options of {network.name}", subnet.cidr, {"mtu": mtu}, {"subnet_id": subnet.id})


def group_name(group: SecurityGroup) -> str:
    return "pg_" + group.id.replace("-", "_")


def port_group(group: SecurityGroup, *ports: Port) -> PortGroup:
    return PortGroup(
        group_name(group),
        frozenset(port.id for port in ports),
        len(group.rules),
        frozenset(rule.id for rule in group.rules),
    )


def rows(cloud: Cloud) -> Rows:
    instances = {
        port.id: switch_port(
            port.id,
            network,
            addresses=(f"{port.mac_address} {port.addresses[0]}", *also),
            dhcp_options=f"options of {network.name}",
        )
        for port, network, also in (
            (cloud.vm1, cloud.web, ()),
            (cloud.vm2, cloud.plain, ()),
            (cloud.vm3, cloud.web, ("unknown",)),
        )
    }
    metadata = {
        port.id: switch_port(
            port.id,
            next(each for each in cloud.networks if each.id == network_id),
            type="localport",
            addresses=(" ".join((port.mac_address, *port.addresses)),),
        )
        for network_id, port in cloud.metadata.items()
    }
    of_router = {
        port.id: switch_port(port.id, network, type="router", addresses=("router",))
        for port, network in (
            (cloud.web_gateway, cloud.web),
            (cloud.six_gateway, cloud.six),
            (cloud.way_out, cloud.outside),
        )
    }
    provider = {
        "provnet-outside": localnet("provnet-outside", cloud.outside, "physnet1", 100),
        "provnet-plain": localnet("provnet-plain", cloud.plain, "physnet2", None),
    }
    router_ports = (
        router_port(cloud, cloud.web_gateway, "10.5.0.1/24"),
        router_port(cloud, cloud.six_gateway, "2001:db8:5::1/64"),
        router_port(cloud, cloud.way_out, "198.51.100.7/24", GATEWAY),
    )
    router = f"neutron-{cloud.rtr.id}"
    groups = (
        port_group(cloud.default, cloud.vm1, cloud.vm2),
        port_group(cloud.web_group, cloud.vm1),
        PortGroup("neutron_pg_drop", frozenset({cloud.vm1.id, cloud.vm2.id}), 2, frozenset()),
    )
    options = (subnet_options(cloud, cloud.web, "1442"), subnet_options(cloud, cloud.plain, "1500"))
    return Rows(
        switches={f"neutron-{each.id}": {} for each in cloud.networks},
        switch_ports={**instances, **metadata, **of_router, **provider},
        routers={router: {}},
        router_ports={each.name: each for each in router_ports},
        nats=[
            Nat(router, "dnat_and_snat", "198.51.100.90", "10.5.0.11", {}),
            Nat(router, "snat", "198.51.100.7", "10.5.0.0/24", {}),
        ],
        port_groups={each.name: each for each in groups},
        dhcp_options={each.id: each for each in options},
        chassis={GATEWAY: chassis(GATEWAY, "enable-chassis-as-gw"), OTHER: chassis(OTHER)},
    )


def wrong(cloud: Cloud, ovn: Rows) -> list[str]:
    return list(differences(cloud.topology(), ovn.north(), ovn.south()).wrong)


# Ids are the same each time, so that messages can be written down beforehand.
C = Cloud()
WEB, OUTSIDE, PLAIN, RTR = (f"neutron-{each.id}" for each in (C.web, C.outside, C.plain, C.rtr))
WEB_SUBNET = C.web.subnet_ids[0]
WAY_OUT, WEB_GATEWAY, SIX_GATEWAY = (f"lrp-{each.id}" for each in (C.way_out, C.web_gateway, C.six_gateway))
DEFAULT, WEB_GROUP = group_name(C.default), group_name(C.web_group)
METADATA = C.metadata[C.web.id].id
STRANGE = "11111111-2222-3333-4444-555555555555"
FLOATING = f"{C.rtr.id} dnat_and_snat 198.51.100.90 10.5.0.11"
SNAT = f"{C.rtr.id} snat 198.51.100.7 10.5.0.0/24"
Change = Callable[[Rows], object]


def without(table: str, *keys: str) -> Change:
    return lambda ovn: [getattr(ovn, table).pop(key) for key in keys]


def also(table: str, key: str, row: object) -> Change:
    return lambda ovn: getattr(ovn, table).update({key: row})


def but(table: str, key: str, **values: Any) -> Change:
    def change(ovn: Rows) -> None:
        getattr(ovn, table)[key] = dataclasses.replace(getattr(ovn, table)[key], **values)

    return change


def nats(*entries: Nat) -> Change:
    return lambda ovn: ovn.nats.extend(entries)


def test_a_cloud_that_ovn_has_as_it_is_has_no_difference() -> None:
    cloud = Cloud()
    found = differences(cloud.topology(), rows(cloud).north(), rows(cloud).south())
    assert found.wrong == ()
    assert found.counted == (
        "4 networks are logical switches, with 10 ports",
        "1 routers are logical routers, 2 NAT entries are floating IPs and SNAT",
        "2 security groups are port groups, rule by rule",
        "2 subnets with DHCP have its options",
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(without("switches", WEB), f"logical switch {WEB} is missing in OVN", id="missing switch"),
        pytest.param(
            also("switches", "neutron-strange", {}),
            "logical switch neutron-strange is in OVN and not in Neutron",
            id="extra switch",
        ),
        pytest.param(
            without("switch_ports", C.vm1.id), f"logical switch port {C.vm1.id} is missing in OVN", id="missing port"
        ),
        pytest.param(
            also("switch_ports", STRANGE, switch_port(STRANGE, C.web)),
            f"logical switch port {STRANGE} is in OVN and not in Neutron",
            id="extra port",
        ),
        pytest.param(
            but("switch_ports", C.vm1.id, switch=OUTSIDE),
            f"port {C.vm1.label} is on switch {OUTSIDE}, its network is {C.web.id}",
            id="port on the wrong switch",
        ),
        pytest.param(
            but("switch_ports", C.vm1.id, addresses=(f"{C.vm1.mac_address} 10.5.0.99",)),
            f"port {C.vm1.label} has 10.5.0.11 in Neutron, and {C.vm1.mac_address} 10.5.0.99 in OVN",
            id="wrong address",
        ),
        pytest.param(
            but("switch_ports", C.vm1.id, addresses=("fa:16:3e:99:99:99 10.5.0.11",)),
            f"port {C.vm1.label} has {C.vm1.mac_address} in Neutron, and fa:16:3e:99:99:99 10.5.0.11 in OVN",
            id="wrong MAC",
        ),
        pytest.param(
            # An address is not there because a longer one begins like it.
            but("switch_ports", C.vm1.id, addresses=(f"{C.vm1.mac_address} 10.5.0.111",)),
            f"port {C.vm1.label} has 10.5.0.11 in Neutron, and {C.vm1.mac_address} 10.5.0.111 in OVN",
            id="longer address",
        ),
        pytest.param(
            but("switch_ports", C.vm1.id, addresses=()),
            f"port {C.vm1.label} has {C.vm1.mac_address}, 10.5.0.11 in Neutron, and no address in OVN",
            id="no address",
        ),
        pytest.param(
            but("switch_ports", "provnet-outside", tag=200),
            f"network {C.outside.label} has localnet ports physnet1 tag 200, its segments are physnet1 tag 100",
            id="localnet with the wrong tag",
        ),
        pytest.param(
            but("switch_ports", "provnet-plain", tag=100),
            f"network {C.plain.label} has localnet ports physnet2 tag 100, its segments are physnet2 untagged",
            id="localnet with a tag on a flat network",
        ),
        pytest.param(
            but("switch_ports", "provnet-outside", options={"network_name": "physnet9"}),
            f"network {C.outside.label} has localnet ports physnet9 tag 100, its segments are physnet1 tag 100",
            id="localnet of another physical network",
        ),
        pytest.param(
            without("switch_ports", "provnet-outside"),
            f"network {C.outside.label} has localnet ports none, its segments are physnet1 tag 100",
            id="no localnet",
        ),
        pytest.param(
            also("switch_ports", "provnet-2", localnet("provnet-2", C.outside, "physnet1", 200)),
            f"network {C.outside.label} has localnet ports physnet1 tag 100, physnet1 tag 200, "
            "its segments are physnet1 tag 100",
            id="two localnets",
        ),
        pytest.param(
            also("switch_ports", "provnet-2", localnet("provnet-2", C.outside, "physnet1", 100)),
            f"network {C.outside.label} has localnet ports physnet1 tag 100, physnet1 tag 100, "
            "its segments are physnet1 tag 100",
            id="the same localnet twice",
        ),
        pytest.param(
            also("switch_ports", "provnet-web", localnet("provnet-web", C.web, "physnet1", 7)),
            f"network {C.web.label} has localnet ports physnet1 tag 7, its segments are none",
            id="localnet on a tunnelled network",
        ),
        pytest.param(
            without("switch_ports", METADATA),
            f"logical switch port {METADATA} is missing in OVN",
            id="missing metadata port in OVN",
        ),
        pytest.param(
            but("switch_ports", METADATA, type=""),
            f"metadata port {METADATA} has type none in OVN, not localport",
            id="metadata port that is a plain one",
        ),
        pytest.param(
            but("switch_ports", METADATA, type="external"),
            f"metadata port {METADATA} has type external in OVN, not localport",
            id="metadata port that is an external one",
        ),
        pytest.param(without("routers", RTR), f"logical router {RTR} is missing in OVN", id="missing router"),
        pytest.param(
            also("routers", "neutron-strange", {}),
            "logical router neutron-strange is in OVN and not in Neutron",
            id="extra router",
        ),
        pytest.param(
            without("router_ports", WEB_GATEWAY),
            f"logical router port {WEB_GATEWAY} is missing in OVN",
            id="missing router port",
        ),
        pytest.param(
            also("router_ports", "lrp-strange", RouterPort("lrp-strange", RTR, "", (), (), {})),
            "logical router port lrp-strange is in OVN and not in Neutron",
            id="extra router port",
        ),
        pytest.param(
            but("router_ports", WEB_GATEWAY, router="neutron-strange"),
            f"router port {WEB_GATEWAY} is on neutron-strange, not on router {C.rtr.id}",
            id="router port on another router",
        ),
        pytest.param(
            but("router_ports", WEB_GATEWAY, mac="fa:16:3e:99:99:99"),
            f"router port {WEB_GATEWAY} has MAC fa:16:3e:99:99:99, Neutron says {C.web_gateway.mac_address}",
            id="wrong MAC on a router port",
        ),
        pytest.param(
            but("router_ports", WEB_GATEWAY, networks=("10.5.0.1/25",)),
            f"router port {WEB_GATEWAY} has 10.5.0.1/25, Neutron says 10.5.0.1/24",
            id="wrong prefix on a router port",
        ),
        pytest.param(
            but("router_ports", WEB_GATEWAY, networks=("10.5.0.1/24", "10.6.0.1/24")),
            f"router port {WEB_GATEWAY} has 10.5.0.1/24, 10.6.0.1/24, Neutron says 10.5.0.1/24",
            id="one network too many on a router port",
        ),
        pytest.param(
            but("router_ports", SIX_GATEWAY, networks=("2001:db8:5::2/64",)),
            f"router port {SIX_GATEWAY} has 2001:db8:5::2/64, Neutron says 2001:db8:5::1/64",
            id="wrong IPv6 network on a router port",
        ),
        pytest.param(
            but("router_ports", WAY_OUT, chassis=()),
            f"gateway port {WAY_OUT} is on no chassis",
            id="gateway port without a chassis",
        ),
        pytest.param(
            but("router_ports", WAY_OUT, chassis=(GATEWAY, OTHER)),
            f"gateway port {WAY_OUT} is on {OTHER}, no gateway chassis",
            id="gateway port on another chassis too",
        ),
        pytest.param(
            but("router_ports", WAY_OUT, chassis=("gone",)),
            f"gateway port {WAY_OUT} is on gone, no gateway chassis",
            id="gateway port on a chassis that is gone",
        ),
        pytest.param(lambda ovn: ovn.nats.pop(0), f"NAT entry {FLOATING} is missing in OVN", id="missing floating IP"),
        pytest.param(lambda ovn: ovn.nats.pop(1), f"NAT entry {SNAT} is missing in OVN", id="missing SNAT"),
        pytest.param(
            nats(Nat(RTR, "dnat_and_snat", "198.51.100.91", "10.5.0.13", {})),
            f"NAT entry {C.rtr.id} dnat_and_snat 198.51.100.91 10.5.0.13 is in OVN and not in Neutron",
            id="extra NAT",
        ),
        pytest.param(
            nats(Nat(RTR, "snat", "198.51.100.7", "10.5.0.0/24", {})),
            f"NAT entry {RTR} snat 198.51.100.7 10.5.0.0/24 is there 2 times",
            id="double NAT",
        ),
        pytest.param(
            without("port_groups", WEB_GROUP), f"port group {WEB_GROUP} is missing in OVN", id="missing port group"
        ),
        pytest.param(
            also("port_groups", "pg_strange", PortGroup("pg_strange", frozenset(), 0, frozenset())),
            "port group pg_strange is in OVN and not in Neutron",
            id="extra port group",
        ),
        pytest.param(
            but("port_groups", WEB_GROUP, ports=frozenset({C.vm2.id})),
            f"port group {WEB_GROUP} ({C.web_group.label}) has other ports: {C.vm1.id} missing; {C.vm2.id} too many",
            id="wrong members",
        ),
        pytest.param(
            but("port_groups", DEFAULT, rules=frozenset({C.default.rules[0].id})),
            f"port group {DEFAULT} ({C.default.label}) has other rules: {C.default.rules[1].id} missing",
            id="missing rule",
        ),
        pytest.param(
            but("port_groups", WEB_GROUP, rules=frozenset({C.web_group.rules[0].id, STRANGE})),
            f"port group {WEB_GROUP} ({C.web_group.label}) has other rules: {STRANGE} too many",
            id="extra rule",
        ),
        pytest.param(
            without("port_groups", "neutron_pg_drop"),
            "port group neutron_pg_drop is missing in OVN",
            id="missing drop group",
        ),
        pytest.param(
            but("port_groups", "neutron_pg_drop", acls=0),
            "port group neutron_pg_drop has 0 ACLs: what no rule lets in would pass",
            id="drop group without ACLs",
        ),
        pytest.param(
            but("port_groups", "neutron_pg_drop", ports=frozenset({C.vm1.id})),
            f"port group neutron_pg_drop has other ports: {C.vm2.id} missing",
            id="drop group lacking a port",
        ),
        pytest.param(
            but("port_groups", "neutron_pg_drop", ports=frozenset({C.vm1.id, C.vm2.id, C.vm3.id})),
            f"port group neutron_pg_drop has other ports: {C.vm3.id} too many",
            id="drop group with a port without port security",
        ),
        pytest.param(
            without("dhcp_options", "options of web"),
            f"DHCP options of subnet {WEB_SUBNET} is missing in OVN",
            id="missing DHCP options",
        ),
        pytest.param(
            also("dhcp_options", "more", DhcpOptions("more", "198.51.100.0/24", {}, {"subnet_id": STRANGE})),
            f"DHCP options of subnet {STRANGE} is in OVN and not in Neutron",
            id="extra DHCP options",
        ),
        pytest.param(
            but("dhcp_options", "options of web", cidr="10.5.0.0/25"),
            f"DHCP options of subnet {C.topology().subnet[WEB_SUBNET].label} are for 10.5.0.0/25",
            id="DHCP options of another range",
        ),
        pytest.param(
            but("dhcp_options", "options of web", options={"mtu": "1450"}),
            f"DHCP gives subnet {C.topology().subnet[WEB_SUBNET].label} MTU 1450, its network has 1442",
            id="wrong MTU in DHCP options",
        ),
        pytest.param(
            but("dhcp_options", "options of web", options={}),
            f"DHCP gives subnet {C.topology().subnet[WEB_SUBNET].label} MTU None, its network has 1442",
            id="no MTU in DHCP options",
        ),
        pytest.param(
            but("switch_ports", C.vm1.id, dhcp_options=None),
            f"port {C.vm1.label} has no DHCP options in OVN",
            id="instance without DHCP options",
        ),
    ],
)
def test_one_deviation_is_said_and_nothing_else(change: Change, says: str) -> None:
    cloud = Cloud()
    ovn = rows(cloud)
    change(ovn)
    assert wrong(cloud, ovn) == [says]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            but("router_ports", SIX_GATEWAY, networks=("2001:DB8:5:0:0:0:0:1/64",)), id="IPv6 in another spelling"
        ),
        pytest.param(
            but("router_ports", WEB_GATEWAY, mac=C.web_gateway.mac_address.upper()), id="MAC in another spelling"
        ),
        pytest.param(but("switch_ports", C.vm3.id, addresses=("unknown",)), id="any address without port security"),
        pytest.param(
            but("switch_ports", C.vm1.id, addresses=(f"{C.vm1.mac_address} 10.5.0.11 10.5.0.200",)),
            id="one address more, of an allowed pair",
        ),
        pytest.param(
            also("port_groups", "clusterPortGroup", PortGroup("clusterPortGroup", frozenset(), 0, frozenset())),
            id="a port group of somebody else",
        ),
        pytest.param(
            also(
                "dhcp_options",
                "own",
                DhcpOptions("own", "10.5.0.0/24", {}, {"subnet_id": WEB_SUBNET, "port_id": C.vm1.id}),
            ),
            id="DHCP options of a port of its own",
        ),
        pytest.param(but("switch_ports", METADATA, dhcp_options=None), id="no DHCP options at a metadata port"),
    ],
)
def test_what_is_as_good_is_no_difference(change: Change) -> None:
    cloud = Cloud()
    ovn = rows(cloud)
    change(ovn)
    assert wrong(cloud, ovn) == []


def test_several_deviations_are_all_said() -> None:
    cloud = Cloud()
    ovn = rows(cloud)
    ovn.nats.clear()
    ovn.switches.pop(WEB)
    assert sorted(wrong(cloud, ovn)) == sorted(
        [
            f"logical switch {WEB} is missing in OVN",
            f"NAT entry {FLOATING} is missing in OVN",
            f"NAT entry {SNAT} is missing in OVN",
        ]
    )


def test_an_empty_northbound_database_has_nothing_of_a_cloud() -> None:
    cloud = Cloud()
    found = wrong(cloud, Rows({}, {}, {}, {}, [], {}, {}, {}))
    things = [
        *(f"logical switch neutron-{each.id}" for each in cloud.networks),
        *(f"logical switch port {each.id}" for each in cloud.ports if each.device_owner != "network:floatingip"),
        f"logical router {RTR}",
        *(f"logical router port {each}" for each in (WAY_OUT, WEB_GATEWAY, SIX_GATEWAY)),
        *(f"NAT entry {each}" for each in (FLOATING, SNAT)),
        *(f"port group {each}" for each in (DEFAULT, WEB_GROUP, "neutron_pg_drop")),
        *(f"DHCP options of subnet {each.id}" for each in cloud.subnets if each.dhcp),
    ]
    localnets = [
        f"network {C.outside.label} has localnet ports none, its segments are physnet1 tag 100",
        f"network {C.plain.label} has localnet ports none, its segments are physnet2 untagged",
    ]
    assert sorted(found) == sorted([*(f"{each} is missing in OVN" for each in things), *localnets])


# What Neutron itself lacks or has


def test_a_network_without_a_metadata_port_is_named() -> None:
    cloud = Cloud()
    cloud.ports = [port for port in cloud.ports if port.id != METADATA]
    ovn = rows(cloud)
    ovn.switch_ports.pop(METADATA)
    assert wrong(cloud, ovn) == [f"network {C.web.label} has 0 metadata ports"]


def test_a_network_with_two_metadata_ports_is_named() -> None:
    cloud = Cloud()
    second = cloud.plug(cloud.web, "10.5.0.3", device_owner="network:distributed", port_security=False)
    ovn = rows(cloud)
    ovn.switch_ports[second.id] = switch_port(
        second.id, cloud.web, type="localport", addresses=(f"{second.mac_address} 10.5.0.3",)
    )
    assert wrong(cloud, ovn) == [f"network {C.web.label} has 2 metadata ports"]


def test_a_metadata_port_without_an_address_in_a_subnet_with_dhcp_is_named() -> None:
    cloud = Cloud()
    cloud.ports = [port.model_copy(update={"fixed_ips": ()}) if port.id == METADATA else port for port in cloud.ports]
    assert wrong(cloud, rows(cloud)) == [f"metadata port of {C.web.label} has no address in subnet {WEB_SUBNET}"]


def test_a_floating_ip_that_is_nobodys_needs_no_nat() -> None:
    cloud = Cloud()
    cloud.given("198.51.100.91", None)
    assert wrong(cloud, rows(cloud)) == []


def test_a_floating_ip_that_lost_its_port_may_have_no_nat_any_more() -> None:
    cloud = Cloud()
    cloud.floating_ips[0] = cloud.floating_ips[0].model_copy(
        update={"port_id": None, "fixed_ip": None, "router_id": None}
    )
    assert wrong(cloud, rows(cloud)) == [f"NAT entry {FLOATING} is in OVN and not in Neutron"]


def test_port_forwardings_are_no_nat() -> None:
    cloud = Cloud()
    cloud.given("198.51.100.91", cloud.vm3, port_forwardings=2)
    assert wrong(cloud, rows(cloud)) == []


def test_a_router_without_snat_may_have_none() -> None:
    cloud = Cloud()
    cloud.router_is(snat=False)
    ovn = rows(cloud)
    assert wrong(cloud, ovn) == [f"NAT entry {SNAT} is in OVN and not in Neutron"]
    ovn.nats.pop(1)
    assert wrong(cloud, ovn) == []


def test_a_router_without_a_way_out_has_no_nat() -> None:
    cloud = Cloud()
    cloud.router_is(external_network_id=None, external_addresses=())
    cloud.floating_ips.clear()
    cloud.ports = [port for port in cloud.ports if port.id != cloud.way_out.id]
    ovn = rows(cloud)
    ovn.switch_ports.pop(C.way_out.id)
    ovn.router_ports.pop(WAY_OUT)
    ovn.nats.clear()
    assert wrong(cloud, ovn) == []


def test_a_router_whose_way_out_is_ipv6_only_has_no_snat() -> None:
    cloud = Cloud()
    cloud.router_is(external_addresses=("2001:db8:9::7",))
    ovn = rows(cloud)
    ovn.nats.pop(1)
    assert wrong(cloud, ovn) == []


def test_a_port_that_nobody_plugged_is_guarded_too() -> None:
    cloud = Cloud()
    port = cloud.plug(cloud.web, "10.5.0.40", security_group_ids=(cloud.default.id,))
    ovn = rows(cloud)
    ovn.switch_ports[port.id] = switch_port(port.id, cloud.web, addresses=(f"{port.mac_address} 10.5.0.40",))
    assert wrong(cloud, ovn) == [
        f"port group {DEFAULT} ({C.default.label}) has other ports: {port.id} missing",
        f"port group neutron_pg_drop has other ports: {port.id} missing",
    ]


def test_an_instance_in_a_subnet_without_dhcp_needs_no_options() -> None:
    cloud = Cloud()
    cloud.subnets_are(cloud.web, dhcp=False)
    ovn = rows(cloud)
    ovn.dhcp_options.pop("options of web")
    for port in (cloud.vm1, cloud.vm3):
        but("switch_ports", port.id, dhcp_options=None)(ovn)
    assert wrong(cloud, ovn) == []


def test_each_segment_of_a_network_has_its_localnet() -> None:
    cloud = Cloud()
    more = VLAN.model_copy(update={"segmentation_id": 300})
    cloud.carried(cloud.outside, VLAN, more)
    ovn = rows(cloud)
    segments = "physnet1 tag 100, physnet1 tag 300"
    assert wrong(cloud, ovn) == [
        f"network {C.outside.label} has localnet ports physnet1 tag 100, its segments are {segments}"
    ]
    ovn.switch_ports["provnet-more"] = localnet("provnet-more", cloud.outside, "physnet1", 300)
    assert wrong(cloud, ovn) == []


# What Neutron's OVN driver does by ovn_client.py: is_dhcp_options_ignored, update_metadata_port, update_nat_rules


def test_a_subnet_whose_addresses_guests_make_themselves_has_no_dhcp_options() -> None:
    cloud = Cloud()
    cloud.subnets_are(cloud.six, dhcp=True, ipv6_address_mode="slaac")
    missing = [each for each in wrong(cloud, rows(cloud)) if "DHCP options" in each]
    assert missing == []


def test_a_metadata_port_needs_addresses_in_ipv4_subnets_only() -> None:
    cloud = Cloud()
    cloud.subnets_are(cloud.six, dhcp=True, ipv6_address_mode="dhcpv6-stateful")
    ovn = rows(cloud)
    ovn.dhcp_options["options of six"] = subnet_options(cloud, cloud.six, "")
    assert wrong(cloud, ovn) == []


def test_a_router_has_snat_for_each_of_its_external_addresses() -> None:
    cloud = Cloud()
    cloud.router_is(external_addresses=("198.51.100.7", "198.51.100.8"))
    ovn = rows(cloud)
    ovn.nats.append(Nat(RTR, "snat", "198.51.100.8", "10.5.0.0/24", {}))
    assert wrong(cloud, ovn) == []


def test_double_dhcp_options_of_a_subnet_are_named() -> None:
    cloud = Cloud()
    ovn = rows(cloud)
    ovn.dhcp_options["again"] = dataclasses.replace(ovn.dhcp_options["options of web"], id="again", options={})
    found = wrong(cloud, ovn)
    assert len(found) == 1
    assert WEB_SUBNET[:8] in found[0]
