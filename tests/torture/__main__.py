"""``make torture``: kill the window before, during and after every step, carry on, and compare with one that nobody disturbed.

Two series. *resume*: one window, killed three times at each of its steps, and carried on each time; what is done side by
side with a step waits until it was killed there, so that each is killed by itself. *back*: a window killed during or after a
step, then the way back, itself killed once; the cloud has to be what it was before. That is done for each kind of step once,
with one of its objects: those of a kind (instances that are stopped, hosts that are cleaned) are done side by side, so that
all of them are hit. What was killed, and what came of it, is in ``reports/torture/results.json`` and ``table.md``. With
``--continue`` what was compared is not done again, and the undisturbed window is that of then; with ``--minutes`` it ends in
time for that, with the end of what it has begun compared; ``--when`` leaves out the other instants.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lab import paths
from lab.site import SITE_FILE
from ovnshift import files
from ovnshift.connectivity import comparison
from ovnshift.journal import Entry, State, entries_of
from tests.lab.conftest import Lab
from tests.lab.machine_state import MachineState
from tests.lab.state import dhcp_ports, hosts_units, interfaces, steady_rows
from tests.torture.killer import VARIABLE

REPORTS = paths.PROJECT_ROOT / "reports"
PLACE = REPORTS / "torture"
UNDISTURBED, TORTURED = "torture-undisturbed", "torture-killed"
WINDOW_SECONDS = 1500
INSTANTS = ("before", "during", "after")
# After one step is before the next.
BACK_INSTANTS = ("during", "after")
T = TypeVar("T")


class Wrong(Exception):
    """The cloud did not come to the end that it should have come to."""


@dataclass(frozen=True)
class Kill:
    """One kill.

    ``outcome``: what came of the run: "killed" at that instant, "killed at its end" (there was nothing to do at that instant),
    "went by" (the run came to its end) or "failed". ``compared``: whether the end that was come to after it was compared, and was
    the one that it should be.
    """

    series: str
    step: str
    when: str
    delay: float
    alone: bool
    seconds: float
    outcome: str
    compared: bool = False


def lab_command(*arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """Run ``python -m lab``; its output goes where ours goes."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments], cwd=paths.PROJECT_ROOT, text=True, timeout=timeout, check=True
    )


