"""Lists what the LinuxBridge, L3, DHCP and metadata agents left on a host, and removes it when asked to.

Runs on the host itself, as root, with nothing but the standard library (Python 3.8 and later), iproute2, and iptables, ebtables
and ipset where they are there. Only what has the id of a Neutron object of the task in its name is touched; the names are those
of Neutron's LinuxBridge code (linuxbridge_neutron_agent.py, interface.py, arp_protect.py, iptables_manager.py, ipset_manager.py).

The agents have to be stopped before: they would make all of it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

SECONDS = 20  # of one command
GRACE = 10.0  # between TERM and KILL
KILLED = 5.0  # after KILL
PAUSE = 1.0  # between two attempts when the first changed nothing
NAMES = Path("/run/netns")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SHORT = 11  # characters of an id in an interface's name; lconst.RESOURCE_ID_LENGTH
SHORT_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{2}")
PORTS = ("tap", "qr-", "qg-", "ha-", "ns-")
PROGRAMS = {
    "conntrackd",
    "dibbler-client",
    "dnsmasq",
    "haproxy",
    "keepalived",
    "neutron-keepalived-state-change",
    "neutron-ns-metadata-proxy",
    "radvd",
}
# The first 16 characters of the agent's name, and the chains that it shares with Neutron's other agents.
OWN_CHAIN = "neutron-linuxbri-"
SHARED_CHAINS = {"neutron-filter-top", "neutron-postrouting-bottom"}
BRIDGE_CHAINS = ("neutronMAC-", "neutronARP-")
BRIDGE_BUILT_IN = {"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING", "BROUTING"}
SET_NAME = 29  # characters; the rest is for "-n", which a set has while it is being replaced
FOREVER = 2**32 - 1

FOUND, REMOVED, LEFT, STRANGE, IN_USE = "found", "removed", "left", "strange", "in use"


class Failed(Exception):
    """A command did not do what it should."""


@dataclass
class Item:
    """Something that an agent left, or that looks like it.

    ``commands`` remove it, except for a process and for a chain of the ``table`` (a kind of iptables, and a table): these have a
    ``plan`` for people. An address has its ``move``, and the ``bridge`` from which it goes.
    """

    kind: str
    name: str
    state: str = FOUND
    why: str = ""
    commands: list[list[str]] = field(default_factory=list)
    plan: str = ""
    process: Process | None = None
    namespace: tuple[int, int] | None = None
    table: tuple[str, str] | None = None
    move: Move | None = None
    bridge: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name

    def print(self) -> None:
        command = self.plan or "; ".join(shlex.join(argv) for argv in self.commands)
        values = {"kind": self.kind, "name": self.name, "state": self.state, "why": self.why, "command": command}
        print(json.dumps({key: printable(value) for key, value in values.items()}))


@dataclass(frozen=True)
class Process:
    """A process; ``start`` tells it from a later one with the same number."""

    pid: int
    start: str
    parent: int
    name: str
    words: tuple[str, ...]
    network: tuple[int, int] | None
    opened: tuple[str, ...]
    taps: tuple[str, ...]

    def __str__(self) -> str:
        return "process %d (%s)" % (self.pid, self.name)


@dataclass(frozen=True)
class Move:
    """An address or a route of a bridge that goes back to the physical interface.

    ``argv`` makes it there, and ``key`` is how it is then found there (:func:`keys`).
    """

    name: str
    argv: list[str]
    key: tuple[Any, ...]


def printable(text: str) -> str:
    """Text that is text, whatever bytes a name has."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def output(*argv: str, stdin: str = "") -> str:
    """What a program prints.

    Raises:
        Failed: it is not there, ended with an error, or took too long.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin.encode("utf-8", "surrogateescape"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed("%s did not end in %d s" % (argv[0], SECONDS)) from error
    except OSError as error:
        raise Failed("%s: %s" % (argv[0], error.strerror)) from error
    if done.returncode != 0:
        complaint = " ".join(done.stderr.decode("utf-8", "backslashreplace").split())[-300:]
        raise Failed("%s ended with %d: %s" % (argv[0], done.returncode, complaint))
    return done.stdout.decode("utf-8", "surrogateescape")


def listing(*argv: str) -> list[dict[str, Any]]:
    """What iproute2 prints as JSON; some of its releases escape single quotes, which JSON does not know."""
    text = re.sub(r"\\(.)", lambda match: "'" if match[1] == "'" else match[0], output("ip", "-json", *argv))
    return [each for each in json.loads(text or "[]", strict=False) if each]


class Known:
    """The names that Neutron's objects have on a host."""

    def __init__(self, task: dict[str, Any]) -> None:
        for kind in ("networks", "routers", "ports", "security_groups"):
            for each in task[kind]:
                # An empty one would match everything.
                if not isinstance(each, str) or not UUID.fullmatch(each):
                    sys.exit("%r among the %s is no id" % (each, kind))
        self.owners = dict.fromkeys(task["networks"], "network")
        self.owners.update((each, "router") for each in task["routers"])
        self.namespaces = {"qdhcp-" + each for each in task["networks"]}
        self.namespaces.update("qrouter-" + each for each in task["routers"])
        self.bridges = {"brq" + each[:SHORT] for each in task["networks"]}
        self.ports = {each[:SHORT] for each in task["ports"]}
        self.vnis = set(task["vnis"])
        self.vlans = {(each[0], each[1]) for each in task["vlans"]}
        self.interfaces = set(task.get("interfaces", ())) | {name for name, _ in self.vlans if name is not None}
        stems = [("NIPv%d%s" % (family, each))[:SET_NAME] for each in task["security_groups"] for family in (4, 6)]
        self.sets = {stem + suffix for stem in stems for suffix in ("", "-n")}

    def is_port(self, name: str) -> bool:
        return name.startswith(PORTS) and name[3:] in self.ports

    def is_vxlan(self, link: dict[str, Any]) -> bool:
        id_ = data_of(link).get("id")
        return kind_of(link) == "vxlan" and id_ in self.vnis and link["ifname"] == "vxlan-%s" % id_

    def is_vlan(self, link: dict[str, Any]) -> bool:
        """Whether it is a VLAN sub-interface; its name ends with the id, and what comes before may be shortened."""
        if kind_of(link) != "vlan" or link["ifname"] in self.interfaces:
            return False
        id_ = data_of(link)["id"]
        return bool({(link.get("link"), id_), (None, id_)} & self.vlans) and link["ifname"].endswith(".%d" % id_)

    def is_physical(self, link: dict[str, Any]) -> bool:
        """Whether it is a physical network's interface: one that was named, or one that is no virtual device."""
        return link["ifname"] in self.interfaces or kind_of(link) in ("", "bond", "team")


