"""Which processes are the lab's.

A process id alone proves nothing after a reboot or a crash, so each is told apart by its start time, and everything below
a host by the control group that it was started in.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError

GROUP = "ovnshift-lab"
_CGROUPS = Path("/sys/fs/cgroup")


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process (proc(5), field 22)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def command_line(pid: int) -> list[str]:
    """A process's arguments; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def children(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(int(child) for child in task.read_text(encoding="ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def group_directories() -> Iterator[Path]:
    """The lab's control groups: one in every hierarchy that it uses, or one where there is a single hierarchy.

    systemd-nspawn puts a host where its own process is in the unified hierarchy, where there is one beside the others, and
    mirrors that in systemd's. Left out, all hosts would share one tree, and their systemds remove each other's groups.
    """
    if (_CGROUPS / "cgroup.controllers").exists():
        yield _CGROUPS / f"{GROUP}.slice"
    else:
        for hierarchy in ("unified", "systemd", "freezer"):
            if (_CGROUPS / hierarchy).is_dir():
                yield _CGROUPS / hierarchy / GROUP


def enter_group(host: str) -> None:
    """Move this process, and with it all that it will start, into the lab's control groups."""
    for directory in group_directories():
        group = directory / host
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def members(host: str | None = None) -> set[int]:
    """All processes in the lab's control groups, or in one host's."""
    found: set[int] = set()
    for directory in group_directories():
        top = directory / host if host else directory
        # Units end while this looks, and their groups go; os.walk passes over those, as Path.glob does not.
        for group, _, _ in os.walk(top):
            try:
                found.update(int(pid) for pid in Path(group, "cgroup.procs").read_text(encoding="ascii").split())
            except OSError:
                continue
    return found


def kill_members(host: str | None = None, *, timeout: float = 30) -> None:
    """Kill everything in the lab's control groups and wait until it is gone.

    Raises:
        LabError: something outlived it.
    """
    deadline = time.monotonic() + timeout
    while alive := {pid for pid in members(host) if start_time(pid) is not None}:
        for pid in alive:
            _kill(pid)
        if time.monotonic() > deadline:
            raise LabError(
                f"processes {sorted(alive)} of the lab can't be killed",
                "look at what they wait for (cat /proc/PID/stack), then python -m lab down",
            )
        time.sleep(0.1)


def kill_matching(argument_prefixes: tuple[str, ...], *, timeout: float = 30) -> None:
    """Kill processes one of whose arguments starts so; for what was started outside the control groups.

    Raises:
        LabError: something outlived it.
    """
    deadline = time.monotonic() + timeout
    while found := _matching(argument_prefixes):
        for pid in found:
            _kill(pid)
        if time.monotonic() > deadline:
            raise LabError(f"processes {found} of the lab can't be killed", "python -m lab down")
        time.sleep(0.1)


def _matching(argument_prefixes: tuple[str, ...]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        pid = int(entry.name)
        if any(argument.startswith(argument_prefixes) for argument in command_line(pid)) and start_time(pid):
            found.append(pid)
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def remove_groups(*, timeout: float = 30) -> None:
    """Remove the lab's control groups, innermost first.

    A process that was killed is a member until the kernel is done with it, some time after it is gone from /proc.

    Raises:
        LabError: something is still in one.
    """
    deadline = time.monotonic() + timeout
    while busy := [path for directory in group_directories() if (path := _remove_group(directory))]:
        kill_members()
        if time.monotonic() > deadline:
            raise LabError(f"the control group {busy[0]} is in use", "see its cgroup.procs, then python -m lab down")
        time.sleep(0.1)


def _remove_group(directory: Path) -> Path | None:
    """The first group in it that is in use, if there is one."""
    if not directory.exists():
        return None
    for path in sorted(directory.glob("**/"), key=lambda path: len(path.parts), reverse=True):
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return path
    return None


def freeze(*, frozen: bool, timeout: float = 30) -> None:
    """Stop all of the lab's processes at one instant, or let them go on. They do not notice.

    Raises:
        LabError: the kernel did not do it in time, or has no freezer.
    """
    directory = list(group_directories())[-1]
    if (directory / "cgroup.freeze").exists():
        control, state, wanted = directory / "cgroup.freeze", directory / "cgroup.events", f"frozen {int(frozen)}"
        value = str(int(frozen))
    elif (directory / "freezer.state").exists():
        control = state = directory / "freezer.state"
        wanted = value = "FROZEN" if frozen else "THAWED"
    else:
        raise LabError(f"{directory} has no freezer", "use a kernel with the cgroup freezer")
    deadline = time.monotonic() + timeout
    control.write_text(value, encoding="ascii")
    while wanted not in state.read_text(encoding="ascii"):
        if time.monotonic() > deadline:
            control.write_text("0" if value == "1" else "THAWED", encoding="ascii")
            raise LabError(f"the lab's processes could not be frozen within {timeout:.0f} s", "python -m lab up")
        time.sleep(0.02)
