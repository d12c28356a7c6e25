"""Real network namespaces, and things that live in them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")
CLONE_NEWNET = 0x40000000
NUMBERS = itertools.count()
LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str, batch: str = "") -> None:
    done = subprocess.run(["ip", *arguments], input=batch, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def inside(namespace: str, do: Callable[[], Answer]) -> Answer:
    """Do something in a namespace, in a thread that ends afterwards; sockets that it makes stay there."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with Path("/run/netns", namespace).open("rb") as stream:
                if LIBC.setns(stream.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns", namespace)
            answers.append(do())
        except BaseException as error:  # noqa: BLE001, raised again below
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


@dataclass(frozen=True)
class Pair:
    """Two namespaces that a veth pair joins: ``near``, from which is probed, and ``far``, where the targets are."""

    near: str
    far: str

    def set(self, namespace: str, key: str, value: str) -> None:
        inside(namespace, lambda: Path("/proc/sys", key).write_text(value, encoding="ascii"))


@contextlib.contextmanager
def pair(mtu: int = 1450) -> Iterator[Pair]:
    """10.99.0.1/16 and fd99::1/64 in near; .2, .3 and ::2 in far."""
    stem = f"ovnshift-unit-{os.getpid()}-{next(NUMBERS)}"
    both = Pair(f"{stem}-near", f"{stem}-far")
    ends = ((both.near, ("10.99.0.1/16", "fd99::1/64")), (both.far, ("10.99.0.2/16", "10.99.0.3/16", "fd99::2/64")))
    try:
        veth = f"link add eth0 netns {both.near} type veth peer name eth0 netns {both.far}"
        ip("-batch", "-", batch=f"netns add {both.near}\nnetns add {both.far}\n{veth}\n")
        for namespace, addresses in ends:
            lines = [f"address add {each} dev eth0{' nodad' if ':' in each else ''}" for each in addresses]
            lines += ["link set lo up", f"link set eth0 mtu {mtu} up"]
            ip("-n", namespace, "-batch", "-", batch="\n".join(lines) + "\n")
        # Until the kernel has seen that both ends are up, IPv6 has no route.
        ping = ["ping", "-n", "-q", "-i", "0.05", "-c", "1", "-w", "30", "fd99::2"]
        inside(both.near, lambda: subprocess.run(ping, stdout=subprocess.DEVNULL, check=True))
        yield both
    finally:
        for namespace in (both.near, both.far):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


@contextlib.contextmanager
def server(namespace: str, port: int, serve: Callable[[socket.socket], None], address: str = "::") -> Iterator[None]:
    """A TCP server for both families; each connection is given to ``serve``, and hung up when that is done."""

    def listen() -> socket.socket:
        return socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)

    listener = inside(namespace, listen)
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            serve(connection)
            connection.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=handle, args=(connection,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for connection in connections:
            connection.close()


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


@contextlib.contextmanager
def echo_answers(namespace: str, *sources: str) -> Iterator[None]:
    """In place of the kernel, answer each IPv4 echo request once from each of these addresses of the namespace."""

    def ignore(value: str) -> None:
        Path("/proc/sys/net/ipv4/icmp_echo_ignore_all").write_text(value, encoding="ascii")

    def listen() -> tuple[socket.socket, list[socket.socket]]:
        ignore("1")
        receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        senders = [socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) for _ in sources]
        for sender, address in zip(senders, sources, strict=True):
            sender.bind((address, 0))
        return receiver, senders

    receiver, senders = inside(namespace, listen)
    stop = threading.Event()
    receiver.settimeout(0.05)

    def answer() -> None:
        while not stop.is_set():
            try:
                packet, (asker, _) = receiver.recvfrom(65536)
            except TimeoutError:
                continue
            request = packet[(packet[0] & 15) * 4 :]
            if request[0] == 8:
                rest = request[4:]
                reply = struct.pack("!BBH", 0, 0, checksum(b"\0\0\0\0" + rest)) + rest
                for sender in senders:
                    sender.sendto(reply, (asker, 0))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for each in (receiver, *senders):
            each.close()
        inside(namespace, lambda: ignore("0"))
