"""What every step needs: the site, the cloud as it was before, and ways to ask how it is now."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import openstack.exceptions
from openstack.connection import Connection
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from ovnshift import cloud, files
from ovnshift.cloud import CloudError, Topology
from ovnshift.cloud.topology import Instance
from ovnshift.connectivity.outage import Chapter
from ovnshift.deployments.deployer import Deployer, deployer_of
from ovnshift.deployments.services import Services
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Fleet
from ovnshift.journal import Entry, State, entries_of
from ovnshift.report.result import Finding, NotReady
from ovnshift.site import Site
from ovnshift.steps import Gone

TOPOLOGY_VERSION = 1
POLL_SECONDS = 1.0
Answer = TypeVar("Answer")


@dataclass
class Window:
    """One run of the migration.

    Attributes:
        site: the site file.
        connection: the cloud's API, as its administrator.
        fleet: connections to hosts.
        reports: the change's directory.
        before: the cloud as it was before anything was changed.
        say: shows a line.
        resumed: whether this change was begun before, so that ``before`` was read and not looked at now.
    """

    site: Site
    connection: Connection
    fleet: Fleet
    reports: Path
    before: Topology
    say: Callable[[str], None]
    resumed: bool = False

    @property
    def backups(self) -> Path:
        """Where backups are kept."""
        return self.reports / "backups"

    @property
    def evidence(self) -> Path:
        """Where what programs printed is kept."""
        return self.reports / "evidence"

    @property
    def chassis(self) -> list[str]:
        """The hosts that become OVN's chassis."""
        return self.site.chassis

    @property
    def agent_hosts(self) -> list[str]:
        """The hosts that the old driver's agents run on."""
        return list(dict.fromkeys([*self.site.group("network"), *self.site.group("compute")]))

    @property
    def services(self) -> Services:
        """What this cloud's deployer calls its services.

        Raises:
            OvnshiftError: nobody knows that.
        """
        return self.deployer.services

    @functools.cached_property
    def deployer(self) -> Deployer:
        """Who installs OVN here.

        Raises:
            OvnshiftError: it is one that is not known.
        """
        return deployer_of(self.site)

    @property
    def network(self) -> Any:
        """Neutron's API."""
        return self.connection.network

    @property
    def compute(self) -> Any:
        """Nova's API."""
        return self.connection.compute

    def instance_now(self, instance_id: str) -> Instance:
        """An instance as Nova has it now.

        Raises:
            CloudError: Nova has none, or can't be asked.
        """
        server = ask("Nova", f"instance {instance_id}", lambda: self.compute.get_server(instance_id))
        return Instance(
            id=server.id,
            name=server.name or "",
            project_id=server.project_id,
            status=server.status,
            host=server.compute_host,
        )

    def discover(self) -> Topology:
        """The cloud as it is now.

        Raises:
            CloudError: an API can't be used.
        """
        return cloud.discover(self.connection, self.site.cloud.name)


def snapshot_path(reports: Path) -> Path:
    """Where the cloud as it was before is kept."""
    return reports / "backups" / "topology.json"


def read_snapshot(path: Path) -> Topology:
    """The cloud as it was before.

    Raises:
        OvnshiftError: it is missing or was changed.
    """
    return Topology.model_validate(files.read_document(path, "topology", TOPOLOGY_VERSION))


def chapters(entries: Sequence[Entry]) -> list[Chapter]:
    """When each chapter of a window began and ended; in the order in which they began."""
    found: dict[str, Chapter] = {}
    for entry in entries:
        ended = entry.ended_at or entry.begun_at
        before = found.get(entry.chapter)
        found[entry.chapter] = Chapter(
            name=entry.chapter,
            begun_at=min(before.begun_at, entry.begun_at) if before is not None else entry.begun_at,
            ended_at=max(before.ended_at, ended) if before is not None else ended,
        )
    return sorted(found.values(), key=lambda each: each.begun_at)


@dataclass(frozen=True)
class Rehearsed:
    """How long the chapters of a whole window took, in seconds; of which change, and when (UTC)."""

    change: str
    when: str
    steps: int
    seconds: dict[str, float]


def rehearsed(reports: Path, last: str) -> Rehearsed | None:
    """The last window below a directory of reports that came to its end; None where there is none.

    Args:
        reports: the directory.
        last: how the last chapter of such a window begins.

    Raises:
        JournalError: a journal can't be read.
    """
    found: list[tuple[str, Rehearsed]] = []
    for path in reports.glob("*/journal.sqlite"):
        entries = entries_of(path)
        if not entries or any(entry.state not in {State.DONE, State.ALREADY} for entry in entries):
            continue
        seconds: dict[str, float] = {}
        for each in chapters(entries):
            begun, ended = (datetime.datetime.fromisoformat(moment) for moment in (each.begun_at, each.ended_at))
            seconds[each.name] = (ended - begun).total_seconds()
        if any(name.startswith(last) for name in seconds):
            when = entries[0].begun_at
            found.append((when, Rehearsed(path.parent.name, when[:16].replace("T", " "), len(entries), seconds)))
    return max(found, key=lambda each: each[0])[1] if found else None


def outage_record(reports: Path) -> Path:
    """Where the monitor of the window records what answers."""
    return reports / "outages.jsonl"


def ask(place: str, what: str, call: Callable[..., Answer], *arguments: Any) -> Answer:
    """Ask an API, with a few tries for what passes by itself.

    Raises:
        Gone: there is no such object.
        CloudError: it refused, or failed several times.
    """
    try:
        return cloud.retried(place, what, functools.partial(call, *arguments))
    except CloudError as error:
        if isinstance(error.__cause__, openstack.exceptions.NotFoundException):
            raise Gone(place, f"{what}: it was deleted since", "nothing, if its owner meant it") from error
        raise


def wait_until(
    what: str, seconds: float, look: Callable[[], str | None], *, remedy: str, every: float = POLL_SECONDS
) -> None:
    """Wait for something.

    Args:
        what: is waited for.
        seconds: for how long at most.
        look: says what is still missing; None when it is there. What it could not see is missing, until the time is over.
        remedy: what to do when it does not come.
        every: seconds between looks.

    Raises:
        NotReady: it did not come; with what was missing last.
    """

    def attempt() -> str | None:
        try:
            with cloud.impatient():
                return look()
        except (OvnshiftError, openstack.exceptions.SDKException) as error:
            return str(error).splitlines()[0]

    waiting = Retrying(
        retry=retry_if_result(lambda missing: missing is not None),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(every),
    )
    try:
        waiting(attempt)
    except RetryError as error:
        missing = error.last_attempt.result()
        raise NotReady(Finding(f"{what}: not within {seconds:.0f} s; {missing}", (), remedy)) from error


__all__ = ["CloudError", "Window", "ask", "read_snapshot", "snapshot_path", "wait_until"]
