"""The journal for a person: what was done, what is next, and how to go back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ovnshift.journal import Entry, State

WORDS = {
    State.DONE: "done",
    State.ALREADY: "was so already",
    State.FAILED: "FAILED",
    State.INTENDED: "begun, and nobody knows how it ended",
    State.UNDONE: "undone",
}
SHOWN = 8
# How the last chapter of each scenario begins.
LAST = {"linuxbridge-to-ovn": "11 start instances", "router-evacuation": "5 late-comers"}


def lines(entries: Sequence[Entry], change: str, scenario: str = "linuxbridge-to-ovn") -> list[str]:
    """The journal of a change in some lines.

    Args:
        entries: of its journal, in the order in which they began.
        change: its ticket.
        scenario: which one it is.
    """
    options = f"--change={change}" + ("" if scenario == "linuxbridge-to-ovn" else f" --scenario={scenario}")
    if not entries:
        return [f"Nothing was begun in {change}.", "", f"next: pytest tests_migrate --plan {options}"]
    chapters: dict[str, list[Entry]] = {}
    for entry in entries:
        chapters.setdefault(entry.chapter, []).append(entry)
    said = [f"{change}: {len(entries)} steps, from {entries[0].intended_at[:19]} UTC"]
    for chapter, members in chapters.items():
        counts = Counter(WORDS[entry.state] for entry in members)
        said.append(f"  {chapter:<28} " + ", ".join(f"{count} {word}" for word, count in counts.items()))
        troubled = [entry for entry in members if entry.state in {State.FAILED, State.INTENDED}]
        for entry in troubled[:SHOWN]:
            said.append(
                f"      {entry.title} (attempt {entry.attempts}, {entry.begun_at[:19]} UTC): {WORDS[entry.state]}"
            )
            said += [f"        {line}" for line in (entry.problem or "").splitlines()[:4]]
        if len(troubled) > SHOWN:
            said.append(f"      … and {len(troubled) - SHOWN} more")
    return [*said, "", *_next(entries, options, LAST[scenario])]


def _next(entries: Sequence[Entry], options: str, last: str) -> list[str]:
    if all(entry.state is State.UNDONE for entry in entries):
        return ["All of it is undone.", f"next: pytest -m pre {options}, and the window may be opened again"]
    going_back = any(entry.chapter.startswith("back ") and entry.state is not State.UNDONE for entry in entries)
    on = f"pytest tests_migrate{' --rollback' if going_back else ''} {options}"
    back = f"pytest tests_migrate --rollback --plan {options}"
    finished = any(
        entry.chapter.startswith(last) and entry.state in {State.DONE, State.ALREADY} for entry in entries
    ) and not any(entry.state in {State.FAILED, State.INTENDED} for entry in entries)
    if going_back:
        return ["It is on its way back.", f"to carry on with that: {on}"]
    if finished:
        return [f"next: pytest tests_post {options}", f"to go back: {back} says what that would do"]
    return [f"to carry on: {on} (what is done is not done again)", f"to go back: {back} says what that would do"]
