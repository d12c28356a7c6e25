from __future__ import annotations

from collections.abc import Callable

import pytest

from ovnshift.connectivity import baseline as baselines
from ovnshift.connectivity import plan as plans
from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import Cell, Expectation, Kind, Measurement, Outcome
from ovnshift.connectivity.comparison import Comparison, Fate, compare
from ovnshift.connectivity.measure import Sweep
from ovnshift.errors import OvnshiftError
from tests.unit.clouds import CIRROS, Seed, site

Judge = Callable[[Cell], Outcome]


def all_well(_: Cell) -> Outcome:
    return Outcome.PASSED


def measured(cloud: Seed, when: str, judge: Judge = all_well, last: Judge | None = None, *, sent: int = 2) -> Baseline:
    """Two sweeps; the last one as the first, unless it is told."""
    plan = plans.make(cloud.topology(), site(guests=[{**CIRROS, "closed_port": 8080}]))
    sweeps = [
        Sweep({cell.id: Measurement(outcome=each(cell), at=when, sent=sent, detail="why") for cell in plan.cells})
        for each in (judge, last or judge)
    ]
    return baselines.assemble(
        cloud.topology(), plan, sweeps, begun_at=when, ended_at=when, without_vantage_afterwards={}
    )


BEFORE, AFTER = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def compared(before: Judge, after: Judge) -> Comparison:
    return compare(measured(Seed(), BEFORE, before), measured(Seed(), AFTER, after))


def test_what_passes_still_is_kept() -> None:
    found = compared(all_well, all_well)
    assert set(found.counts()) == {Fate.KEPT}
    assert found.groups == ()


@pytest.mark.parametrize(
    ("was", "is_", "fate"),
    [
        (Outcome.PASSED, Outcome.FAILED, Fate.REGRESSED),
        (Outcome.PASSED, Outcome.FLAPPING, Fate.REGRESSED),
        (Outcome.FLAPPING, Outcome.FAILED, Fate.REGRESSED),
        (Outcome.FAILED, Outcome.PASSED, Fate.RECOVERED),
        (Outcome.FLAPPING, Outcome.PASSED, Fate.RECOVERED),
        (Outcome.FAILED, Outcome.FAILED, Fate.STILL_FAILING),
        (Outcome.FAILED, Outcome.FLAPPING, Fate.STILL_FAILING),
        (Outcome.PASSED, Outcome.NOT_MEASURED, Fate.NO_VANTAGE),
        (Outcome.NOT_MEASURED, Outcome.PASSED, Fate.NOT_COMPARABLE),
        (Outcome.NOT_MEASURED, Outcome.FAILED, Fate.NOT_COMPARABLE),
    ],
)
def test_every_pair_of_outcomes_has_its_fate(was: Outcome, is_: Outcome, fate: Fate) -> None:
    def one(outcome: Outcome) -> Judge:
        return lambda cell: outcome if cell.kind is Kind.PING else Outcome.PASSED

    found = compared(one(was), one(is_))
    assert {each.fate for each in found.cells if each.cell.kind is Kind.PING} == {fate}
    assert {each.fate for each in found.cells if each.cell.kind is not Kind.PING} == {Fate.KEPT}


@pytest.mark.parametrize(
    ("first", "last", "fate"),
    [
        (Outcome.FLAPPING, Outcome.PASSED, Fate.KEPT),
        (Outcome.FAILED, Outcome.PASSED, Fate.REGRESSED),
        (Outcome.NOT_MEASURED, Outcome.FLAPPING, Fate.REGRESSED),
        (Outcome.PASSED, Outcome.FLAPPING, Fate.REGRESSED),
        (Outcome.FLAPPING, Outcome.FAILED, Fate.REGRESSED),
    ],
)
def test_packets_that_only_an_earlier_sweep_has_lost_are_told_and_no_regression(
    first: Outcome, last: Outcome, fate: Fate
) -> None:
    def one(outcome: Outcome) -> Judge:
        return lambda cell: outcome if cell.kind is Kind.PING else Outcome.PASSED

    found = compare(measured(Seed(), BEFORE), measured(Seed(), AFTER, one(first), one(last)))
    pings = [each for each in found.cells if each.cell.kind is Kind.PING]
    assert {each.fate for each in pings} == {fate}
    assert found.lost_early == (pings if fate is Fate.KEPT else [])
    if fate is Fate.KEPT:
        assert {each.reason for each in pings} == {"lost packets in an earlier sweep, and none in the last: why"}


