"""Listens for gratuitous ARP on all links of a host, and prints a JSON line for each. Sends nothing.

Ends when its standard input does, or after the time it was given. Standard library only, Python 3.8 and later, as root.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time

ETH_P_ARP = 0x0806
TASK_BYTES = 65536
# Hardware and protocol type, their lengths, operation; sender's MAC and address, target's.
ARP = struct.Struct("!HHBBH6s4s6s4s")


def task() -> dict[str, float]:
    """The first line of standard input."""
    data = b""
    while b"\n" not in data and len(data) < TASK_BYTES:
        more = os.read(0, 4096)
        if not more:
            raise SystemExit("the task was cut off")
        data += more
    return dict(json.loads(data.partition(b"\n")[0]))


def main() -> None:
    until = time.monotonic() + float(task()["seconds"])
    # Without an Ethernet header: the packet begins with ARP's own.
    listening = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ARP))
    print(json.dumps("listening"), flush=True)
    while time.monotonic() < until:
        ready, _, _ = select.select([listening.fileno(), 0], [], [], max(0.0, until - time.monotonic()))
        if 0 in ready and not os.read(0, 4096):
            return
        if listening.fileno() not in ready:
            continue
        data = listening.recv(2048)
        if len(data) < ARP.size:
            continue
        _, kind, _, _, _, mac, sender, _, target = ARP.unpack(data[: ARP.size])
        if kind == 0x0800 and sender == target and sender != b"\0\0\0\0":
            said = {"address": socket.inet_ntoa(sender), "mac": ":".join("%02x" % byte for byte in mac)}
            print(json.dumps(said), flush=True)


main()
