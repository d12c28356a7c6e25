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
