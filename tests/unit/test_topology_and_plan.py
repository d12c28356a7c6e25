from __future__ import annotations

from collections import Counter

import pytest

from ovnshift.cloud import Topology
from ovnshift.connectivity import baseline as baselines
from ovnshift.connectivity import plan as plans
from ovnshift.connectivity import silence
from ovnshift.connectivity.cells import Cell, Expectation, Kind
from ovnshift.connectivity.plan import Plan, Vantages
from ovnshift.errors import OvnshiftError
from tests.unit import clouds
from tests.unit.clouds import CIRROS, Builder, Seed

OUTSIDE = {"host": "infra3", "target": "198.51.100.1"}


def said(plan: Plan) -> set[tuple[str, str, str, str]]:
    """Cells by kind, source, target, address; names are enough in the seed's cloud."""
    return {(cell.kind, cell.source.name, cell.target.name, cell.address) for cell in plan.cells}


def with_kind(plan: Plan, *kinds: Kind) -> list[Cell]:
    return [cell for cell in plan.cells if cell.kind in kinds]


@pytest.fixture
def seed_plan() -> Plan:
    return plans.make(Seed().topology(), clouds.site(outside=OUTSIDE, guests=[{**CIRROS, "closed_port": 8080}]))


def test_every_connection_of_the_seed_document_is_a_cell(seed_plan: Plan) -> None:
    instances = {
        "vm-db2": ("db", "192.168.55.223"),
        "vm-db1": ("db", "192.168.55.21"),
        "vm-app2": ("app", "172.25.0.250"),
        "vm-app1": ("app", "172.25.0.50"),
        "vm-web1": ("web", "10.5.0.121"),
        "vm-web2": ("web", "10.5.0.162"),
    }
    wanted = {
        (kind, network, name, address)
        for name, (network, address) in instances.items()
        for kind in (Kind.PING, Kind.SSH)
    }
    wanted |= {
        (Kind.PING, "vm-db2", "vm-db1", "192.168.55.21"),
        (Kind.PING, "vm-db1", "vm-db2", "192.168.55.223"),
        (Kind.PING, "vm-web1", "vm-web2", "10.5.0.162"),
        (Kind.PING, "vm-web1", "vm-app1", "172.25.0.50"),
        (Kind.PING, "vm-web2", "vm-app1", "172.25.0.50"),
        (Kind.PING, "vm-web2", "vm-app2", "172.25.0.250"),
        (Kind.PING, "vm-web1", "192.168.100.215", "192.168.100.215"),
        (Kind.CONSOLE_DHCP, "vm-web1", "vm-web1", "10.5.0.121"),
        (Kind.CONSOLE_METADATA, "vm-web1", "metadata", "169.254.169.254"),
    }
    assert wanted - said(seed_plan) == set()


def test_the_connections_that_the_document_left_out_are_cells(seed_plan: Plan) -> None:
    wanted = {
        (Kind.PING_WHOLE, "web", "vm-web1", "10.5.0.121"),
        (Kind.CLOSED_PORT, "web", "vm-web1", "10.5.0.121"),
        (Kind.CLOSED_PORT, "infra3", "192.168.100.90", "192.168.100.90"),
        (Kind.METADATA, "vm-db2", "metadata", "169.254.169.254"),
        (Kind.DHCP, "vm-db2", "vm-db2", "192.168.55.223"),
        (Kind.PING, "vm-db2", "outside", "198.51.100.1"),
        (Kind.PING, "infra3", "192.168.100.90", "192.168.100.90"),
        (Kind.SSH, "infra3", "192.168.100.215", "192.168.100.215"),
        (Kind.PING, "vm-app2", "192.168.100.90", "192.168.100.90"),
    }
    assert wanted - said(seed_plan) == set()


def test_no_cell_is_there_twice(seed_plan: Plan) -> None:
    assert [id_ for id_, times in Counter(cell.id for cell in seed_plan.cells).items() if times > 1] == []


def test_nothing_is_measured_between_networks_that_no_router_joins(seed_plan: Plan) -> None:
    ends = {("vm-web1", "vm-db1"), ("vm-db1", "vm-web1"), ("vm-app1", "vm-db2")}
    assert ends.isdisjoint((cell.source.name, cell.target.name) for cell in seed_plan.cells)


