"""Who may be silent: whom security groups keep out for certain, and guests of whom the site file says so."""

from __future__ import annotations

import pytest

from ovnshift.cloud.topology import Rule, SecurityGroup, Topology
from ovnshift.connectivity import baseline as baselines
from ovnshift.connectivity import plan as plans
from ovnshift.connectivity import silence
from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import Cell, Endpoint, Kind, Measurement, Outcome
from ovnshift.connectivity.comparison import Fate, compare
from ovnshift.connectivity.measure import Sweep
from ovnshift.connectivity.plan import Plan
from ovnshift.connectivity.silence import BY_SITE_FILE, Certainty
from ovnshift.site import Guest, Site
from tests.unit import clouds
from tests.unit.clouds import Seed

GROUP = "99999999-0000-0000-0000-000000000001"
OUT = Rule(id="out", direction="egress", ethertype="IPv4")
NO, PERHAPS, YES = Certainty
ANYBODY = {"ethertype": "IPv4", "direction": "ingress"}


def cloud(*rules: Rule, port_security: bool = True, group: bool = True) -> Topology:
    """The seed's cloud with one security group of these rules at every port of an instance."""
    topology = Seed().topology()
    mine = SecurityGroup(id=GROUP, name="mine", project_id="", rules=rules)
    ports = tuple(
        each.model_copy(
            update={"security_group_ids": (mine.id,) if group else (), "port_security": port_security}
            if each.of_instance
            else {}
        )
        for each in topology.ports
    )
    return topology.model_copy(update={"ports": ports, "security_groups": (mine,)})


def cell(topology: Topology, source: str, kind: Kind = Kind.PING, target: str = "vm-web1") -> Cell:
    """From ``network`` (the target's own), ``outside`` (to its floating IP) or an instance, to an instance."""
    instance = next(each for each in topology.instances if each.name == target)
    (port,) = topology.ports_of_instance[instance.id]
    end = Endpoint(kind="instance", id=instance.id, name=target)
    address, port_number = port.addresses[0], 22 if kind is Kind.SSH else None
    if source == "network":
        start = Endpoint(kind="network", id=port.network_id, name="")
    elif source == "outside":
        start = Endpoint(kind="outside", id="edge", name="edge")
        floating_ip = next(each for each in topology.floating_ips if each.port_id == port.id)
        end, address = Endpoint(kind="floating IP", id=floating_ip.id, name=floating_ip.address), floating_ip.address
    else:
        other = next(each for each in topology.instances if each.name == source)
        start = Endpoint(kind="instance", id=other.id, name=source)
    return Cell(kind=kind, source=start, target=end, address=address, port=port_number)


def rule(**values: object) -> Rule:
    return Rule(id=f"rule-{values}", **{**ANYBODY, **values})  # type: ignore[arg-type]


EVERYBODY, ICMP, SSH = rule(), rule(protocol="icmp"), rule(protocol="tcp", port_min=22, port_max=22)


