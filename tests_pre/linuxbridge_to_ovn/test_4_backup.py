"""There is a way back: a backup that was really restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.checks import Check
from fixtures.progress import Progress
from ovnshift.database import backup
from ovnshift.site import Site

pytestmark = pytest.mark.pre


def test_the_database_can_be_restored(site: Site, reports: Path, progress: Progress, check: Check) -> None:
    """Neutron's schema can be dumped, and the dump restored: it is restored into a scratch schema and compared."""
    proof = backup.prove(site, reports / "backups" / "neutron-pre.sql", progress.say)
    check.note(f"{proof.tables} tables, {proof.rows} rows, {proof.identical} of the tables identical by checksum")
    check.note(f"{proof.dump} ({proof.dump.stat().st_size // 1000} kB, SHA-256 {proof.sha256[:16]}…)")
    check.demand(
        proof.tables > 100 and proof.identical > 0,
        f"only {proof.tables} tables, of which {proof.identical} did not change meanwhile",
        remedy="see database.neutron in the site file: this is hardly Neutron's schema",
    )
