"""Checks of readiness on clouds made by hand: what the lab's cloud has nothing of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.cloud.topology import AGENT_L3, AGENT_METERING, OWNER_DHCP, Topology
from ovnshift.connectivity import silence
from ovnshift.connectivity.baseline import Baseline, Identity
from ovnshift.connectivity.cells import Cell, CellRecord, Endpoint, Kind, Measurement
from ovnshift.connectivity.cells import Outcome as Cells
from ovnshift.migration import guard, name_servers
from ovnshift.ovn import North
from ovnshift.ovn.rows import DhcpOptions
from ovnshift.report.result import CheckResult, NotReady, Outcome
from ovnshift.site import Site
from tests.unit import clouds
from tests.unit.clouds import Seed
from tests_post.linuxbridge_to_ovn import test_2_state
from tests_pre import test_5_baseline
from tests_pre.linuxbridge_to_ovn import test_1_means, test_2_services, test_3_networks, test_6_afterwards


class Recorded(Check):
    """A check whose findings can be read afterwards."""

    def __init__(self) -> None:
        self.result = CheckResult("test", "test", Outcome.PASSED)
        super().__init__(self.result)

    @property
    def objects(self) -> list[str]:
        """What it warns of."""
        return [each for finding in self.result.findings for each in finding.objects]


def changed(**values: object) -> Topology:
    return Seed().topology().model_copy(update=values)


def flapping(count: int, of: int) -> Baseline:
    """A baseline of so many cells, some of which flap."""
    end = Endpoint(kind="outside", id="edge", name="edge")
    passed, failed = (Measurement(outcome=each, at="") for each in (Cells.PASSED, Cells.FAILED))
    records = tuple(
        CellRecord(
            cell=Cell(kind=Kind.PING, source=end, target=end, address=f"10.0.{number // 250}.{number % 250}"),
            measurements=(passed, failed if number < count else passed),
        )
        for number in range(of)
    )
    identity = Identity(cloud="", identity_endpoint="", region="")
    return Baseline(identity=identity, begun_at="", ended_at="", sweeps=2, cells=records, host_keys={})


@pytest.mark.parametrize(
    ("why", "named"),
    [
        (silence.BY_GROUPS, False),
        (silence.PERHAPS_BY_GROUPS, False),
        (silence.NOBODYS, False),
        (silence.BY_SITE_FILE, True),
    ],
)
def test_who_need_not_answer_stands_in_nobodys_way(why: str, *, named: bool) -> None:
    failing = flapping(0, 3)
    record = failing.cells[0]
    failed = record.measurements[0].model_copy(update={"outcome": Cells.FAILED})
    silent = record.model_copy(update={"measurements": (failed, failed), "may_be_silent": why})
    check = Recorded()
    test_5_baseline.test_instances_are_reached(
        failing.model_copy(update={"cells": (silent, *failing.cells[1:])}), check
    )
    assert bool(check.objects) == named
    loud = silent.model_copy(update={"may_be_silent": ""})
    with pytest.raises(NotReady, match="1 of the cells fail before anything was migrated"):
        test_5_baseline.test_instances_are_reached(failing.model_copy(update={"cells": (loud,)}), Recorded())


@pytest.mark.parametrize(("count", "of", "warned"), [(0, 10, 0), (1, 100, 1), (10, 1000, 10)])
def test_few_cells_that_flap_are_warned_of(count: int, of: int, warned: int) -> None:
    check = Recorded()
    test_5_baseline.test_little_flaps(flapping(count, of), check)
    assert len(check.objects) == warned


@pytest.mark.parametrize(("count", "of"), [(1, 99), (2, 100), (11, 1000)])
def test_many_cells_that_flap_have_to_be_mended(count: int, of: int) -> None:
    with pytest.raises(NotReady, match=f"^{count} of {of} cells flap"):
        test_5_baseline.test_little_flaps(flapping(count, of), Recorded())


def test_metering_agents_are_a_warning_and_labels_a_failure() -> None:
    seed = Seed()
    seed.agent(AGENT_METERING, "infra2")
    check = Recorded()
    test_2_services.test_nothing_is_used_that_ovn_lacks(seed.topology(), check)
    assert check.objects == ["on infra2"]
    counted = seed.topology().model_copy(update={"metering_labels": ("traffic (1234abcd)",)})
    with pytest.raises(NotReady, match=r"metering label traffic \(1234abcd\)"):
        test_2_services.test_nothing_is_used_that_ovn_lacks(counted, Recorded())


@pytest.mark.parametrize(
    ("status", "named"), [("ACTIVE", False), ("SHUTOFF", False), ("PAUSED", True), ("SUSPENDED", True)]
)
def test_instances_that_hold_what_they_have_are_named(status: str, *, named: bool) -> None:
    seed = Seed()
    odd = seed.instance("vm-odd", {"10.5.0.50": seed.web}, "compute1", status=status)
    check = Recorded()
    test_2_services.test_instances_can_be_stopped_and_started(seed.topology(), check)
    assert check.objects == ([f"{odd.label} is {status}"] if named else [])
    assert not named or status in guard.HELD


def test_a_zone_that_routers_ask_for_is_named_with_them_and_one_that_nobody_is_in_fails() -> None:
    seed = Seed()
    seed.agent(AGENT_L3, "infra1")
    routers = tuple(each.model_copy(update={"availability_zone_hints": ("east",)}) for each in seed.topology().routers)
    agents = tuple(each.model_copy(update={"availability_zone": "east"}) for each in seed.topology().agents)
    check = Recorded()
    test_2_services.test_availability_zones_can_be_kept(changed(routers=routers, agents=agents), check)
    assert check.objects == [f"east: {', '.join(each.label for each in routers)}"]
    with pytest.raises(NotReady, match="asks for east"):
        test_2_services.test_availability_zones_can_be_kept(changed(routers=routers), Recorded())
    unasked = Recorded()
    test_2_services.test_availability_zones_can_be_kept(Seed().topology(), unasked)
    assert unasked.objects == []


def test_a_dhcp_agents_address_as_name_server_is_a_warning() -> None:
    topology = Seed().topology()
    port = topology.ports[0].model_copy(update={"device_owner": OWNER_DHCP})
    taken = port.addresses[0]
    subnets = tuple(each.model_copy(update={"dns_nameservers": (taken, "192.0.2.53")}) for each in topology.subnets)
    check = Recorded()
    changes = changed(subnets=subnets, ports=(port, *topology.ports[1:]))
    test_6_afterwards.test_name_servers_stay(changes, Inventories({}, {}), clouds.site(), check)
    own = next(each for each in topology.subnets if each.id == port.fixed_ips[0].subnet_id)
    assert check.objects == [f"{own.label} {own.cidr}: {taken}"]
    nobodys = Recorded()
    changes = changed(subnets=subnets, ports=topology.ports[1:])
    test_6_afterwards.test_name_servers_stay(changes, Inventories({}, {}), clouds.site(), nobodys)
    assert nobodys.objects == []


def test_guests_that_ask_dhcp_agents_are_named_with_what_neutrons_hosts_ask() -> None:
    topology = Seed().topology()
    check = Recorded()
    infra1 = clouds.inventory("infra1").model_copy(update={"name_servers": ("127.0.0.53", "192.0.2.53")})
    test_6_afterwards.test_name_servers_stay(topology, Inventories({"infra1": infra1}, {}), clouds.site(), check)
    assert [each.split()[-1] for each in check.objects] == ["172.25.0.0/24", "192.168.55.0/24", "10.5.0.0/24"]
    (finding,) = check.result.findings
    assert finding.what.endswith("infra1 127.0.0.53 (each guest itself), 192.0.2.53")


def test_routers_that_join_networks_of_different_mtu_are_named() -> None:
    topology = Seed().topology()

    def named(**mtus: int) -> list[str]:
        check = Recorded()
        networks = tuple(
            each.model_copy(update={"mtu": mtus.get(each.name, 1500 if each.external else mtus["others"])})
            for each in topology.networks
        )
        test_6_afterwards.test_routers_join_networks_of_one_mtu(changed(networks=networks), check)
        return [re.sub(r" \(\w+\)", "", each) for each in check.objects]

    assert named(others=1450) == [
        "rtr-db: db 1450, outside 1500",
        "rtr-web: web 1450, app 1450, outside 1500",
    ]
    assert named(others=1500) == []
    assert named(others=1500, db=9000) == ["rtr-db: db 9000, outside 1500"]


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        ((), False),
        (("10.5.0.50",), False),
        (("10.5.0.0/24", "10.5.0.50"), False),
        (("10.5.0.0/24",), True),
        (("10.5.0.50/32",), True),
        (("172.25.0.0/24",), False),
        (("fd00::/64",), False),
    ],
)
def test_addresses_that_are_reserved_and_allowed_by_a_range_only_are_named(
    pairs: tuple[str, ...], *, named: bool
) -> None:
    seed = Seed()
    gone = seed.instance("vm-gone", {"10.5.0.50": seed.web}, "compute1")
    topology = seed.topology()
    reserved = {"device_id": "", "device_owner": "", "host": ""}
    ports = tuple(
        each.model_copy(
            update=reserved
            if each.device_id == gone.id
            else {"allowed_address_pairs": pairs if each.addresses == ("10.5.0.121",) else ()}
        )
        for each in topology.ports
    )
    check = Recorded()
    test_3_networks.test_shared_addresses_are_allowed_by_themselves(topology.model_copy(update={"ports": ports}), check)
    assert bool(check.objects) == named
    assert not named or f"10.5.0.50, allowed by {pairs[0]}" in check.objects[0]


def test_subnets_without_dhcp_without_instances_and_with_slaac_ask_no_agent() -> None:
    topology = Seed().topology()
    assert not name_servers.asking_agents(changed(ports=()))
    for values in (
        {"dhcp": False},
        {"dns_nameservers": ("0.0.0.0",)},  # Neutron's word for none at all
        {"ip_version": 6, "ipv6_address_mode": "slaac"},
    ):
        subnets = tuple(each.model_copy(update=values) for each in topology.subnets)
        assert not name_servers.asking_agents(changed(subnets=subnets))
    stateful = {"ip_version": 6, "ipv6_address_mode": "dhcpv6-stateful"}
    subnets = tuple(each.model_copy(update=stateful) for each in topology.subnets)
    assert name_servers.asking_agents(changed(subnets=subnets))


def test_a_name_server_that_is_the_guest_itself_fails_and_none_at_all_is_a_warning() -> None:
    topology = Seed().topology()
    first, *others = name_servers.asking_agents(topology)

    def north(servers: str) -> North:
        return North(
            {},
            {},
            {},
            {},
            (),
            {},
            dhcp_options={
                "1": DhcpOptions("1", first.cidr, {"dns_server": servers}, {"subnet_id": first.id}),
                "2": DhcpOptions("2", first.cidr, {"dns_server": "127.0.0.1"}, {"subnet_id": first.id, "port_id": "x"}),
            },
        )

    with pytest.raises(NotReady, match=re.escape(f"{first.label} {first.cidr}: 127.0.0.53")):
        test_2_state.test_guests_are_given_name_servers(topology, north("{127.0.0.53, 192.0.2.53}"), Recorded())
    check = Recorded()
    test_2_state.test_guests_are_given_name_servers(topology, north("{192.0.2.53}"), check)
    assert check.objects == sorted(f"{each.label} {each.cidr}" for each in others)


def with_room(megabytes: int) -> Site:
    """A site where so much has to be free."""
    site = clouds.site()
    return site.model_copy(update={"limits": site.limits.model_copy(update={"free_megabytes": megabytes})})


def test_no_room_for_backups_here_is_a_failure_also_before_the_folder_is_there(tmp_path: Path) -> None:
    reports = tmp_path / "reports" / "CHG1"
    nobody = Inventories({}, {})
    test_1_means.test_there_is_room_for_backups(nobody, with_room(0), reports, Recorded())
    with pytest.raises(NotReady, match=r"CHG1: \d+ MB free .* of 1000000000000"):
        test_1_means.test_there_is_room_for_backups(nobody, with_room(10**12), reports, Recorded())
    assert not reports.exists()
