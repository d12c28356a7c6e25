"""What a run must leave as it found it: namespaces, links, routes, mounts, filters, sysctls, control groups, processes."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Counters and clocks of the kernel, which move by themselves.
_MOVING = re.compile(
    r"^(fs\.(dentry-state|inode-nr|inode-state|file-nr|quota)|kernel\.(random|ns_last_pid|pty\.nr|sched|perf|hung_task_detect_count)"
    r"|net\.netfilter\.nf_conntrack_count|net\.ipv4\.tcp_fastopen_key|vm\.stat_refresh)"
)


def _lines(*command: str) -> list[str]:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return sorted(line.strip() for line in result.stdout.splitlines())


def _json(*command: str) -> list[str]:
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(result.stdout or "[]")
    for row in rows:
        for moving in ("stats64", "stats", "flags", "qdisc"):
            row.pop(moving, None)
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def _processes() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        text = arguments.replace(b"\0", b" ").decode(errors="replace").strip()
        # Only what a lab consists of: others on this machine come and go.
        if re.search(
            r"nspawn|lab\.supervisor|/var/lib/ovnshift-lab|neutron|nova-|mariadbd|qemu-system|keepalived|beam\.smp",
            text,
        ):
            found.append(text)
    return sorted(found)


@dataclass(frozen=True)
class MachineState:
    """A picture of the machine's own namespaces."""

    parts: dict[str, list[str]]

    @classmethod
    def now(cls) -> MachineState:
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
        return cls(
            {
                "ip netns": _lines("ip", "netns", "list"),
                "ip link": _json("ip", "-json", "link", "show"),
                "ip address": _json("ip", "-json", "address", "show"),
                "ip route": _json("ip", "-json", "route", "show", "table", "all"),
                "ip -6 route": _json("ip", "-json", "-6", "route", "show", "table", "all"),
                "ip rule": _json("ip", "-json", "rule", "show"),
                "mount": sorted(fields[4] for fields in mounts),
                "xtables": [
                    line
                    for name in ("ip_tables_names", "ip6_tables_names", "arp_tables_names")
                    if (table := Path("/proc/net") / name).exists()
                    for line in table.read_text(encoding="ascii").split()
                ],
                "sysctl": [line for line in _lines("sysctl", "--all", "--ignore") if not _MOVING.match(line)],
                "cgroups": sorted(
                    str(path)
                    for path in Path("/sys/fs/cgroup").glob("**/")
                    if re.search(r"ovnshift|machine|payload|supervisor", path.name)
                ),
                "processes": _processes(),
                "resolver": [
                    Path("/etc/resolv.conf").read_text(encoding="utf-8"),
                    Path("/etc/hosts").read_text(encoding="utf-8"),
                ],
                "nspawn": sorted(str(path) for path in Path("/run/systemd/nspawn").glob("*/*")),
            }
        )

    def differences(self, other: MachineState) -> list[str]:
        """What the other one has more or less, a line each."""
        found = []
        for name, mine in self.parts.items():
            theirs = other.parts[name]
            # A lock that a host of long ago left behind may go: the lab's own locks have its name again.
            if name != "nspawn":
                found += [f"{name}: gone: {line}" for line in mine if line not in theirs]
            found += [f"{name}: new: {line}" for line in theirs if line not in mine]
        return found
