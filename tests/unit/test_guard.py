from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, cast

import pytest
from openstack.connection import Connection

from ovnshift import files
from ovnshift.cloud import Topology
from ovnshift.connectivity import baseline as baselines
from ovnshift.connectivity.cells import Outcome
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Fleet
from ovnshift.migration.guard import (
    HELD,
    READINESS,
    READINESS_VERSION,
    baseline_problems,
    held_instances,
    readiness_problems,
    window_problem,
)
from ovnshift.migration.window import Window
from tests.unit.clouds import Seed, site
from tests.unit.test_comparison import measured

OPENS, CLOSES = "2026-01-02T22:00:00+00:00", "2026-01-03T04:00:00+00:00"
SECOND = datetime.timedelta(seconds=1)


# When


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def problem(now: datetime.datetime, opens: str = OPENS, closes: str = CLOSES) -> str | None:
    return window_problem(site(window={"opens": opens, "closes": closes}), now)


def test_without_a_window_it_is_always_open() -> None:
    assert window_problem(site(), at("1999-12-31T00:00:00+00:00")) is None


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (at(OPENS) - SECOND, "not open yet"),
        (at(OPENS), None),
        (at(OPENS) + SECOND, None),
        (at("2026-01-03T01:00:00+00:00"), None),
        (at(CLOSES) - SECOND, None),
        (at(CLOSES), "over"),
        (at(CLOSES) + SECOND, "over"),
        (at("2027-01-02T23:00:00+00:00"), "over"),
        # The same moments where clocks show something else.
        (at("2026-01-03T07:00:00+09:00"), None),
        (at("2026-01-03T06:59:59+09:00"), "not open yet"),
        (at("2026-01-02T22:30:00+01:00"), "not open yet"),
        (at("2026-01-02T22:30:00-06:00"), "over"),
    ],
)
def test_the_window_is_open_from_its_first_moment_until_its_last(now: datetime.datetime, says: str | None) -> None:
    assert problem(now) == (says and f"the window is {says}: {OPENS} to {CLOSES}")


def test_a_window_may_be_given_in_the_operators_own_time() -> None:
    opens, closes = "2026-01-02T23:00:00+01:00", "2026-01-03T05:00:00+01:00"
    assert problem(at(OPENS), opens, closes) is None
    assert problem(at(CLOSES), opens, closes) == f"the window is over: {opens} to {closes}"


def test_a_window_may_change_its_offset_meanwhile() -> None:
    """On the night when clocks are put back, it lasts an hour longer than it seems."""
    opens, closes = "2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00"
    assert problem(at("2026-10-25T01:59:59+00:00"), opens, closes) is None
    assert problem(at("2026-10-25T02:00:00+00:00"), opens, closes) is not None


# Which instances


@pytest.mark.parametrize("status", sorted(HELD))
def test_an_instance_that_holds_the_old_drivers_interfaces_is_named(status: str) -> None:
    cloud = Seed()
    held = cloud.instance("vm-held", {"10.5.0.200": cloud.web}, "compute1", status=status)
    assert held_instances(cloud.topology()) == [f"{held.label} is {status}"]


@pytest.mark.parametrize("status", ["ACTIVE", "SHUTOFF", "ERROR", "SHELVED", "SHELVED_OFFLOADED"])
def test_an_instance_that_runs_or_does_not_is_none_of_them(status: str) -> None:
    cloud = Seed()
    cloud.instance("vm-other", {"10.5.0.200": cloud.web}, "compute1", status=status)
    assert held_instances(cloud.topology()) == []


def test_an_instance_that_nova_works_on_is_named_with_what_is_done() -> None:
    cloud = Seed()
    busy = [each.model_copy(update={"task_state": "powering-off"}) for each in cloud.instances[:1]]
    busy.append(cloud.instances[1].model_copy(update={"status": "MIGRATING", "task_state": "migrating"}))
    cloud.instances[:2] = busy
    assert held_instances(cloud.topology()) == [
        f"{busy[0].label} is ACTIVE, powering-off",
        f"{busy[1].label} is MIGRATING, migrating",
    ]


# Baseline and readiness


def ago(**values: float) -> str:
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(**values)).isoformat(timespec="seconds")


