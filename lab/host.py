"""A host's life: its disk (an overlay over the image), booting, running commands in it, stopping."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import blueprint, fabric, mounts, paths, processes
from lab.blueprint import Host
from lab.errors import LabError, NotUp
from lab.run import attempt, environment, run

BOOT_SECONDS = 120
_NSPAWN = Path("/run/systemd/nspawn")
# How long a supervisor has to appear in its control group.
START_SECONDS = 5
POWER_OFF_SECONDS = 60


def place(host: Host) -> Path:
    """Where a host's files are on this machine."""
    return paths.HOSTS / host.name


def root(host: Host) -> Path:
    """Where a host's root is mounted."""
    return place(host) / "root"


def is_mounted(host: Host) -> bool:
    """Whether a host's root is mounted."""
    return mounts.is_mounted(root(host))


def mount(host: Host, image: Path, kept: Path | None) -> None:
    """Mount a host's root: the image, over it the kept state if there is one, over that what the host changed since."""
    if is_mounted(host):
        return
    folder = place(host)
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    lower = [str(image / "rootfs")]
    if kept is not None:
        lower.insert(0, str(kept / host.name))
    options = f"lowerdir={':'.join(lower)},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    run(["mount", "-t", "overlay", "-o", options, f"ovnshift-lab-{host.name}", str(root(host))])


def unmount(host: Host) -> None:
    """Unmount a host's root, and remove the lock that systemd-nspawn leaves on it when it is killed."""
    if is_mounted(host):
        found = root(host).stat()
        (_NSPAWN / "locks" / f"inode-{found.st_dev}:{found.st_ino}").unlink(missing_ok=True)
    mounts.unmount_all(root(host))


def forget_changes(host: Host) -> None:
    """Throw away what a host wrote since its kept state; it must not be mounted."""
    for name in ("upper", "work"):
        folder = place(host) / name
        if folder.exists():
            shutil.rmtree(folder)


def console(host: Host) -> Path:
    """What the host printed while it booted."""
    return paths.LOGS / f"{host.name}.console"


def _running(host: Host) -> dict[str, int] | None:
    try:
        state: dict[str, int] = json.loads((place(host) / "run.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if processes.start_time(state["nspawn"]) != state["nspawn_started"]:
        return None
    return state


def supervisor(host: Host) -> int | None:
    """The process id of a host's supervisor, or None when it does not run."""
    for pid in processes.members(host.name):
        arguments = processes.command_line(pid)
        if "lab.supervisor" in arguments and host.name in arguments:
            return pid
    return None


def leader(host: Host) -> int | None:
    """The process id, on this machine, of a host's systemd; None when the host is not running."""
    state = _running(host)
    if state is None:
        return None
    found = processes.children(state["nspawn"])
    return found[0] if found else None


def start(host: Host, *, vlan: bool, kvm: bool) -> None:
    """Start a host's supervisor, which boots it. Nothing happens when it runs already."""
    if supervisor(host) is not None:
        return
    (place(host) / "run.json").unlink(missing_ok=True)
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    plugs = [f"{nic.name}={nic.bridge}" for nic in blueprint.nics_of(host, vlan=vlan)]
    arguments = [host.name, str(root(host)), str(console(host)), *plugs]
    with (paths.LOGS / f"{host.name}.supervisor").open("ab") as log:
        subprocess.Popen(
            fabric.inside(sys.executable, "-m", "lab.supervisor", *arguments),
            cwd=paths.PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment(LAB_KVM="1" if kvm else "0", PYTHONDONTWRITEBYTECODE="1"),
        )


def wait_until_booted(hosts: Sequence[Host], waiting_for: Callable[[str], None], timeout: float = BOOT_SECONDS) -> None:
    """Wait until every host's systemd has reached its basic target and its sshd answers.

    Raises:
        LabError: one did not; the message has the end of its console.
    """
    begin = time.monotonic()
    missing = list(hosts)
    while missing:
        missing = [host for host in missing if not _has_booted(host)]
        waiting_for(", ".join(host.name for host in missing))
        given_up = [host for host in missing if supervisor(host) is None and time.monotonic() > begin + START_SECONDS]
        if given_up or (missing and time.monotonic() > begin + timeout):
            host = (given_up or missing)[0]
            logs = (paths.LOGS / f"{host.name}.supervisor", console(host))
            tail = "\n".join(path.read_text(errors="replace")[-1500:] for path in logs if path.exists())
            raise LabError(
                f"host {host.name} did not boot" + ("" if given_up else f" within {timeout:.0f} s"),
                f"read {console(host)}, then python -m lab up again",
                tail,
            )
        time.sleep(0.3)


def _has_booted(host: Host) -> bool:
    if leader(host) is None:
        return False
    return attempt(inside(host, "systemctl", "is-active", "--quiet", "basic.target", "ssh.service")).returncode == 0


def inside(host: Host, *command: str) -> list[str]:
    """A command line that runs a program in a host, as root.

    Raises:
        NotUp: the host does not run.
    """
    pid = leader(host)
    if pid is None:
        raise NotUp(f"host {host.name} is not running", "python -m lab up")
    flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
    return ["nsenter", f"--target={pid}", *flags, "--", *command]


def execute(host: Host, *command: str, stdin: str | None = None, timeout: float = 60) -> str:
    """Run a program in a host as root and return what it printed.

    Raises:
        LabError: it failed, or did not end within ``timeout`` seconds.
    """
    return run(inside(host, *command), stdin=stdin, timeout=timeout, where=host.name, env=guest_environment())


def ask(host: Host, *command: str, stdin: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program in a host as root; its exit code is an answer."""
    return attempt(inside(host, *command), stdin=stdin, timeout=timeout, where=host.name, env=guest_environment())


def propagation_directories() -> list[Path]:
    """What systemd-nspawn leaves below /run for a host that was killed."""
    return sorted(_NSPAWN.glob(f"*/{blueprint.MACHINE_PREFIX}*"))


def guest_environment() -> dict[str, str]:
    """The environment of a program in a host: the host's, not this machine's."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": "/root",
        "TERM": os.environ.get("TERM", "dumb"),
    }


def stop(hosts: Sequence[Host], *, orderly: bool) -> None:
    """Stop hosts, all at once.

    Args:
        hosts: which.
        orderly: power off as one would a real host, bounded by a minute; else as if the power went.
    """
    running = [(host, pid) for host in hosts if (pid := supervisor(host)) is not None]
    if orderly:
        for _host, pid in running:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + POWER_OFF_SECONDS
        while time.monotonic() < deadline and any(supervisor(host) is not None for host, _pid in running):
            time.sleep(0.2)
    else:
        # The supervisors first, or they would take a host that is gone for one that failed.
        for _host, pid in running:
            os.kill(pid, signal.SIGKILL)
    for host in hosts:
        processes.kill_members(host.name)
        (place(host) / "run.json").unlink(missing_ok=True)