def test_a_cell_says_what_its_packets_share(seed_plan: Plan) -> None:
    seed = Seed()
    pairs = {(cell.source.name, cell.target.name): cell for cell in seed_plan.cells if cell.kind == Kind.PING}
    same, routed = pairs["vm-web1", "vm-web2"], pairs["vm-web1", "vm-app1"]
    assert (same.across_hosts, same.routed, same.via) == (True, False, (seed.web.id,))
    assert (routed.across_hosts, routed.routed) == (False, True)
    assert routed.via == (seed.web.id, seed.rtr_web.id, seed.app.id)


def test_what_must_not_pass_is_expected_to_be_kept_out(seed_plan: Plan) -> None:
    kept_out = [cell for cell in seed_plan.cells if cell.expectation is Expectation.KEPT_OUT]
    assert {cell.kind for cell in kept_out} == {Kind.CLOSED_PORT}
    assert {cell.port for cell in kept_out} == {8080}
    assert len(kept_out) == 8  # six instances, two floating IPs


def test_the_size_that_must_pass_whole_is_the_networks(seed_plan: Plan) -> None:
    assert {cell.size for cell in with_kind(seed_plan, Kind.PING_WHOLE)} == {1450}


def test_without_an_outside_nothing_is_measured_from_there() -> None:
    plan = plans.make(Seed().topology(), clouds.site())
    assert not [cell for cell in plan.cells if "outside" in {cell.source.kind, cell.target.kind}]


def test_a_floating_ip_of_nobody_has_no_cell() -> None:
    seed = Seed()
    seed.floating_ip("192.168.100.7", seed.vlan100, None, seed.rtr_web)
    plan = plans.make(seed.topology(), clouds.site(outside=OUTSIDE))
    assert "192.168.100.7" not in {cell.address for cell in plan.cells}


def test_guests_that_nobody_may_log_in_to_are_only_looked_at_from_outside() -> None:
    plan = plans.make(Seed().topology(), clouds.site(guests=[{"instance": "vm-web1", "login": False}, CIRROS]))
    inside = [cell for cell in plan.cells if cell.source.name == "vm-web1"]
    assert {cell.kind for cell in inside} == {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA}
    assert (Kind.SSH, "web", "vm-web1", "10.5.0.121") in said(plan)
    assert (Kind.PING, "vm-web2", "vm-web1", "10.5.0.121") in said(plan)


def test_guests_that_no_entry_fits_are_not_logged_in_to() -> None:
    plan = plans.make(Seed().topology(), clouds.site(guests=[]))
    assert {cell.source.kind for cell in with_kind(plan, Kind.PING, Kind.SSH)} == {"network"}


def test_instances_of_the_same_name_stay_apart() -> None:
    seed = Seed()
    twin = seed.instance("vm-web1", {"10.5.0.200": seed.web}, "compute2")
    plan = plans.make(seed.topology(), clouds.site())
    targets = {cell.target.id for cell in with_kind(plan, Kind.PING) if cell.source.id == seed.web.id}
    assert {seed.web1.id, twin.id} <= targets
    ends = {(cell.source.id, cell.target.id) for cell in with_kind(plan, Kind.PING)}
    assert {(seed.web1.id, twin.id), (twin.id, seed.web1.id)} <= ends


def test_addresses_that_overlap_between_projects_stay_apart() -> None:
    seed = Seed()
    other = seed.network("web", "10.5.0.0/24", project="other")
    twin = seed.instance("vm-web1", {"10.5.0.121": other}, "compute2", project="other")
    plan = plans.make(seed.topology(), clouds.site())
    pings = [cell for cell in with_kind(plan, Kind.PING) if cell.address == "10.5.0.121"]
    from_networks = {(cell.source.id, cell.target.id) for cell in pings if cell.source.kind == "network"}
    assert from_networks == {(seed.web.id, seed.web1.id), (other.id, twin.id)}
    # No router joins the two, so that a ping of one's address from the other's network would reach the wrong instance.
    assert not [cell for cell in pings if cell.source.kind == "instance" and cell.target.id == twin.id]
    assert len({cell.id for cell in plan.cells}) == len(plan.cells)


