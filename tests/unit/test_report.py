from __future__ import annotations

import html.parser
import re

import pytest

from ovnshift.connectivity.baseline import Baseline, Identity
from ovnshift.connectivity.cells import Cell, CellRecord, Endpoint, Kind, Measurement
from ovnshift.connectivity.cells import Outcome as Measured
from ovnshift.report import matrix, page
from ovnshift.report.result import CheckResult, Finding, Outcome, verdict

NASTY = 'a"; reboot #<script>alert(1)</script>'


def check(title: str, outcome: Outcome, *findings: str) -> CheckResult:
    return CheckResult(title, title, outcome, findings=[Finding(each, (NASTY,), "mend it") for each in findings])


def said(*results: CheckResult) -> tuple[bool, str, tuple[str, ...]]:
    found = verdict(results, good="READY", bad="NOT READY")
    return found.good, found.headline, found.reasons


def test_nothing_checked_is_not_good() -> None:
    assert said() == (False, "NOT READY (no checks)", ("nothing was checked",))


def test_all_passed_is_good() -> None:
    assert said(check("a", Outcome.PASSED), check("b", Outcome.PASSED)) == (True, "READY (2 passed)", ())


def test_a_warning_does_not_stand_in_the_way_and_is_counted() -> None:
    results = check("a", Outcome.PASSED), check("b", Outcome.WARNING, "guests pin their MTU")
    assert said(*results) == (True, "READY (1 passed, 1 warning)", ())
    assert said(*results, results[1]) == (True, "READY (1 passed, 2 warnings)", ())


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERROR, Outcome.BLOCKED])
def test_what_failed_or_could_not_look_or_was_blocked_stands_in_the_way(outcome: Outcome) -> None:
    good, headline, reasons = said(check("a", Outcome.PASSED), check("agents", outcome, "2 agents are dead"))
    assert (good, headline) == (False, f"NOT READY (1 passed, 1 {outcome})")
    assert reasons == ("agents: 2 agents are dead",)


def test_one_cause_that_stops_many_checks_is_one_reason() -> None:
    broken = [check(str(number), Outcome.ERROR, "could not look: Neutron: 500") for number in range(12)]
    _, _, reasons = said(*broken, check("mtu", Outcome.FAILED, "too small"))
    assert reasons == ("could not look: Neutron: 500 (this stopped 12 checks)", "mtu: too small")


def test_a_failure_without_a_finding_is_a_reason_too() -> None:
    assert said(check("odd", Outcome.FAILED))[2] == ("odd: no reason was given",)


def test_a_finding_names_its_objects_and_its_remedy_and_says_how_many_more() -> None:
    text = str(Finding("ports are down", tuple(f"port {number}" for number in range(40)), "start them"))
    assert text.splitlines()[:2] == ["ports are down:", "  - port 0"]
    assert "… and 25 more" in text
    assert text.endswith("remedy: start them")


def end(name: str, kind: str = "instance", id_: str | None = None) -> Endpoint:
    return Endpoint.model_validate({"kind": kind, "id": id_ or f"id-of-{name}", "name": name})


def record(
    source: Endpoint, target: Endpoint, *outcomes: Measured, kind: Kind = Kind.PING, **values: object
) -> CellRecord:
    return CellRecord(
        cell=Cell(kind=kind, source=source, target=target, address="10.5.0.121"),
        measurements=tuple(
            Measurement.model_validate(
                {"outcome": each, "at": "2026-01-01T01:00:00+00:00", "vantage": "infra1", **values}
            )
            for each in outcomes
        ),
    )


def baseline(*records: CellRecord, **values: object) -> Baseline:
    return Baseline.model_validate(
        {
            "identity": Identity(cloud="seed", identity_endpoint="http://198.51.100.5:5000/v3", region="RegionOne"),
            "begun_at": "2026-01-01T01:00:00+00:00",
            "ended_at": "2026-01-01T01:02:00+00:00",
            "sweeps": 2,
            "cells": records,
            "host_keys": {},
            **values,
        }
    )