def window(reports: Path, before: Topology | None = None, **limits: Any) -> Window:
    """A window of the seed's cloud. What is tested here asks neither API nor hosts."""
    return Window(
        site=site(limits=limits),
        connection=cast("Connection", None),
        fleet=cast("Fleet", None),
        reports=reports,
        before=before or Seed().topology(),
        say=print,
    )


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def recorded(reports: Path, when: str, outcome: Outcome = Outcome.PASSED) -> Path:
    path = reports / "baseline.json"
    baselines.save(path, measured(Seed(), when, lambda _: outcome))
    return path


def test_a_fresh_baseline_has_no_problem_and_its_facts_are_told(tmp_path: Path) -> None:
    when = ago(minutes=5)
    recorded(tmp_path, when)
    problems, facts = baseline_problems(window(tmp_path))
    cells = len(measured(Seed(), when).cells)
    assert problems == []
    assert facts == [f"{cells} cells, recorded {when[:16]}: {cells} passed"]


@pytest.mark.parametrize(("hours", "allowed"), [(25.0, 24), (2.0, 1.5), (0.5, 0.25)])
def test_a_baseline_that_is_too_old_is_named_with_its_age(tmp_path: Path, hours: float, allowed: float) -> None:
    recorded(tmp_path, ago(hours=hours))
    problems, _ = baseline_problems(window(tmp_path, baseline_hours=allowed))
    assert problems == [f"the baseline is {hours:.1f} h old; limits.baseline_hours allows {allowed:g}"]


def test_a_baseline_of_the_last_minute_that_is_allowed_is_good(tmp_path: Path) -> None:
    recorded(tmp_path, ago(hours=23, minutes=59))
    assert baseline_problems(window(tmp_path, baseline_hours=24))[0] == []


def test_a_baseline_recorded_in_another_time_zone_is_as_old_as_it_is(tmp_path: Path) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=9))
    recorded(tmp_path, at(ago(hours=1)).astimezone(zone).isoformat())
    assert baseline_problems(window(tmp_path, baseline_hours=2))[0] == []
    assert len(baseline_problems(window(tmp_path, baseline_hours=0.5))[0]) == 1


def test_a_baseline_in_which_nothing_passed_is_none(tmp_path: Path) -> None:
    recorded(tmp_path, ago(minutes=5), Outcome.FAILED)
    problems, facts = baseline_problems(window(tmp_path))
    assert problems == ["no cell of the baseline passed"]
    assert "0 passed" not in facts[0]
    assert " failed" in facts[0]


def test_instances_that_the_baseline_does_not_know_are_named(tmp_path: Path) -> None:
    recorded(tmp_path, ago(minutes=5))
    cloud = Seed()
    new = [
        cloud.instance(name, {address: cloud.web}, "compute1")
        for name, address in (("vm-new1", "10.5.0.201"), ("vm-new2", "10.5.0.202"))
    ]
    problems, _ = baseline_problems(window(tmp_path, cloud.topology()))
    assert len(problems) == 1
    what, _, names = problems[0].partition(": ")
    assert what == "instances that the baseline does not know"
    assert sorted(names.split(", ")) == sorted(each.label for each in new)


def test_an_instance_that_is_gone_since_the_baseline_is_no_problem(tmp_path: Path) -> None:
    recorded(tmp_path, ago(minutes=5))
    cloud = Seed()
    gone = cloud.instances.pop()
    cloud.ports = [port for port in cloud.ports if port.device_id != gone.id]
    assert baseline_problems(window(tmp_path, cloud.topology()))[0] == []


def test_every_problem_of_a_baseline_is_told_at_once(tmp_path: Path) -> None:
    recorded(tmp_path, ago(hours=48), Outcome.FAILED)
    cloud = Seed()
    cloud.instance("vm-new", {"10.5.0.201": cloud.web}, "compute1")
    assert len(baseline_problems(window(tmp_path, cloud.topology()))[0]) == 3


def test_another_clouds_baseline_can_not_be_used(tmp_path: Path) -> None:
    recorded(tmp_path, ago(minutes=5))
    cloud = Seed()
    cloud.endpoint = "http://203.0.113.5:5000/v3"
    with pytest.raises(OvnshiftError, match=r"baseline\.json: is of seed at .*, not of seed at http://203\.0\.113\.5"):
        baseline_problems(window(tmp_path, cloud.topology()))