def test_vantages_of_overlapping_networks_are_different_namespaces() -> None:
    seed = Seed()
    other = seed.network("web", "10.5.0.0/24", project="other")
    hosts = clouds.inventories({"infra1": [f"qdhcp-{seed.web.id}", f"qdhcp-{other.id}"]})
    vantages = Vantages(seed.topology(), hosts, clouds.site())
    namespaces = [getattr(vantages.of_network(network.id, None), "namespace", None) for network in (seed.web, other)]
    assert namespaces == [f"qdhcp-{seed.web.id}", f"qdhcp-{other.id}"]


def ipv6_only() -> Builder:
    cloud = Builder()
    network = cloud.network("six", "2001:db8:6::/64")
    cloud.instance("vm-six1", {"2001:db8:6::11": network}, "compute1")
    cloud.instance("vm-six2", {"2001:db8:6::12": network}, "compute2")
    return cloud


def test_a_network_with_ipv6_only_has_cells_and_none_over_ipv4() -> None:
    plan = plans.make(ipv6_only().topology(), clouds.site(outside=OUTSIDE))
    assert {
        (Kind.PING, "six", "vm-six1", "2001:db8:6::11"),
        (Kind.SSH, "six", "vm-six2", "2001:db8:6::12"),
        (Kind.PING_WHOLE, "six", "vm-six1", "2001:db8:6::11"),
        (Kind.PING, "vm-six1", "vm-six2", "2001:db8:6::12"),
    } <= said(plan)
    assert [str(cell) for cell in plan.cells if "." in cell.address] == []


def test_both_families_of_an_instance_are_measured() -> None:
    cloud = Builder()
    network = cloud.network("both", "10.6.0.0/24", "2001:db8:6::/64")
    cloud.instance("vm-a", {"10.6.0.11": network, "2001:db8:6::11": network}, "compute1")
    cloud.instance("vm-b", {"10.6.0.12": network, "2001:db8:6::12": network}, "compute2")
    plan = plans.make(cloud.topology(), clouds.site())
    assert {cell.address for cell in with_kind(plan, Kind.PING) if cell.source.name == "both"} == {
        "10.6.0.11",
        "10.6.0.12",
        "2001:db8:6::11",
        "2001:db8:6::12",
    }


def test_where_there_is_no_dhcp_no_lease_is_expected() -> None:
    cloud = Builder()
    network = cloud.network("static", "10.7.0.0/24", dhcp=False)
    cloud.instance("vm", {"10.7.0.11": network}, "compute1")
    plan = plans.make(cloud.topology(), clouds.site())
    assert with_kind(plan, Kind.DHCP, Kind.CONSOLE_DHCP) == []
    assert (Kind.PING, "static", "vm", "10.7.0.11") in said(plan)


def test_an_instance_that_does_not_run_is_not_covered_and_its_status_is_the_reason() -> None:
    seed = Seed()
    stopped = seed.instance("vm-old", {"10.5.0.9": seed.web}, "compute1", status="SHUTOFF")
    plan = plans.make(seed.topology(), clouds.site())
    assert plan.not_covered == {stopped.id: f"{stopped.label} is SHUTOFF"}
    assert "10.5.0.9" not in {cell.address for cell in plan.cells}


def test_an_instance_without_an_address_is_not_covered() -> None:
    seed = Seed()
    bare = seed.instance("vm-bare", {}, "compute1")
    assert plans.make(seed.topology(), clouds.site()).not_covered == {bare.id: f"{bare.label} has no address"}


def test_a_floating_ip_of_an_instance_that_does_not_run_is_not_pinged() -> None:
    seed = Seed()
    stopped = seed.instance("vm-old", {"10.5.0.9": seed.web}, "compute1", status="SHUTOFF")
    seed.floating_ip("192.168.100.9", seed.vlan100, stopped, seed.rtr_web)
    plan = plans.make(seed.topology(), clouds.site(outside=OUTSIDE))
    assert "192.168.100.9" not in {cell.address for cell in plan.cells}
    (reason,) = (reason for id_, reason in plan.not_covered.items() if id_ != stopped.id)
    assert reason == "floating IP 192.168.100.9 leads to no instance that runs"


