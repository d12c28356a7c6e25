"""Every cell of the baseline, measured again and compared."""

from __future__ import annotations

from fixtures.checks import Check
from ovnshift.connectivity.comparison import Comparison, Fate


def _shown(comparison: Comparison, *fates: Fate) -> list[str]:
    return [f"{each.cell}: {each.reason}" for each in comparison.with_fate(*fates)]


def test_no_cell_got_worse(comparison: Comparison, check: Check) -> None:
    """Everything that was reached before is reached now."""
    counts = comparison.counts()
    check.note(", ".join(f"{count} {fate}" for fate, count in counts.items()))
    check.demand(counts[Fate.KEPT], "no cell of the baseline is kept", remedy="see the notes of the sweep")
    check.demand_none(
        [f"{group}" for group in comparison.groups if any(each.fate is Fate.REGRESSED for each in group.cells)],
        "groups of cells got worse",
        remedy="each group names what its cells share; the report has every cell, and what was collected about it",
    )
    check.warn_of(
        [f"{each.cell}: {each.reason}" for each in comparison.lost_early],
        "cells lost packets at first, as on a new path",
        remedy="pytest tests_post once more: nothing is lost then",
    )


def test_nothing_is_newly_open(comparison: Comparison, check: Check) -> None:
    """What a security group kept out before is kept out now."""
    check.demand_none(
        _shown(comparison, Fate.NEWLY_OPEN),
        "of the cells are newly open",
        remedy="close it at once: see the port's groups in OVN, ovn-nbctl list port_group and acl-list",
    )


def test_every_cell_was_measured(comparison: Comparison, check: Check) -> None:
    """Every cell of the baseline could be measured again."""
    check.demand_none(
        _shown(comparison, Fate.NO_VANTAGE),
        "of the cells could not be measured",
        remedy="see whether its hypervisor has the namespace ovnmeta-NETWORK, and the metadata agent there",
    )


def test_no_instance_is_gone(comparison: Comparison, check: Check) -> None:
    """Every instance of the baseline is there, on its hypervisor, with its own SSH host key."""
    check.demand_none(
        comparison.gone, "of the instances are gone", remedy="openstack server event list says who did it"
    )
    check.warn_of(comparison.moved, "instances are on another hypervisor", remedy="nothing, if somebody moved them")
    check.warn_of(comparison.other_host_keys, "instances show another SSH host key", remedy="were they rebuilt?")
    check.warn_of(comparison.new, "instances are new", remedy="nothing; nothing is known of them from before")


def test_what_failed_before(comparison: Comparison, check: Check) -> None:
    """What failed before the window, and whether it still does: that is not the migration's doing."""
    check.note(f"{len(comparison.with_fate(Fate.RECOVERED))} cells recovered")
    check.warn_of(
        _shown(comparison, Fate.STILL_FAILING), "cells fail as they did before", remedy="see the baseline's report"
    )
    check.warn_of(_shown(comparison, Fate.NOT_COMPARABLE), "cells can't be compared", remedy="look at them by hand")
