"""8 Database: Neutron's rows, in one transaction."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.migration.rows import ConvertRows
from ovnshift.migration.window import Window


def test_rows_are_converted(run: Run, window: Window) -> None:
    """Every row that names the old driver names OVN, in one transaction, and what it was is kept."""
    run(ConvertRows(window))
