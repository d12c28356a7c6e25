"""2 Back up: what there is to go back to."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.migration.backups import BackUpConfiguration, BackUpDatabase, KeepTopology
from ovnshift.migration.window import Window


def test_what_exists_is_kept(run: Run, window: Window) -> None:
    """The cloud's objects as they are, are kept: everything later is compared with them."""
    run(KeepTopology(window))


def test_the_database_is_backed_up(run: Run, window: Window) -> None:
    """Neutron's database is dumped, and the dump restored into a scratch schema and compared."""
    run(BackUpDatabase(window))


def test_configuration_is_backed_up(run: Run, window: Window) -> None:
    """The configuration of Neutron, Nova and Open vSwitch is copied from every host."""
    hosts = window.site.cloud_hosts
    run([BackUpConfiguration(window, host) for host in hosts], what="of the hosts", parallel=8)
