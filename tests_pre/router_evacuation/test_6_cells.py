"""The baseline has what goes through these routers."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.evacuation import Emptied
from ovnshift.connectivity.baseline import Baseline

pytestmark = pytest.mark.pre


def test_cells_go_through_these_routers(emptied: Emptied, measured: Baseline, check: Check) -> None:
    """Cells of the baseline go through each router that is moved, so that its traffic is compared afterwards."""
    blind = []
    for move in emptied.evacuation.moves:
        router = emptied.cloud.router[move.router_id]
        count = sum(move.router_id in record.cell.via for record in measured.cells)
        check.note(f"{router.label}: {count} cells")
        blind += [] if count else [router.label]
    check.warn_of(
        blind, "routers have no cell that goes through them", remedy="they are proved by their own addresses alone"
    )
