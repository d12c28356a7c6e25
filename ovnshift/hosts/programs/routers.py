"""Looks at routers' namespaces on a host, and at what the host carries, and prints one JSON object. Reads only.

Runs on the host itself, as root, with nothing but the standard library (Python 3.8 and later), iproute2 and iptables.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SECONDS = 20
NAMESPACES = Path("/run/netns")


def output(*argv: str) -> str:
    """What a program prints; nothing when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def listed(*argv: str) -> list[dict[str, Any]]:
    """What a program prints as JSON."""
    try:
        return list(json.loads(output(*argv) or "[]"))
    except ValueError:
        return []


def links(namespace: str) -> dict[str, dict[str, Any]]:
    """Links with MAC and addresses, but lo."""
    found = {}
    for link in listed("ip", "-netns", namespace, "-json", "address"):
        if link.get("ifname") != "lo":
            found[link["ifname"]] = {
                "mac": link.get("address"),
                "addresses": [
                    "%s/%d" % (each["local"], each["prefixlen"])
                    for each in link.get("addr_info", [])
                    if each.get("local")
                ],
            }
    return found


def packets(namespace: str) -> int:
    """Packets that its links have received."""
    found = listed("ip", "-netns", namespace, "-json", "-statistics", "link")
    return sum(
        int(link.get("stats64", {}).get("rx", {}).get("packets", 0)) for link in found if link.get("ifname") != "lo"
    )


def gateways(namespace: str) -> list[str]:
    """Where its default routes lead."""
    return [
        route["gateway"]
        for family in ("-4", "-6")
        for route in listed("ip", "-netns", namespace, family, "-json", "route", "show", "default")
        if route.get("gateway")
    ]


def processes() -> dict[int, list[tuple[str, int]]]:
    """Names and resident kilobytes of processes, by the inode of their network namespace."""
    found: dict[int, list[tuple[str, int]]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            inode = Path("/proc", entry.name, "ns/net").stat().st_ino
            pages = int(Path("/proc", entry.name, "statm").read_text().split()[1])
            name = Path("/proc", entry.name, "comm").read_text().strip()
        except (OSError, ValueError, IndexError):
            continue
        found.setdefault(inode, []).append((name, pages * os.sysconf("SC_PAGE_SIZE") // 1024))
    return found


def memory() -> int:
    """Kilobytes that are available to new processes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    return 0


def main() -> None:
    task = json.load(sys.stdin)
    wanted = task["routers"]
    there = sorted(path.name[len("qrouter-") :] for path in NAMESPACES.glob("qrouter-*"))
    looked_at = [id_ for id_ in there if wanted is None or id_ in wanted]
    traffic = {}
    if task["traffic_seconds"]:
        before = {id_: packets("qrouter-" + id_) for id_ in looked_at}
        begun = time.monotonic()
        time.sleep(task["traffic_seconds"])
        took = time.monotonic() - begun
        traffic = {id_: max(0, packets("qrouter-" + id_) - before[id_]) / took for id_ in looked_at}
    inside = processes()
    routers = {}
    for id_ in looked_at:
        name = "qrouter-" + id_
        try:
            inode = (NAMESPACES / name).stat().st_ino
        except OSError:
            continue
        routers[id_] = {
            "links": links(name),
            "gateways": gateways(name),
            "nat": [
                line
                for line in output("ip", "netns", "exec", name, "iptables-save", "-t", "nat").splitlines()
                if line.startswith("-A")
            ],
            "processes": inside.get(inode, []),
            "packets_per_second": traffic.get(id_, 0.0),
        }
    report = {
        "namespaces": there,
        "routers": routers,
        "available_megabytes": memory() / 1024,
        "load": os.getloadavg()[0],
        "cores": os.cpu_count() or 1,
    }
    print(json.dumps(report))


main()
