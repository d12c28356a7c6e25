"""Instances are stopped: those that run hold on to OVN's switch."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration import back, meanwhile
from ovnshift.migration.window import Window, ask


def test_instances_are_stopped(run: Run, window: Window, journal: Journal) -> None:
    """Every instance that runs is stopped."""
    running = []
    # While Neutron's server is off Nova can't list them; nothing was started since, then.
    if meanwhile.api_is_held(journal):
        run([], what="of the instances")
        return
    if not back.of_chapter(journal, f"{back.OFF}/") and back.of_chapter(journal, "5 retire agents"):
        servers = ask("Nova", "instances", lambda: list(window.compute.servers(details=True, all_projects=True)))
        running = [window.instance_now(server.id) for server in servers if server.status == "ACTIVE"]
    run(
        back.stop_again(window, journal, running),
        what="of the instances",
        parallel=window.site.limits.parallel_instances,
    )
