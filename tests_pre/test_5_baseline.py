"""What works now is measured and written down, so that afterwards nobody has to guess."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fixtures.checks import Check
from fixtures.connectivity import Recorded
from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import Cell, CellRecord, Expectation, Kind, Outcome
from ovnshift.connectivity.comparison import Fate, compare
from ovnshift.connectivity.measure import NOWHERE
from ovnshift.connectivity.silence import BY_GROUPS, BY_SITE_FILE, NOBODYS, PERHAPS_BY_GROUPS
from ovnshift.report.matrix import describe

pytestmark = pytest.mark.pre
SOME = 10
# Of a large cloud's cells some always flap: guests restart, and busy ones drop a packet.
FEW = 0.01


def _shown(records: list[CellRecord]) -> list[str]:
    return [f"{record.cell}\n      {describe(record)}" for record in records]


def _some(texts: Iterable[str]) -> str:
    first, left = sorted(texts)[:SOME], sorted(texts)[SOME:]
    return "; ".join(first) + (f"; and {len(left)} more" if left else "")


def test_cells_are_measured(measured: Baseline, check: Check) -> None:
    """Every cell that there is can be measured: its vantage is there and answers."""
    counts = measured.counts()
    check.note(
        f"{len(measured.cells)} cells: " + ", ".join(f"{counts[each]} {each}" for each in Outcome if counts[each])
    )
    if measured.not_covered:
        check.note(
            f"{len(measured.not_covered)} instances and floating IPs have no cell: {_some(measured.not_covered.values())}"
        )
    missing = measured.with_outcome(Outcome.NOT_MEASURED)
    consoles = [each for each in missing if each.cell.kind in {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA}]
    check.warn_of(
        _shown(consoles),
        "cells of console logs say nothing",
        remedy="a log that has rolled over says nothing of the boot; the same is measured from inside where a login is known",
    )
    nowhere = [each for each in missing if each.last and each.last.detail.startswith(NOWHERE)]
    check.warn_of(
        _shown(nowhere),
        "cells have no vantage, so that nothing is proved of them",
        remedy="look at these instances by hand before and after; networks with DHCP or a router have a vantage",
    )
    # Where nothing answers, and nothing has to, a port's silence says nothing either.
    silent = {(each.cell.source.id, each.cell.target.id) for each in measured.with_outcome(Outcome.SILENT)}
    closed = [
        each
        for each in missing
        if each.cell.kind is Kind.CLOSED_PORT and (each.cell.source.id, each.cell.target.id) in silent
    ]
    known = {each.cell.id for each in (*consoles, *nowhere, *closed)}
    check.demand_none(
        _shown([each for each in missing if each.cell.id not in known]),
        "of the cells could not be measured, so that nothing could be proved of them afterwards",
        remedy="see the reason beside each; logins are in [[guests]] of the site file (login = false where nobody may log in)",
    )


def test_instances_are_reached(measured: Baseline, check: Check) -> None:
    """Everything that should be reached is reached, in both sweeps."""
    check.demand_none(
        _shown(
            [each for each in measured.with_outcome(Outcome.FAILED) if each.cell.expectation is Expectation.REACHED]
        ),
        "of the cells fail before anything was migrated",
        remedy="mend them, or stop those instances; what fails now can't be told from what the migration breaks. Of guests that "
        "answer no ICMP or SSH on purpose say so: silent = true in [[guests]] of the site file",
    )
    silent: dict[str, list[Cell]] = {why: [] for why in (BY_GROUPS, PERHAPS_BY_GROUPS, NOBODYS, BY_SITE_FILE)}
    for each in measured.with_outcome(Outcome.SILENT):
        silent[each.may_be_silent].append(each.cell)
    if silent[BY_GROUPS]:
        check.note(f"{len(silent[BY_GROUPS])} cells are silent, where security groups let nobody in")
    if silent[PERHAPS_BY_GROUPS]:
        check.note(f"{len(silent[PERHAPS_BY_GROUPS])} cells are silent, where it depends on the address who is let in")
    if silent[NOBODYS]:
        check.note(f"{len(silent[NOBODYS])} cells are silent, to floating IPs of addresses that are no instance's own")
    check.warn_of(
        sorted({f"{each.target.label} at {each.address}" for each in silent[BY_SITE_FILE]}),
        "guests that may be silent don't answer everything that they let in, so that less is proved of them",
        remedy="nothing, if that is known of them: [[guests]] of the site file says silent = true",
    )


def test_closed_ports_are_closed(measured: Baseline, check: Check) -> None:
    """What security groups close, is closed: a port that listens inside and that nobody may reach."""
    closed = [each for each in measured.cells if each.cell.kind is Kind.CLOSED_PORT]
    check.demand_none(
        _shown([each for each in closed if each.outcome is Outcome.FAILED]),
        "of the ports that must be closed are open",
        remedy="openstack security group rule list shows which rule opens it; or name another closed_port in [[guests]]",
    )
    check.warn_of(
        [] if closed else ["no closed_port in [[guests]] of the site file"],
        "thing is missing: nothing can be proved about what must not pass",
        remedy="name a port that listens in guests and that no security group opens",
    )


def test_little_flaps(measured: Baseline, check: Check) -> None:
    """Both sweeps agree and no packet is lost, but with one cell in a hundred at most: where many flap, something is wrong."""
    flapping = _shown(measured.with_outcome(Outcome.FLAPPING))
    remedy = "find out why before the window; a cell that flaps proves little afterwards"
    if len(flapping) <= FEW * len(measured.cells):
        check.warn_of(flapping, "cells flap", remedy=remedy)
    else:
        check.demand_none(flapping, f"of {len(measured.cells)} cells flap", remedy=remedy)


def test_the_baseline_is_written(recorded: Recorded, check: Check) -> None:
    """The baseline is written, whole and with its checksum; an older one is kept beside it."""
    check.demand(recorded.path.exists(), f"{recorded.path} is not there", remedy="see the errors above")
    check.note(f"{recorded.path}: {len(recorded.baseline.cells)} cells, {len(recorded.baseline.host_keys)} host keys")
    if recorded.kept is not None:
        check.note(f"the baseline before it is kept as {recorded.kept.name}")
    if recorded.unreadable is not None:
        raise recorded.unreadable


def test_nothing_got_worse_since_the_last_baseline(recorded: Recorded, check: Check) -> None:
    """Nothing that passed in the baseline before this one fails, is open or is missing now."""
    if recorded.before is None:
        check.note("this is the first baseline of this change")
        return
    found = compare(recorded.before, recorded.baseline)
    check.note(", ".join(f"{count} {fate}" for fate, count in found.counts().items()))
    check.demand_none(
        [f"{each.cell}: {each.fate}, {each.reason}" for each in found.with_fate(Fate.REGRESSED, Fate.NEWLY_OPEN)],
        f"of the cells got worse since {recorded.before.ended_at[:19]} UTC",
        remedy="find out who changed what since; the next run compares with this one",
    )
    check.warn_of(
        found.gone,
        "instances of the last baseline are gone",
        remedy="were they deleted on purpose? A new baseline has been recorded without them",
    )
    check.warn_of(found.other_host_keys, "guests show another SSH host key", remedy="were they rebuilt?")
