"""Back to a clean machine, whatever state the lab is in and whichever checkout built it.

Nothing here trusts the record: after a crash, a reboot or a ``kill -9`` it may be wrong. Names decide: control groups, the
fabric's namespace and veth, mounts below the lab's directory.
"""

from __future__ import annotations

import shutil

from lab import blueprint, fabric, host, mounts, paths, processes
from lab.errors import LabError
from lab.progress import Progress


def remove_everything(progress: Progress) -> bool:
    """Remove the lab with all its traces but the cache. Returns whether there was anything.

    Raises:
        LabError: something can't be removed; the message says what.
    """
    before = traces()
    if not before:
        return False
    with progress.step("hosts stopped"):
        processes.kill_matching((f"--machine={blueprint.MACHINE_PREFIX}", "lab.supervisor"))
        processes.kill_members()
    with progress.step("mounts, control groups and wires removed"):
        for each in blueprint.HOSTS:
            host.unmount(each)
        mounts.unmount_all(paths.HOSTS)
        processes.remove_groups()
        fabric.remove()
        for propagated in host.propagation_directories():
            mounts.unmount_all(propagated)
            shutil.rmtree(propagated)
    with progress.step("disks removed"):
        if paths.STATE.exists():
            shutil.rmtree(paths.STATE)
    if left := traces():
        raise LabError(
            f"the lab is not all gone: {', '.join(left)}", "python -m lab down again; if it stays, report it"
        )
    return True


def traces() -> list[str]:
    """What of a lab is on this machine, the cache apart."""
    found = [f"process {pid}" for pid in sorted(processes.members())]
    found += [f"mount {place}" for place in mounts.at_or_below(paths.STATE)]
    found += [f"control group {directory}" for directory in processes.group_directories() if directory.exists()]
    if fabric.NAMESPACE.exists():
        found.append(f"network namespace {blueprint.FABRIC}")
    if fabric.machine_has_veth():
        found.append(f"interface {blueprint.LAB_VETH}")
    found += [f"directory {place}" for place in host.propagation_directories()]
    if paths.STATE.exists():
        found.append(f"directory {paths.STATE}")
    return found