@pytest.mark.parametrize(
    ("rules", "source", "kind", "lets_in"),
    [
        ((EVERYBODY,), "network", Kind.PING, YES),
        ((ICMP,), "network", Kind.PING, YES),
        ((ICMP,), "outside", Kind.PING, YES),
        ((ICMP,), "network", Kind.SSH, NO),
        ((SSH,), "network", Kind.SSH, YES),
        ((SSH,), "network", Kind.PING_WHOLE, NO),
        ((rule(protocol="6", port_min=1, port_max=1024),), "network", Kind.SSH, YES),
        ((rule(protocol="tcp", port_min=80, port_max=80),), "network", Kind.SSH, NO),
        ((rule(protocol="1", port_min=8, port_max=0),), "network", Kind.PING, YES),
        ((rule(protocol="icmp", port_min=0),), "network", Kind.PING, NO),
        ((rule(ethertype="IPv6"),), "network", Kind.PING, NO),
        ((rule(direction="egress"),), "network", Kind.PING, NO),
        ((), "network", Kind.PING, NO),
        ((rule(remote_prefix="0.0.0.0/0"),), "outside", Kind.SSH, YES),
        ((rule(remote_prefix="10.5.0.0/24"),), "network", Kind.PING, YES),
        ((rule(remote_prefix="203.0.113.0/24"),), "network", Kind.PING, NO),
        ((rule(remote_prefix="10.5.0.0/24"),), "outside", Kind.PING, PERHAPS),
        ((rule(remote_group_id=GROUP),), "network", Kind.PING, NO),
        ((rule(remote_group_id=GROUP), OUT), "vm-app1", Kind.PING, YES),
        ((rule(remote_group_id=GROUP),), "vm-app1", Kind.PING, NO),
        ((rule(remote_group_id="another"), OUT), "vm-app1", Kind.PING, NO),
        ((rule(remote_address_group_id="addresses"), OUT), "vm-app1", Kind.PING, PERHAPS),
        ((rule(remote_group_id=GROUP),), "outside", Kind.PING, PERHAPS),
        ((rule(remote_group_id=GROUP), EVERYBODY), "outside", Kind.PING, YES),
        ((rule(remote_prefix="172.25.0.0/24"), OUT), "vm-app1", Kind.SSH, YES),
        ((EVERYBODY, rule(direction="egress", protocol="tcp", port_min=443, port_max=443)), "vm-app1", Kind.SSH, NO),
    ],
)
def test_who_is_let_in_for_certain(rules: tuple[Rule, ...], source: str, kind: Kind, *, lets_in: Certainty) -> None:
    topology = cloud(*rules)
    assert silence.Groups(topology).lets_in(cell(topology, source, kind)) is lets_in


def test_of_an_agents_and_a_routers_address_nobody_knows_which_one_it_is() -> None:
    topology = cloud(rule(remote_prefix="10.5.0.1/32"))
    ping = cell(topology, "network")
    (router,) = (each for each in topology.ports if each.addresses == ("10.5.0.1",))
    agent = router.model_copy(
        update={
            "id": "agent",
            "device_owner": "network:dhcp",
            "fixed_ips": (router.fixed_ips[0].model_copy(update={"ip_address": "10.5.0.2"}),),
        }
    )
    assert silence.Groups(topology).lets_in(ping) is YES
    both = topology.model_copy(update={"ports": (*topology.ports, agent)})
    assert silence.Groups(both).lets_in(ping) is PERHAPS


def test_without_port_security_everybody_is_let_in_and_with_it_and_no_group_nobody() -> None:
    topology = cloud(port_security=False)
    assert silence.Groups(topology).lets_in(cell(topology, "vm-app1")) is YES
    topology = cloud(EVERYBODY, group=False)
    assert silence.Groups(topology).lets_in(cell(topology, "network")) is NO


def test_what_is_no_instances_port_is_let_in_and_what_may_not_leave_is_silent() -> None:
    topology = cloud(EVERYBODY, OUT)
    out = cell(topology, "vm-app1").model_copy(
        update={"target": Endpoint(kind="outside", id="192.0.2.1", name="outside"), "address": "192.0.2.1"}
    )
    assert silence.Groups(topology).lets_in(out) is YES
    assert silence.Groups(cloud(EVERYBODY)).lets_in(out) is NO


def site(**guest: object) -> Site:
    return clouds.site(guests=[Guest(login=False, **guest)])  # type: ignore[arg-type]


def measured(topology: Topology, plan: Plan, whose: Site, answering: set[Kind], at: str) -> Baseline:
    """A baseline in which cells of some kinds pass, and no other does."""
    sweep = Sweep()
    for each in plan.cells:
        good = each.kind in answering
        outcome = Outcome.PASSED if good else Outcome.FAILED
        sweep.measurements[each.id] = Measurement(outcome=outcome, at=at, sent=2, received=2 if good else 0)
    may_be_silent = silence.reasons(topology, whose, plan.cells)
    return baselines.assemble(
        topology,
        plan,
        [sweep, sweep],
        begun_at=at,
        ended_at=at,
        without_vantage_afterwards={},
        may_be_silent=may_be_silent,
    )


