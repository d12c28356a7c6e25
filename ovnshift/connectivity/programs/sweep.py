"""Probes addresses from namespaces, all at once, and prints one JSON line a result.

Runs on the host itself, as root, with nothing but the standard library (Python 3.8 and later).

Task (JSON on standard input):
    seconds     how long an answer is waited for after the last packet
    banner_seconds  how long a server that accepted a connection may take to say something
    count       echo requests for each address
    interval    seconds between two echo requests to the same address
    probes      list of [id, namespace or null, kind, address, argument]
                kind is "icmp" (argument: bytes of an IP packet that may not be fragmented, or null),
                "banner" or "tcp" (argument: port)

Each namespace is entered once; its sockets stay there when the next one is entered. One loop serves all of them, so that dead
addresses cost one timeout in all. Where there are more addresses than the kernel has room for neighbours, they are asked in
parts, and the neighbours that this made are removed after each: all namespaces of a host share that table (gc_thresh3, 1,024
unless configured), and while it is full nobody on the host finds a new neighbour.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, Iterator

CLONE_NEWNET = 0x40000000
IP_MTU_DISCOVER = 10
IP_PMTUDISC_PROBE = 3
IPV6_MTU_DISCOVER = 23
BATCH = 64
CONNECTIONS = 400
# How long a part of many addresses may take to answer before the next part is asked; answers that come later count too.
SETTLE = 1.0
SO_TIMESTAMPNS = 35
SOL_RAW = 255
ICMP_FILTER = 1
ICMP6_FILTER = 1
HEADERS: dict[int, int] = {socket.AF_INET: 28, socket.AF_INET6: 48}
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(namespace: str | None) -> str | None:
    """Enter a network namespace; an error text when there is none."""
    path = "/proc/1/ns/net" if namespace is None else "/run/netns/" + namespace
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        return "no namespace %s: %s" % (namespace, error.strerror)
    try:
        if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
            return "namespace %s can't be entered: %s" % (namespace, os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
    return None


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


class Echo:
    """Echo requests from one namespace over one family of addresses, with or without fragmenting."""

    def __init__(self, family: int, whole: bool) -> None:  # noqa: FBT001
        self.family = family
        protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        self.socket = socket.socket(family, socket.SOCK_RAW, protocol)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, option + 0, 4 << 20)
        if family == socket.AF_INET6:
            # nothing but echo replies (129)
            mask = [0xFFFFFFFF] * 8
            mask[129 >> 5] &= ~(1 << (129 & 31)) & 0xFFFFFFFF
            self.socket.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("8I", *mask))
            if whole:
                self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        else:
            # nothing but echo replies (0), unreachable (3) and time exceeded (11)
            self.socket.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", ~(1 | 1 << 3 | 1 << 11) & 0xFFFFFFFF))
            if whole:
                self.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        self.key = os.urandom(8)
        self.identifier = struct.unpack("!H", os.urandom(2))[0]
        self.asked: dict[str, list[Target]] = {}

    def packet(self, number: int, size: int | None) -> bytes:
        """An echo request that carries a number and a time."""
        payload = self.key + struct.pack("!IQ", number, time.time_ns())
        payload += b"o" * max(0, (size - HEADERS[self.family] if size else 56) - len(payload))
        kind = 8 if self.family == socket.AF_INET else 128
        header = struct.pack("!BBHHH", kind, 0, 0, self.identifier, number & 0xFFFF)
        if self.family == socket.AF_INET:
            header = struct.pack("!BBHHH", kind, 0, checksum(header + payload), self.identifier, number & 0xFFFF)
        return bytes(header + payload)

    def send(self, target: Target, number: int) -> bool:
        """Send one; False when there is no room now."""
        try:
            self.socket.sendto(self.packet(number, target.argument), (target.address, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                return False
            target.error = error.strerror
        return True

    def receive(self) -> Iterator[tuple[int | None, Any, str]]:
        """Yield (number, round-trip time in ms, sender) of what has come, (None, text, address asked) for refusals."""
        for _ in range(4 * BATCH):
            try:
                data, ancillary, _, sender = self.socket.recvmsg(65536, 64)
            except OSError:
                return
            now = None
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", value[:16])
                    now = seconds * 1000000000 + nanoseconds
            if self.family == socket.AF_INET:
                data = data[(data[0] & 15) * 4 :]
                if data[:1] != b"\0":
                    inner = data[8:]
                    if len(inner) >= 20:
                        code = "unreachable, code %d" % data[1] if data[0] == 3 else "time exceeded"
                        if data[0] == 3 and data[1] == 4:
                            code = "too big: MTU %d on the way" % struct.unpack("!H", data[6:8])[0]
                        yield None, "%s, says %s" % (code, sender[0]), socket.inet_ntoa(inner[16:20])
                    continue
            if len(data) < 28 or data[8:16] != self.key:
                continue
            number, sent = struct.unpack("!IQ", data[16:28])
            if now is None:
                now = time.time_ns()
            yield number, max(0, now - sent) / 1e6, sender[0]


class Target:
    """One thing to probe."""

    def __init__(self, name: str, kind: str, address: str, argument: int | None) -> None:
        self.name = name
        self.kind = kind
        self.address = address
        self.argument = argument
        self.sent = 0
        self.times: list[float] = []
        self.answered: set[int] = set()
        self.duplicates = 0
        self.error: str | None = None

    def take(self, number: int, milliseconds: float) -> None:
        """An echo reply."""
        if number in self.answered:
            self.duplicates += 1
        else:
            self.answered.add(number)
            self.times.append(milliseconds)

    def echo_result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "id": self.name,
            "sent": self.sent,
            "received": len(self.answered),
            "times": [round(t, 3) for t in self.times],
        }
        if self.duplicates:
            result["duplicates"] = self.duplicates
        if self.error:
            result["error"] = self.error
        return result


def show(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Neighbours:
    """The kernel's tables of neighbours, and the entries in them that probing makes."""

    def __init__(self, families: set[int]) -> None:
        self.families = families
        # By socket, which stays in its namespace: what was there before, as (interface, address).
        self.before: dict[socket.socket, set[tuple[int, bytes]]] = {}
        self.room = min([self.free(family) for family in families], default=0) * 3 // 4

    @staticmethod
    def free(family: int) -> int:
        """How many entries there is room for; half of the kernel's default where a container can't know."""
        version, table = ("ipv4", "arp") if family == socket.AF_INET else ("ipv6", "ndisc")
        try:
            most = int(Path("/proc/sys/net/%s/neigh/default/gc_thresh3" % version).read_text())
            used = int(Path("/proc/net/stat/%s_cache" % table).read_text().splitlines()[1].split()[0], 16)
        except (OSError, ValueError, IndexError):
            return 512
        return max(64, most - used)

    def watch(self) -> None:
        """Remember what the namespace that was entered has now."""
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        link.settimeout(2)
        self.before[link] = set()
        self.before[link] = {(index, address) for _, index, address in self.entries(link)}

    def entries(self, link: socket.socket) -> Iterator[tuple[int, int, bytes]]:
        """Yield (family, interface, address) of a namespace's neighbours (RTM_GETNEIGH)."""
        for family in self.families:
            link.send(struct.pack("=IHHII", 28, 30, 0x301, 0, 0) + struct.pack("=BxxxiHBB", family, 0, 0, 0, 0))
            done = False
            while not done:
                data = link.recv(1 << 18)
                while len(data) >= 16:
                    length, kind = struct.unpack("=IH", data[:6])
                    done = done or kind != 28
                    index = struct.unpack("=i", data[20:24])[0] if kind == 28 else 0
                    attributes, data = data[28:length], data[(length + 3) & ~3 :]
                    while len(attributes) >= 4:
                        size, attribute = struct.unpack("=HH", attributes[:4])
                        if attribute == 1:
                            yield family, index, attributes[4:size]
                        attributes = attributes[max(4, (size + 3) & ~3) :]

    def forget(self, keep: set[bytes]) -> None:
        """Remove what was not there before (RTM_DELNEIGH), but what is still being asked."""
        for link, before in self.before.items():
            try:
                for family, index, address in list(self.entries(link)):
                    if (index, address) not in before and address not in keep:
                        body = struct.pack("=BxxxiHBB", family, index, 0, 0, 0)
                        body += struct.pack("=HH", 4 + len(address), 1) + address
                        link.send(struct.pack("=IHHII", 16 + len(body), 29, 1, 0, 0) + body)
            except OSError:
                continue


def packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address)


class EchoSweep:
    """Sends all echo requests, round by round, and gathers answers until the last had its time."""

    def __init__(self, groups: list[tuple[Echo, list[Target]]], neighbours: Neighbours | None) -> None:
        self.poller = select.epoll()
        self.by_descriptor: dict[int, Echo] = {}
        self.numbers: dict[int, Target] = {}
        self.queue: list[tuple[Echo, Target]] = []
        self.neighbours = neighbours
        self.part = neighbours.room if neighbours else max(1, sum(len(targets) for _, targets in groups))
        for echo, targets in groups:
            self.poller.register(echo.socket.fileno(), select.EPOLLIN)
            self.by_descriptor[echo.socket.fileno()] = echo
            for target in targets:
                echo.asked.setdefault(target.address, []).append(target)
                self.queue.append((echo, target))

    def drain(self, timeout: float) -> None:
        for descriptor, _ in self.poller.poll(timeout):
            echo = self.by_descriptor[descriptor]
            for number, value, sender in echo.receive():
                if number is None:
                    for refused in echo.asked.get(sender, ()):
                        refused.error = value
                    continue
                target = self.numbers.get(number)
                # An answer from elsewhere is no answer of this address.
                if target is not None and packed(echo.family, sender) == packed(echo.family, target.address):
                    target.take(number, value)

    def listen(self, until: float, part: list[tuple[Echo, Target]]) -> None:
        """Gather answers until a time, or until all of these targets have answered."""
        while time.monotonic() < until and any(len(target.answered) < target.sent for _, target in part):
            self.drain(max(0.0, min(0.2, until - time.monotonic())))

    def send(self, part: list[tuple[Echo, Target]]) -> None:
        """One echo request to each."""
        position = refused = 0
        while position < len(part):
            for echo, target in part[position : position + BATCH]:
                number = len(self.numbers) + 1
                if not echo.send(target, number):
                    refused += 1
                    break
                self.numbers[number] = target
                target.sent += 1
                position += 1
            else:
                refused = 0
            self.drain(0.002 if refused else 0)
            if refused > 2000:
                for _, target in part[position:]:
                    target.error = "no room to send"
                break

    def run(self, count: int, interval: float, seconds: float) -> None:
        parts = [self.queue[begin : begin + self.part] for begin in range(0, len(self.queue), self.part)]
        for turn in range(count):
            start = time.monotonic()
            for part in parts:
                self.send(part)
                if self.neighbours:
                    self.listen(time.monotonic() + min(SETTLE, seconds), part)
                    self.neighbours.forget(set())
            if turn + 1 < count:
                while time.monotonic() < start + interval:
                    self.drain(max(0.0, start + interval - time.monotonic()))
        self.listen(time.monotonic() + seconds, self.queue)
        for _, target in self.queue:
            if target.answered:
                target.error = None
            show(target.echo_result())