def test_a_floating_ip_of_an_address_that_instances_have_among_them_is_pinged_and_need_not_answer() -> None:
    seed = Seed()
    owner = seed.instance("vm-gone", {"10.5.0.9": seed.web}, "compute1")
    seed.floating_ip("192.168.100.9", seed.vlan100, owner, seed.rtr_web)
    topology = seed.topology()
    virtual = {"device_owner": "", "device_id": "", "host": ""}
    ports = tuple(each.model_copy(update=virtual) if each.device_id == owner.id else each for each in topology.ports)
    topology = topology.model_copy(update={"ports": ports})
    (cell,) = [
        each for each in plans.make(topology, clouds.site(outside=OUTSIDE)).cells if each.address == "192.168.100.9"
    ]
    assert cell.kind is Kind.PING
    assert silence.reasons(topology, clouds.site(), [cell]) == {cell.id: silence.NOBODYS}


@pytest.mark.parametrize("cloud", [Builder(), Builder("with networks")])
def test_an_empty_cloud_has_no_cells_and_no_baseline(cloud: Builder) -> None:
    if cloud.cloud == "with networks":
        cloud.network("web", "10.5.0.0/24")
    topology = cloud.topology()
    plan = plans.make(topology, clouds.site(outside=OUTSIDE))
    assert plan.cells == ()
    with pytest.raises(OvnshiftError, match="there is nothing to measure: no instance has an address"):
        baselines.assemble(topology, plan, [], begun_at="", ended_at="", without_vantage_afterwards={})


def test_an_instance_may_be_called_anything() -> None:
    name = 'a"; reboot #<b>'
    seed = Seed()
    odd = seed.instance(name, {"10.5.0.66": seed.web}, "compute1")
    plan = plans.make(seed.topology(), clouds.site(guests=[{"instance": name, "login": False}, CIRROS]))
    assert {cell.source.name for cell in plan.cells if cell.target.id == odd.id} >= {"web", "vm-web1"}
    assert not [cell for cell in with_kind(plan, Kind.METADATA) if cell.source.id == odd.id]
    assert not [cell for cell in plan.cells if name in cell.id], "cells are named by id"


def test_a_cell_keeps_its_name_when_everything_moves_to_other_hosts() -> None:
    topology = Seed().topology()
    moved = topology.model_copy(
        update={
            "instances": tuple(each.model_copy(update={"host": "compute2"}) for each in topology.instances),
            "agents": (),
        }
    )
    ids = [{cell.id for cell in plans.make(each, clouds.site()).cells} for each in (topology, moved)]
    assert ids[0] == ids[1]


def big_cloud() -> Topology:
    cloud = Builder()
    networks = [cloud.network(f"net{n}", f"10.{n}.0.0/24") for n in range(4)]
    cloud.router("left", networks[0], networks[1])
    cloud.router("right", networks[2], networks[3])
    for n, network in enumerate(networks):
        for i in range(10):
            cloud.instance(f"vm-{n}-{i}", {f"10.{n}.0.{20 + i}": network}, f"compute{1 + i % 3}")
    return cloud.topology()


def pairs_of(topology: Topology, limit: int) -> tuple[list[Cell], Plan]:
    plan = plans.make(topology, clouds.site(limits={"guest_pairs": limit}))
    return [cell for cell in with_kind(plan, Kind.PING) if cell.source.kind == "instance"], plan


def test_of_many_pairs_a_sample_is_measured_and_the_rest_is_counted() -> None:
    topology = big_cloud()
    everything, _ = pairs_of(topology, 100_000)
    chosen, plan = pairs_of(topology, 100)
    assert len(chosen) == 100
    assert plan.left_out == len(everything) - 100
    assert {cell.id for cell in chosen} < {cell.id for cell in everything}


def test_the_sample_is_the_same_each_time_whatever_the_order_of_the_api() -> None:
    topology = big_cloud()
    shuffled = topology.model_copy(
        update={
            "instances": topology.instances[::-1],
            "ports": topology.ports[::-1],
            "networks": topology.networks[::-1],
        }
    )
    assert {cell.id for cell in pairs_of(topology, 60)[0]} == {cell.id for cell in pairs_of(shuffled, 60)[0]}


