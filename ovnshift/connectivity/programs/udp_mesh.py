"""Sends UDP datagrams to peers that run the same program at the same time, and says whose came.

Runs on the host itself, with nothing but the standard library (Python 3.8 and later).

Task (JSON on standard input): own address, port, peers (addresses), seconds. Prints one JSON object: "heard" (addresses) or
"error".
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time

INTERVAL = 0.2
MARK = b"ovnshift "


def main() -> None:
    task = json.load(sys.stdin)
    family = socket.AF_INET6 if ":" in task["own"] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_DGRAM)
    try:
        listener.bind((task["own"], task["port"]))
    except OSError as error:
        print(json.dumps({"error": error.strerror, "heard": []}))
        return
    # From any other port, as tunnels are sent.
    sender = socket.socket(family, socket.SOCK_DGRAM)
    sender.bind((task["own"], 0))
    heard = set()
    unsent = {}
    deadline = time.monotonic() + task["seconds"]
    while time.monotonic() < deadline:
        for peer in task["peers"]:
            try:
                sender.sendto(MARK + os.urandom(8), (peer, task["port"]))
            except OSError as error:
                unsent[peer] = error.strerror
        until = time.monotonic() + INTERVAL
        while select.select([listener], [], [], max(0.0, until - time.monotonic()))[0]:
            data, address = listener.recvfrom(2048)
            if data.startswith(MARK):
                heard.add(address[0])
    print(json.dumps({"heard": sorted(heard), "unsent": unsent}))


main()