class Attempt:
    """A connection that is being made, or was made and waits for the server's first words."""

    def __init__(self, target: Target, connection: socket.socket, seconds: float, banner_seconds: float) -> None:
        self.target = target
        self.connection = connection
        self.seconds = seconds
        self.banner_seconds = banner_seconds
        self.connected = False
        self.begin = time.monotonic()
        self.deadline = self.begin + seconds

    def start(self) -> dict[str, Any] | None:
        code = self.connection.connect_ex((self.target.address, self.target.argument))
        return None if code in (0, errno.EINPROGRESS) else {"state": "failed", "error": os.strerror(code)}

    def happened(self) -> dict[str, Any] | None:
        """Something happened on it: the result, or None when there is more to wait for."""
        if not self.connected:
            code = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                return {"state": "refused" if code == errno.ECONNREFUSED else "failed", "error": os.strerror(code)}
            if self.target.kind == "tcp":
                return {"state": "open"}
            self.connected = True
            self.deadline = time.monotonic() + self.banner_seconds
            return None
        try:
            data = self.connection.recv(256)
        except OSError as error:
            return {"state": "silent", "error": error.strerror}
        if not data:
            return {"state": "silent", "error": "closed the connection without a word"}
        return {"state": "open", "banner": data.split(b"\n")[0].strip().decode("ascii", "replace")}

    def overdue(self) -> dict[str, Any] | None:
        if time.monotonic() <= self.deadline:
            return None
        if not self.connected:
            return {"state": "timeout", "error": "no answer in %.1f s" % self.seconds}
        return {"state": "silent", "error": "accepted the connection and said nothing in %.1f s" % self.banner_seconds}

    def finish(self, result: dict[str, Any]) -> None:
        result.update(id=self.target.name, milliseconds=round((time.monotonic() - self.begin) * 1000, 3))
        show(result)
        self.connection.close()


