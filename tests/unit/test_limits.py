"""What QoS policies limit, and what of that is missing in OVN."""

from __future__ import annotations

from typing import Any

import pytest

from ovnshift.cloud.topology import QosPolicy, Topology
from ovnshift.migration.limits import limited, missing
from ovnshift.ovn import North
from ovnshift.ovn.rows import SwitchPort
from tests.unit.clouds import Seed

SLOW = QosPolicy(id="11111111-0000-0000-0000-000000000001", name="slow", rules=("bandwidth_limit",))
MARKED = QosPolicy(
    id="11111111-0000-0000-0000-000000000002", name="marked", rules=("dscp_marking", "minimum_bandwidth")
)
EMPTY = QosPolicy(id="11111111-0000-0000-0000-000000000003", name="empty")
WITHOUT_LIMITS = North({}, {}, {}, {}, (), {}, {})


def cloud(policies: tuple[QosPolicy, ...] = (SLOW, MARKED, EMPTY), **of: dict[str, QosPolicy]) -> Topology:
    """The seed's cloud with policies of ``networks`` and ``routers`` by name, of ``floating_ips`` and ``ports`` by address."""
    topology = Seed().topology()

    def give(values: tuple[Any, ...], wanted: dict[str, QosPolicy]) -> tuple[Any, ...]:
        return tuple(
            each.model_copy(update={"qos_policy_id": policy.id}) if (policy := wanted.get(name_of(each))) else each
            for each in values
        )

    def name_of(each: Any) -> str:
        return str(getattr(each, "address", "") or (each.addresses[0] if getattr(each, "fixed_ips", ()) else each.name))

    return topology.model_copy(
        update={
            "qos_policies": policies,
            **{kind: give(getattr(topology, kind), wanted) for kind, wanted in of.items()},
        }
    )


def labels(topology: Topology) -> list[tuple[str, str]]:
    return sorted((each.label.split(" (")[0], each.policy.name) for each in limited(topology))


def test_a_cloud_without_policies_limits_nothing() -> None:
    assert limited(cloud(())) == []
    assert limited(cloud()) == []


def test_floating_ips_and_gateways_have_their_external_networks_policy_unless_they_have_their_own() -> None:
    topology = cloud(networks={"vlan100": SLOW}, floating_ips={"192.168.100.90": MARKED}, routers={"rtr-db": EMPTY})
    assert labels(topology) == [
        ("floating IP 192.168.100.215", "slow"),
        ("floating IP 192.168.100.90", "marked"),
        ("gateway of router rtr-web", "slow"),
    ]


def test_ports_of_instances_have_their_networks_policy_and_agents_ports_none() -> None:
    topology = cloud(networks={"web": SLOW})
    found = limited(topology)
    web = next(each for each in topology.networks if each.name == "web")
    instances = {each.id for each in topology.ports if each.of_instance and each.network_id == web.id}
    assert instances
    assert {each.id for each in found} == instances
    own = next(each for each in topology.ports if each.id in instances)
    topology = cloud(networks={"web": SLOW}, ports={own.addresses[0]: MARKED})
    assert {each.policy.name for each in limited(topology) if each.id == own.id} == {"marked"}


def test_ports_that_are_no_switchs_are_limited_by_their_hardware() -> None:
    topology = cloud(networks={"web": SLOW})
    ports = tuple(each.model_copy(update={"vnic_type": "direct"}) for each in topology.ports)
    assert limited(topology.model_copy(update={"ports": ports})) == []


def test_what_is_not_in_ovn_is_missing() -> None:
    topology = cloud(networks={"vlan100": SLOW, "web": SLOW})
    wanted = limited(topology)
    assert {each.key for each in wanted} == {"neutron:port_id", "neutron:fip_id", "neutron:router_id"}
    assert missing(topology, WITHOUT_LIMITS) == wanted
    for lost in wanted:
        rows = tuple({each.key: each.id} for each in wanted if each != lost)
        assert missing(topology, North({}, {}, {}, {}, (), {}, {}, limits=rows)) == [lost]


@pytest.mark.parametrize(
    ("options", "lost"), [({"qos_max_rate": "10000000"}, False), ({"requested-chassis": "a"}, True)]
)
def test_a_ports_limit_may_be_an_option_of_it(options: dict[str, str], *, lost: bool) -> None:
    """So from 2024.1 on, on provider networks."""
    topology = cloud(networks={"web": SLOW})
    ports = {
        each.id: SwitchPort(each.id, "web", "", (), None, options, up=True, external_ids={}, dhcp_options=None)
        for each in limited(topology)
    }
    found = missing(topology, North({}, ports, {}, {}, (), {}, {}))
    assert bool(found) == lost
