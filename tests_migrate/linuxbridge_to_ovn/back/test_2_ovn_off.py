"""OVN is off."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration import back
from ovnshift.migration.window import Window


def test_ovn_is_off(run: Run, window: Window, journal: Journal) -> None:
    """Neutron's server is stopped; OVN's controllers, metadata agents and databases are, and stay so after a reboot."""
    deployed = back.of_chapter(journal, "7 deploy OVN")
    run(back.ovn_off(window) if deployed else [], what="of the hosts", parallel=8)