def suite(*arguments: str, change: str, kill: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a phase of the suite, in a process group of its own.

    Raises:
        subprocess.TimeoutExpired: it did not end in time; it is killed.
    """
    command = [sys.executable, "-m", "pytest", f"--site={SITE_FILE}", *arguments, f"--change={change}"]
    environment = dict(os.environ)
    if kill is not None:
        command += ["-p", "tests.torture.killer"]
        environment[VARIABLE] = json.dumps(kill)
    process = subprocess.Popen(
        command,
        cwd=paths.PROJECT_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=WINDOW_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, "")


def must(done: subprocess.CompletedProcess[str], what: str) -> None:
    """Raise unless a run succeeded.

    Raises:
        Wrong: it did not; with the end of its output.
    """
    if done.returncode != 0:
        raise Wrong(f"{what} ended with {done.returncode}:\n{done.stdout[-4000:]}")


def say(text: str) -> None:
    """A line for whoever looks."""
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}", flush=True)


class Torture:
    """Both series on one lab.

    Args:
        lab: the lab that is up.
        seed: of the delays.
        only: of the steps, those whose ids begin with one of these; all where it is empty.
        minutes: after which no step is killed any more.
        instants: of a step at which it is killed.
    """

    def __init__(self, lab: Lab, seed: int, only: Sequence[str], minutes: float, instants: Sequence[str]) -> None:
        self._lab = lab
        self._seed = seed
        self._only = tuple(only)
        self._instants = tuple(instants)
        self._deadline = time.monotonic() + 60 * minutes
        self.kills: list[Kill] = []
        # How many kills were not done for want of time.
        self.left = 0

    # States

    def _state(self) -> dict[str, Any]:
        return {
            "rows": steady_rows(self._lab),
            "units and files": hosts_units(self._lab),
            "interfaces": interfaces(self._lab),
            "DHCP": dhcp_ports(self._lab),
        }

    @staticmethod
    def _cells(change: str) -> dict[str, str]:
        path = REPORTS / change / "comparison.json"
        compared = comparison.Comparison.model_validate(files.read_document(path, comparison.KIND, comparison.VERSION))
        return {each.cell.id: str(each.fate) for each in compared.cells}

    def _compare(self, what: str, wanted: dict[str, Any], found: dict[str, Any]) -> None:
        differing = [part for part in wanted if wanted[part] != found[part]]
        for part in differing:
            path = PLACE / f"differs-{what}-{part.replace(' ', '-')}.json"
            path.write_text(json.dumps({"wanted": wanted[part], "found": found[part]}, indent=1), encoding="utf-8")
        if differing:
            raise Wrong(f"{what}: other {', '.join(differing)} than undisturbed; see {PLACE}/differs-{what}-…")

    # Kills

    def _chance(self, *about: str) -> random.Random:
        """By chance, and the same for the same seed, whatever was done before."""
        return random.Random(" ".join([str(self._seed), *about]))  # noqa: S311, not for secrets

    def _order(self, series: str, entry: Entry, when: str) -> dict[str, Any]:
        chance = self._chance(series, entry.step, when)
        taken = 1.0
        if entry.ended_at is not None:
            taken = max(seconds_between(entry.begun_at, entry.ended_at), 0.05)
        delay = chance.uniform(0, taken) if when == "during" else 0.0
        alone = when == "during" and chance.random() < 0.5
        return {"series": series, "step": entry.step, "when": when, "delay": round(delay, 3), "alone": alone}

    def _kill(self, order: dict[str, Any], *arguments: str, change: str, bounds: Bounds | None = None) -> Kill:
        passed = PLACE / "passed"
        passed.unlink(missing_ok=True)
        limits = {} if bounds is None else {**bounds._asdict(), "passed": str(passed)}
        begun = time.monotonic()
        done = suite("tests_migrate", *arguments, change=change, kill={**order, **limits})
        outcome = "went by" if done.returncode == 0 else "failed"
        if done.returncode == -signal.SIGKILL:
            outcome = "killed at its end" if passed.exists() else "killed"
        kill = Kill(**order, seconds=round(time.monotonic() - begun, 1), outcome=outcome)
        self.kills.append(kill)
        say(f"{kill.series}: {kill.when} {kill.step}: {kill.outcome} after {kill.seconds} s")
        self.write()
        if outcome == "failed":
            (PLACE / f"failed-{len(self.kills)}.log").write_text(done.stdout, encoding="utf-8")
            raise Wrong(f"the run that was to be killed {kill.when} {kill.step} failed:\n{done.stdout[-4000:]}")
        return kill

    def _wanted(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if not self._only or entry.step.startswith(self._only):
                yield entry

    def _one_of_each_kind(self, entries: Sequence[Entry]) -> list[tuple[Entry, str]]:
        """Where the way back begins: for each kind during one step, by chance which, and then after one; without those known."""
        kinds: dict[str, list[Entry]] = {}
        for entry in self._wanted(entries):
            kinds.setdefault(kind_of(entry.step), []).append(entry)
        known = {(kind_of(kill.step), kill.when) for kill in self.kills if kill.series == "back" and kill.compared}
        return [
            (self._chance("back", kind, when).choice(found), when)
            for when in BACK_INSTANTS
            for kind, found in kinds.items()
            if when in self._instants and (kind, when) not in known
        ]

    def _in_time(self, what: Sequence[T]) -> Iterator[T]:
        """One after the other, as long as there is time; the rest is counted."""
        for done, each in enumerate(what):
            if time.monotonic() > self._deadline:
                self.left += len(what) - done
                return
            yield each

    # Series

    def undisturbed(self) -> tuple[list[Entry], dict[str, Any]]:
        """A window that nobody disturbs: its steps, and what the cloud is like after it."""
        known = PLACE / "undisturbed.json"
        journal = REPORTS / UNDISTURBED / "journal.sqlite"
        if known.exists():
            return entries_done(journal), json.loads(known.read_text(encoding="utf-8"))
        shutil.rmtree(REPORTS / UNDISTURBED, ignore_errors=True)
        lab_command("reset")
        must(suite("-m", "pre", change=UNDISTURBED), "pre")
        must(suite("tests_migrate", change=UNDISTURBED), "the undisturbed window")
        must(suite("tests_post", change=UNDISTURBED), "post")
        files.write_atomically(known, json.dumps({**self._state(), "cells": self._cells(UNDISTURBED)}).encode())
        # Read again, so that it is the same as it will be for a later run.
        return entries_done(journal), json.loads(known.read_text(encoding="utf-8"))

    def resume(self, entries: Sequence[Entry], wanted: dict[str, Any]) -> None:
        """One window, killed three times at each of its steps."""
        self.kills = [kill for kill in self.kills if kill.series != "resume" or kill.compared]
        known = {(kill.step, kill.when) for kill in self.kills if kill.series == "resume"}
        wanted_kills = [(entry, when) for entry in self._wanted(entries) for when in self._instants]
        left = [(entry, when) for entry, when in wanted_kills if (entry.step, when) not in known]
        if not left:
            say("resume: was done, and its end compared")
            return
        lab_command("reset")
        shutil.rmtree(REPORTS / TORTURED, ignore_errors=True)
        must(suite("-m", "pre", change=TORTURED), "pre")
        for entry, when in self._in_time(left):
            kill = self._kill(self._order("resume", entry, when), change=TORTURED, bounds=bounds_of(entry, entries))
            if kill.outcome == "went by":
                raise Wrong(f"the run that was to be killed {when} {entry.step} came to its end")
        must(suite("tests_migrate", change=TORTURED), "the window that was killed often")
        must(suite("tests_post", change=TORTURED), "post after the window that was killed often")
        found = json.loads(json.dumps({**self._state(), "cells": self._cells(TORTURED)}))
        self._compare("resume", wanted, found)
        self._mark("resume")

    def back(self, entries: Sequence[Entry]) -> None:
        """A window killed during a step or after it, and the way back killed once; for each kind of step."""
        # Without those of a run that broke off before it could compare.
        self.kills = [kill for kill in self.kills if kill.series != "back" or kill.compared]
        wanted = self._one_of_each_kind(entries)
        if not wanted or time.monotonic() > self._deadline:
            self.left += len(wanted)
            return
        lab_command("reset")
        before = self._state()
        shutil.rmtree(REPORTS / TORTURED, ignore_errors=True)
        must(suite("-m", "pre", change=TORTURED), "pre")
        kept = {name: (REPORTS / TORTURED / name).read_bytes() for name in ("baseline.json", "readiness.json")}
        for entry, when in self._in_time(wanted):
            # The cloud is what it was, which is compared below: so is what was recorded of it.
            shutil.rmtree(REPORTS / TORTURED)
            for name, content in kept.items():
                files.write_atomically(REPORTS / TORTURED / name, content)
            bounds = bounds_of(entry, entries)._replace(beside=[])
            self._kill(self._order("back", entry, when), change=TORTURED, bounds=bounds)
            if not self._killed_on_the_way_back(entry, when):
                must(suite("tests_migrate", "--rollback", change=TORTURED), f"the way back from {entry.step}")
            self._compare("back", before, self._state())
            self._mark("back")

    def _mark(self, series: str) -> None:
        """The end after the kills of a series so far was compared."""
        self.kills = [replace(kill, compared=True) if kill.series == series else kill for kill in self.kills]
        self.write()

    def _killed_on_the_way_back(self, entry: Entry, when: str) -> bool:
        """Kill the way back at the first step of some chapter; whether it came to its end, having nothing to do in that one."""
        chapter = self._chance("back", entry.step, when).choice([f"back {number} " for number in range(1, 8)])
        order = {"series": "back", "step": f"{chapter}*", "when": "during", "delay": 0.5, "alone": False}
        return self._kill(order, "--rollback", change=TORTURED).outcome == "went by"

    # Results

    def write(self) -> None:
        """The results so far."""
        results = json.dumps([asdict(kill) for kill in self.kills], indent=1)
        files.write_atomically(PLACE / "results.json", results.encode())
        rows = [
            f"| {kill.series} | {kill.step} | {kill.when} | {kill.delay} | {'the run' if kill.alone else 'all'} "
            f"| {kill.seconds} | {kill.outcome} | {'the same' if kill.compared else ''} |"
            for kill in self.kills
        ]
        head = [
            "| series | step | killed | after s | what | the run took s | outcome | the end |",
            "|---|---|---|---|---|---|---|---|",
        ]
        files.write_atomically(PLACE / "table.md", ("\n".join([*head, *rows]) + "\n").encode())


class Bounds(NamedTuple):
    """Ids of steps that a run must not get past: those that wait ``beside`` the one that is killed, and all ``later`` ones."""

    beside: list[str]
    later: list[str]


def bounds_of(entry: Entry, entries: Sequence[Entry]) -> Bounds:
    """What comes after a step in a window: those of its kind are done side by side with it."""
    rest = [each.step for each in entries[[each.step for each in entries].index(entry.step) + 1 :]]
    kind = kind_of(entry.step)
    return Bounds([step for step in rest if kind_of(step) == kind], [step for step in rest if kind_of(step) != kind])


def entries_done(journal: Path) -> list[Entry]:
    """The steps that a window has done."""
    return [entry for entry in entries_of(journal) if entry.state in {State.DONE, State.ALREADY}]


def kind_of(step: str) -> str:
    """A step's id without the object that it is done to."""
    chapter, _, key = step.partition("/")
    return f"{chapter}/{key.rpartition('/')[0] or key}"


def seconds_between(begun: str, ended: str) -> float:
    """Between two moments in ISO 8601."""
    return (datetime.datetime.fromisoformat(ended) - datetime.datetime.fromisoformat(begun)).total_seconds()


def main() -> int:
    """Run the series that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--series", choices=("resume", "back"), action="append", help="both, unless one is named")
    parser.add_argument("--only", action="append", default=[], metavar="STEP", help="steps whose ids begin so")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which steps are killed")
    parser.add_argument(
        "--continue", dest="carry_on", action="store_true", help="keep what is in results.json, and go on from there"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="kill nothing after that; the rest with --continue"
    )
    parser.add_argument("--when", choices=INSTANTS, action="append", help="all, unless one is named")
    arguments = parser.parse_args()
    results = PLACE / "results.json"
    known = json.loads(results.read_text(encoding="utf-8")) if arguments.carry_on and results.exists() else []
    if not arguments.carry_on:
        shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(REPORTS / TORTURED, ignore_errors=True)
    lab_command("up")
    lab = Lab(lab_command, MachineState.now(), "")
    torture = Torture(lab, arguments.seed, arguments.only, arguments.minutes, arguments.when or INSTANTS)
    torture.kills += [Kill(**kill) for kill in known]
    torture.write()
    try:
        entries, state = torture.undisturbed()
        say(f"{len(entries)} steps")
        for series in arguments.series or ("resume", "back"):
            if series == "resume":
                torture.resume(entries, state)
            else:
                torture.back(entries)
    except Wrong as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        print(f"  next: see {PLACE} and the lab, which is as it was left", file=sys.stderr)
        return 1
    finally:
        torture.write()
    if not torture.kills and not torture.left:
        print("error: no step was to be killed", file=sys.stderr)
        print("  next: see --only, and --when: the way back begins during a step or after it", file=sys.stderr)
        return 1
    killed = sum(kill.outcome != "went by" for kill in torture.kills)
    late = sum(kill.outcome == "killed at its end" for kill in torture.kills)
    print(f"{killed} kills ({late} of them at a step's end), {len(torture.kills) - killed} went by")
    print(f"every end was the undisturbed one. {PLACE}/table.md")
    if torture.left:
        print(f"{torture.left} are left, for want of time: run it again with --continue")
    return 0


if __name__ == "__main__":
    sys.exit(main())
