"""Watches addresses from namespaces, and prints a JSON line whenever one begins or ceases to answer.

Runs on the host itself, as root, with nothing but the standard library (Python 3.8 and later), until standard input ends.

Task (JSON, the first line of standard input):
    targets     list of [key, namespace or null, address]
    interval    seconds between two echo requests to the same address
    timeout     how many seconds an answer may take before its request counts as lost
    beat        seconds between two signs of life
    seconds     how long the program runs at most
    silence     it ends when nobody has asked for so many seconds: its connection is dead, and nothing says so

Each further line of standard input asks for the time, and is given back with it.

Prints, with times in seconds since the epoch:
    {"clock", "asked"}              the time; first of all, with asked null, and whenever it is asked for
    {"at", "key", "state", "last"}  a target's state has changed; last is the time of its last answer, or null
    {"at", "beat", "pause", "control"}
                                    a sign of life: rounds so far; the longest time in s between two requests to the same target
                                    since the last one; of the requests to the host itself, how many were sent and answered since
                                    then, and how long the slowest took in ms until it was read
    {"problem"}                     why the program ends

States: "up" from an answer on. "down" when two requests in a row were lost; an answer that comes late begins to count anew.
"absent" while the namespace does not exist or can't be entered ("why"). "left out" where the kernel has no room for more
neighbours: all namespaces of a host share that table (gc_thresh3, 1,024 unless configured), and while it is full nobody on the
host finds a new neighbour.

Namespaces come and go. A socket would keep a deleted one alive with all that is in it, so that every tenth of a second each name
is compared with the namespace that was entered, and what belongs to another one is closed. Nothing is waited for: neither for an
answer before the next request, nor for somebody who reads what is printed.
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
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SOL_RAW = 255
ICMP_FILTER = 1
ICMP6_FILTER = 1
# Requests to dead neighbours stay in the buffer of the socket for seconds, and must leave room for those to the living.
BUFFER = 32 << 20
BATCH = 64
LOST_IN_A_ROW = 2
FOLLOW_SECONDS = 0.1
# Answers that are older than this are of no interest.
OLD_SECONDS = 10.0
TASK_SECONDS = 60.0
# Bytes of /proc/net/arp; its flag of an entry that packets are sent by.
MOST_NEIGHBOURS = 1 << 20
ATF_COM = 2
MOST_UNREAD = 16 << 20
# So many rounds share an identifier. A new one is a new flow, about which no router or firewall remembers anything.
ROUNDS_OF_A_FLOW = 4
BODY = struct.Struct("!IQQ")
KEY = os.urandom(8)
LIBC = ctypes.CDLL(None, use_errno=True)
# The epoch by a clock that is never set: its offset to other clocks is asked for again and again.
BEGINNING = time.time() - time.monotonic()


def epoch(moment: float) -> float:
    return round(BEGINNING + moment, 4)


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


class Echo:
    """Echo requests from the namespace that was entered, over one family of addresses."""

    def __init__(self, family: int) -> None:
        self.family = family
        protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        self.socket = socket.socket(family, socket.SOCK_RAW, protocol)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        # nothing but echo replies (129, 0)
        if family == socket.AF_INET6:
            mask = [0xFFFFFFFF] * 8
            mask[129 >> 5] &= ~(1 << (129 & 31)) & 0xFFFFFFFF
            self.socket.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("8I", *mask))
        else:
            self.socket.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", ~1 & 0xFFFFFFFF))
        self.identifier = struct.unpack("!H", os.urandom(2))[0]

    def packet(self, index: int, number: int, moment: float) -> bytes:
        """An echo request that says whom it is for, in which round and when it is sent."""
        payload = KEY + BODY.pack(index, number, int(moment * 1e9)) + b"o" * 20
        identifier = (self.identifier + number // ROUNDS_OF_A_FLOW) & 0xFFFF
        if self.family == socket.AF_INET6:
            return struct.pack("!BBHHH", 128, 0, 0, identifier, number & 0xFFFF) + payload
        header = struct.pack("!BBHHH", 8, 0, 0, identifier, number & 0xFFFF)
        return struct.pack("!BBHHH", 8, 0, checksum(header + payload), identifier, number & 0xFFFF) + payload

    def receive(self) -> Iterator[tuple[int, int, float, float, bytes]]:
        """Yield (index, round, when it was sent, when the answer came, packed sender) of our own answers."""
        for _ in range(4 * BATCH):
            try:
                data, ancillary, _, sender = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            if self.family == socket.AF_INET:
                data = data[(data[0] & 15) * 4 :]
            if len(data) < 16 + BODY.size or data[8:16] != KEY:
                continue
            index, number, nanoseconds = BODY.unpack(data[16 : 16 + BODY.size])
            now, sent, age = time.monotonic(), nanoseconds / 1e9, 0.0
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    came = struct.unpack("qq", value[:16])
                    age = time.time() - came[0] - came[1] / 1e9
            yield index, number, sent, min(now, max(sent, now - age)), packed(self.family, sender[0])


def packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address.partition("%")[0])


class Target:
    """One address, as it is seen from one namespace. Times are of the monotonic clock."""

    def __init__(self, index: int, key: str, address: str) -> None:
        self.index = index
        self.key = key
        self.address = address
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.packed = packed(self.family, address)
        self.state: str | None = None
        self.last: float | None = None
        self.sent = 0.0
        # When requests were sent that are not answered yet, by round.
        self.waiting: dict[int, float] = {}
        self.lost = 0
        # Whether the kernel has given its neighbour up since it fell silent; None where that can't be seen.
        self.given_up: bool | None = None


class Namespace:
    """A namespace that may be there or not, and what is watched from it."""

    def __init__(self, name: str | None) -> None:
        self.path = None if name is None else Path("/run/netns", name)
        self.targets: list[Target] = []
        self.echoes: dict[int, Echo] = {}
        self.watched: list[Target] = []
        self.identity: tuple[int, int] | None = None
        self.problem: str | None = None
        # Stays that of the namespace in which it was opened.
        self.neighbours: int | None = None

    def found(self) -> tuple[int, int] | None:
        """What bears its name now."""
        if self.path is None:
            return (0, 0)
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def enter(self, home: int) -> None:
        """Make the sockets, or say why that can't be done. Afterwards they alone are inside."""
        self.problem = None
        descriptor = None
        try:
            if self.path is not None:
                descriptor = os.open(self.path, os.O_RDONLY)
                status = os.fstat(descriptor)
                self.identity = status.st_dev, status.st_ino
                if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            for family in {target.family for target in self.targets}:
                self.echoes[family] = Echo(family)
            self.neighbours = os.open("/proc/thread-self/net/arp", os.O_RDONLY)
        except FileNotFoundError:
            self.close()
        except OSError as error:
            self.close()
            self.problem = "can't be entered: %s" % error.strerror
        finally:
            if descriptor is not None:
                os.close(descriptor)
                if LIBC.setns(home, CLONE_NEWNET) != 0:
                    raise SystemExit("there is no way back into the host's own namespace")

    def close(self) -> None:
        for echo in self.echoes.values():
            echo.socket.close()
        if self.neighbours is not None:
            os.close(self.neighbours)
            self.neighbours = None
        self.echoes.clear()
        self.identity = None

    def note_given_up(self) -> None:
        """See whether the kernel still has those that are silent: one that it has given up it looks for once a second."""
        silent = [
            each for each in self.watched if each.family == socket.AF_INET and (each.lost or each.state == "down")
        ]
        if not silent or self.neighbours is None:
            return
        text = b""
        # The kernel gives a page at a time.
        while more := os.pread(self.neighbours, MOST_NEIGHBOURS, len(text)):
            text += more
        lines = text.decode("ascii", "replace").splitlines()[1:]
        known = {fields[0] for fields in map(str.split, lines) if len(fields) > 2 and int(fields[2], 16) & ATF_COM}
        for target in silent:
            target.given_up = bool(target.given_up) or target.address not in known