def sweep_connections(
    pending: list[tuple[Target, int]], seconds: float, banner_seconds: float, neighbours: Neighbours | None
) -> None:
    """Connect to all, some hundreds at once, each from the namespace of its descriptor; read what servers say first."""
    poller = select.epoll()
    open_: dict[int, Attempt] = {}
    waiting = list(reversed(pending))
    most = min(CONNECTIONS, neighbours.room // 2) if neighbours else CONNECTIONS
    begun = 0
    while waiting or open_:
        if neighbours and begun >= most:
            asked = [attempt.target.address for attempt in open_.values()]
            neighbours.forget({packed(family_of(address), address) for address in asked})
            begun = 0
        while waiting and len(open_) < most and begun < most:
            begun += 1
            target, namespace = waiting.pop()
            LIBC.setns(namespace, CLONE_NEWNET)
            connection = socket.socket(family_of(target.address), socket.SOCK_STREAM)
            connection.setblocking(False)
            attempt = Attempt(target, connection, seconds, banner_seconds)
            failed = attempt.start()
            if failed:
                attempt.finish(failed)
                continue
            open_[attempt.connection.fileno()] = attempt
            poller.register(attempt.connection.fileno(), select.EPOLLOUT)
        events = dict(poller.poll(0.05))
        for descriptor, attempt in list(open_.items()):
            result = attempt.happened() if descriptor in events else attempt.overdue()
            if result is not None:
                poller.unregister(descriptor)
                attempt.finish(result)
                del open_[descriptor]
            elif descriptor in events:
                poller.modify(descriptor, select.EPOLLIN)
    if neighbours:
        neighbours.forget(set())


def main() -> None:
    task = json.load(sys.stdin)
    by_namespace: dict[str | None, list[Target]] = {}
    for name, namespace, kind, address, argument in task["probes"]:
        by_namespace.setdefault(namespace, []).append(Target(name, kind, address, argument))
    groups: list[tuple[Echo, list[Target]]] = []
    connections: list[tuple[Target, int]] = []
    # A few descriptors for each namespace, and there may be hundreds.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    addresses = {(namespace, address) for _, namespace, _, address, _ in task["probes"]}
    neighbours: Neighbours | None = Neighbours({family_of(address) for _, address in addresses})
    if neighbours and len(addresses) <= neighbours.room:
        neighbours = None
    for namespace, targets in by_namespace.items():
        LIBC.setns(home, CLONE_NEWNET)
        problem = enter(namespace) if namespace is not None else None
        if problem:
            for target in targets:
                show({"id": target.name, "vantage_error": problem})
            continue
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if neighbours:
            neighbours.watch()
        echoes: dict[tuple[int, bool], tuple[Echo, list[Target]]] = {}
        for target in targets:
            if target.kind == "icmp":
                key = (family_of(target.address), target.argument is not None)
                if key not in echoes:
                    echoes[key] = (Echo(*key), [])
                echoes[key][1].append(target)
            else:
                connections.append((target, here))
        groups.extend(echoes.values())
    LIBC.setns(home, CLONE_NEWNET)
    if groups:
        EchoSweep(groups, neighbours).run(task["count"], task["interval"], task["seconds"])
    if connections:
        sweep_connections(connections, task["seconds"], task["banner_seconds"], neighbours)
    sys.stdout.flush()


main()
