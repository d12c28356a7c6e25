"""6 Clean hosts: what the old agents left is removed, where it belongs to an object of Neutron's."""

from __future__ import annotations

from fixtures.checks import Check
from fixtures.window import Run
from ovnshift.migration.agents import CleanHost
from ovnshift.migration.window import Window


def test_hosts_are_cleaned(run: Run, window: Window, check: Check) -> None:
    """Namespaces, bridges, taps, tunnels, daemons and chains of the old agents are gone from every host."""
    steps = [CleanHost(window, host) for host in window.agent_hosts]
    run(steps, what="of the hosts", parallel=16)
    check.warn_of(
        [f"{step.host}: {each}" for step in steps for each in step.strange],
        "things look like Neutron's and belong to no object of it; they were left alone",
        remedy="look at them, and remove what nobody needs",
    )
