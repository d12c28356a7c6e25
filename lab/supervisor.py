"""One process a host: starts the host, plugs its NICs into the fabric, and starts it again when it reboots.

``python -m lab.supervisor HOST ROOT CONSOLE NIC=BRIDGE…``, started by :mod:`lab.host` in the fabric's network namespace.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from lab import blueprint, fabric, paths, processes
from lab.run import environment

REBOOTED = 133  # what `systemd-nspawn --keep-unit` exits with when the host inside reboots
PLUG_SECONDS = 30


def veth(host: str, nic: str) -> str:
    """The name of the fabric's end of a host's NIC."""
    return f"{host}-{nic}"


def nspawn_command(host: str, root: str, nics: dict[str, str]) -> list[str]:
    """The command line that boots a host.

    The host may use the machine's tun device and nothing else of its devices; its capabilities are those of a real root,
    since Neutron makes namespaces and bridges in it.
    """
    return [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        f"--directory={root}",
        f"--machine={blueprint.MACHINE_PREFIX}{host}",
        f"--hostname={host}",
        "--capability=all",
        "--bind=/dev/net/tun",
        *(["--bind=/dev/kvm"] if os.environ.get("LAB_KVM") == "1" else []),
        *(f"--network-veth-extra={veth(host, nic)}:{nic}" for nic in nics),
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
        "--boot",
    ]


def nspawn_environment() -> dict[str, str]:
    """What nspawn is told by its environment: writable /proc/sys and /sys, and the machine's own kind of cgroups."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return {
        "PATH": environment()["PATH"],
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1" if unified else "0",
    }


def main(host: str, root: str, console: str, *plugs: str) -> int:
    """Run a host until it is powered off. Returns what nspawn ended with."""
    nics = dict(plug.split("=", 1) for plug in plugs)
    processes.enter_group(host)
    current: subprocess.Popen[bytes] | None = None

    def power_off(_number: int, _frame: FrameType | None) -> None:
        if current is not None and current.poll() is None:
            current.terminate()

    signal.signal(signal.SIGTERM, power_off)
    boots = 0
    while True:
        for nic in nics:
            fabric.unplug(veth(host, nic))
        with Path(console).open("ab") as stream:
            current = subprocess.Popen(
                nspawn_command(host, root, nics),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=nspawn_environment(),
            )
        boots += 1
        _plug_in(host, nics, current)
        paths.write_atomically(
            paths.HOSTS / host / "run.json",
            json.dumps(
                {
                    "supervisor": os.getpid(),
                    "supervisor_started": processes.start_time(os.getpid()),
                    "nspawn": current.pid,
                    "nspawn_started": processes.start_time(current.pid),
                    "boots": boots,
                }
            ),
        )
        code = current.wait()
        if code != REBOOTED:
            return code


def _plug_in(host: str, nics: dict[str, str], nspawn: subprocess.Popen[bytes]) -> None:
    missing = dict(nics)
    deadline = time.monotonic() + PLUG_SECONDS
    while missing and nspawn.poll() is None and time.monotonic() < deadline:
        missing = {nic: bridge for nic, bridge in missing.items() if not fabric.plug(veth(host, nic), bridge)}
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
