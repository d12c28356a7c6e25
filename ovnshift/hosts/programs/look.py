"""Looks around on a host and prints one JSON object. Reads only.

Runs on the host itself, as root, with nothing but the standard library (Python 3.8 and later) and iproute2.
"""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SECONDS = 20
MIGRATIONS = {"neutron-ovn-db-sync-util", "ovn_migration.sh", "neutron-db-manage", "ml2ovn-migration"}


def output(*argv: str) -> str | None:
    """What a program prints; None when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def links(*prefix: str) -> list[dict[str, Any]]:
    """Links of a namespace with their addresses."""
    text = output(*prefix, "ip", "-json", "-details", "address")
    found = []
    for link in json.loads(text or "[]"):
        info = link.get("linkinfo", {})
        data = info.get("info_data", {})
        found.append(
            {
                "name": link["ifname"],
                "kind": info.get("info_kind", ""),
                "master": link.get("master"),
                "mtu": link.get("mtu", 0),
                "up": "UP" in link.get("flags", []),
                "mac": link.get("address"),
                "vlan": data.get("id") if info.get("info_kind") == "vlan" else None,
                "vni": data.get("id") if info.get("info_kind") == "vxlan" else None,
                "parent": link.get("link"),
                "addresses": [
                    "%s/%d" % (each["local"], each["prefixlen"])
                    for each in link.get("addr_info", [])
                    if each.get("local")
                ],
            }
        )
    return found


def domains() -> dict[str, str] | None:
    """Running libvirt domains by uuid, from libvirt where it answers; None where there is none."""
    text = output("virsh", "--readonly", "--connect", "qemu:///system", "list", "--state-running", "--uuid", "--name")
    if text is None:
        return None
    pairs = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs}


def udp_ports() -> list[int]:
    """UDP ports in use in the host's own namespace."""
    ports: set[int] = set()
    for path in (Path("/proc/net/udp"), Path("/proc/net/udp6")):
        if not path.exists():
            continue
        lines = path.read_text().splitlines()[1:]
        ports.update(int(line.split()[1].rsplit(":", 1)[1], 16) for line in lines)
    return sorted(ports)


def free(path: Path) -> int:
    """Free megabytes where a path is or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // 1000000


def units(names: list[str]) -> dict[str, dict[str, Any]]:
    """State of systemd units that exist, with files of their configuration that were changed after they had been started."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        text = output("systemctl", "show", "--property=LoadState,ActiveState,UnitFileState,MainPID", name)
        values = dict(line.split("=", 1) for line in (text or "").splitlines() if "=" in line)
        if values.get("LoadState") not in (None, "not-found"):
            found[name] = {
                "active": values.get("ActiveState", ""),
                "enabled": values.get("UnitFileState", ""),
                "changed_since": changed_since_start(values.get("MainPID", "0")),
            }
    return found


def changed_since_start(pid: str) -> list[str]:
    """Files of a process' configuration that were changed after it had been started; none where it has gone."""
    process = Path("/proc") / pid
    try:
        words = process.joinpath("cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ")
        # Of a name in brackets, which may have spaces in it, and fields 3 and on (proc(5)).
        ticks = int(process.joinpath("stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except OSError:
        return []
    now = time.time()
    started = now - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    # What is of the future was put there with another machine's clock.
    return sorted(str(path) for path in configuration(words) if started < modified(path) <= now)


def modified(path: Path) -> float:
    """When a file was changed, seconds since the epoch; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def configuration(command: str) -> set[Path]:
    """The files that an OpenStack service reads, by its command line: what it names, else where oslo.config looks by itself.

    setproctitle puts a name before the command line, and the latter in brackets.
    """
    files = {Path(each) for each in re.findall(r"--config-file[= ]([^\s)]+)", command)}
    directories = {Path(each) for each in re.findall(r"--config-dir[= ]([^\s)]+)", command)}
    program = re.search(r"[^\s(]*/((?:nova|neutron)-[a-z][a-z0-9-]*)(?=[\s)]|$)", command)
    if program:
        project = program.group(1).split("-")[0]
        names = (project, program.group(1))
        files = files or {Path("/etc", project, name + ".conf") for name in names}
        directories = directories or {Path("/etc", project, name + ".conf.d") for name in names}
    return files | {path for directory in directories for path in directory.glob("*.conf")}


def foreign_runs() -> list[str]:
    """Command lines of migrations and syncs that run now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if any(Path(word).name in MIGRATIONS for word in words[:3]):
            found.append(" ".join(words)[:200].strip())
    return found


def name_servers() -> list[str]:
    """What the host's resolver asks, as Neutron's server reads it."""
    path = Path("/etc/resolv.conf")
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    found = [line.split("nameserver", 1)[1].strip() for line in lines if line.startswith("nameserver")]
    return [each for each in found if address(each)]


def address(text: str) -> bool:
    """Whether it is an IP address, without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def version(name: str) -> str | None:
    """A command's first line, or None."""
    text = output(name, "--version")
    return text.splitlines()[0] if text else None


def main() -> None:
    task = json.load(sys.stdin)
    names = sorted(path.name for path in Path("/run/netns").glob("*"))
    report = {
        "hostname": socket.gethostname(),
        "fqdn": socket.getfqdn(),
        "time": time.time(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "links": links(),
        "namespaces": {name: links("ip", "netns", "exec", name) for name in names},
        "domains": domains() if task.get("domains") else None,
        "udp_ports": udp_ports(),
        "free_megabytes": {path: free(Path(path)) for path in task.get("disks", [])},
        "units": units(task.get("units", [])),
        "tools": {name: bool(shutil.which(name)) for name in ("ip", "ping", "virsh", "ovs-vsctl")},
        "foreign_runs": foreign_runs(),
        "name_servers": name_servers(),
        "openvswitch": version("ovs-vsctl"),
        "ovs_hostname": (
            output("ovs-vsctl", "--if-exists", "--timeout=5", "get", "Open_vSwitch", ".", "external_ids:hostname") or ""
        )
        .strip()
        .strip('"')
        or None,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