def test_a_closed_port_that_opened_is_a_finding_of_its_own() -> None:
    found = compared(
        all_well, lambda cell: Outcome.FAILED if cell.expectation is Expectation.KEPT_OUT else Outcome.PASSED
    )
    opened = found.with_fate(Fate.NEWLY_OPEN)
    assert opened
    assert {each.cell.kind for each in opened} == {Kind.CLOSED_PORT}
    assert Fate.REGRESSED not in found.counts()


def lost(cell: Cell, *, wanted: bool) -> Outcome:
    """What is broken reaches nothing, and is well kept out of."""
    return Outcome.FAILED if wanted and cell.expectation is Expectation.REACHED else Outcome.PASSED


def test_regressions_are_grouped_by_the_hypervisor_that_they_share() -> None:
    on_compute1 = {each.id for each in Seed().topology().instances if each.host == "compute1"}
    assert on_compute1
    found = compared(all_well, lambda cell: lost(cell, wanted=bool({cell.source.id, cell.target.id} & on_compute1)))
    (group,) = found.groups
    assert group.cause == "hypervisor compute1"
    assert len(group.cells) == len(found.with_fate(Fate.REGRESSED)) == group.of
    assert f"{group}" == f"hypervisor compute1: {group.of} of {group.of} cells"


def test_regressions_are_grouped_by_the_network_that_they_share() -> None:
    topology = Seed().topology()
    web = next(each for each in topology.networks if each.name == "web")
    found = compare(
        measured(Seed(), BEFORE), measured(Seed(), AFTER, lambda cell: lost(cell, wanted=web.id in cell.via)), topology
    )
    assert [group.cause for group in found.groups] == [f"network {web.label}"]


def test_what_is_newly_open_is_grouped_apart_from_what_is_lost() -> None:
    topology = Seed().topology()
    on_compute1 = {each.id for each in topology.instances if each.host == "compute1"}
    app1 = next(each for each in topology.instances if each.name == "vm-app1")

    def judge(cell: Cell) -> Outcome:
        if cell.expectation is Expectation.KEPT_OUT:
            return Outcome.FAILED if cell.target.id == app1.id else Outcome.PASSED
        return lost(cell, wanted=bool({cell.source.id, cell.target.id} & on_compute1))

    found = compare(measured(Seed(), BEFORE), measured(Seed(), AFTER, judge), topology)
    assert [group.cause for group in found.groups] == [f"{app1.label}, newly open", "hypervisor compute1"]
    assert {each.fate for each in found.groups[0].cells} == {Fate.NEWLY_OPEN}


def test_two_broken_things_are_named_and_nothing_else_is() -> None:
    """A hypervisor without tunnels, and a floating IP without its NAT: what both explain is with the first of them."""
    topology = Seed().topology()
    host = {each.id: each.host for each in topology.instances}
    behind = {each.id: topology.instance_behind(each) for each in topology.floating_ips}
    no_nat = next(id_ for id_, instance in behind.items() if instance and instance.host == "compute1")
    console = {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA}

    def judge(cell: Cell) -> Outcome:
        """From and to compute2 whatever comes by a tunnel is lost, and what stays there is not."""
        instance = behind.get(cell.target.id)
        ends = {host.get(cell.source.id), instance.host if instance else host.get(cell.target.id)}
        tunnelled = "compute2" in ends and len(ends) > 1 and cell.source.kind != "network"
        return lost(cell, wanted=(tunnelled or cell.target.id == no_nat) and cell.kind not in console)

    found = compare(measured(Seed(), BEFORE), measured(Seed(), AFTER, judge), topology)
    address = topology.floating_ip[no_nat].address
    assert [group.cause for group in found.groups] == ["hypervisor compute2", f"floating IP {address}"]
    second = found.groups[1]
    assert second.elsewhere
    assert len(second.cells) + second.elsewhere == second.of
    assert f"({second.elsewhere} more got worse, and are named with another cause)" in f"{second}"
    assert "more got worse" not in f"{found.groups[0]}"


