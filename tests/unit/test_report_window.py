from __future__ import annotations

import datetime
import html.parser
import itertools
import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import pytest

from ovnshift import names
from ovnshift.connectivity.baseline import Baseline, Identity, Whereabouts
from ovnshift.connectivity.cells import Cell, CellRecord, Endpoint, Expectation, Kind, Measurement, Outcome
from ovnshift.connectivity.comparison import Comparison, Fate, compare
from ovnshift.connectivity.outage import Chapter, NotWatched, Outage
from ovnshift.journal import Entry, State
from ovnshift.report import matrix, page, text, window

NASTY = "a\"; reboot #<script>alert('1')</script>\x1b[31m\x00"
# As it is shown: without terminal codes, and with a replacement for what no page can have.
SHOWN = "a\"; reboot #<script>alert('1')</script>\ufffd"
BEGIN = datetime.datetime(2026, 1, 2, 22, 0, tzinfo=datetime.UTC)
MOST_BYTES = 2_000_000
P, F, M = Outcome.PASSED, Outcome.FAILED, Outcome.NOT_MEASURED


def at(seconds: float) -> str:
    return (BEGIN + datetime.timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


class Tags(html.parser.HTMLParser):
    """Every element with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._pieces: list[str] = []
        self.feed(text)
        self.raw = "".join(self._pieces)
        self.text = " ".join(self.raw.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._pieces.append(data)

    def of(self, tag: str, css: str = "") -> list[dict[str, str | None]]:
        return [each for name, each in self.tags if name == tag and css in [*(each.get("class") or "").split(), ""]]


# Comparisons


def end(name: str, kind: str = "instance") -> Endpoint:
    return Endpoint.model_validate({"kind": kind, "id": f"id-{name}", "name": name})


WEB = end("web", "network")
WEB1, WEB2, DB1 = end("vm-web1"), end("vm-web2"), end("vm-db1")


def record(source: Endpoint, target: Endpoint, outcome: Outcome, detail: str = "", **values: Any) -> CellRecord:
    return CellRecord(
        cell=Cell.model_validate(
            {"kind": Kind.PING, "source": source, "target": target, "address": "192.0.2.7", **values}
        ),
        measurements=(Measurement(outcome=outcome, at=at(0), sent=1, vantage="infra1", detail=detail),),
    )


def baseline(records: Sequence[CellRecord], when: float, **values: Any) -> Baseline:
    return Baseline.model_validate(
        {
            "identity": Identity(cloud="seed", identity_endpoint="http://198.51.100.5:5000/v3", region="RegionOne"),
            "begun_at": at(when),
            "ended_at": at(when + 60),
            "sweeps": 2,
            "cells": tuple(records),
            "host_keys": {},
            "instances": {
                each.id: Whereabouts(label=each.label, host="compute1")
                for record in records
                for each in (record.cell.source, record.cell.target)
                if each.kind == "instance"
            },
            **values,
        }
    )


def both(*cells: tuple[Endpoint, Endpoint, Outcome, Outcome], **values: Any) -> tuple[Baseline, Baseline]:
    return (
        baseline([record(source, target, was, **values) for source, target, was, _ in cells], 0),
        baseline([record(source, target, is_, "no answer", **values) for source, target, _, is_ in cells], 7200),
    )


def compared(before: Baseline, after: Baseline, **values: Any) -> str:
    return page.comparison(compare(before, after), before, after, {}, **values)


THREE = both((WEB, WEB1, P, P), (WEB, WEB2, P, F), (WEB1, WEB2, P, F), (WEB2, WEB1, F, F), (WEB, DB1, F, P))


def test_what_got_worse_comes_first_and_the_matrix_after_it() -> None:
    shown = compared(*THREE)
    assert shown.index("2 of 5 cells got worse, by 1 cause.") < shown.index("<article")
    assert shown.index("<article") < shown.index("as it should be") < shown.index("<table")
    assert "vm-web2 (id-vm-we)" in Tags(shown[: shown.index("<table")]).text


def test_a_cause_says_how_many_of_how_many_and_what_became_of_each_cell() -> None:
    shown = Tags(compared(*THREE)).text
    assert "2 of 2 cells vm-web2 (id-vm-we)" in shown
    assert (
        "2 regressed▼ ping: namespace of web (id-web) → vm-web2 (id-vm-we) at 192.0.2.7✓ → ✗ no answer (from infra1)"
        in shown
    )


def test_every_fate_is_counted() -> None:
    shown = Tags(compared(*THREE)).text
    assert (
        "▼ 2 regressed · ! 0 newly open · ? 0 no vantage · = 1 still failing · ≠ 0 not comparable · ▲ 1 recovered · ✓ 1 kept"
    ) in shown
    assert "Before: 2026-01-02 22:00:00 to 22:01:00 UTC, 2 sweeps. After: 2026-01-03 00:00:00 to 00:01:00 UTC" in shown


def test_nothing_worse_is_said_in_a_sentence_and_nothing_is_framed() -> None:
    shown = Tags(compared(*both((WEB, WEB1, P, P), (WEB, WEB2, P, P))))
    assert "✓ No cell got worse: all 2 are as they were before." in shown.text
    assert not shown.of("article")
    assert not shown.of("b", "mark")[6:]  # those of the legend
    assert len(shown.of("td", "kept")) == 2


def test_a_comparison_without_cells_is_a_sentence() -> None:
    before, after = baseline([], 0), baseline([], 7200)
    nothing = Comparison(cells=(), groups=(), gone=(), new=(), moved=(), other_host_keys=())
    shown = Tags(page.comparison(nothing, before, after, {}))
    assert "✗ There is nothing to compare" in shown.text
    assert not shown.of("table")


def test_a_square_shows_before_and_after_and_the_worst_that_became_of_its_cells() -> None:
    before, after = both(
        (WEB, WEB1, P, P), (WEB, WEB2, P, F), (WEB1, WEB2, F, P), (WEB1, DB1, P, M), (WEB2, WEB1, F, F)
    )
    shown = matrix.picture_of_change(compare(before, after))
    squares = {
        (row, column): square
        for row, line in zip(shown.rows, shown.squares, strict=True)
        for column, square in zip(shown.columns, line, strict=True)
        if square
    }
    web = "namespace of web"
    assert {key: (each.halves[0][1] + each.halves[1][1], each.mark) for key, each in squares.items()} == {
        (web, "vm-web1"): ("✓✓", ""),
        (web, "vm-web2"): ("✓✗", "▼"),
        ("vm-web1", "vm-web2"): ("✗✓", "▲"),
        ("vm-web1", "vm-db1"): ("✓?", "?"),
        ("vm-web2", "vm-web1"): ("✗✗", "="),
    }
    assert {key for key, each in squares.items() if "worse" in each.css} == {(web, "vm-web2"), ("vm-web1", "vm-db1")}


def test_the_worst_cell_makes_a_square() -> None:
    was, is_ = (P, P, F), (P, F, P)
    before, after = (
        baseline([record(WEB, WEB1, each, port=port) for port, each in enumerate(outcomes, 1)], when)
        for when, outcomes in ((0, was), (7200, is_))
    )
    ((square,),) = matrix.picture_of_change(compare(before, after)).squares
    assert square is not None
    assert (square.fate, square.before, square.after, square.cells) == (Fate.REGRESSED, F, F, 3)
    assert [each[0] for each in square.lines] == ["▼", "▲"]


def test_a_cell_that_is_gone_has_a_half_of_its_own() -> None:
    before, _ = both((WEB, WEB1, P, P), (WEB, WEB2, P, P))
    after = baseline([record(WEB, WEB1, P)], 7200)
    shown = Tags(compared(before, after))
    assert len(shown.of("i", "gone")) == 1
    assert "≠ ping: namespace of web (id-web) → vm-web2 (id-vm-we)" in shown.text
    assert "vm-web2 (id-vm-we) is gone" in shown.text
    assert "Instances that are gone (1)" in shown.text


def test_what_opened_is_told_from_what_broke() -> None:
    before, after = both((WEB, WEB1, P, F), kind=Kind.CLOSED_PORT, port=8080, expectation=Expectation.KEPT_OUT)
    shown = Tags(compared(before, after))
    assert "! 1 newly open" in shown.text
    assert shown.of("td", "newly-open")


def test_marked_squares_can_be_reached_by_keyboard_and_say_what_they_are() -> None:
    squares = [each for each in Tags(compared(*THREE)).of("td", "change") if "kept" not in (each["class"] or "")]
    assert len(squares) == 4
    assert {each["tabindex"] for each in squares} == {"0"}
    assert {each["aria-label"] for each in squares} == {
        "passed, then failed: regressed",
        "failed, then failed: still failing",
        "failed, then passed: recovered",
    }


def test_new_cells_that_do_not_pass_are_listed_and_new_ones_that_do_are_not() -> None:
    before, after = both((WEB, WEB1, P, P))
    after = baseline([*after.cells, record(WEB, WEB2, F, "refused"), record(WEB, DB1, P)], 7200)
    shown = Tags(compared(before, after)).text
    assert "1 new since the baseline, and not passing" in shown
    assert "refused" in shown
    assert "Instances that are new (2)" in shown


def test_evidence_stands_with_its_cause_and_is_cut() -> None:
    log = f"first\n{'x' * 50_000}\nlast"
    cause = "vm-web2 (id-vm-we)"
    shown = compared(*THREE, evidence={cause: [("agent's log", log)], "what no group has": [("other", "orphan")]})
    article = shown[shown.index("<article") : shown.index("</article>")]
    assert "Evidence: agent&#39;s log" in article
    assert "first" in article
    assert "last" in article
    assert "30.0 kB are not shown" in article
    assert article.count("x") < 21_000
    assert "orphan" in shown
    assert "orphan" not in article


def test_evidence_is_bounded_in_all() -> None:
    pieces = [(f"log {number}", "<" * 19_000) for number in range(100)]
    shown = compared(*THREE, evidence={"anything": pieces})
    assert len(shown) < window.ROOM_FOR_EVIDENCE + 100_000
    assert shown.count("Evidence: ") == 100
    assert "not shown: the report would become too large" in shown


@pytest.mark.parametrize(
    "secret",
    [
        "connection = mysql+pymysql://neutron:hunter2@192.0.2.10/neutron",
        "transport_url = rabbit://openstack:hunter2@infra1:5672/",
        "metadata_proxy_shared_secret = hunter2",
        "[keystone_authtoken]\n  password=hunter2",
        '"admin_password": "hunter2",',
        "mysqldump --password=hunter2 neutron",
        "X-Auth-Token: hunter2",
        '{"a": 1, "admin_password": "hun\\"ter2 hunter2", "b": 2}',
    ],
)
def test_secrets_are_hidden(secret: str) -> None:
    shown = compared(*THREE, evidence={"any": [("neutron.conf", f"debug = true\n{secret}\nworkers = 2")]})
    assert "debug = true" in shown
    assert "workers = 2" in shown
    assert "hunter2" not in shown
    shown = page.steps([entry(1, State.FAILED, found={"old": secret}, proof=[secret], problem=secret)])
    assert "hunter2" not in shown
    assert "hunter2" not in page.steps([entry(1, found={"rows": [{"password": "hunter2", "token": ["hunter2"]}]})])


# Steps


def entry(number: int, state: State = State.DONE, **values: Any) -> Entry:
    ended = None if state is State.INTENDED else at(number * 10 + 5)
    return Entry(
        **{
            "number": number,
            "step": f"networks/{number}",
            "chapter": "networks",
            "title": f"step {number}",
            "state": state,
            "intended_at": at(number * 10),
            "begun_at": at(number * 10),
            "ended_at": ended,
            "attempts": 1,
            "found": None,
            "proof": None,
            "problem": None,
            **values,
        }
    )


def test_an_empty_journal_is_a_sentence() -> None:
    shown = Tags(page.steps([]))
    assert "No step was begun: the journal of this change is empty." in shown.text
    assert not shown.of("table")
    assert not shown.of("details")


def test_steps_stand_by_chapter_with_their_numbers_and_times() -> None:
    entries = [
        entry(1, chapter="freeze"),
        entry(2, State.ALREADY, chapter="freeze"),
        entry(3, chapter="networks", attempts=3, ended_at=at(30 + 250), proof=["row 7 is there", "so is row 8"]),
    ]
    shown = Tags(page.steps(entries))
    assert (
        "✓ 3 steps in 2 chapters: 2 done, 1 so already, 4 min 30 s, 2026-01-02 22:00:10 to 22:04:40 UTC." in shown.text
    )
    assert "freeze — 2 steps: 1 done, 1 so already; 15 s, 2026-01-02 22:00:10 to 22:00:25 UTC" in shown.text
    assert "networks — 1 step: 1 done; 4 min 10 s" in shown.text
    assert "4 min 10 s3 attempts" in shown.text
    assert "row 7 is there" in shown.text
    assert not [each for each in shown.of("details") if "open" in each]


@pytest.mark.parametrize("state", [State.FAILED, State.INTENDED])
def test_a_chapter_with_trouble_is_open(state: State) -> None:
    shown = Tags(page.steps([entry(1, chapter="freeze"), entry(2, state, problem="refused:\n  see the log")]))
    assert ["open" in each for each in shown.of("details", "chapter")] == [False, True]
    assert {State.FAILED: "✗ failed", State.INTENDED: "? begun, nobody knows its end"}[state] in shown.text
    assert "refused: see the log" in shown.text
    assert shown.of("p", "bad")


def test_every_failed_step_is_shown_and_only_the_first_of_those_that_went_well() -> None:
    failed = {250, 700, 2999}
    entries = [
        entry(number, State.FAILED if number in failed else State.DONE, problem="no" if number in failed else None)
        for number in range(3000)
    ]
    shown = Tags(page.steps(entries))
    assert "✗ Of 3,000 steps in 1 chapter, 3 failed, 2,997 done" in shown.text
    assert len(shown.of("tr", "failed")) == 3
    assert len(shown.of("tr", "done")) == window.MOST_QUIET
    assert "step 2999" in shown.text
    assert f"… and {2997 - window.MOST_QUIET:,} done that are not listed here." in shown.text


def test_thousands_of_failures_are_all_there_and_small() -> None:
    problem = "compute1: the port was not bound\n  next: see the agent's log\n" + "trace " * 2000
    entries = [entry(number, State.FAILED, problem=problem, found={"row": '"' * 500}) for number in range(3000)]
    shown = page.steps(entries)
    assert len(shown.encode()) < MOST_BYTES
    assert len(Tags(shown).of("tr", "failed")) == 3000
    assert shown.count("the port was not bound") == 3000
    assert "the journal of the change has them all" in shown


def test_what_was_found_before_is_bounded() -> None:
    shown = page.steps([entry(1, found=[{"row": number, "value": "x" * 20} for number in range(10_000)])])
    assert "Found before" in shown
    assert "kB are not shown" in shown
    assert len(shown) < 20_000


@pytest.mark.parametrize("proof", [None, [], "one line", ["one line"], {"port": 1}, [{"port": 1}, 7]])
def test_a_proof_of_any_shape_is_shown(proof: Any) -> None:
    shown = Tags(page.steps([entry(1, proof=proof)]))
    assert len(shown.of("li")) == (0 if not proof else len(proof) if isinstance(proof, list) else 1)


def test_what_has_not_ended_lasts_until_now() -> None:
    entries = [entry(0, State.INTENDED)]
    assert "not known" in Tags(page.steps(entries)).text
    assert "1 min 30 s so far" in Tags(page.steps(entries, BEGIN + datetime.timedelta(seconds=90))).text


def test_what_is_undone_is_told() -> None:
    shown = Tags(page.steps([entry(1, State.UNDONE), entry(2, State.UNDONE)])).text
    assert "✓ All of 2 steps in 1 chapter are undone, 15 s" in shown


# Outages


CHAPTERS = [
    Chapter(name="freeze", begun_at=at(0), ended_at=at(60)),
    Chapter(name="stop agents", begun_at=at(60), ended_at=at(63)),
    Chapter(name="start controllers", begun_at=at(63), ended_at=at(400)),
    Chapter(name="clean up", begun_at=at(400), ended_at=at(900)),
]


def outage(name: str, lost: float, seconds: float, *, back: bool = True, kind: str = "instance") -> Outage:
    return Outage(
        target=end(name, kind),
        address=name if kind == "floating IP" else "192.0.2.7",
        lost_at=at(lost),
        back_at=at(lost + seconds) if back else None,
        seconds=seconds,
        error_seconds=0.6,
        lost_in="stop agents",
        back_in="start controllers" if back else "",
    )


def outages(*found: Outage, **starved: float) -> str:
    return page.outages(found, CHAPTERS, starved, ["infra2 was not watched"])


def picture(shown: str) -> ElementTree.Element:
    return ElementTree.fromstring(shown[shown.index("<svg") : shown.index("</svg>") + 6])  # noqa: S314, made above


def test_no_outage_is_a_sentence_and_no_picture() -> None:
    shown = outages(infra1=0.3)
    assert "✓ No outage was seen." in shown
    assert "Longest pause of the prober itself: infra1 0.3 s." in shown
    assert "infra2 was not watched" in shown
    assert "<svg" not in shown
    nothing = Tags(page.outages([], [], {}, []))
    assert "No outage was seen." in nothing.text
    assert not nothing.of("table")


def test_when_nobody_watched_is_said_once_for_hosts_that_have_it_in_common() -> None:
    gaps = [
        NotWatched(host=host, since=at(since), until=at(until), seconds=until - since, why=why)
        for host, since, until, why in (
            ("infra1", 60, 125, "the run was killed"),
            ("compute1", 60.5, 125.2, "the run was killed"),
            ("infra1", 300, 301, "the connection ended"),
            ("infra1", 400, 460, "the run was killed"),
        )
    ]
    listed = Tags(page.outages([], CHAPTERS, {}, ["a note"], gaps)).text
    assert (
        "At these times nobody watched from the hosts named, and what was away only then was not seen: "
        "22:01:00 to 22:02:05 UTC, 1 min 5 s: the run was killed (compute1, infra1)"
        "22:06:40 to 22:07:40 UTC, 1 min 0 s: the run was killed (infra1)"
    ) in listed
    assert "the connection ended" not in listed
    assert listed.index("22:06:40") < listed.index("a note")


def test_outages_are_summed_up_first() -> None:
    shown = outages(outage("vm-1", 61, 250), outage("vm-2", 62, 302), infra1=0.3, infra2=1.25)
    said = "✓ 2 targets were away for 4 min 10 s to 5 min 2 s; 0 not back."
    assert shown.index(said) < shown.index("<svg")
    assert "infra2 1.2 s, infra1 0.3 s" in shown


def test_what_is_not_back_is_said_in_words_everywhere() -> None:
    shown = outages(outage("vm-1", 61, 250), outage("vm-2", 62, 700, back=False))
    assert "✗ 2 targets were away for 4 min 10 s; 1 not back, away for 11 min 40 s when watching ended." in shown
    drawn = "".join(picture(shown).itertext())
    assert "✗ 22:01:02 → not back, 11 min 40 s" in drawn
    assert len(picture(shown).findall(".//rect[@class='lost']")) == 1
    rows = Tags(shown[shown.index("<table") :])
    assert len(rows.of("tr", "lost")) == 1
    assert "✗ not back" in rows.text
    assert "11 min 40 s so far" in rows.text
    only = outages(outage("vm-2", 62, 700, back=False))
    assert "1 target was away; 1 not back, away for 11 min 40 s" in only


def test_the_table_says_when_where_and_how_long() -> None:
    shown = outages(outage("vm-1", 61, 250.24))
    rows = [each.split("</td><td>") for each in re.findall(r"<tr><td>(.*?)</td></tr>", shown)]
    assert rows[0] == [
        "vm-1 (id-vm-1)",
        "192.0.2.7",
        "22:01:01",
        "stop agents",
        "22:05:11",
        "start controllers",
        "4 min 10 s",
        "250.2 (up to 0.6 less)",
    ]
    assert ["stop agents", "22:01:00", "22:01:03", "3.0 s"] in rows


def test_a_short_outage_is_told_to_the_millisecond() -> None:
    assert "3.927 (up to 0.600 less)" in outages(outage("vm-1", 61, 3.927))


def test_floating_ips_come_first_and_the_worst_of_each() -> None:
    shown = outages(
        outage("vm-1", 61, 250),
        outage("198.51.100.7", 61, 5, kind="floating IP"),
        outage("vm-2", 61, 10, back=False),
        outage("198.51.100.8", 61, 50, kind="floating IP"),
    )
    labels = [each.text for each in picture(shown).findall(".//text") if each.get("class") in {None, "kind"}]
    labels = [each for each in labels if each and "→" not in each]
    assert labels == [
        "floating IPs",
        "198.51.100.8",
        "198.51.100.7",
        "instances",
        "vm-2 (id-vm-2) 192.0.2.7",
        "vm-1 (id-vm-1) 192.0.2.7",
    ]


def test_several_outages_of_a_target_share_a_row() -> None:
    shown = outages(outage("vm-1", 61, 5), outage("vm-1", 300, 20), outage("vm-2", 62, 5))
    assert "2 targets were away, 3 times in all, for 5.0 s to 20 s; 0 not back." in shown
    drawn = picture(shown)
    assert len(drawn.findall(".//rect[@class='away']")) == 3
    assert "2 outages, longest 20 s" in "".join(drawn.itertext())


def test_bars_lie_where_their_times_are() -> None:
    drawn = picture(outages(outage("vm-1", 90, 450)))
    bar = drawn.find(".//rect[@class='away']")
    assert bar is not None
    unit = (window.RIGHT - window.LEFT) / 900
    assert float(bar.get("x", "")) == pytest.approx(window.LEFT + 90 * unit, abs=0.1)
    assert float(bar.get("width", "")) == pytest.approx(450 * unit, abs=0.2)


def test_names_of_chapters_do_not_lie_over_each_other() -> None:
    chapters = [Chapter(name=f"chapter number {each}", begun_at=at(each), ended_at=at(each + 1)) for each in range(12)]
    chapters.append(Chapter(name="the long one", begun_at=at(12), ended_at=at(9000)))
    view = window.outages([outage("vm-1", 5, 20)], chapters, {}, [])
    assert view.picture is not None
    places = sorted((band.label_y, band.label_x, len(band.label) * 11 * 0.58) for band in view.picture.bands)
    assert len(places) == 13
    for (line, x, wide), (next_line, next_x, _) in itertools.pairwise(places):
        assert line != next_line or x + wide <= next_x
    assert all(x + wide <= window.RIGHT for _, x, wide in places)


def test_the_worst_of_many_targets_are_drawn_and_the_rest_is_counted() -> None:
    found = [outage(f"vm-{number}", 61, 10 + number / 10, back=number != 0) for number in range(800)]
    shown = outages(*found)
    drawn = picture(shown)
    assert len(drawn.findall(".//rect[@class='away']")) == window.MOST_ROWS - 1
    assert len(drawn.findall(".//rect[@class='lost']")) == 1
    assert f"{800 - window.MOST_ROWS} targets more are not drawn" in shown
    assert f"… and {800 - window.MOST_IN_TABLE} shorter ones." in shown
    assert "vm-799 " in shown
    assert "800 outages" in shown
    height = float((drawn.get("viewBox") or "").split()[3])
    assert height < 1700


def test_a_moment_and_a_window_of_no_length_can_be_drawn() -> None:
    drawn = picture(page.outages([outage("vm-1", 0, 0)], [], {}, []))
    assert drawn.find(".//rect[@class='away']") is not None
    picture(page.outages([outage("vm-1", 0, 40 * 86400)], CHAPTERS, {}, []))


def test_the_next_day_has_its_date() -> None:
    shown = outages(outage("vm-1", 61, 7200))
    assert "01-03 00:01:01" in shown


# All of them


def nasty() -> str:
    bad = end(NASTY)
    before, after = both((WEB, bad, P, F), (bad, WEB1, P, F), (WEB, WEB1, P, M), (WEB1, WEB2, F, F))
    after = after.model_copy(update={"notes": (NASTY,), "host_keys": {"id-vm-web1": NASTY}})
    before = before.model_copy(update={"host_keys": {"id-vm-web1": "other"}})
    found = compare(before, after)
    evidence = {found.groups[0].cause: [(NASTY, NASTY)], "none": [(NASTY, NASTY)]}
    return "".join(
        [
            page.comparison(found, before, after, {}, evidence),
            page.steps(
                [entry(1, State.FAILED, chapter=NASTY, title=NASTY, found=[NASTY], proof=[NASTY], problem=NASTY)]
            ),
            page.outages(
                [
                    outage(NASTY, 61, 5).model_copy(update={"address": NASTY, "lost_in": NASTY, "back_in": NASTY}),
                    outage(NASTY, 90, 5, back=False),
                ],
                [Chapter(name=NASTY, begun_at=at(0), ended_at=at(600))],
                {NASTY: 1.0},
                [NASTY],
            ),
        ]
    )


def test_names_are_text_wherever_they_stand() -> None:
    shown = nasty()
    assert "<script" not in shown
    tags = Tags(shown)
    assert not tags.of("script")
    allowed = {
        "class",
        "role",
        "tabindex",
        "aria-label",
        "scope",
        "open",
        "title",
        "viewbox",
        "text-anchor",
        "font-size",
    }
    assert {name for _, each in tags.tags for name in each} <= allowed | {"x", "y", "width", "height", "d"}
    assert tags.raw.count(SHOWN) >= 20
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", shown)
    picture(shown)


def test_the_parts_are_self_contained() -> None:
    assert not re.search(r"https?://|//[a-z]|@import|url\(|<link|<img|<script|\bsrc=|\bhref=|\bstyle=|\bid=", nasty())


def many(judge: Callable[[int], Outcome]) -> tuple[Baseline, Baseline, dict[str, str]]:
    """3,000 instances in 300 networks, with floating IPs for a third of them."""
    instances = [end(f"customer-instance-{number:04}") for number in range(3000)]
    networks = [end(f"customer-network-{number:03}", "network") for number in range(300)]
    network_of = {each.id: networks[number % 300].name for number, each in enumerate(instances)}
    outside = Endpoint(kind="outside", id="198.51.100.1", name="edge")
    ends = [(networks[number % 300], each, number) for number, each in enumerate(instances)]
    ends += [(each, instances[(number * 7 + 1) % 3000], number) for number, each in enumerate(instances)]
    ends += [
        (each, Endpoint(kind="floating IP", id=f"fip-{number}", name=f"203.0.113.{number}"), number)
        for number, each in enumerate(instances)
        if number % 3 == 0
    ]
    ends += [(each, outside, number) for number, each in enumerate(instances)]
    cells = [(source, target, P, judge(number)) for source, target, number in ends]
    return (*both(*cells), network_of)


@pytest.mark.parametrize("share", [3000, 7, 1], ids=["one is broken", "many are broken", "all are broken"])
def test_a_big_cloud_stays_small(share: int) -> None:
    before, after, network_of = many(lambda number: F if number % share == 0 else P)
    # Grouping by what they share is the comparison's; here it's the size that counts.
    found = compare(before, baseline(list(before.cells), 7200))
    cells = tuple(
        each.model_copy(
            update={"after": after.cells[number], "fate": Fate.REGRESSED, "reason": "no answer"}
            if after.cells[number].outcome is F
            else {}
        )
        for number, each in enumerate(found.cells)
    )
    worse = [each for each in cells if each.fate is Fate.REGRESSED]
    causes = [
        {"cause": f"hypervisor compute{number}", "cells": tuple(worse[number::100]), "of": 200} for number in range(100)
    ]
    found = Comparison.model_validate({**found.model_dump(), "cells": cells, "groups": causes})
    evidence = {f"hypervisor compute{number}": [("log", "line of a log\n" * 9000)] * 3 for number in range(100)}
    entries = [
        entry(
            number,
            chapter=f"chapter {number % 8}",
            title=f"instance customer-instance-{number % 3000:04} moves its tap device",
            found={"bridge": "brq0123456789", "ports": ["tap0123456789"] * 9},
            proof=["the tap device is a port of br-int", "its port is bound with vif_type ovs"],
        )
        for number in range(9000)
    ]
    losses = [
        outage(f"customer-instance-{number:04}", 61 + number / 10, 200 + number / 7, back=number % 5 != 0)
        for number in range(3000)
    ]
    shown = "".join(
        [
            page.comparison(found, before, after, network_of, evidence),
            page.steps(entries),
            page.outages(losses, CHAPTERS, {f"compute{number}": 0.3 for number in range(150)}, ["a note"] * 500),
        ]
    )
    assert len(shown.encode()) < MOST_BYTES
    assert "Instances are shown by network." in shown
    drawn = matrix.picture_of_change(found, network_of)
    assert len(drawn.rows) <= matrix.MOST
    assert len(drawn.columns) <= matrix.MOST
    assert sum(square.cells for row in drawn.squares for square in row if square) == len(cells)


def test_a_full_mesh_of_which_all_is_broken_stays_small() -> None:
    instances = [end(f"customer-instance-{number:04}") for number in range(matrix.MOST)]
    before, after = both(*((source, target, P, F) for source in instances for target in instances if source != target))
    assert len(compared(before, after).encode()) < MOST_BYTES


def test_rows_that_changed_are_not_among_the_rest() -> None:
    instances = [end(f"vm-{number:03}") for number in range(200)]
    before, after = both(*((WEB, each, P, F if each is instances[-1] else P) for each in instances))
    drawn = matrix.picture_of_change(compare(before, after))
    assert "vm-199" in drawn.columns
    assert drawn.columns[-1] == f"instances ({200 - (matrix.MOST - 5)} more)"
    assert len(drawn.columns) == matrix.MOST - 4


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (0.8, "0.8 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (250.2, "4 min 10 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86399, "1 d 0 h"),
        (200_000, "2 d 8 h"),
    ],
)
def test_lengths_of_time_in_words(seconds: float, words: str) -> None:
    assert page.duration(seconds) == words


@pytest.mark.parametrize("piece", ["-", "\n", "token", "--password", "://:", '"', "\x1b[", "a"])
def test_secrets_are_looked_for_in_time_that_grows_with_the_text(piece: str) -> None:
    begun = time.process_time()
    names.printable(text.without_secrets(piece * (200_000 // len(piece))))
    assert time.process_time() - begun < 5


def test_a_text_is_cut_in_its_middle() -> None:
    assert text.cut("ä" * 10, 20) == "ä" * 10
    shown = text.cut("begin" + "ä" * 1000 + "end", 100)
    assert shown.startswith("begin")
    assert shown.endswith("end")
    assert "1.9 kB are not shown" in shown
