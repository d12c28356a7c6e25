from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest

from ovnshift import files
from ovnshift.cloud import Topology
from ovnshift.connectivity import baseline as baselines
from ovnshift.connectivity import plan as plans
from ovnshift.connectivity.baseline import Baseline
from ovnshift.connectivity.cells import Measurement, Outcome
from ovnshift.connectivity.measure import Sweep, not_measured
from ovnshift.connectivity.plan import Plan
from ovnshift.errors import OvnshiftError
from tests.unit import clouds
from tests.unit.clouds import Seed

BEGUN, ENDED = "2026-01-01T01:00:00.000+00:00", "2026-01-01T01:02:00.000+00:00"


@pytest.fixture
def topology() -> Topology:
    return Seed().topology()


@pytest.fixture
def plan(topology: Topology) -> Plan:
    return plans.make(topology, clouds.site())


def sweep(plan: Plan, outcome: Outcome = Outcome.PASSED, **of_cells: Outcome) -> Sweep:
    """Every cell with one outcome, but those to an address that is named (with underscores)."""
    return Sweep(
        {
            cell.id: Measurement(outcome=of_cells.get("a" + cell.address.replace(".", "_"), outcome), at=BEGUN)
            for cell in plan.cells
        }
    )


def assemble(topology: Topology, plan: Plan, *sweeps: Sweep) -> Baseline:
    return baselines.assemble(
        topology, plan, sweeps, begun_at=BEGUN, ended_at=ENDED, without_vantage_afterwards={"cell": "no DHCP"}
    )


@pytest.fixture
def baseline(topology: Topology, plan: Plan) -> Baseline:
    return assemble(topology, plan, sweep(plan), sweep(plan))


def test_sweeps_are_put_together_and_what_differs_flaps(topology: Topology, plan: Plan) -> None:
    first, second = sweep(plan), sweep(plan, a10_5_0_121=Outcome.FAILED)
    first.host_keys["vm"], second.host_keys["vm"] = "old", "new"
    first.notes, second.notes = ["a", "b"], ["b", "c"]
    found = assemble(topology, plan, first, second)
    assert found.sweeps == 2
    assert {record.cell.address for record in found.with_outcome(Outcome.FLAPPING)} == {"10.5.0.121"}
    assert found.counts()[Outcome.FLAPPING] + found.counts()[Outcome.PASSED] == len(plan.cells)
    assert (found.host_keys, found.notes) == ({"vm": "new"}, ("a", "b", "c"))


def test_a_cell_that_a_sweep_does_not_have_is_never_left_out_silently(topology: Topology, plan: Plan) -> None:
    incomplete = sweep(plan)
    incomplete.measurements.pop(plan.cells[0].id)
    with pytest.raises(KeyError):
        assemble(topology, plan, incomplete)


def test_what_was_never_measured_is_no_baseline(topology: Topology, plan: Plan) -> None:
    nothing = Sweep({cell.id: not_measured("no namespace") for cell in plan.cells})
    with pytest.raises(OvnshiftError, match=rf"none of {len(plan.cells)} cells could be measured"):
        assemble(topology, plan, nothing)
    with pytest.raises(OvnshiftError, match="could be measured"):
        assemble(topology, plan)


def test_one_cell_that_was_measured_is_a_baseline(topology: Topology, plan: Plan) -> None:
    little = Sweep({cell.id: not_measured("no namespace") for cell in plan.cells})
    little.measurements[plan.cells[0].id] = Measurement(outcome=Outcome.FAILED, at=BEGUN)
    assert assemble(topology, plan, little).counts() == {Outcome.FAILED: 1, Outcome.NOT_MEASURED: len(plan.cells) - 1}


def test_a_baseline_is_read_back_as_it_was_saved(tmp_path: Path, topology: Topology, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    assert baselines.save(path, baseline) is None
    assert baselines.read(path, topology) == baseline
    assert baselines.read(path) == baseline


def test_an_edited_baseline_is_refused(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    baselines.save(path, baseline)
    text = path.read_text(encoding="utf-8")
    assert '"outcome":"passed"' in text
    path.write_text(text.replace('"outcome":"passed"', '"outcome":"failed"', 1), encoding="utf-8")
    with pytest.raises(OvnshiftError, match="was changed after it was written"):
        baselines.read(path)


@pytest.mark.parametrize("change", [{"identity_endpoint": "http://203.0.113.9:5000/v3"}, {"region": "RegionTwo"}])
def test_a_baseline_of_another_cloud_is_refused(
    tmp_path: Path, topology: Topology, baseline: Baseline, change: dict[str, str]
) -> None:
    path = tmp_path / "baseline.json"
    baselines.save(path, baseline)
    with pytest.raises(OvnshiftError, match=r"is of seed at http://198\.51\.100\.5:5000/v3") as caught:
        baselines.read(path, topology.model_copy(update=change))
    assert next(iter(change.values())) in str(caught.value)
    assert "--site, --change" in caught.value.next_step


def test_a_baseline_without_cells_is_refused(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    baselines.save(path, baseline.model_copy(update={"cells": ()}))
    with pytest.raises(OvnshiftError, match="has no cells"):
        baselines.read(path)


def test_a_baseline_from_the_future_is_refused(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    files.write_document(path, baselines.KIND, baselines.VERSION + 1, baseline.model_dump(mode="json"))
    with pytest.raises(OvnshiftError, match=f"has version {baselines.VERSION + 1}"):
        baselines.read(path)


def test_a_baseline_that_can_not_be_understood_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    files.write_document(path, baselines.KIND, baselines.VERSION, {"cells": "none"})
    with pytest.raises(OvnshiftError, match="can't be understood"):
        baselines.read(path)


def test_another_document_is_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    files.write_document(path, "topology", 1, {})
    with pytest.raises(OvnshiftError, match="is no baseline"):
        baselines.read(path)


def test_an_older_baseline_is_kept_under_the_time_of_its_change(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    baselines.save(path, baseline)
    then = datetime.datetime(2025, 12, 31, 23, 59, 58, tzinfo=datetime.UTC).timestamp()
    os.utime(path, (then, then))
    kept = baselines.save(path, baseline.model_copy(update={"sweeps": 9}))
    assert kept == tmp_path / "baseline-20251231T235958Z.json"
    assert baselines.read(kept) == baseline
    assert baselines.read(path).sweeps == 9


def test_baselines_of_the_same_second_are_all_kept(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    then = 1_700_000_000
    for number in range(4):
        baselines.save(path, baseline.model_copy(update={"sweeps": number}))
        os.utime(path, (then, then))
    found = {each.name: baselines.read(each).sweeps for each in tmp_path.iterdir()}
    assert sorted(found.values()) == [0, 1, 2, 3]
    assert found["baseline.json"] == 3


def test_there_is_a_baseline_also_when_the_new_one_can_not_be_written(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    baselines.save(path, baseline)
    broken = baseline.model_copy(update={"left_out": object()})
    with pytest.raises((ValueError, TypeError)):
        baselines.save(path, broken)
    assert baselines.read(path) == baseline


def test_the_file_can_be_read_by_people_and_by_other_programs(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    baselines.save(path, baseline)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["kind"], document["version"]) == ("baseline", baselines.VERSION)
    assert document["content"]["identity"]["identity_endpoint"] == "http://198.51.100.5:5000/v3"


def test_its_age_is_counted_from_its_end(baseline: Baseline) -> None:
    now = datetime.datetime.now(datetime.UTC)
    recent = baseline.model_copy(update={"ended_at": (now - datetime.timedelta(hours=2)).isoformat()})
    assert baselines.age_seconds(recent) == pytest.approx(7200, abs=600)