def test_the_sample_has_every_pair_of_networks_every_router_and_every_pair_of_hosts() -> None:
    topology = big_cloud()
    host = {instance.id: instance.host for instance in topology.instances}
    everything, _ = pairs_of(topology, 100_000)
    chosen, _ = pairs_of(topology, 60)

    def covered(cells: list[Cell]) -> tuple[set[tuple[str, ...]], set[tuple[str | None, ...]]]:
        return {cell.via for cell in cells}, {(host[cell.source.id], host[cell.target.id]) for cell in cells}

    assert covered(chosen) == covered(everything)


def test_no_pairs_at_all_may_be_asked_for() -> None:
    chosen, plan = pairs_of(big_cloud(), 0)
    assert chosen == []
    assert plan.left_out > 0


def test_all_pairs_of_a_small_cloud_are_measured() -> None:
    pairs, plan = pairs_of(Seed().topology(), 200)
    assert plan.left_out == 0
    # Four guests behind rtr-web reach each other, two on db, and each of the six both floating IPs.
    assert len(pairs) == 4 * 3 + 2 + 6 * 2


# Vantages


def test_the_metadata_namespace_of_an_instances_own_hypervisor_is_preferred() -> None:
    seed = Seed()
    hosts = clouds.inventories(
        {
            "infra1": [f"qdhcp-{seed.web.id}"],
            "compute1": [f"ovnmeta-{seed.web.id}"],
            "compute3": [f"ovnmeta-{seed.web.id}"],
        }
    )
    vantages = Vantages(seed.topology(), hosts, clouds.site())
    assert str(vantages.of_network(seed.web.id, "compute1")) == f"compute1:ovnmeta-{seed.web.id}"
    # ovnmeta of another chassis reaches nothing of this one.
    assert str(vantages.of_network(seed.web.id, "compute2")) == f"infra1:qdhcp-{seed.web.id}"


def test_networks_are_spread_over_hosts() -> None:
    cloud = Builder()
    networks = [cloud.network(f"net{n}", f"10.{n}.0.0/24") for n in range(6)]
    for host in ("infra1", "infra2", "infra3"):
        cloud.agent("DHCP agent", host)
    hosts = clouds.inventories(
        {host: [f"qdhcp-{network.id}" for network in networks] for host in ("infra1", "infra2", "infra3")}
    )
    vantages = Vantages(cloud.topology(), hosts, clouds.site())
    chosen = Counter(getattr(vantages.of_network(network.id, None), "host", None) for network in networks)
    assert chosen == {"infra1": 2, "infra2": 2, "infra3": 2}
    assert vantages.of_network(networks[0].id, "compute1") == vantages.of_network(networks[0].id, "compute2")


def test_a_dhcp_agent_that_is_dead_is_avoided_but_better_than_none() -> None:
    cloud = Builder()
    network = cloud.network("web", "10.5.0.0/24")
    cloud.agent("DHCP agent", "infra1", alive=False)
    cloud.agent("DHCP agent", "infra2")
    namespace = f"qdhcp-{network.id}"
    both = Vantages(cloud.topology(), clouds.inventories({"infra1": [namespace], "infra2": [namespace]}), clouds.site())
    assert str(both.of_network(network.id, None)) == f"infra2:{namespace}"
    one = Vantages(cloud.topology(), clouds.inventories({"infra1": [namespace]}), clouds.site())
    assert str(one.of_network(network.id, None)) == f"infra1:{namespace}"


def test_without_dhcp_the_active_router_is_the_vantage_and_a_standby_one_is_not() -> None:
    cloud = Builder()
    network = cloud.network("static", "10.7.0.0/24", dhcp=False)
    router = cloud.router("rtr", network)
    namespace = f"qrouter-{router.id}"
    standby = clouds.inventory("infra1", **{namespace: (clouds.link("lo", "127.0.0.1/8"), clouds.link("qr-1"))})
    active = clouds.inventory("infra2", **{namespace: (clouds.link("qr-1", "fe80::1/64", "10.7.0.1/24"),)})
    topology = cloud.topology()
    both = Vantages(topology, {"infra1": standby, "infra2": active}, clouds.site())
    assert str(both.of_network(network.id, None)) == f"infra2:{namespace}"
    assert Vantages(topology, {"infra1": standby}, clouds.site()).of_network(network.id, None) is None


