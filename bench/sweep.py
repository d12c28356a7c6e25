"""A sweep against the seed's way and against fping: `python -m bench.sweep` (as root; needs ping and fping).

Addresses are spread over several namespaces on this machine, as over the DHCP namespaces of network nodes; some of them are dead.
Every way is asked for the same: two echo requests to each address. The seed's way is `ip netns exec NAMESPACE ping -c2 ADDRESS`,
one after the other; since that takes a second for a live address and more for a dead one, it is measured on a sample of each and
scaled to all. fping runs once as the packaged program does by itself and once as fast as its options allow.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rich.console
import rich.table

from ovnshift.connectivity.measure import sweep_from
from ovnshift.hosts.openssh import Local

SAMPLE = 3
SECONDS = 2.0
PREFIX = "ovnbench"


@dataclass(frozen=True)
class Case:
    """How many addresses, over how many namespaces, and the share of them that is dead."""

    addresses: int
    namespaces: int
    dead: float


CASES = [Case(n, k, dead) for n, k in ((6, 3), (100, 4), (1000, 8)) for dead in (0.0, 0.05, 0.5)]


def ip(*arguments: str, batch: str | None = None) -> None:
    """Run iproute2's ip."""
    subprocess.run(["ip", *arguments], check=True, input=batch, text=True)


@contextmanager
def namespaces(case: Case) -> Iterator[dict[str, list[tuple[str, bool]]]]:
    """Namespaces with their addresses: namespace → (address, live). All of them are gone afterwards."""
    chooser = random.Random(case.addresses)  # noqa: S311, which addresses are dead
    dead = set(chooser.sample(range(case.addresses), round(case.addresses * case.dead)))
    found: dict[str, list[tuple[str, bool]]] = {}
    try:
        for index in range(case.namespaces):
            near, far = f"{PREFIX}-{index}", f"{PREFIX}-far-{index}"
            ip("netns", "add", near)
            ip("netns", "add", far)
            ip("link", "add", "near0", "netns", near, "type", "veth", "peer", "name", "far0", "netns", far)
            ip("-n", near, "address", "add", f"10.{index}.0.1/16", "dev", "near0")
            ip("-n", near, "link", "set", "near0", "up")
            ip("-n", far, "link", "set", "far0", "up")
            mine = range(index, case.addresses, case.namespaces)
            found[near] = [(f"10.{index}.{1 + n // 250}.{1 + n % 250}", n not in dead) for n in mine]
            lines = "".join(f"address add {address}/16 dev far0\n" for address, live in found[near] if live)
            ip("-n", far, "-batch", "-", batch=lines)
        yield found
    finally:
        for path in Path("/run/netns").glob(f"{PREFIX}-*"):
            ip("netns", "del", path.name)


def ours(targets: dict[str, list[tuple[str, bool]]]) -> float:
    """Seconds that our sweep takes, checked against what is live."""
    probes = [(address, space, "icmp", address, None) for space, each in targets.items() for address, _ in each]
    live = {address for each in targets.values() for address, alive in each if alive}
    here = Local("here", sudo=False, seconds=600)
    begin = time.monotonic()
    answers = sweep_from(here, probes, count=2, seconds=SECONDS, banner_seconds=SECONDS)
    seconds = time.monotonic() - begin
    answered = {id_ for id_, answer in answers.items() if answer["received"] == 2}
    if answered != live or len(answers) != len(probes):
        raise SystemExit(f"the sweep is wrong: {len(answered)} answered, {len(live)} live, {len(answers)} results")
    return seconds


def fping(targets: dict[str, list[tuple[str, bool]]], *options: str) -> float:
    """Seconds that fping takes, one namespace after the other as a script around it would."""
    begin = time.monotonic()
    for space, each in targets.items():
        done = subprocess.run(
            ["ip", "netns", "exec", space, "fping", "-q", "-C", "2", *options],
            input="\n".join(address for address, _ in each),
            capture_output=True,
            text=True,
            check=False,
        )
        answered = [line for line in done.stderr.splitlines() if " : " in line and "-" not in line.split(" : ")[1]]
        if len(answered) != sum(live for _, live in each):
            raise SystemExit(f"fping found {len(answered)} live in {space}: {done.stderr[-300:]}")
    return time.monotonic() - begin


def seeds_way(targets: dict[str, list[tuple[str, bool]]]) -> float:
    """Seconds that the seed's way takes for all, from a sample of live and of dead ones."""
    total = 0.0
    for wanted in (True, False):
        group = [(space, address) for space, each in targets.items() for address, live in each if live is wanted]
        sample = group[:SAMPLE]
        begin = time.monotonic()
        for space, address in sample:
            command = ["ip", "netns", "exec", space, "ping", "-c2", address]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            if (done.returncode == 0) is not wanted:
                raise SystemExit(f"ping of {address} in {space} ended with {done.returncode}")
        if sample:
            total += (time.monotonic() - begin) * len(group) / len(sample)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    parser.add_argument("--addresses", type=int, action="append", help="only cases of so many addresses")
    parser.add_argument("--dead", type=float, action="append", help="only cases with this share of dead ones")
    arguments = parser.parse_args()
    cases = [
        case
        for case in CASES
        if case.addresses in (arguments.addresses or [case.addresses]) and case.dead in (arguments.dead or [case.dead])
    ]
    # So that the namespaces go also when it is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    table = rich.table.Table(
        title="two echo requests to each address: seconds, and how many times our sweep's time that is"
    )
    for heading in (
        "addresses",
        "namespaces",
        "dead",
        "ours",
        "cells/s",
        "seed's way",
        "times",
        "fping",
        "times",
        "fping -i0 -p200",
        "times",
    ):
        table.add_column(heading, justify="right")
    numbers = []
    for case in cases:
        sys.stderr.write(f"{case}\n")
        with namespaces(case) as targets:
            mine = min(ours(targets) for _ in range(3))
            others = {
                "seed": seeds_way(targets),
                "fping": fping(targets),
                "fping_fast": min(
                    fping(targets, "-i", "0", "-p", "200", "-t", f"{SECONDS * 1000:.0f}") for _ in range(3)
                ),
            }
        numbers.append({**vars(case), "ours": mine, **others})
        shown = [
            f"{case.addresses}",
            f"{case.namespaces}",
            f"{case.dead:.0%}",
            f"{mine:.2f}",
            f"{case.addresses / mine:.0f}",
        ]
        for seconds in others.values():
            shown += [f"{seconds:.2f}", f"{seconds / mine:.1f}"]
        table.add_row(*shown)
    rich.console.Console(width=150).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
