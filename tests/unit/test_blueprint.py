from __future__ import annotations

import ipaddress

import pytest

from lab import blueprint
from lab.blueprint import Addresses, Role


def test_the_instances_are_the_seeds() -> None:
    found = {(each.name, each.address, each.floating_ip) for each in blueprint.INSTANCES}
    assert found == {
        ("vm-web1", "10.5.0.121", "192.168.100.90"),
        ("vm-web2", "10.5.0.162", None),
        ("vm-app1", "172.25.0.50", None),
        ("vm-app2", "172.25.0.250", None),
        ("vm-db1", "192.168.55.21", "192.168.100.215"),
        ("vm-db2", "192.168.55.223", None),
    }


def test_each_network_has_instances_on_both_hypervisors() -> None:
    computes = {host.name for host in blueprint.with_role(Role.COMPUTE)}
    for network in blueprint.TENANT_NETWORKS:
        assert {each.hypervisor for each in blueprint.INSTANCES if each.network == network.name} == computes


def test_every_address_lies_in_its_network() -> None:
    networks = {each.name: ipaddress.ip_network(each.cidr) for each in blueprint.TENANT_NETWORKS}
    for each in blueprint.INSTANCES:
        assert ipaddress.ip_address(each.address) in networks[each.network]


def test_hosts_have_distinct_addresses() -> None:
    addresses = Addresses("198.19.5.0/24")
    found = [addresses.of(host) for host in blueprint.HOSTS]
    assert found[0] == "198.19.5.11"
    assert len({*found, addresses.machine}) == len(blueprint.HOSTS) + 1


@pytest.mark.parametrize("management", ["10.0.0.0/16", "fd00::/64", "198.18.1.0/24", "198.18.0.5/24", "rubbish", ""])
def test_a_management_network_that_can_not_be_is_refused(management: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Addresses(management)


def test_without_8021q_each_provider_network_has_a_nic() -> None:
    compute = blueprint.with_role(Role.COMPUTE)[0]
    flat = {nic.name: nic.bridge for nic in blueprint.nics_of(compute, vlan=False)}
    assert flat == {"eth0": "br-mgmt", "eth1": "br-vxlan", "eth2": "br-vlan", "eth3": "br-vlan200"}
    assert blueprint.physical_networks(vlan=False) == {"vlan100": "eth2", "vlan200": "eth3"}


def test_with_8021q_one_nic_carries_both() -> None:
    compute = blueprint.with_role(Role.COMPUTE)[0]
    assert [nic.name for nic in blueprint.nics_of(compute, vlan=True)] == ["eth0", "eth1", "eth2"]
    assert blueprint.physical_networks(vlan=True) == {"vlan": "eth2"}


def test_edge_has_no_tunnel() -> None:
    assert "eth1" not in [nic.name for nic in blueprint.nics_of(blueprint.EDGE, vlan=False)]


def test_units_follow_roles_without_repetition() -> None:
    units = blueprint.units_of(blueprint.CONTROL)
    assert len(units) == len(set(units))
    assert {"mariadb.service", "neutron-l3-agent.service"} <= set(units)
    assert "nova-compute.service" not in units
    computes = blueprint.units_of(blueprint.with_role(Role.COMPUTE)[0])
    assert {"nova-compute.service", "neutron-linuxbridge-agent.service"} <= set(computes)
    assert "neutron-l3-agent.service" not in computes
