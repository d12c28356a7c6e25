"""Rows are back."""

from __future__ import annotations

import pytest

from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration import back
from ovnshift.migration.rows import CHAPTER
from ovnshift.migration.window import Window


def test_rows_are_back(run: Run, window: Window, journal: Journal, request: pytest.FixtureRequest) -> None:
    """Neutron's rows are what they were; those that came since are LinuxBridge's too."""
    force = request.config.getoption("conflicts") == "overwrite"
    run([back.RevertRows(window, force=force)] if back.of_chapter(journal, CHAPTER) else [], what="of the databases")
