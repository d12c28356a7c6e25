"""7 Deploy OVN: by whoever deploys this cloud."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.migration.deploy import DeployOvn
from ovnshift.migration.window import Window


def test_ovn_is_deployed(run: Run, window: Window) -> None:
    """OVN is deployed: every host is a chassis by its own name, with its bridges, and tunnels join them all."""
    run(DeployOvn(window))