def kind_of(link: dict[str, Any]) -> str:
    kind: str = link.get("linkinfo", {}).get("info_kind", "")
    return kind


def data_of(link: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = link.get("linkinfo", {}).get("info_data", {})
    return data


# Processes and namespaces


def state_of(pid: int) -> list[str]:
    """The values of /proc/…/stat behind the name: state, parent, …"""
    return Path("/proc", str(pid), "stat").read_bytes().decode("ascii", "replace").rpartition(")")[2].split()


def same_file(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def opened_by(path: Path) -> tuple[list[str], list[str]]:
    """What may be a namespace among a process's open files, and the interfaces that it has open as taps."""
    opened, taps = [], []
    for each in (path / "fd").iterdir():
        try:
            target = os.readlink(each)  # noqa: PTH115, Path.readlink is Python 3.9's
            if "/net/tun" in target:
                lines = (path / "fdinfo" / each.name).read_text(errors="surrogateescape").splitlines()
                taps += [line.split(":", 1)[1].strip() for line in lines if line.startswith("iff:")]
            elif target.startswith("net:[") or "/netns/" in target:
                opened.append(str(each))
        except OSError:  # closed meanwhile
            continue
    return opened, taps


def processes() -> list[Process]:
    """Everything that runs and is no zombie."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state = state_of(int(path.name))
            command = (path / "cmdline").read_bytes().decode("utf-8", "surrogateescape")
            name = (path / "comm").read_text(errors="surrogateescape").strip()
            opened, taps = opened_by(path)
        except OSError:  # ended meanwhile
            continue
        if state and state[0] not in "ZX":
            words = tuple(command.replace("\0", " ").split())
            network = same_file(path / "ns" / "net")
            found.append(
                Process(int(path.name), state[19], int(state[1]), name, words, network, tuple(opened), tuple(taps))
            )
    return found


def alive(process: Process) -> bool:
    try:
        state = state_of(process.pid)
    except OSError:
        return False
    return bool(state) and state[0] not in "ZX" and state[19] == process.start


def wait_for(process: Process, end: float) -> None:
    """Until it has ended, at most until ``end``."""
    descriptor = None
    opener = getattr(os, "pidfd_open", None)  # Python 3.9, Linux 5.3
    if opener is not None:
        with contextlib.suppress(OSError):
            descriptor = opener(process.pid)
    try:
        while alive(process):
            left = end - time.monotonic()
            if left <= 0:
                return
            if descriptor is None:
                time.sleep(min(left, 0.05))
            else:
                select.select([descriptor], [], [], left)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def send(process: Process, number: signal.Signals) -> None:
    if alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def terminate(victims: list[Process], deadline: float) -> None:
    """TERM, and KILL for those that do not end."""
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, KILLED)):
        for each in victims:
            send(each, number)
        begin = time.monotonic()
        end = begin + max(0.2, min(seconds, (deadline - begin) / 2))
        for each in victims:
            wait_for(each, end)


def ancestors(running: list[Process]) -> set[int]:
    """This process and those above it."""
    parents = {each.pid: each.parent for each in running}
    found = {1}
    pid = os.getpid()
    while pid and pid not in found:
        found.add(pid)
        pid = parents.get(pid, 0)
    return found


def names() -> dict[str, tuple[int, int] | None]:
    """The named network namespaces, with what tells them apart."""
    if not NAMES.is_dir():
        return {}
    return {path.name: same_file(path) for path in sorted(NAMES.iterdir())}


def namespaces(known: Known) -> list[Item]:
    found = []
    own = {same_file(Path("/proc/self/ns/net")), same_file(Path("/proc/1/ns/net"))}
    all_names = names()
    for name, identity in all_names.items():
        if not name.startswith(("qdhcp-", "qrouter-")):
            continue
        item = Item("namespace", name, namespace=identity, commands=[["ip", "netns", "delete", name]])
        same = [other for other, its in all_names.items() if its == identity is not None]
        others = [other for other in same if other not in known.namespaces]
        if name not in known.namespaces:
            item.state, item.why = STRANGE, "is of no network or router that is known"
        elif identity in own:
            item.state, item.why = STRANGE, "is the host's own network under another name"
        elif others:
            item.state, item.why = STRANGE, "is also called %s" % others[0]
        found.append(item)
    return found


def keeps(process: Process, namespace: tuple[int, int] | None) -> str:
    """How a process keeps a namespace, if it does."""
    if namespace is None:
        return ""
    if process.network == namespace:
        return "runs in it"
    return "has it open" if any(same_file(Path(path)) == namespace for path in process.opened) else ""


def is_agents(process: Process) -> bool:
    """Whether it is one of the programs that the agents start; some are Python's."""
    words = [word for word in process.words if not word.startswith("-")]
    if words and Path(words[0]).name.startswith("python"):
        words = words[1:]
    return bool(words) and Path(words[0].rstrip(":")).name in PROGRAMS


def their_processes(known: Known, spaces: list[Item], running: list[Process]) -> list[Item]:
    inside = {item.namespace: item.name for item in spaces if item.state == FOUND and item.namespace is not None}
    spared = ancestors(running)
    # OVN's metadata agent starts the same programs for the same networks.
    of_ovn = {same_file(path) for path in NAMES.glob("ovnmeta-*")}
    found = []
    for each in sorted(running, key=lambda process: process.pid):
        if each.pid in spared or each.network in of_ovn:
            continue
        if each.network in inside:
            why = "runs in %s" % inside[each.network]
        else:
            ids = [id_ for id_ in UUID.findall(" ".join(each.words)) if id_ in known.owners]
            if not ids or not is_agents(each):
                continue
            why = "belongs to %s %s" % (known.owners[ids[0]], ids[0])
        plan = "kill -TERM %d, then kill -KILL %d" % (each.pid, each.pid)
        found.append(Item("process", "%d %s" % (each.pid, each.name), why=why, plan=plan, process=each))
    return found


# Interfaces


def interfaces(
    known: Known, links: list[dict[str, Any]], routes: list[dict[str, Any]], used: dict[str, Process]
) -> list[Item]:
    """Taps, VLAN sub-interfaces, addresses, bridges and VXLAN interfaces, in the order in which they are removed.

    Args:
        known: the names that are known.
        links: of the host, as iproute2 lists them.
        routes: of both families, with their ``family``.
        used: taps that processes have open.
    """
    taps = [item for link in links for item in tap(known, link, used)]
    in_use = {item.name for item in taps if item.state == IN_USE}
    members: dict[str, list[dict[str, Any]]] = {}
    above: dict[str, set[str]] = {}
    for link in links:
        members.setdefault(link.get("master", ""), []).append(link)
        for below in (link.get("link"), data_of(link).get("link")):
            above.setdefault(below or "", set()).add(link["ifname"])
    bridges: dict[str, Item] = {}
    moves: dict[str, list[Move]] = {}
    for link in links:
        name = link["ifname"]
        if name.startswith("brq"):
            through = [each for each in routes if leads_through(each, name)]
            bridges[name], moves[name] = bridge(known, link, members.get(name, []), through, in_use)
    # A bridge stays when something stays that is made on it, and that may stay because of another bridge.
    while True:
        going = [name for name, item in bridges.items() if item.state == FOUND]
        kept = {move.key[-1] for name in going for move in moves[name]}
        vlans = [item for link in links for item in vlan(known, link, bridges, kept, above)]
        vxlans = [item for link in links for item in vxlan(known, link, bridges)]
        states = {item.name: item.state for item in taps + vlans + vxlans}
        for name in going:
            for upper in sorted(above.get(name, set())):
                if states.get(upper, STRANGE) != FOUND:
                    bridges[name].state = states.get(upper, STRANGE)
                    bridges[name].why = "%s is made on it" % upper
        if all(bridges[name].state == FOUND for name in going):
            break
    present = keys(links, routes)
    moved = []
    for name in going:
        for move in moves[name]:
            item = Item("address", "%s on %s" % (move.name, name), why="goes back to %s" % move.key[-1])
            item.move, item.bridge, item.plan = move, name, shlex.join(move.argv)
            item.commands = [] if move.key in present else [move.argv]
            moved.append(item)
    return taps + vlans + moved + list(bridges.values()) + vxlans


def vlan(
    known: Known, link: dict[str, Any], bridges: dict[str, Item], kept: set[str], above: dict[str, set[str]]
) -> Iterator[Item]:
    """A VLAN sub-interface, which is known as one of the agent's only as long as it is in a bridge."""
    name = link["ifname"]
    master = bridges.get(link.get("master", ""))
    if master is None or not known.is_vlan(link):
        return
    item = Item("vlan", name, commands=[["ip", "link", "delete", "dev", name]])
    if master.state != FOUND:
        item.state, item.why = master.state, "is in %s, which stays" % master.name
    elif name in kept:
        item.state, item.why = STRANGE, "gets the addresses of %s, so the host had it before" % master.name
    elif above.get(name):
        item.state, item.why = STRANGE, "%s is made on it" % min(above[name])
    yield item


def vxlan(known: Known, link: dict[str, Any], bridges: dict[str, Item]) -> Iterator[Item]:
    name = link["ifname"]
    master = bridges.get(link.get("master", ""))
    if not name.startswith("vxlan-"):
        return
    item = Item("vxlan", name, commands=[["ip", "link", "delete", "dev", name]])
    if not known.is_vxlan(link):
        item.state, item.why = STRANGE, "is no tunnel of a network that is known"
    elif master is None and link.get("master"):
        item.state, item.why = STRANGE, "is in %s, which is no bridge of Neutron's" % link["master"]
    elif master is not None and master.state != FOUND:
        item.state, item.why = master.state, "is in %s, which stays" % master.name
    yield item


def tap(known: Known, link: dict[str, Any], used: dict[str, Process]) -> Iterator[Item]:
    """A port's interface: a tap, or one that should be in a namespace."""
    name = link["ifname"]
    item = Item("tap", name, commands=[["ip", "link", "delete", "dev", name]])
    if known.is_port(name):
        if link.get("master") == "ovs-system":
            item.state, item.why = STRANGE, "is in Open vSwitch"
        elif name in used:
            item.state, item.why = IN_USE, "%s has it open" % used[name]
        yield item
    elif name.startswith("tap") or (name.startswith(PORTS) and SHORT_ID.fullmatch(name[3:])):
        item.state, item.why = STRANGE, "is of no port that is known"
        yield item


def bridge(
    known: Known, link: dict[str, Any], members: list[dict[str, Any]], routes: list[dict[str, Any]], in_use: set[str]
) -> tuple[Item, list[Move]]:
    """A bridge, and what moves back to the physical interface in it before it is deleted.

    The agent moved that from there when it put the interface into the bridge (update_interface_ip_details).

    Args:
        known: the names that are known.
        link: the bridge.
        members: what is in it.
        routes: those that lead through it.
        in_use: taps that processes have open.
    """
    name = link["ifname"]
    item = Item("bridge", name, commands=[["ip", "link", "delete", "dev", name, "type", "bridge"]])
    able = [each["ifname"] for each in members if known.is_vlan(each) or known.is_physical(each)]
    others = [each["ifname"] for each in members if not known.is_vxlan(each) and each["ifname"] not in able]
    strangers = sorted(each for each in others if not known.is_port(each))
    busy = sorted(set(others) & in_use)
    addresses = [
        each for each in link.get("addr_info", []) if each.get("scope") == "global" and not each.get("temporary")
    ]
    several = [each["dst"] for each in routes if each.get("dev") != name]
    if name not in known.bridges or kind_of(link) != "bridge":
        item.state, item.why = STRANGE, "is the bridge of no network that is known"
    elif strangers:
        item.state, item.why = STRANGE, "has %s, which is not Neutron's" % ", ".join(strangers)
    elif busy:
        item.state, item.why = IN_USE, "has %s, which is in use" % ", ".join(busy)
    elif several:
        item.state, item.why = STRANGE, "a route with several next hops leads through it: %s" % several[0]
    elif (addresses or routes) and len(able) != 1:
        what = addresses[0]["local"] if addresses else routes[0]["dst"]
        item.state, item.why = STRANGE, "has %s, and %d physical interfaces that could get it" % (what, len(able))
    if item.state != FOUND or not (addresses or routes):
        return item, []
    # A gateway has to be within reach of what is there already.
    routes = sorted(routes, key=lambda each: ("gateway" in each or "via" in each, each["dst"] == "default"))
    return item, [address_move(each, name, able[0]) for each in addresses] + [
        route_move(each, able[0]) for each in routes
    ]


def leads_through(route: dict[str, Any], device: str) -> bool:
    """Whether a route leads through a device, and does not come and go with the device's addresses."""
    if route.get("type", "unicast") != "unicast" or route.get("protocol") == "kernel" or route.get("table") == "local":
        return False
    return route.get("dev") == device or any(hop.get("dev") == device for hop in route.get("nexthops", []))


def keys(links: list[dict[str, Any]], routes: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """What is where: addresses and routes."""
    found: set[tuple[Any, ...]] = {
        ("address", each.get("local"), each.get("prefixlen"), link["ifname"])
        for link in links
        for each in link.get("addr_info", [])
    }
    return found | {route_key(each, each.get("dev")) for each in routes}


def route_key(route: dict[str, Any], device: str | None) -> tuple[Any, ...]:
    via = route.get("gateway") or route.get("via", {}).get("host")
    return "route", route["family"], route.get("table", "main"), route.get("dst"), via, route.get("metric", 0), device


def address_move(entry: dict[str, Any], source: str, target: str) -> Move:
    name = "%s/%d" % (entry["local"], entry["prefixlen"])
    argv = ["ip", "address", "add"]
    argv += (
        [entry["local"], "peer", "%s/%d" % (entry["address"], entry["prefixlen"])] if entry.get("address") else [name]
    )
    if entry.get("broadcast"):
        argv += ["broadcast", entry["broadcast"]]
    label = target + entry.get("label", source)[len(source) :]
    if ":" in label and len(label) <= 15:
        argv += ["label", label]
    if entry.get("metric"):
        argv += ["metric", str(entry["metric"])]
    argv += ["dev", target]
    for key, word in (("valid_life_time", "valid_lft"), ("preferred_life_time", "preferred_lft")):
        if entry.get(key, FOREVER) != FOREVER:
            argv += [word, str(entry[key])]
    if entry.get("noprefixroute"):
        argv.append("noprefixroute")
    if entry["family"] == "inet6":
        argv.append("nodad")
    return Move(name, argv, ("address", entry["local"], entry["prefixlen"], target))


def route_move(route: dict[str, Any], target: str) -> Move:
    """A second route beside that of the bridge; the older one counts until the bridge is gone."""
    argv = ["ip", "-%d" % route["family"], "route", "append", route["dst"]]
    name = [route["dst"]]
    if route.get("gateway"):
        name += ["via", route["gateway"]]
    elif route.get("via"):
        name += ["via", route["via"]["family"], route["via"]["host"]]
    argv += [*name[1:], "dev", target]
    for key, word in (
        ("metric", "metric"),
        ("prefsrc", "src"),
        ("protocol", "proto"),
        ("table", "table"),
        ("pref", "pref"),
        ("expires", "expires"),
    ):
        if route.get(key):
            argv += [word, str(route[key])]
    if route["family"] == 4 and route.get("scope"):
        argv += ["scope", route["scope"]]
    for metrics in route.get("metrics", []):
        argv += [str(word) for pair in metrics.items() if isinstance(pair[1], int) for word in pair]
    if "onlink" in route.get("flags", []):
        argv.append("onlink")
    if route.get("metric"):
        name += ["metric", str(route["metric"])]
    if route.get("table"):
        name += ["table", str(route["table"])]
    return Move(" ".join(name), argv, route_key(route, target))


def announce(moves: list[Move]) -> None:
    """Tell the neighbours at which MAC the addresses are now: the bridge may have had another one than the interface.

    Without it a neighbour sends to the old one until it happens to hear from this host, or asks again.
    """
    macs = {link["ifname"]: link.get("address", "") for link in host_links()}
    for move in moves:
        if move.key[0] != "address":
            continue
        address, device = move.key[1], move.key[-1]
        # What can't be announced is found out later.
        with contextlib.suppress(OSError, ValueError):
            mac = bytes.fromhex(macs[device].replace(":", ""))
            if ":" in address:
                announce_6(device, mac, address)
            else:
                announce_4(device, mac, address)


def announce_4(device: str, mac: bytes, address: str) -> None:
    """An ARP request for one's own address (RFC 5227)."""
    packed = socket.inet_aton(address)
    request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + packed + bytes(6) + packed
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, 0))
        sender.send(b"\xff" * 6 + mac + struct.pack("!H", 0x0806) + request)


def announce_6(device: str, mac: bytes, address: str) -> None:
    """An unsolicited neighbour advertisement that overrides (RFC 4861, 4.4)."""
    advertisement = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + socket.inet_pton(socket.AF_INET6, address)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
        index = socket.if_nametoindex(device)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.bind((address, 0, 0, 0))
        sender.sendto(advertisement + struct.pack("!BB", 2, 1) + mac, ("ff02::1", 0, 0, index))


def host_links() -> list[dict[str, Any]]:
    return [link for link in listing("-details", "address") if link.get("ifname")]


def host_routes() -> list[dict[str, Any]]:
    found = []
    for family in (4, 6):
        try:
            routes = listing("-%d" % family, "route", "show", "table", "all")
        except Failed:
            # Without IPv6 in the kernel there are no routes of it.
            if family == 4 or Path("/proc/net/if_inet6").exists():
                raise
            continue
        found += [dict(route, family=family) for route in routes]
    return found


# Packet filters


@dataclass
class Table:
    """A table: its chains, whether the kernel has them by itself, and its rules with the chain where they stand."""

    chains: dict[str, bool] = field(default_factory=dict)
    rules: list[tuple[str, str]] = field(default_factory=list)

    def targets(self, rule: str) -> set[str]:
        """The chains where a rule may lead. What stands in double quotes is no option."""
        words = re.findall(r'"(?:\\.|[^"\\])*"|\S+', rule)
        return {words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-j", "-g")}

    def part(self, own: set[str], shared: set[str]) -> tuple[list[str], dict[str, str], list[tuple[str, str]]]:
        """What goes and what has to stay.

        Args:
            own: chains that belong to the agent alone.
            shared: chains that others may use, too; they go when nobody else does.

        Returns:
            The chains that go; those that stay, with why; the rules elsewhere that lead to those that go.
        """
        known = own | shared
        stay: dict[str, str] = {}
        for chain, rule in self.rules:
            if chain in shared and not self.targets(rule) & own:
                stay[chain] = "has rules of others"
        leaders = [chain for chain, built_in in self.chains.items() if not built_in and chain not in known]
        while leaders:
            more = {
                target: "%s, which stays, leads there" % chain
                for chain, rule in self.rules
                if chain in leaders
                for target in (self.targets(rule) & known) - set(stay)
            }
            stay.update(more)
            leaders = [chain for chain in more if chain in own]
        going = [chain for chain in self.chains if chain in known and chain not in stay]
        jumps = [(chain, rule) for chain, rule in self.rules if chain not in going and self.targets(rule) & set(going)]
        return going, stay, jumps


def by_target(table: Table, rules: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Rules by the chain to which they lead."""
    found: dict[str, list[tuple[str, str]]] = {}
    for chain, rule in rules:
        for target in table.targets(rule):
            found.setdefault(target, []).append((chain, rule))
    return found


def saved(text: str) -> dict[str, Table]:
    """The tables that iptables-save prints."""
    tables: dict[str, Table] = {}
    table = Table()
    for line in text.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:].strip(), Table())
        elif line.startswith(":"):
            words = line[1:].split()
            table.chains[words[0]] = words[1] != "-"
        elif line.startswith("-A "):
            table.rules.append((line.split()[1], line[3:]))
    return tables


def stems(name: str) -> list[str]:
    """The kinds of iptables that are there: the kernel may have rules of either."""
    both = ["%s-%s" % (name, kind) for kind in ("legacy", "nft")]
    return [stem for stem in both if shutil.which(stem + "-save")] or [name]


def packet_filter() -> list[Item]:
    found = []
    for stem in stems("iptables") + stems("ip6tables"):
        try:
            text = output(stem + "-save")
        except Failed as error:
            found.append(Item("iptables chain", stem, STRANGE, "can't be looked at: %s" % error))
            continue
        for line in text.splitlines():
            if line.startswith("# Table") and "incompatible" in line:
                found.append(Item("iptables chain", "%s %s" % (stem, line[2:]), STRANGE, "can't be looked at"))
        for name, table in saved(text).items():
            own = {chain for chain in table.chains if chain.startswith(OWN_CHAIN)}
            shared = SHARED_CHAINS & set(table.chains)
            going, stay, jumps = table.part(own, shared)
            if not own and not going:
                continue
            leading = by_target(table, jumps)
            for chain in going:
                lines = ["-D " + rule for _, rule in leading.get(chain, [])]
                plan = ["%s-restore --noflush, table %s:" % (stem, name), *lines, "-F " + chain, "-X " + chain]
                title = "%s %s %s" % (stem, name, chain)
                found.append(Item("iptables chain", title, plan="; ".join(plan), table=(stem, name)))
            for chain, why in stay.items():
                found.append(Item("iptables chain", "%s %s %s" % (stem, name, chain), STRANGE, why))
    return found


def restored(stem: str, name: str) -> str:
    """Take the agent's chains out of a table, all in one transaction; what went wrong, if something did."""
    try:
        table = saved(output(stem + "-save", "-t", name)).get(name, Table())
        own = {chain for chain in table.chains if chain.startswith(OWN_CHAIN)}
        going, _, jumps = table.part(own, SHARED_CHAINS & set(table.chains))
        lines = ["*" + name]
        lines += ["-D " + rule for _, rule in jumps]
        lines += ["-F " + chain for chain in going] + ["-X " + chain for chain in going]
        output(stem + "-restore", "--noflush", "-w", "10", stdin="\n".join([*lines, "COMMIT", ""]))
    except Failed as error:
        return str(error)
    return ""


def bridge_filter(known: Known, in_use: set[str]) -> list[Item]:
    found = []
    for name in ("nat", "filter"):
        try:
            table = bridge_table(output("ebtables", "--concurrent", "-t", name, "-L"))
        except Failed as error:
            if "doesn't support the ebtables" not in str(error):
                found.append(Item("ebtables chain", name, STRANGE, "can't be looked at: %s" % error))
            continue
        taps = {chain: chain[len(BRIDGE_CHAINS[0]) :] for chain in table.chains if chain.startswith(BRIDGE_CHAINS)}
        own = {chain for chain, port in taps.items() if known.is_port(port)}
        going, stay, jumps = table.part(own, set())
        leading = by_target(table, jumps)
        for chain, port in taps.items():
            item = Item("ebtables chain", "%s %s" % (name, chain))
            item.commands = [
                ["ebtables", "--concurrent", "-t", name, "-D", where, *rule.split()]
                for where, rule in leading.get(chain, [])
            ]
            item.commands += [["ebtables", "--concurrent", "-t", name, word, chain] for word in ("-F", "-X")]
            if chain not in own:
                item.state, item.why = STRANGE, "is of no port that is known"
            elif chain not in going:
                item.state, item.why = STRANGE, stay[chain]
            elif port in in_use:
                item.state, item.why = IN_USE, "%s is in use" % port
            found.append(item)
    return found


def bridge_table(text: str) -> Table:
    """The table that ebtables -L prints."""
    table = Table()
    chain = ""
    for line in text.splitlines():
        match = re.fullmatch(r"Bridge chain: (\S+), entries: .*", line)
        if match:
            chain = match[1]
            table.chains[chain] = chain in BRIDGE_BUILT_IN
        elif chain and line.strip():
            table.rules.append((chain, line))
    return table


def sets(known: Known) -> list[Item]:
    try:
        found = output("ipset", "list", "-n").split()
    except Failed as error:
        return [Item("ipset", "ipset", STRANGE, "can't be looked at: %s" % error)]
    items = [Item("ipset", name, commands=[["ipset", "destroy", name]]) for name in found if name in known.sets]
    others = [name for name in found if name.startswith(("NIPv4", "NIPv6")) and name not in known.sets]
    return items + [Item("ipset", name, STRANGE, "is of no security group that is known") for name in others]


# All of it


def look(known: Known) -> list[Item]:
    """Everything that is there, in the order in which it is removed."""
    running = processes()
    spaces = namespaces(known)
    used = {name: each for each in running for name in each.taps}
    links = interfaces(known, host_links(), host_routes(), used)
    in_use = {item.name for item in links if item.kind == "tap" and item.state == IN_USE}
    filters = packet_filter()
    groups = sets(known)
    if in_use:
        # What protects an instance that runs stays as it is.
        for item in filters + groups:
            if item.state == FOUND:
                item.state, item.why = IN_USE, "%s is in use" % sorted(in_use)[0]
    return their_processes(known, spaces, running) + spaces + links + filters + bridge_filter(known, in_use) + groups


class Cleaning:
    """Attempts at removing what is known, until nothing of it is left or the time is over."""

    def __init__(self, known: Known, seconds: float) -> None:
        self.known = known
        self.deadline = time.monotonic() + seconds
        self.seen: dict[tuple[str, str], Item] = {}
        self.failures: dict[tuple[str, str], str] = {}
        self.in_the_way: list[Process] = []
        # Addresses and routes whose bridge is gone.
        self.moved: list[Item] = []

    def run(self) -> list[Item]:
        before: set[tuple[str, str]] = set()
        while True:
            items = look(self.known)
            lost = self.lost()
            present = {item.key for item in items + lost}
            for item in self.seen.values():
                if item.state == FOUND and item.key not in present:
                    item.state = REMOVED
            self.seen.update((item.key, item) for item in items)
            todo = {item.key: item for item in lost + items if item.state == FOUND}
            if not todo or time.monotonic() >= self.deadline:
                break
            if set(todo) == before:
                self.pause()
            before = set(todo)
            self.attempt(list(todo.values()))
        for item in self.seen.values():
            if item.state == FOUND:
                item.state = LEFT
                item.why = self.failures.get(item.key) or "%s, and was not done when the time was over" % (
                    item.why or "was found"
                )
        return list(self.seen.values())

    def lost(self) -> list[Item]:
        """What moved away from a bridge and is not where it should be now."""
        if not self.moved:
            return []
        present = keys(host_links(), host_routes())
        lost = [item for item in self.moved if item.move is not None and item.move.key not in present]
        for item in lost:
            assert item.move is not None
            item.commands = [item.move.argv]
        return lost

    def attempt(self, items: list[Item]) -> None:
        """Try to remove these, in their order; what went wrong with one is kept until it is tried again."""
        victims = [item.process for item in items if item.process is not None]
        terminate(victims, self.deadline)
        self.in_the_way = [each for each in victims if alive(each)]
        running = processes() if any(item.kind == "namespace" for item in items) else []
        tables: dict[tuple[str, str], str] = {}
        for item in items:
            if time.monotonic() >= self.deadline:
                break
            self.failures.pop(item.key, None)
            moves = [each for each in items if each.kind == "address" and each.bridge == item.name]
            try:
                if item.kind == "namespace":
                    self.let_go(item, running)
                elif item.kind == "bridge":
                    if any(each.key in self.failures for each in moves):
                        raise Failed("its addresses and routes could not all be moved")
                    # From here on the bridge no longer says that they have to be there.
                    self.moved += moves
                elif item.table is not None:
                    if item.table not in tables:
                        tables[item.table] = restored(*item.table)
                    if tables[item.table]:
                        raise Failed(tables[item.table])
                for argv in item.commands:
                    output(*argv)
                if item.kind == "bridge" and moves:
                    for each in self.lost():
                        output(*each.commands[0])
                    announce([each.move for each in moves if each.move is not None])
            except Failed as error:
                self.failures[item.key] = str(error)

    def let_go(self, item: Item, running: list[Process]) -> None:
        """A name alone could be deleted, but then the namespace would live on, and nobody would see it.

        Raises:
            Failed: a process keeps it.
        """
        for each in running:
            how = keeps(each, item.namespace)
            if how:
                self.in_the_way.append(each)
                raise Failed("%s %s" % (each, how))

    def pause(self) -> None:
        """Until what stood in the way has ended; where nothing is known to, there is nothing to wait for but time."""
        end = min(self.deadline, time.monotonic() + PAUSE)
        for each in self.in_the_way:
            wait_for(each, end)
        if not self.in_the_way:
            time.sleep(max(0.0, end - time.monotonic()))


def main() -> None:
    task = json.load(sys.stdin)
    os.environ["LC_ALL"] = "C"
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"
    known = Known(task)
    try:
        items = Cleaning(known, task["seconds"]).run() if task["apply"] else look(known)
    except Failed as error:
        sys.exit(str(error))
    for item in items:
        item.print()


if __name__ == "__main__":
    main()