def room_for(family: int) -> int:
    """How many neighbours may be added; half of the kernel's default where a container can't know."""
    version, table = ("ipv4", "arp") if family == socket.AF_INET else ("ipv6", "ndisc")
    try:
        most = int(Path("/proc/sys/net/%s/neigh/default/gc_thresh3" % version).read_text())
        used = int(Path("/proc/net/stat/%s_cache" % table).read_text().splitlines()[1].split()[0], 16)
    except (OSError, ValueError, IndexError):
        return 384
    return max(64, most - used) * 3 // 4


class Output:
    """Standard output that is never waited for."""

    def __init__(self, poller: select.epoll) -> None:
        self.poller = poller
        self.pending = bytearray()
        self.waiting = False
        os.set_blocking(1, False)

    def show(self, **line: Any) -> None:
        self.pending += json.dumps(line).encode("ascii") + b"\n"

    def flush(self) -> None:
        try:
            while self.pending:
                del self.pending[: os.write(1, self.pending)]
        except BlockingIOError:
            if len(self.pending) > MOST_UNREAD:
                raise SystemExit("nobody reads") from None
        if bool(self.pending) != self.waiting:
            self.waiting = not self.waiting
            if self.waiting:
                self.poller.register(1, select.EPOLLOUT)
            else:
                self.poller.unregister(1)