def test_every_regression_is_in_exactly_one_group() -> None:
    found = compared(all_well, lambda cell: Outcome.FAILED if hash(cell.id) % 3 == 0 else Outcome.PASSED)
    grouped = [each.cell.id for group in found.groups for each in group.cells]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {each.cell.id for each in found.with_fate(Fate.REGRESSED, Fate.NEWLY_OPEN)}


def test_an_instance_that_is_gone_is_no_regression() -> None:
    later = Seed()
    gone = later.instances.pop()
    later.ports = [port for port in later.ports if port.device_id != gone.id]
    found = compare(measured(Seed(), BEFORE), measured(later, AFTER))
    assert found.gone == (gone.label,)
    mine = [each for each in found.cells if gone.id in {each.cell.source.id, each.cell.target.id}]
    assert mine
    assert {each.fate for each in mine} == {Fate.NOT_COMPARABLE}
    assert not found.with_fate(Fate.REGRESSED)


def test_an_instance_that_does_not_run_any_more_is_a_regression() -> None:
    later = Seed()
    later.instances[0] = later.instances[0].model_copy(update={"status": "SHUTOFF"})
    stopped = later.instances[0]
    found = compare(measured(Seed(), BEFORE), measured(later, AFTER))
    mine = [each for each in found.cells if each.cell.target.id == stopped.id]
    assert {each.fate for each in mine} == {Fate.REGRESSED}
    assert all("SHUTOFF" in each.reason for each in mine)


def test_instances_that_are_new_or_have_moved_are_named() -> None:
    earlier, later = Seed(), Seed()
    new = earlier.instances.pop()
    earlier.ports = [port for port in earlier.ports if port.device_id != new.id]
    later.instances[0] = later.instances[0].model_copy(update={"host": "elsewhere"})
    found = compare(measured(earlier, BEFORE), measured(later, AFTER))
    assert found.new == (new.label,)
    assert len(found.moved) == 1
    assert found.moved[0].endswith("→ elsewhere")


def test_a_host_key_that_changed_is_named() -> None:
    before, after = measured(Seed(), BEFORE), measured(Seed(), AFTER)
    one = next(iter(before.instances))
    found = compare(
        before.model_copy(update={"host_keys": {one: "ssh-ed25519 SHA256:a"}}),
        after.model_copy(update={"host_keys": {one: "ssh-ed25519 SHA256:b"}}),
    )
    assert found.other_host_keys == (f"{before.instances[one].label}: ssh-ed25519 SHA256:a → ssh-ed25519 SHA256:b",)


def test_a_baseline_is_not_compared_with_itself() -> None:
    baseline = measured(Seed(), BEFORE)
    with pytest.raises(OvnshiftError, match="compared with itself"):
        compare(baseline, baseline)


def test_nothing_is_concluded_from_nothing() -> None:
    with pytest.raises(OvnshiftError, match="has not sent a single probe"):
        compare(measured(Seed(), BEFORE), measured(Seed(), AFTER, sent=0))


def test_another_clouds_baseline_is_refused() -> None:
    other = measured(Seed(), BEFORE)
    other = other.model_copy(update={"identity": other.identity.model_copy(update={"region": "elsewhere"})})
    with pytest.raises(OvnshiftError, match="the baseline is of"):
        compare(other, measured(Seed(), AFTER))
