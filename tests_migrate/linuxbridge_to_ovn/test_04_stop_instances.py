"""4 Stop instances: those that run are recorded and stopped. From here on the cloud's users notice."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.journal import Journal
from ovnshift.migration.agents import RETIRE
from ovnshift.migration.instances import STOP, StopInstance
from ovnshift.migration.window import Window, ask


def test_instances_are_stopped(run: Run, window: Window, journal: Journal) -> None:
    """Every instance that runs is stopped: SHUTOFF by Nova, and gone from its hypervisor."""
    begun = {entry.step for entry in journal.entries() if entry.chapter == STOP}
    running: set[str] = set()
    # Whatever runs later and is not in the journal was started on OVN; and Nova can't say while Neutron's API is held back.
    if not journal.begun(RETIRE):
        servers = ask("Nova", "instances", lambda: list(window.compute.servers(details=True, all_projects=True)))
        running = {server.id for server in servers if server.status == "ACTIVE"}
    steps = [StopInstance(window, instance) for instance in window.before.instances]
    wanted = [step for step in steps if step.instance_id in running or step.id in begun]
    known = {step.instance_id for step in steps}
    wanted += [StopInstance(window, window.instance_now(id_)) for id_ in sorted(running - known)]
    run(wanted, what="of the instances", parallel=window.site.limits.parallel_instances)
