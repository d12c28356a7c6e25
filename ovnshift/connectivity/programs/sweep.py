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
addresses cost one timeout in all.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import socket
import struct
import sys
import time
from typing import Any, Iterator

CLONE_NEWNET = 0x40000000
IP_MTU_DISCOVER = 10
IP_PMTUDISC_PROBE = 3
IPV6_MTU_DISCOVER = 23
BATCH = 64
CONNECTIONS = 400
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


def packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address)


def sweep_echoes(groups: list[tuple[Echo, list[Target]]], count: int, interval: float, seconds: float) -> None:
    """Send all echo requests, round by round, and gather answers until the last had its time."""
    poller = select.epoll()
    by_descriptor: dict[int, Echo] = {}
    numbers: dict[int, Target] = {}
    queue: list[tuple[Echo, Target]] = []
    for echo, targets in groups:
        poller.register(echo.socket.fileno(), select.EPOLLIN)
        by_descriptor[echo.socket.fileno()] = echo
        for target in targets:
            echo.asked.setdefault(target.address, []).append(target)
            queue.append((echo, target))

    def drain(timeout: float) -> bool:
        events = poller.poll(timeout)
        for descriptor, _ in events:
            echo = by_descriptor[descriptor]
            for number, value, sender in echo.receive():
                if number is None:
                    for refused in echo.asked.get(sender, ()):
                        refused.error = value
                    continue
                target = numbers.get(number)
                # An answer from elsewhere is no answer of this address.
                if target is not None and packed(echo.family, sender) == packed(echo.family, target.address):
                    target.take(number, value)
        return bool(events)

    def silent() -> bool:
        return any(len(target.answered) < target.sent for _, target in queue)

    number = 0
    for turn in range(count):
        start = time.monotonic()
        position = 0
        refused = 0
        while position < len(queue):
            for echo, target in queue[position : position + BATCH]:
                number += 1
                if not echo.send(target, number):
                    refused += 1
                    break
                numbers[number] = target
                target.sent += 1
                position += 1
            else:
                refused = 0
            drain(0.002 if refused else 0)
            if refused > 2000:
                for _, target in queue[position:]:
                    target.error = "no room to send"
                break
        last = time.monotonic()
        until = max(start + interval, last) if turn + 1 < count else last + seconds
        while time.monotonic() < until and (turn + 1 < count or silent()):
            drain(max(0.0, min(0.2, until - time.monotonic())))
    for _, target in queue:
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


def sweep_connections(pending: list[tuple[Target, socket.socket]], seconds: float, banner_seconds: float) -> None:
    """Connect to all, some hundreds at once; read what servers say first."""
    poller = select.epoll()
    open_: dict[int, Attempt] = {}
    waiting = list(reversed(pending))
    while waiting or open_:
        while waiting and len(open_) < CONNECTIONS:
            attempt = Attempt(*waiting.pop(), seconds, banner_seconds)
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


def main() -> None:
    task = json.load(sys.stdin)
    by_namespace: dict[str | None, list[Target]] = {}
    for name, namespace, kind, address, argument in task["probes"]:
        by_namespace.setdefault(namespace, []).append(Target(name, kind, address, argument))
    groups: list[tuple[Echo, list[Target]]] = []
    connections: list[tuple[Target, socket.socket]] = []
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    for namespace, targets in by_namespace.items():
        LIBC.setns(home, CLONE_NEWNET)
        problem = enter(namespace) if namespace is not None else None
        if problem:
            for target in targets:
                show({"id": target.name, "vantage_error": problem})
            continue
        echoes: dict[tuple[int, bool], tuple[Echo, list[Target]]] = {}
        for target in targets:
            if target.kind == "icmp":
                key = (family_of(target.address), target.argument is not None)
                if key not in echoes:
                    echoes[key] = (Echo(*key), [])
                echoes[key][1].append(target)
            else:
                connection = socket.socket(family_of(target.address), socket.SOCK_STREAM)
                connection.setblocking(False)
                connections.append((target, connection))
        groups.extend(echoes.values())
    LIBC.setns(home, CLONE_NEWNET)
    if groups:
        sweep_echoes(groups, task["count"], task["interval"], task["seconds"])
    if connections:
        sweep_connections(connections, task["seconds"], task["banner_seconds"])
    sys.stdout.flush()


main()