class Watch:
    """All of it."""

    def __init__(self, task: dict[str, Any], rest: bytes) -> None:
        self.interval = float(task["interval"])
        self.timeout = float(task["timeout"])
        self.beat_seconds = float(task["beat"])
        self.silence = float(task["silence"])
        self.until = time.monotonic() + float(task["seconds"])
        self.asked = b""
        self.rest = rest
        self.poller = select.epoll()
        self.output = Output(self.poller)
        self.output.show(clock=epoch(time.monotonic()), asked=None)
        self.output.flush()
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.control = Target(0, "", "127.0.0.1")
        self.targets = [self.control]
        own = Namespace(None)
        own.targets.append(self.control)
        self.namespaces: dict[str | None, Namespace] = {None: own}
        for key, name, address in task["targets"]:
            target = Target(len(self.targets), key, address)
            self.targets.append(target)
            self.namespaces.setdefault(name, Namespace(name)).targets.append(target)
        self.room = {family: room_for(family) for family in (socket.AF_INET, socket.AF_INET6)}
        self.by_descriptor: dict[int, Echo] = {}
        # Counted from anywhere, since the 16 bits of ICMP's own number wrap around within a night anyway.
        self.first = self.number = struct.unpack("!I", os.urandom(4))[0]
        self.pause = 0.0
        self.control_sent = self.control_answered = 0
        self.control_seconds: float | None = None

    def change(self, target: Target, state: str, moment: float, why: str | None = None) -> None:
        """Tell a state that is another one than before."""
        if target.state == state or target is self.control:
            return
        target.state = state
        line: dict[str, Any] = {"at": epoch(moment), "key": target.key, "state": state}
        if state == "up" and target.given_up is not None:
            line["given_up"] = target.given_up
        if state != "down":
            target.given_up = None
        self.output.show(
            last=None if target.last is None else epoch(target.last), **line, **({"why": why} if why else {})
        )

    # Namespaces

    def follow(self, namespace: Namespace) -> None:
        """Leave what is gone, enter what is there."""
        found = namespace.found()
        if namespace.echoes and found != namespace.identity and namespace.path is not None:
            self.leave(namespace)
        if not namespace.echoes and found is not None:
            namespace.enter(self.home)
            for echo in namespace.echoes.values():
                self.by_descriptor[echo.socket.fileno()] = echo
                self.poller.register(echo.socket.fileno(), select.EPOLLIN)
        now = time.monotonic()
        if not namespace.echoes:
            for target in namespace.targets:
                self.change(target, "absent", now, namespace.problem)
        else:
            namespace.note_given_up()
            if len(namespace.watched) < len(namespace.targets):
                self.admit(namespace, now)

    def admit(self, namespace: Namespace, now: float) -> None:
        """Watch as many of its targets as there is room for."""
        watched = {target.index for target in namespace.watched}
        for target in namespace.targets:
            if target.index in watched:
                continue
            if self.room[target.family] > 0 or target is self.control:
                self.room[target.family] -= target is not self.control
                target.sent = now
                namespace.watched.append(target)
            else:
                self.change(target, "left out", now)

    def leave(self, namespace: Namespace) -> None:
        for echo in namespace.echoes.values():
            del self.by_descriptor[echo.socket.fileno()]
            self.poller.unregister(echo.socket.fileno())
        namespace.close()
        for target in namespace.watched:
            self.room[target.family] += 1
            target.waiting.clear()
            target.lost = 0
        namespace.watched = []
        now = time.monotonic()
        for target in namespace.targets:
            self.change(target, "absent", now)

    # Requests and answers

    def listen(self, seconds: float) -> bool:
        """Take what comes, for so long at most; whether anything came."""
        events = self.poller.poll(max(0.0, seconds))
        for descriptor, _ in events:
            echo = self.by_descriptor.get(descriptor)
            if echo is not None:
                for index, number, sent, came, sender in echo.receive():
                    self.answer(self.targets[index], number, sent, came, sender)
        return any(descriptor in self.by_descriptor for descriptor, _ in events)

    def answer(self, target: Target, number: int, sent: float, came: float, sender: bytes) -> None:
        # An answer from elsewhere is no answer of this address.
        if sender != target.packed or came - sent > OLD_SECONDS:
            return
        if target is self.control:
            if target.waiting.pop(number, None) is not None:
                self.control_answered += 1
                self.control_seconds = max(self.control_seconds or 0.0, time.monotonic() - sent)
            return
        target.last = max(came, target.last or 0.0)
        target.lost = 0
        # What was lost before it is not in a row with what will be lost after it.
        for earlier in [each for each in target.waiting if each <= number]:
            del target.waiting[earlier]
        self.change(target, "up", came)

    def judge(self, target: Target, now: float) -> None:
        late = [number for number, sent in target.waiting.items() if now - sent > self.timeout]
        for number in late:
            del target.waiting[number]
        target.lost += len(late)
        if target.lost >= LOST_IN_A_ROW:
            self.change(target, "down", now)

    def send(self, target: Target, echo: Echo) -> None:
        now = time.monotonic()
        try:
            echo.socket.sendto(echo.packet(target.index, self.number, now), (target.address, 0))
        except OSError as error:
            # It was not asked, which the pause will show. Any other error is an answer that will not come.
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                return
        self.pause = max(self.pause, now - target.sent)
        self.control_sent += target is self.control
        target.sent = now
        target.waiting[self.number] = now

    def round(self) -> None:
        """One request to each target, after a look at what became of those before."""
        for _ in range(BATCH):
            if not self.listen(0):
                break
        self.number += 1
        asked = 0
        for namespace in self.namespaces.values():
            for target in namespace.watched:
                self.judge(target, time.monotonic())
                self.send(target, namespace.echoes[target.family])
                asked += 1
                if asked % BATCH == 0:
                    self.listen(0)

    def beat(self, now: float) -> None:
        for namespace in self.namespaces.values():
            for target in namespace.watched:
                self.pause = max(self.pause, now - target.sent)
        slowest = None if self.control_seconds is None else round(self.control_seconds * 1000, 3)
        control = {"sent": self.control_sent, "answered": self.control_answered, "ms": slowest}
        self.output.show(at=epoch(now), beat=self.number - self.first, pause=round(self.pause, 4), control=control)
        self.pause = 0.0
        self.control_sent = self.control_answered = 0
        self.control_seconds = None

    # The whole

    def questions(self, data: bytes) -> int:
        """Answer what was asked for; how many questions there were."""
        lines = (self.asked + data).split(b"\n")
        self.asked = lines.pop()
        for line in lines:
            self.output.show(clock=epoch(time.monotonic()), asked=line.decode("ascii", "replace"))
        return len(lines)

    def run(self) -> None:
        asker = select.poll()
        asker.register(0, select.POLLIN)
        self.poller.register(0, select.EPOLLIN)
        now = heard = time.monotonic()
        next_round = next_follow = now
        next_beat = now + self.beat_seconds
        self.questions(self.rest)
        while now < min(self.until, heard + self.silence):
            if now >= next_follow:
                for namespace in self.namespaces.values():
                    self.follow(namespace)
                next_follow = now + FOLLOW_SECONDS
            if now >= next_round:
                self.round()
                # What was missed is not made up for.
                next_round += self.interval * (1 + (time.monotonic() - next_round) // self.interval)
            if now >= next_beat:
                self.beat(now)
                next_beat = now + self.beat_seconds
            self.output.flush()
            self.listen(min(next_round, next_follow, next_beat, self.until) - time.monotonic())
            if asker.poll(0):
                data = os.read(0, 65536)
                if not data:
                    return
                if self.questions(data):
                    heard = time.monotonic()
            self.output.flush()
            now = time.monotonic()


def first_line() -> tuple[bytes, bytes]:
    """The task, and what came after it."""
    data = b""
    until = time.monotonic() + TASK_SECONDS
    while b"\n" not in data:
        ready, _, _ = select.select([0], [], [], max(0.0, until - time.monotonic()))
        more = os.read(0, 65536) if ready else b""
        if not more:
            raise SystemExit("the task was cut off")
        data += more
    line, _, rest = data.partition(b"\n")
    return line, rest


def main() -> None:
    line, rest = first_line()
    task = json.loads(line.decode("utf-8"))
    # One or two for each namespace, and there may be hundreds.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        watch = Watch(task, rest)
        try:
            watch.run()
        except (OSError, ValueError) as error:
            watch.output.show(problem=str(error))
            watch.output.flush()
            raise
    except BrokenPipeError:
        sys.exit("nobody reads")


main()