def test_without_any_namespace_there_is_no_vantage() -> None:
    seed = Seed()
    topology = seed.topology()
    vantages = Vantages(topology, clouds.inventories({"infra1": ["qdhcp-of-another"]}), clouds.site())
    cells = plans.make(topology, clouds.site()).cells
    assert {vantages.of(cell) for cell in cells} == {None}


def test_floating_ips_are_reached_from_the_outside_hosts_own_namespace(seed_plan: Plan) -> None:
    seed = Seed()
    vantages = Vantages(seed.topology(), {}, clouds.site(outside=OUTSIDE))
    cell = next(each for each in seed_plan.cells if each.source.kind == "outside")
    assert str(vantages.of(cell)) == "infra3"


def test_a_guest_is_logged_in_to_by_way_of_a_network_that_has_a_vantage() -> None:
    seed = Seed()
    two = seed.instance("vm-two", {"10.5.0.77": seed.web, "192.168.55.77": seed.db}, "compute1")
    hosts = clouds.inventories({"infra1": [f"qdhcp-{seed.db.id}"]})
    vantages = Vantages(seed.topology(), hosts, clouds.site())
    assert str(vantages.of_instance(two.id)) == f"infra1:qdhcp-{seed.db.id}"
    assert vantages.of_instance(seed.web1.id) is None
    assert vantages.of_instance("of nobody") is None


def test_a_cell_without_a_vantage_afterwards_is_named_with_the_reason() -> None:
    seed = Seed()
    static = seed.network("static", "10.7.0.0/24", dhcp=False)
    vm = seed.instance("vm-static", {"10.7.0.11": static}, "compute1")
    topology = seed.topology()
    plan = plans.make(topology, clouds.site())
    lost = Vantages(topology, {}, clouds.site()).lost_afterwards(plan.cells)
    concerned = {cell.id for cell in plan.cells if vm.id in {cell.source.id, cell.target.id}}
    assert lost
    assert set(lost) <= concerned
    assert {cell.id for cell in plan.cells if cell.source.id == static.id} <= set(lost)
    assert all(f"no subnet of static ({static.id[:8]}) has DHCP" in reason for reason in lost.values())


def test_in_the_seeds_cloud_every_cell_has_a_vantage_afterwards(seed_plan: Plan) -> None:
    assert Vantages(Seed().topology(), {}, clouds.site()).lost_afterwards(seed_plan.cells) == {}


def test_an_instance_on_a_hypervisor_that_the_site_does_not_have_loses_its_vantage() -> None:
    seed = Seed()
    away = seed.instance("vm-away", {"10.5.0.88": seed.web}, "compute9")
    topology = seed.topology()
    plan = plans.make(topology, clouds.site())
    lost = Vantages(topology, {}, clouds.site()).lost_afterwards(plan.cells)
    from_network = next(cell for cell in plan.cells if cell.source.id == seed.web.id and cell.target.id == away.id)
    assert lost[from_network.id] == f"compute9, the hypervisor of {away.label}, is not in the site file"
    # An instance next to it can still ping it.
    from_guest = next(
        cell for cell in with_kind(plan, Kind.PING) if cell.source.id == seed.web1.id and cell.target.id == away.id
    )
    assert from_guest.id not in lost


# Topology


def test_a_topology_is_read_back_as_it_was_written() -> None:
    topology = Seed().topology()
    assert Topology.model_validate_json(topology.model_dump_json()) == topology


def test_ports_and_routers_are_found() -> None:
    seed = Seed()
    twin = seed.instance("vm-web1", {"10.5.0.200": seed.web}, "compute2")
    topology = seed.topology()
    assert [port.addresses for port in topology.ports_of_instance[twin.id]] == [("10.5.0.200",)]
    assert topology.routers_of_network[seed.web.id] == (seed.rtr_web.id,)
    assert seed.vlan100.id not in topology.routers_of_network


def test_a_port_of_an_instance_that_is_gone_is_nobodys() -> None:
    seed = Seed()
    gone = seed.instances.pop()
    topology = seed.topology()
    assert gone.id not in topology.ports_of_instance
    assert not [cell for cell in plans.make(topology, clouds.site()).cells if gone.id in cell.id]
