"""How long a router is away: the seed's two commands against ours, in turn, on the lab: `python -m bench.evacuation`.

Needs `python -m lab up --mechanism openvswitch`. The seed's way is `openstack network agent remove router`, then `openstack
network agent add router`, on a host of the cloud, with no time lost between them. Ours is the step of the suite. Every move's
outage is measured from inside and from outside by the same monitor as in a change.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rich.console
import rich.table

from ovnshift import cloud
from ovnshift import site as sites
from ovnshift.cloud.topology import AGENT_L3, Agent, Router, Topology
from ovnshift.connectivity import outage
from ovnshift.connectivity.outage import Monitor
from ovnshift.evacuation import watching
from ovnshift.evacuation.steps import MoveRouter
from ovnshift.hosts import Fleet
from ovnshift.migration.window import Window, wait_until
from ovnshift.site import Site

SITE = Path("/var/lib/ovnshift-lab/site/site.toml")
ROUTER = "provider-router"
SETTLE = 60.0
# The login comes over standard input, a line each, so that the password is in nobody's arguments.
_LOGIN = ("auth_url", "username", "password", "project_name")
_SEED = """
read -r OS_AUTH_URL; read -r OS_USERNAME; read -r OS_PASSWORD; read -r OS_PROJECT_NAME
export OS_AUTH_URL OS_USERNAME OS_PASSWORD OS_PROJECT_NAME
export OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default OS_REGION_NAME=RegionOne OS_IDENTITY_API_VERSION=3
openstack network agent remove router --l3 "$1" "$2" && openstack network agent add router --l3 "$3" "$2"
"""


@dataclass
class Away:
    """Seconds of each move: outages as seen from inside and outside, and how long the move itself took."""

    inside: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)


class Bench:
    """Moves one router to and fro.

    Args:
        site: the lab's site file.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._fleet = Fleet(site)
        self._watching = Fleet(site)
        self._connection = cloud.connect(site)
        self._place = Path(tempfile.mkdtemp(prefix="ovnbench-"))
        self._topology = self._discover()
        self._router = next(router for router in self._topology.routers if router.name == ROUTER)
        self._agents = sorted(self._topology.agents_of(AGENT_L3), key=lambda agent: agent.host)

    def _discover(self) -> Topology:
        return cloud.discover(self._connection, self._site.cloud.name)

    @property
    def router(self) -> Router:
        return self._router

    def _where(self, topology: Topology) -> Agent:
        return next(agent for agent in self._agents if self._router.id in topology.routers_of_agents.get(agent.id, ()))

    def move(self, way: str, number: int, found: Away) -> None:
        """Move it once, and add what was seen."""
        topology = self._discover()
        source = self._where(topology)
        target = next(agent for agent in self._agents if agent.id != source.id)
        window = Window(self._site, self._connection, self._fleet, self._place, topology, lambda _: None)
        step = MoveRouter(window, self._router, source, target)
        record = self._place / f"{way}-{number}.jsonl"
        hosts = [source.host, target.host]
        watched = watching.places(topology, self._site, [self._router.id], hosts)
        monitor = Monitor(self._watching, watched, record, interval=watching.INTERVAL, timeout=watching.TIMEOUT)
        monitor.start()
        try:
            wait_until("every address answers", SETTLE, lambda: _silent(record, len(watched)), remedy="see the lab")
            begun = time.monotonic()
            if way == "ours":
                step.do(step.find())
            else:
                self._as_the_seed(source, target)
            step.prove()
            found.took.append(time.monotonic() - begun)
            wait_until(
                "every address answers again", SETTLE, lambda: _silent(record, len(watched)), remedy="see the lab"
            )
        finally:
            monitor.stop()
        outages = outage.outages(outage.read(record), ())
        outer = {*self._router.external_addresses, *(each.address for each in topology.floating_ips)}
        found.inside.append(max((each.seconds for each in outages if each.address not in outer), default=0.0))
        found.outside.append(max((each.seconds for each in outages if each.address in outer), default=0.0))
        found.error.append(max((each.error_seconds for each in outages), default=0.0))

    def _as_the_seed(self, source: Agent, target: Agent) -> None:
        login = "".join(f"{self._connection.config.auth[name]}\n" for name in _LOGIN).encode()
        host = self._fleet[self._site.group("control")[0]]
        command = ["bash", "-c", _SEED, "--", source.id, self._router.id, target.id]
        result = host.run(*command, stdin=login, seconds=120)
        if result.returncode != 0:
            raise SystemExit(f"the seed's commands ended with {result.returncode}: {result.complaint}")

    def close(self) -> None:
        """Close what was opened."""
        self._fleet.close()
        self._watching.close()
        self._connection.close()


def _silent(record: Path, count: int) -> str | None:
    """What does not answer by a record."""
    if not record.exists():
        return "nobody watches yet"
    seen = outage.read(record)
    answering = sum(any(each.answering for each in places.values()) for places in seen.timelines.values())
    silent = [each.address for each in outage.outages(seen, ()) if each.back_at is None]
    return (
        None if answering == count and not silent else f"{answering} of {count} answered, silent: {', '.join(silent)}"
    )


def show(results: dict[str, Away]) -> None:
    """The table."""
    table = rich.table.Table(title=f"{ROUTER} away, milliseconds: median (least to most)")
    for column in ("way", "moves", "from inside", "from outside", "at most less", "until proved, s"):
        table.add_column(column)

    def said(values: Sequence[float]) -> str:
        return f"{statistics.median(values) * 1000:,.0f} ({min(values) * 1000:,.0f} to {max(values) * 1000:,.0f})"

    for way, found in results.items():
        took = f"{statistics.median(found.took):.1f}"
        table.add_row(
            way, str(len(found.took)), said(found.inside), said(found.outside), f"{max(found.error) * 1000:,.0f}", took
        )
    console = rich.console.Console()
    console.print(table)
    seed, ours = results["the seed's"], results["ours"]
    for side in ("inside", "outside"):
        ratio = statistics.median(getattr(seed, side)) / statistics.median(getattr(ours, side))
        console.print(f"from {side}: the seed's way takes {ratio:.1f} times as long as ours")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.evacuation", description=__doc__)
    parser.add_argument("--moves", type=int, default=5, help="of each way (5)")
    parser.add_argument("--json", type=Path, help="keep the numbers here")
    arguments = parser.parse_args()
    results = {"the seed's": Away(), "ours": Away()}
    bench = Bench(sites.load(SITE))
    try:
        for number in range(arguments.moves):
            for way, found in results.items():
                bench.move(way, number, found)
                print(
                    f"{way}, move {number + 1}: {found.inside[-1]:.3f} s inside, {found.outside[-1]:.3f} s outside",
                    flush=True,
                )
    finally:
        bench.close()
    show(results)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({way: vars(found) for way, found in results.items()}, indent=1), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
