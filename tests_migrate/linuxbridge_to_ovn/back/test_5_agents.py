"""The old agents run again."""

from __future__ import annotations

import pytest

from fixtures.options import planning
from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration import back, hosting
from ovnshift.migration.window import Window


def test_the_api_is_back(run: Run, window: Window, journal: Journal) -> None:
    """Neutron's server runs with LinuxBridge."""
    stopped = back.of_chapter(journal, "5 retire agents/Neutron's server")
    steps = [
        back.StartUnits(window, entry, what="Neutron's server", units=window.services.api, disabled=False)
        for entry in stopped
    ]
    run(steps, what="of the control hosts")


def test_mtus_are_back(run: Run, window: Window, journal: Journal) -> None:
    """Networks have the MTU that they had, before agents make bridges and tunnels of it."""
    done = back.of_chapter(journal, "3 networks/mtu/")
    run([back.MtuBack(window, entry) for entry in done], what="of the networks")


def test_metadata_ports_are_deleted(run: Run, window: Window, journal: Journal) -> None:
    """OVN's metadata ports are deleted, and their addresses free."""
    run([back.DeleteMetadataPorts(window)] if back.of_chapter(journal, "9 sync") else [], what="of the ports")


def test_dhcp_ports_are_back(run: Run, window: Window, journal: Journal) -> None:
    """The DHCP agents' ports are there again, at their addresses, before the agents start and make others."""
    deleted = back.of_chapter(journal, "10 agents and left-overs/dhcp ports")
    run(hosting.dhcp_ports(window) if deleted else [], what="of the networks")


def test_hosts_are_clean(run: Run, window: Window, journal: Journal) -> None:
    """Nothing is left on hosts of what the old agents had made, which they would take for current."""
    run(back.cleaned(window, journal), what="of the hosts", parallel=16)


def test_agents_are_back(run: Run, window: Window, journal: Journal) -> None:
    """The old agents are enabled, run, and are alive by Neutron."""
    stopped = back.of_chapter(journal, "5 retire agents/agents")
    steps = [
        back.StartUnits(window, entry, what="agents", units=window.services.agents, disabled=True) for entry in stopped
    ]
    run(steps, what="of the hosts", parallel=8)
    run([back.AgentsAlive(window)] if stopped else [], what="of the agents")


def test_networks_are_served(request: pytest.FixtureRequest, run: Run, window: Window, journal: Journal) -> None:
    """Networks have their DHCP agents again."""
    stopped = back.of_chapter(journal, "5 retire agents/agents")
    now = window.before if planning(request.config) else window.discover()
    run(hosting.networks_served(window, now) if stopped else [], what="of the networks")
