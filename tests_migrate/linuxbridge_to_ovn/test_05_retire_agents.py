"""5 Retire agents: nothing of the old driver runs any more, and Neutron's API is held back."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.migration.agents import hold_api, retire
from ovnshift.migration.window import Window


def test_agents_are_retired(run: Run, window: Window) -> None:
    """LinuxBridge, L3, DHCP, metadata and metering agents are stopped and disabled on every host."""
    run(retire(window), what="of the hosts", parallel=16)


def test_the_api_is_held_back(run: Run, window: Window) -> None:
    """Neutron's server is stopped: its rows are not for the old driver any more, and not yet for the new one."""
    run(hold_api(window), what="of the control hosts")