WEB1, WEB2, WEB = end("vm-web1"), end("vm-web2"), end("web", "network")
FOUR = baseline(
    record(WEB, WEB1, Measured.PASSED, Measured.PASSED, rtt_avg=1.23),
    record(WEB, WEB2, Measured.FAILED, Measured.FAILED, detail="no answer"),
    record(WEB1, WEB2, Measured.PASSED, Measured.FAILED, detail="1 of 2 lost"),
    record(WEB2, WEB1, Measured.NOT_MEASURED, Measured.NOT_MEASURED, detail="login refused"),
)


def test_the_picture_has_all_four_outcomes_with_symbols_that_differ() -> None:
    picture = matrix.picture(FOUR)
    assert picture.rows == ("namespace of web", "vm-web1", "vm-web2")
    assert picture.columns == ("vm-web1", "vm-web2")
    shown = [[square.outcome if square else None for square in row] for row in picture.squares]
    assert shown == [[Measured.PASSED, Measured.FAILED], [None, Measured.FLAPPING], [Measured.NOT_MEASURED, None]]
    symbols = {square.symbol for row in picture.squares for square in row if square}
    assert len(symbols) == 4


def test_a_square_shows_the_worst_of_its_cells_first() -> None:
    picture = matrix.picture(
        baseline(
            record(WEB, WEB1, Measured.PASSED),
            record(WEB, WEB1, Measured.FAILED, kind=Kind.SSH, detail="refused"),
            record(WEB, WEB1, Measured.NOT_MEASURED, kind=Kind.PING_WHOLE),
        )
    )
    ((square,),) = picture.squares
    assert square is not None
    assert square.outcome is Measured.FAILED
    assert [line[0] for line in square.lines] == ["✗", "?", "✓"]
    assert "refused" in square.lines[0]


def test_what_was_measured_is_described_in_one_line() -> None:
    assert matrix.describe(FOUR.cells[0]) == "✓ ping 10.5.0.121, 1.2 ms (from infra1)"
    assert matrix.describe(FOUR.cells[1]) == "✗ ping 10.5.0.121: no answer (from infra1)"
    assert matrix.describe(record(WEB, WEB1)) == "? ping 10.5.0.121"


def test_instances_and_networks_of_the_same_name_stay_apart() -> None:
    twins = [end("vm", id_=f"{number}1111111-aaaa") for number in (1, 2)]
    networks = [end("web", "network", f"{number}2222222-bbbb") for number in (1, 2)]
    picture = matrix.picture(
        baseline(
            record(networks[0], twins[0], Measured.PASSED),
            record(networks[1], twins[1], Measured.FAILED),
        )
    )
    assert len(set(picture.rows)) == 2
    assert len(set(picture.columns)) == 2
    assert "11111111" in picture.columns[0]


def test_too_many_instances_are_shown_by_network() -> None:
    instances = [end(f"vm-{number}") for number in range(matrix.MOST + 1)]
    network_of = {each.id: f"net{number % 3}" for number, each in enumerate(instances)}
    records = [record(WEB, each, Measured.PASSED) for each in instances]
    grouped = matrix.picture(baseline(*records), network_of)
    assert grouped.grouped
    assert grouped.columns == ("instances on net0", "instances on net1", "instances on net2")
    few = matrix.picture(baseline(*records[: matrix.MOST - 1]), network_of)
    assert not few.grouped
    assert len(few.columns) == matrix.MOST - 1


def test_a_square_of_many_cells_says_how_many_it_does_not_show() -> None:
    instances = [end(f"vm-{number}") for number in range(matrix.MOST + 1)]
    records = [record(WEB, each, Measured.PASSED) for each in instances]
    ((square,),) = matrix.picture(baseline(*records), dict.fromkeys((each.id for each in instances), "net")).squares
    assert square is not None
    shown = sum(line.startswith("✓") for line in square.lines)
    assert square.lines[-1] == f"… and {len(records) - shown} more"


