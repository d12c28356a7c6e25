"""4 Move routers: each is taken from the agent, given to another, and forwards there."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.evacuation import Emptied
from fixtures.options import planning, reports_of
from fixtures.window import Run
from ovnshift.connectivity import outage
from ovnshift.connectivity.outage import Monitor
from ovnshift.evacuation import watching
from ovnshift.evacuation.announcements import Announcements
from ovnshift.evacuation.steps import MoveRouter, nowhere
from ovnshift.journal import Journal
from ovnshift.migration.window import Window, chapters, outage_record, wait_until


def test_routers_are_moved(
    request: pytest.FixtureRequest, run: Run, window: Window, emptied: Emptied, announcements: Announcements | None
) -> None:
    """Every router is on the agent that it is meant for: by the API, by namespaces, addresses, NAT rules, and by traffic."""
    lost = [] if planning(request.config) else nowhere(window, emptied.routers)
    steps = [
        MoveRouter(
            window,
            emptied.cloud.router[move.router_id],
            emptied.source,
            emptied.agent(move.target_id),
            announcements=announcements,
        )
        # Those that are on no agent come first.
        for move in sorted(
            emptied.evacuation.moves, key=lambda move: emptied.cloud.router[move.router_id].label not in lost
        )
    ]
    run(
        steps,
        what="of the routers",
        parallel=request.config.getoption("parallel"),
        stop_at_first=not request.config.getoption("keep_going"),
    )


def test_outages_are_measured(
    request: pytest.FixtureRequest,
    window: Window,
    emptied: Emptied,
    journal: Journal,
    monitor: Monitor | None,
    check: Check,
) -> None:
    """How long each router was away, from both sides, in milliseconds."""
    if planning(request.config) or monitor is None:
        check.note("an echo request to each address every 50 ms, from inside and from outside, while routers move")
        return
    record = outage_record(reports_of(request.config))
    ids = [move.router_id for move in emptied.evacuation.moves]

    def unheard() -> str | None:
        """What answers again is only known when the prober has said so."""
        silent = [each.address for each in outage.outages(outage.read(record), ()) if each.back_at is None]
        return f"{', '.join(silent)} still silent" if silent else None

    wait_until(
        "every address is heard of again", window.site.limits.settle_seconds, unheard, remedy="see the L3 agents' logs"
    )
    seen = outage.read(record)
    found = watching.by_router(emptied.cloud, outage.outages(seen, chapters(journal.entries())), ids)
    for id_, outages in found.items():
        router = emptied.cloud.router[id_]
        for each in outages:
            check.note(f"{router.label}: {watching.said(each)}")
        if not outages:
            check.note(f"{router.label}: no outage was seen")
    unseen = [
        watched.label for watched, where in watching.places(emptied.cloud, window.site, ids, ()).items() if not where
    ]
    check.warn_of(
        unseen, "addresses could not be watched from anywhere", remedy="name a host in [outside] of the site file"
    )
