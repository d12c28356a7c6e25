"""Chapter 9: OVN's northbound database is filled from Neutron's, and compared with it, twice and in two ways."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from ovnshift import files
from ovnshift.cloud import CloudError
from ovnshift.deployments.services import find_tool
from ovnshift.migration.structure import differences
from ovnshift.migration.window import Window, ask, wait_until
from ovnshift.ovn import North, northbound, southbound
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step

CHAPTER = "9 sync"
AGAIN = "10 agents and left-overs"
# oslo.log: date, time, process, level, module, request, text.
_LINE = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \d+ (?P<level>[A-Z]+) (?P<module>\S+) (?:\[[^]]*\] )?(?P<text>.*)$"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m|\[00m$")
# Warnings that are there when nothing differs: the count of ACLs, and one for every router port, which the tool lists without
# comparing it ("If they are in sync, then update_router_port will be a no-op"). Router ports are compared in structure.py.
_NO_DIFFERENCE = re.compile(
    r"ACLs-to-be-added 0 ACLs-to-be-removed 0$|Router Port port_id=\S+ needs to be updated for networks changed$|"
    r"Updating networks on router port \S+ in OVN NB DB$"
)
SYNC_MODULE = "ovn_db_sync"


@dataclass(frozen=True)
class SyncLog:
    """What ``neutron-ovn-db-sync-util`` wrote.

    Attributes:
        errors: lines of level ERROR and CRITICAL, and tracebacks.
        differences: what it found to differ, in its own words.
        completed: whether it says that it has gone through both databases.
    """

    errors: tuple[str, ...]
    differences: tuple[str, ...]
    completed: bool


def read_log(text: str) -> SyncLog:
    """Read the log of a sync; its exit code says nothing about errors in it.

    In Neutron (plugins/ml2/drivers/ovn/mech_driver/ovsdb/ovn_db_sync.py) every difference is a warning, and some warnings are
    no difference.
    """
    errors: list[str] = []
    found: list[str] = []
    completed = set()
    # In Zed the warning of a provider port that OVN has and Neutron has not is put together wrongly; Python's logging prints the
    # message in a block of its own then, between these two lines.
    broken = False
    for line in (_COLOUR.sub("", each) for each in text.splitlines()):
        broken = (broken or line.startswith("--- Logging error ---")) and not line.startswith("Arguments:")
        if broken:
            if line.startswith("Message:"):
                found.append(line.removeprefix("Message:").strip().strip("'\""))
            continue
        match = _LINE.match(line)
        if match is None:
            if line.startswith("Traceback"):
                errors.append(line)
            continue
        level, words = match["level"], match["text"].strip()
        if level in {"ERROR", "CRITICAL", "TRACE"}:
            errors.append(words)
        elif level == "WARNING" and SYNC_MODULE in match["module"] and not _NO_DIFFERENCE.search(words):
            (errors if "failed" in words else found).append(words)
        elif words.startswith("Sync completed for"):
            completed.add(words)
    return SyncLog(tuple(dict.fromkeys(errors)), tuple(found), len(completed) == 2)


def sync_command(window: Window, mode: str) -> list[str]:
    """The command that compares ("log") or writes ("repair"), with the tool where this deployer puts it.

    Raises:
        DeploymentError: the tool is in none of those places.
        HostError: the host can't be asked.
    """
    control = window.fleet[window.site.group("control")[0]]
    deployment = window.site.deployment
    configuration = [argument for file in deployment.sync_config for argument in ("--config-file", file)]
    tool = find_tool(control, window.services.sync_tool)
    as_user = ["runuser", "--user", deployment.sync_user, "--"]
    return [*as_user, tool, *configuration, "--ovn-neutron_sync_mode", mode]


def run_sync(window: Window, mode: str) -> SyncLog:
    """Run the sync tool on the first control host; its log is kept as evidence.

    Args:
        window: the site, and where evidence is kept.
        mode: "log" compares, "repair" writes the northbound database.

    Raises:
        NotReady: it ended with an error, or its log has some, or it did not go through.
        HostError: the host can't be asked, or the tool took longer than ``limits.sync_seconds``.
    """
    host = window.site.group("control")[0]
    command = sync_command(window, mode)
    result = window.fleet[host].run(*command, seconds=window.site.limits.sync_seconds)
    text = (result.stdout + result.stderr).decode("utf-8", "replace")
    stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}"
    path = window.evidence / f"sync-{mode}-{stamp}.log"
    files.write_atomically(path, text.encode())
    log = read_log(text)
    if result.returncode != 0 or log.errors or not log.completed:
        what = f"the sync ended with {result.returncode}"
        if log.errors:
            what += (
                f", and its log has {len(log.errors)} errors" if len(log.errors) > 1 else ", and its log has an error"
            )
        elif not log.completed:
            what += ", and did not go through both databases"
        said = log.errors[:20] or tuple(_COLOUR.sub("", line) for line in text.splitlines()[-3:])
        raise NotReady(Finding(what, said, f"mend the cause, and run this again; all of it is in {path}"))
    return log


class RepairNorthbound(Step):
    """``neutron-ovn-db-sync-util`` in repair mode, then in log mode until there is no difference."""

    way_back = "there is none: what is in the northbound database stays, and nobody reads it once OVN is off"

    def __init__(self, window: Window, *, chapter: str, key: str) -> None:
        self._window = window
        self.chapter = chapter
        self.settled_by = (f"{CHAPTER}/api" if chapter == CHAPTER else "11 start instances",)
        self.key = key
        self.title = "write OVN's northbound database from Neutron's" if chapter == CHAPTER else "write it once more"

    def plan(self) -> list[str]:
        host = self._window.site.group("control")[0]
        commands = [" ".join(sync_command(self._window, mode)) for mode in ("repair", "log")]
        return [f"{host}: {command}" for command in commands]

    def is_done(self) -> bool:
        """Never by itself: a sync says by running whether there was something to do."""
        return False

    def do(self, found: Any) -> None:
        del found
        log = run_sync(self._window, "repair")
        self._window.say(f"repair: {len(log.differences)} things written")

    def prove(self) -> list[str]:
        log = run_sync(self._window, "log")
        if log.differences:
            raise NotReady(
                Finding(
                    f"{len(log.differences)} differences after the repair",
                    log.differences[:40],
                    "run this again; see the log",
                )
            )
        return ["neutron-ovn-db-sync-util in log mode: no difference, no error, gone through"]


class NorthboundIsOurs(Step):
    """Before it is written: it is empty, or everything in it is of this Neutron."""

    chapter = CHAPTER
    key = "northbound known"
    settled_by = (f"{CHAPTER}/repair",)
    title = "see that the northbound database is empty, or this Neutron's"
    way_back = "nothing is changed"

    def __init__(self, window: Window) -> None:
        self._window = window

    def plan(self) -> list[str]:
        return [
            f"read {self._window.site.ovn.northbound}: it must be empty, or hold this Neutron's networks and routers only"
        ]

    def is_done(self) -> bool:
        return not foreign(self._window, northbound(self._window.site))

    def do(self, found: Any) -> None:
        del found

    def prove(self) -> list[str]:
        north = northbound(self._window.site)
        if strangers := foreign(self._window, north):
            raise NotReady(
                Finding(
                    "the northbound database holds what is not this Neutron's, and a repair would delete it",
                    tuple(strangers),
                    "whose is it? ovn-nbctl show; see ovn.northbound in the site file",
                )
            )
        return [f"{len(north.switches)} switches and {len(north.routers)} routers, all of this Neutron"]


def foreign(window: Window, north: North) -> list[str]:
    """Switches and routers of the northbound database that are none of this Neutron's."""
    networks = {f"neutron-{network.id}" for network in window.before.networks}
    routers = {f"neutron-{router.id}" for router in window.before.routers}
    return [f"switch {name}" for name in north.switches if name not in networks] + [
        f"router {name}" for name in north.routers if name not in routers
    ]