class Tags(html.parser.HTMLParser):
    """Every element with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def everything() -> str:
    nasty = end(NASTY)
    cells = baseline(
        *FOUR.cells,
        record(WEB, nasty, Measured.FAILED, detail=NASTY),
        not_covered={"id": f"{NASTY} is SHUTOFF"},
        left_out=7,
    )
    result = CheckResult("test", NASTY, Outcome.FAILED, findings=[Finding(NASTY, (NASTY,), NASTY)], facts=[NASTY])
    found = verdict([result], good="READY", bad=f"NOT READY {NASTY}")
    return "".join([page.summary(found, [result], {NASTY: NASTY}), page.matrix(cells, {}), page.finding(result)])


def test_names_are_text_wherever_they_stand() -> None:
    text = everything()
    assert "<script" not in text
    tags = Tags(text)
    assert not [tag for tag, _ in tags.tags if tag == "script"]
    allowed = {"class", "role", "tabindex", "aria-label", "scope", "open"}
    assert {name for _, attributes in tags.tags for name in attributes} <= allowed
    # In the verdict, facts, findings and cells; quotes too, or they would end an attribute.
    assert tags.text.count(NASTY) >= 12
    labels = [attributes["aria-label"] or "" for _, attributes in tags.tags if "aria-label" in attributes]
    assert any(NASTY in label for label in labels)


def test_every_square_can_be_reached_by_keyboard_and_says_what_it_is() -> None:
    squares = [
        attributes
        for tag, attributes in Tags(page.matrix(FOUR, {})).tags
        if tag == "td" and "square" in (attributes.get("class") or "")
    ]
    assert len(squares) == 4
    assert {each["tabindex"] for each in squares} == {"0"}
    labels = [each["aria-label"] or "" for each in squares]
    assert "namespace of web to vm-web2: failed. ✗ ping 10.5.0.121: no answer" in labels[1]
    assert {label.split(": ")[1].split(".")[0] for label in labels} == {"passed", "failed", "flapping", "not measured"}


def test_headings_of_the_matrix_are_headings() -> None:
    scopes = [attributes.get("scope") for tag, attributes in Tags(page.matrix(FOUR, {})).tags if tag == "th"]
    assert (scopes.count("col"), scopes.count("row")) == (2, 3)


def test_every_cell_that_did_not_pass_is_listed() -> None:
    records = [
        record(WEB, end(f"vm-{number:04}"), Measured.FAILED, detail=f"reason {number:04}") for number in range(700)
    ]
    text = Tags(page.matrix(baseline(*records, FOUR.cells[0]), {})).text
    missing = [number for number in range(700) if f"reason {number:04}" not in text[text.index("700 cells that did") :]]
    assert missing == []


def test_the_numbers_of_each_outcome_and_what_was_left_out_are_shown() -> None:
    text = " ".join(Tags(page.matrix(baseline(*FOUR.cells, left_out=7), {})).text.split())
    assert "4 cells, 2 sweeps, 2026-01-01 01:00:00 to 01:02:00 UTC" in text
    assert "7 pairs of guests are outside the sample" in text
    assert text.count("(1)") == 4


def test_a_report_is_self_contained() -> None:
    style = page.STYLE.read_text(encoding="utf-8")
    for text in (everything(), style):
        assert not re.search(r"https?://|//[a-z]|@import|url\(|<link|<img|\bsrc=", text)


def test_each_outcome_has_a_look_of_its_own() -> None:
    style = page.STYLE.read_text(encoding="utf-8")
    rules = [re.search(rf"\.square\.{str(each).replace(' ', '-')} {{([^}}]*)}}", style) for each in Measured]
    bodies = {rule[1] for rule in rules if rule}
    assert len(bodies) == len(Measured)


def test_a_remedy_is_shown_for_every_finding() -> None:
    result = check("agents", Outcome.WARNING, "one is dead", "another is old")
    text = page.summary(verdict([result], good="READY", bad="NOT READY"), [result], {})
    assert text.count("Remedy:") == 2
    assert page.finding(result).count("mend it") == 2
