"""Chapter 1: whether the window may be opened at all."""

from __future__ import annotations

import datetime
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import pymysql

from ovnshift import files
from ovnshift.cloud import Topology
from ovnshift.connectivity import baseline as baselines
from ovnshift.connectivity.cells import Outcome
from ovnshift.database.connection import DatabaseError, connect, rows
from ovnshift.errors import OvnshiftError
from ovnshift.migration.window import Window
from ovnshift.site import Site

READINESS = "readiness"
READINESS_VERSION = 1
LOCK = "ovnshift"
# MariaDB ends a connection that says nothing for longer than this; a window is shorter.
IDLE_SECONDS = 7 * 24 * 3600
# An instance in these states holds a tap of the old driver, and can't be stopped like one that runs.
HELD = frozenset(
    {
        "PAUSED",
        "SUSPENDED",
        "RESCUE",
        "VERIFY_RESIZE",
        "RESIZE",
        "MIGRATING",
        "BUILD",
        "REBOOT",
        "HARD_REBOOT",
        "PASSWORD",
    }
)


class Locked(OvnshiftError):
    """Somebody else's run has the cloud."""


class CloudLock(AbstractContextManager["CloudLock"]):
    """One run at a time for a cloud: a lock in its own database, which goes when whoever holds it is gone.

    Args:
        site: the database.

    Raises:
        Locked: somebody has it; with who.
        DatabaseError: the database can't be used.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._holder: Any = None

    def __enter__(self) -> CloudLock:
        self._holder = connect(self._site)
        connection = self._holder.__enter__()
        name = f"{LOCK}:{self._site.database.neutron}"
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION wait_timeout = %s", (IDLE_SECONDS,))
            if not rows(connection, "SELECT GET_LOCK(%s, 0) AS held", name)[0]["held"]:
                owner = rows(
                    connection,
                    "SELECT id, host, time FROM information_schema.processlist WHERE id = IS_USED_LOCK(%s)",
                    name,
                )
                said = f"from {owner[0]['host']}, connection {owner[0]['id']}" if owner else "by somebody"
                raise Locked(
                    f"cloud {self._site.cloud.name}",
                    f"is being migrated {said}",
                    "wait for that run; if its machine is gone, MariaDB frees the lock with the connection: KILL it there",
                )
        except pymysql.MySQLError as error:
            self._holder.__exit__(None, None, None)
            raise DatabaseError(
                f"cloud {self._site.cloud.name}", f"can't be locked: {error}", "see the database"
            ) from error
        except Locked:
            self._holder.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._holder is not None:
            self._holder.__exit__(None, None, None)
            self._holder = None


def baseline_problems(window: Window) -> tuple[list[str], list[str]]:
    """Why the baseline can't be used for this window; and facts about it.

    Raises:
        OvnshiftError: there is none that can be read.
    """
    baseline = baselines.read(window.reports / "baseline.json", window.before)
    problems = []
    hours = baselines.age_seconds(baseline) / 3600
    if hours > window.site.limits.baseline_hours:
        problems.append(
            f"the baseline is {hours:.1f} h old; limits.baseline_hours allows {window.site.limits.baseline_hours:g}"
        )
    counts = baseline.counts()
    if not counts[Outcome.PASSED]:
        problems.append("no cell of the baseline passed")
    instances = {each.id for each in window.before.instances}
    if new := instances - baseline.instances.keys():
        names = ", ".join(window.before.instance[id_].label for id_ in sorted(new))
        problems.append(f"instances that the baseline does not know: {names}")
    facts = [
        f"{len(baseline.cells)} cells, recorded {baseline.ended_at[:16]}: "
        + ", ".join(f"{n} {o}" for o, n in counts.items())
    ]
    return problems, facts


def readiness_problems(window: Window, scenario: str) -> list[str]:
    """Why the last run of the readiness checks does not let this go on.

    Args:
        window: this run.
        scenario: the one that is about to be done.

    Raises:
        OvnshiftError: there was none for this change.
    """
    found = files.read_document(window.reports / "readiness.json", READINESS, READINESS_VERSION)
    problems = []
    if found["identity_endpoint"] != window.before.identity_endpoint:
        problems.append(f"it was of {found['identity_endpoint']}")
    if found.get("scenario", scenario) != scenario:
        problems.append(f"it was for the scenario {found['scenario']}")
    if not found["whole"]:
        problems.append("only some of the checks were run")
    if not found["good"]:
        problems += [str(reason) for reason in found["reasons"]]
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found["ended_at"])
    hours = age.total_seconds() / 3600
    if hours > window.site.limits.baseline_hours:
        problems.append(f"it is {hours:.1f} h old; limits.baseline_hours allows {window.site.limits.baseline_hours:g}")
    return problems


def window_problem(site: Site, now: datetime.datetime) -> str | None:
    """Why nothing may be changed now, by the site file."""
    if site.window is None or site.window.opens <= now < site.window.closes:
        return None
    when = "not open yet" if now < site.window.opens else "over"
    return f"the window is {when}: {site.window.opens.isoformat()} to {site.window.closes.isoformat()}"


def held_instances(topology: Topology) -> list[str]:
    """Instances that can't be stopped in an orderly way."""
    return [
        f"{each.label} is {each.status}" + (f", {each.task_state}" if each.task_state else "")
        for each in topology.instances
        if each.status in HELD or each.task_state
    ]
