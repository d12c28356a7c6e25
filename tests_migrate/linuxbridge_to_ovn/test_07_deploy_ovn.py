"""7 Deploy OVN: by whoever deploys this cloud."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.migration.agents import hold_api
from ovnshift.migration.deploy import CHAPTER, DeployOvn
from ovnshift.migration.window import Window


def test_ovn_is_deployed(run: Run, window: Window) -> None:
    """OVN is deployed: every host that is to be one is a chassis by its own name, with its bridges, and tunnels join them all."""
    run(DeployOvn(window))


def test_the_api_is_still_held_back(run: Run, window: Window) -> None:
    """Neutron's server, which deployers start, is stopped again: its rows still name the old driver."""
    run(hold_api(window, CHAPTER), what="of the control hosts")