def only(topology: Topology, *kinds: Kind) -> Plan:
    return Plan(tuple(cell(topology, "network", kind) for kind in kinds))


def test_silence_of_whom_nobody_lets_in_is_no_failure() -> None:
    topology = cloud(SSH)
    found = measured(topology, only(topology, Kind.PING, Kind.SSH), site(), set(), "1")
    assert {record.cell.kind: record.outcome for record in found.cells} == {
        Kind.PING: Outcome.SILENT,
        Kind.SSH: Outcome.FAILED,
    }


def test_the_site_file_says_who_may_be_silent_although_it_is_let_in() -> None:
    topology = cloud(EVERYBODY)
    plan = only(topology, Kind.PING)
    for whose, outcome in ((site(silent=True), Outcome.SILENT), (site(instance="other", silent=True), Outcome.FAILED)):
        (record,) = measured(topology, plan, whose, set(), "1").cells
        assert record.outcome is outcome
        assert record.may_be_silent == (BY_SITE_FILE if outcome is Outcome.SILENT else "")


def test_who_answers_small_packets_has_to_answer_whole_ones() -> None:
    topology = cloud()
    plan = only(topology, Kind.PING, Kind.PING_WHOLE)
    small, whole = measured(topology, plan, site(), {Kind.PING}, "1").cells
    assert (small.outcome, whole.outcome) == (Outcome.PASSED, Outcome.FAILED)
    small, whole = measured(topology, plan, site(), set(), "1").cells
    assert (small.outcome, whole.outcome) == (Outcome.SILENT, Outcome.SILENT)


CLOSED, OPEN = cloud(), cloud(EVERYBODY)
DEPENDS = cloud(rule(remote_address_group_id="addresses"))


@pytest.mark.parametrize(
    ("before", "after", "answered", "answers", "fate"),
    [
        (CLOSED, CLOSED, False, False, Fate.STILL_SILENT),
        (CLOSED, CLOSED, False, True, Fate.NEWLY_OPEN),
        (DEPENDS, DEPENDS, False, False, Fate.STILL_SILENT),
        # A guest that boots, say: no rule says that it is to be out of reach.
        (DEPENDS, DEPENDS, False, True, Fate.RECOVERED),
        # Somebody opened the group meanwhile.
        (CLOSED, OPEN, False, True, Fate.RECOVERED),
        (CLOSED, OPEN, False, False, Fate.STILL_SILENT),
        # Judged to be closed, and reached all the same: by a rule that says nothing for certain.
        (CLOSED, CLOSED, True, True, Fate.KEPT),
        (CLOSED, CLOSED, True, False, Fate.REGRESSED),
        (OPEN, CLOSED, True, False, Fate.REGRESSED),
        (OPEN, OPEN, False, False, Fate.STILL_FAILING),
    ],
)
def test_what_becomes_of_silence(
    before: Topology, after: Topology, *, answered: bool, answers: bool, fate: Fate
) -> None:
    plan = only(before, Kind.PING)
    found = compare(
        measured(before, plan, site(), {Kind.PING} if answered else set(), "1"),
        measured(after, plan, site(), {Kind.PING} if answers else set(), "2"),
        after,
    )
    assert [each.fate for each in found.cells] == [fate]


def test_every_cell_of_the_seeds_cloud_has_to_answer() -> None:
    """Its groups let ICMP and SSH in, from everybody."""
    topology = cloud(ICMP, SSH, OUT)
    plan = plans.make(topology, clouds.site())
    assert plan.cells
    assert silence.reasons(topology, clouds.site(), plan.cells) == {}
