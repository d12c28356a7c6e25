from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_site import GOOD

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def phase(project: Path, tmp_path: Path) -> Run:
    """Runs pytest in the project as a user would; what it writes goes to tmp_path."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        outputs = [f"--html={tmp_path / 'phase.html'}", f"--junit-xml={tmp_path / 'phase.xml'}"]
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *outputs, *arguments],
            cwd=project,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def site(tmp_path: Path, old: str = "", new: str = "") -> str:
    path = tmp_path / "site.toml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    return f"--site={path}"


def test_a_bare_pytest_is_the_phase_that_changes_nothing(phase: Run) -> None:
    everything, marked = phase("--collect-only", "-q"), phase("--collect-only", "-q", "-m", "pre")
    assert everything.returncode == 0, everything.stdout
    names = [re.findall(r"^\S+::\S+", done.stdout, re.MULTILINE) for done in (everything, marked)]
    assert {name.split("/")[0] for name in names[0]} == {"tests_pre"}
    assert names[0] == names[1]


def test_two_phases_at_once_are_refused(phase: Run) -> None:
    done = phase("tests_pre", "tests_migrate")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "one phase at a time: tests_migrate, tests_pre" in done.stdout


@pytest.mark.parametrize("change", ["", "../up", 'a"; reboot #<b>'])
def test_a_change_that_is_no_name_for_a_folder_is_refused(phase: Run, tmp_path: Path, change: str) -> None:
    done = phase(f"--change={change}", site(tmp_path))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--change: letters, digits, dots, dashes and underscores, at most 100" in done.stdout


def test_an_unknown_scenario_is_refused(phase: Run) -> None:
    done = phase("--scenario=magic")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "linuxbridge-to-ovn" in done.stdout


def one_message(done: subprocess.CompletedProcess[str]) -> str:
    """The text of a run that did not begin: one error, no test, no traceback."""
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert done.stdout.count("ERROR") == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert "INTERNALERROR" not in done.stdout
    assert not re.search(r"\d+ (passed|failed|error)", done.stdout)
    return done.stdout


def test_a_wrong_site_file_ends_the_run_with_its_line_and_key(phase: Run, tmp_path: Path) -> None:
    text = one_message(phase(site(tmp_path, '"ssh://infra1"', '"telnet://infra1"')))
    assert "site.toml: can't be used:" in text
    assert "line 5: hosts.infra1: a connection is ssh://" in text
    assert "next: site.example.toml says what each key allows" in text
    assert not (tmp_path / "phase.html").exists()


def test_a_site_file_that_is_not_there_ends_the_run(phase: Run, tmp_path: Path) -> None:
    text = one_message(phase(f"--site={tmp_path / 'none.toml'}"))
    assert "none.toml: could not be read" in text
    assert "--site FILE names another" in text


def test_a_site_whose_interface_is_missing_ends_the_run_before_anything_is_sent(phase: Run, tmp_path: Path) -> None:
    text = one_message(phase(site(tmp_path, 'name = "mycloud"', 'name = "mycloud"\nonly_through = "nosuch0"')))
    assert "reached through nosuch0 only, and this machine has no such interface" in text


def test_a_rehearsal_is_of_the_lab_though_the_checkout_has_a_site_file_of_a_real_cloud(project: Path) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "rehearsal"], cwd=project, capture_output=True, text=True, timeout=60, check=True
    )
    phases = re.findall(r"^\S+/pytest (.*)$", done.stdout, re.MULTILINE)
    named = "--site=/var/lib/ovnshift-lab/site/site.toml --change=rehearsal"
    assert phases == [f"{phase} {named}" for phase in ("-m pre", "tests_migrate", "tests_post")]


def test_the_suites_own_tests_are_no_phase(phase: Run) -> None:
    done = phase("tests/unit/test_files.py", "--site=/nonexistent", "--change=../up", "--collect-only", "-q")
    assert done.returncode == 0, done.stdout


def test_every_fixture_has_a_name_of_its_own(project: Path) -> None:
    """All of them are seen by all phases: one of the same name would quietly take the place of another."""
    places: dict[str, list[str]] = {}
    for path in sorted((project / "fixtures").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                "fixture" in ast.unparse(each) for each in node.decorator_list
            ):
                places.setdefault(node.name, []).append(path.name)
    assert len(places) > 10
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
