"""What was measured can be measured again on OVN."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from ovnshift.connectivity.baseline import Baseline

pytestmark = pytest.mark.pre


def test_every_cell_has_a_vantage_afterwards(measured: Baseline, check: Check) -> None:
    """Every cell can be measured again on OVN, where DHCP namespaces are gone and ovnmeta reaches its own chassis only."""
    labels = {record.cell.id: str(record.cell) for record in measured.cells}
    check.warn_of(
        [f"{labels[id_]}: {reason}" for id_, reason in measured.without_vantage_afterwards.items()],
        "cells will have no vantage after the migration",
        remedy="give the instance a floating IP, or a neighbour that can be logged in to; else look at it by hand",
    )


def test_guests_take_the_networks_mtu(measured: Baseline, check: Check) -> None:
    """Guests take their MTU from DHCP; one that pins it would lose large packets when its network's MTU is lowered."""
    check.warn_of(
        [f"{label}: {fact}" for label, fact in measured.pinned_mtu.items()],
        "guests pin their MTU",
        remedy="take the mtu line out of their network configuration (netplan, ifcfg), before the window",
    )