class StartApi(Step):
    """Neutron's server runs again, now with OVN."""

    chapter = CHAPTER
    key = "api"
    title = "start Neutron's server"
    way_back = "its chapter 2 stops it, and 5 starts it with the old driver"

    def __init__(self, window: Window) -> None:
        self._window = window

    def _units(self, host: str) -> list[str]:
        listed = self._window.fleet[host].check(
            "systemctl", "list-unit-files", "--plain", "--no-legend", "--", *self._window.services.api
        )
        states = {line.split()[0]: line.split()[1] for line in listed.splitlines() if line.strip()}
        return [unit for unit, state in states.items() if state == "enabled"]

    def plan(self) -> list[str]:
        return [
            f"{host}: systemctl start those of {', '.join(self._window.services.api)} that are enabled"
            for host in self._window.site.group("control")
        ]

    def is_done(self) -> bool:
        for host in self._window.site.group("control"):
            units = self._units(host)
            if (
                units
                and self._window.fleet[host].run("systemctl", "is-active", "--quiet", "--", *units).returncode != 0
            ):
                return False
        return self._drivers_answer() is None

    def do(self, found: Any) -> None:
        del found
        for host in self._window.site.group("control"):
            if units := self._units(host):
                seconds = self._window.site.limits.settle_seconds
                self._window.fleet[host].check("systemctl", "start", "--", *units, seconds=seconds)

    def _drivers_answer(self) -> str | None:
        """By the API itself: OVN's agents are in it, which only the OVN driver puts there."""
        try:
            agents = ask("Neutron", "agents", lambda: list(self._window.network.agents()))
        except CloudError as error:
            return f"Neutron does not answer: {error}".splitlines()[0]
        alive = {agent.host for agent in agents if agent.agent_type.startswith("OVN Controller") and agent.is_alive}
        missing = [host for host in self._window.chassis if host not in alive]
        return f"no OVN controller agent alive on {', '.join(missing)}" if missing else None

    def prove(self) -> list[str]:
        wait_until(
            "Neutron answers with OVN's agents",
            self._window.site.limits.settle_seconds,
            self._drivers_answer,
            remedy="see neutron-server's log on the control hosts",
            every=2.0,
        )
        return ["Neutron answers, and lists an OVN controller agent alive on every host"]


class StructureFits(Step):
    """OVN's northbound database read by identity: each object of Neutron's has its counterpart there, and nothing else is."""

    way_back = "nothing is changed"

    def __init__(self, window: Window, *, chapter: str, key: str) -> None:
        self._window = window
        self.chapter = chapter
        self.key = key
        self.title = "compare OVN's northbound database with Neutron, object by object"

    def plan(self) -> list[str]:
        return [f"read {self._window.site.ovn.northbound} and compare it with the API by id"]

    def is_done(self) -> bool:
        return False

    def do(self, found: Any) -> None:
        del found

    def prove(self) -> list[str]:
        counted: list[str] = []

        def look() -> str | None:
            topology = self._window.discover()
            found = differences(topology, northbound(self._window.site), southbound(self._window.site))
            counted[:] = found.counted
            return f"{len(found.wrong)} differences: {'; '.join(found.wrong[:10])}" if found.wrong else None

        wait_until(
            "OVN has what Neutron has",
            self._window.site.limits.settle_seconds,
            look,
            remedy="neutron-ovn-db-sync-util in repair mode; see neutron-server's log",
            every=3.0,
        )
        return counted