def test_a_baseline_that_was_edited_can_not_be_used(tmp_path: Path) -> None:
    path = recorded(tmp_path, ago(minutes=5), Outcome.FAILED)
    edited(path, '"failed"', '"passed"')
    with pytest.raises(OvnshiftError, match=r"baseline\.json: was changed after it was written") as caught:
        baseline_problems(window(tmp_path))
    assert "pytest -m pre" in caught.value.next_step


def test_without_a_baseline_there_is_nothing_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(OvnshiftError, match=r"baseline\.json: could not be read: No such file") as caught:
        baseline_problems(window(tmp_path))
    assert "pytest -m pre" in caught.value.next_step


SCENARIO = "linuxbridge-to-ovn"


def ready(reports: Path, *, hours: float = 0.1, **values: Any) -> Path:
    """What the readiness checks write, as fixtures/readiness.py does; that many hours ago."""
    path = reports / "readiness.json"
    content = {
        "scenario": SCENARIO,
        "good": True,
        "reasons": [],
        "headline": "READY: nothing stands in the way of the window (40 passed)",
        "checks": 40,
        "whole": True,
        "identity_endpoint": Seed().endpoint,
        "ended_at": ago(hours=hours),
        **values,
    }
    files.write_document(path, READINESS, READINESS_VERSION, content)
    return path


def test_checks_that_were_good_just_now_let_the_window_open(tmp_path: Path) -> None:
    ready(tmp_path)
    assert readiness_problems(window(tmp_path), SCENARIO) == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"whole": False}, ["only some of the checks were run"], id="not whole"),
        pytest.param(
            {"good": False, "reasons": ["Clocks agree: 1 host is off", "Every agent is alive: 2 agents are dead"]},
            ["Clocks agree: 1 host is off", "Every agent is alive: 2 agents are dead"],
            id="not good",
        ),
        pytest.param(
            {"identity_endpoint": "http://203.0.113.5:5000/v3"},
            ["it was of http://203.0.113.5:5000/v3"],
            id="another cloud",
        ),
        pytest.param(
            {"scenario": "router-evacuation"}, ["it was for the scenario router-evacuation"], id="another scenario"
        ),
        pytest.param({"hours": 30}, ["it is 30.0 h old; limits.baseline_hours allows 24"], id="too old"),
        pytest.param(
            {"whole": False, "good": False, "reasons": ["why not"], "identity_endpoint": "x", "hours": 48},
            [
                "it was of x",
                "only some of the checks were run",
                "why not",
                "it is 48.0 h old; limits.baseline_hours allows 24",
            ],
            id="all of it",
        ),
    ],
)
def test_what_speaks_against_the_window_is_told(tmp_path: Path, values: dict[str, Any], says: list[str]) -> None:
    ready(tmp_path, **values)
    assert readiness_problems(window(tmp_path), SCENARIO) == says


def test_readiness_may_be_as_old_as_a_baseline(tmp_path: Path) -> None:
    ready(tmp_path, hours=30)
    assert readiness_problems(window(tmp_path, baseline_hours=31), SCENARIO) == []


def test_readiness_that_was_edited_can_not_be_used(tmp_path: Path) -> None:
    path = ready(tmp_path, good=False, reasons=["why not"])
    edited(path, '"good":false', '"good":true')
    with pytest.raises(OvnshiftError, match=r"readiness\.json: was changed after it was written"):
        readiness_problems(window(tmp_path), SCENARIO)


def test_a_file_of_another_kind_is_no_readiness(tmp_path: Path) -> None:
    recorded(tmp_path, ago(minutes=5)).rename(tmp_path / "readiness.json")
    with pytest.raises(OvnshiftError, match=r"readiness\.json: is no readiness"):
        readiness_problems(window(tmp_path), SCENARIO)


def test_readiness_of_a_later_version_can_not_be_used(tmp_path: Path) -> None:
    path = ready(tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, "version": READINESS_VERSION + 1}), encoding="utf-8")
    with pytest.raises(OvnshiftError, match="use the ovnshift that wrote it"):
        readiness_problems(window(tmp_path), SCENARIO)


def test_without_readiness_there_is_nothing_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(OvnshiftError, match=r"readiness\.json: could not be read: No such file") as caught:
        readiness_problems(window(tmp_path), SCENARIO)
    assert "pytest -m pre" in caught.value.next_step
