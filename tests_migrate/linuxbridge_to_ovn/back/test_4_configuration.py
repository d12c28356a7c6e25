"""Configuration is back."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration import back
from ovnshift.migration.window import Window


def test_the_deployment_is_undone(run: Run, window: Window, journal: Journal) -> None:
    """What the deployer built for OVN is taken away."""
    run([back.UndoDeployment(window)] if back.of_chapter(journal, "7 deploy OVN") else [], what="of the deployments")


def test_configuration_is_back(run: Run, window: Window, journal: Journal) -> None:
    """Every host's configuration is what was kept of it."""
    deployed = back.of_chapter(journal, "7 deploy OVN")
    steps = [back.RestoreConfiguration(window, host) for host in window.site.cloud_hosts] if deployed else []
    run(steps, what="of the hosts", parallel=8)


def test_units_are_as_they_were(run: Run, window: Window, journal: Journal) -> None:
    """Units of Open vSwitch and OVN run, or don't, as on the evening before."""
    run(back.units_as_found(window, journal), what="of the hosts", parallel=8)
