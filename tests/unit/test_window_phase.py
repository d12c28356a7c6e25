from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_site import GOOD

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]
CHAPTERS = "tests_migrate/linuxbridge_to_ovn"
WHOLE = (
    "the window is run as a whole and in its order, since each chapter rests on those before it: pytest tests_migrate"
)


def started(directory: Path, *arguments: str) -> Done:
    """Runs pytest as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "OS_"))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def no_cloud(tmp_path: Path) -> str:
    """A site file of a cloud that is in no clouds.yaml: nothing can be reached by it, whatever a run tries."""
    (tmp_path / "clouds.yaml").write_text("clouds: {}\n", encoding="utf-8")
    path = tmp_path / "site.toml"
    path.write_text(
        GOOD.replace('"mycloud"', f'"mycloud"\nclouds_file = "{tmp_path}/clouds.yaml"', 1), encoding="utf-8"
    )
    return f"--site={path}"


@pytest.fixture
def phase(project: Path, tmp_path: Path, no_cloud: str) -> Run:
    """The project's own phases, without a cloud; what they write goes to tmp_path."""
    outputs = [f"--html={tmp_path / 'phase.html'}", f"--junit-xml={tmp_path / 'phase.xml'}"]
    return lambda *arguments, cwd=project: started(cwd, "-p", "no:cacheprovider", no_cloud, *outputs, *arguments)


# What is not a window


def refused(done: Done, says: str) -> None:
    """It did not begin: no test, no traceback."""
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert says in done.stdout
    assert "Traceback" not in done.stdout
    assert "INTERNALERROR" not in done.stdout
    assert not re.search(r"\d+ (passed|failed|error|blocked)", done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["tests_migrate", "-k", "guard"], id="by name"),
        pytest.param([f"{CHAPTERS}/test_01_guard.py"], id="a chapter"),
        pytest.param([f"{CHAPTERS}/test_09_sync.py::test_the_api_is_back"], id="a step"),
        pytest.param(["tests_migrate", f"--deselect={CHAPTERS}/test_02_back_up.py"], id="all but a chapter"),
        pytest.param(["tests_migrate", f"{CHAPTERS}/test_08_database.py"], id="all, and a chapter by name"),
    ],
)
def test_a_part_of_the_window_is_refused(phase: Run, arguments: list[str]) -> None:
    refused(phase(*arguments), WHOLE)


def test_a_chapter_named_from_its_own_directory_is_refused(phase: Run, project: Path) -> None:
    refused(phase(f"--rootdir={project}", "test_08_database.py", cwd=project / CHAPTERS), WHOLE)


@pytest.mark.parametrize("arguments", [["tests_pre"], ["-m", "pre"], ["tests_post"]], ids=" ".join)
def test_a_plan_is_of_the_window_only(phase: Run, arguments: list[str]) -> None:
    refused(phase("--plan", *arguments), "--plan is of the window: pytest tests_migrate --plan")


def test_the_window_and_its_proof_are_two_runs(phase: Run) -> None:
    refused(phase("tests_migrate", "tests_post"), "one phase at a time: tests_migrate, tests_post")


def test_a_scenario_that_nobody_knows_is_refused(phase: Run) -> None:
    done = phase("tests_migrate", "--scenario=magic")
    refused(done, "--scenario")
    assert "'linuxbridge-to-ovn'" in done.stdout
    assert "'router-evacuation'" in done.stdout


# What is in it


def functions(path: Path) -> list[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [each.name for each in body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")]


def chapters(project: Path, name: str, scenario: str) -> list[Path]:
    """The files of a phase in their order: every scenario's, and this one's."""
    found = [*(project / name).glob("test_*.py"), *(project / name / scenario.replace("-", "_")).glob("test_*.py")]
    return sorted(found, key=lambda path: (path.name, len(path.parts)))


@pytest.mark.parametrize("scenario", ["linuxbridge-to-ovn", "router-evacuation"])
@pytest.mark.parametrize("name", ["tests_pre", "tests_migrate", "tests_post"])
def test_a_list_of_the_tests_is_that_of_its_chapters_in_order(
    project: Path, phase: Run, name: str, scenario: str
) -> None:
    done = phase("--collect-only", "-q", f"--scenario={scenario}", name)
    assert done.returncode == 0, done.stdout
    listed = re.findall(r"^(\S+)::([^\s\[]+)", done.stdout, re.MULTILINE)
    files = chapters(project, name, scenario)
    numbers = [int(path.name.split("_")[1]) for path in files]
    assert sorted({*numbers}) == list(range(min(numbers), max(numbers) + 1))
    wanted = [(str(path.relative_to(project)), function) for path in files for function in functions(path)]
    assert list(dict.fromkeys(listed)) == wanted


def test_a_part_of_the_window_may_be_listed(phase: Run) -> None:
    done = phase("--collect-only", "-q", f"{CHAPTERS}/test_08_database.py")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^\S+::\S+", done.stdout, re.MULTILINE) == [
        f"{CHAPTERS}/test_08_database.py::test_rows_are_converted"
    ]


def test_another_scenario_has_none_of_these_chapters(phase: Run) -> None:
    done = phase("--collect-only", "-q", "tests_migrate", "--scenario=router-evacuation")
    assert done.returncode in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}, done.stdout
    assert "linuxbridge_to_ovn" not in done.stdout


def test_a_window_whose_first_step_can_not_look_goes_no_further(project: Path, tmp_path: Path, phase: Run) -> None:
    """The real chapters, with a cloud that is in no clouds.yaml."""
    change = f"TEST-window-{os.getpid()}"
    done = phase("tests_migrate", f"--change={change}")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    count = sum(len(functions(path)) for path in chapters(project, "tests_migrate", "linuxbridge-to-ovn"))
    lines = re.findall(r"^ *(ok|warn|FAIL|ERROR|block)   ", done.stdout, re.MULTILINE)
    assert lines == ["ERROR", *["block"] * (count - 1)]
    assert "could not be done: cloud mycloud: clouds.yaml:" in done.stdout
    assert "blocked by: The maintenance window of the site file is open" in done.stdout
    assert f"NOT MIGRATED (1 error, {count - 1} blocked)" in done.stdout
    assert "Traceback" not in done.stdout
    assert (tmp_path / "phase.html").exists()
    assert not (project / "reports" / change).exists()


# How a window goes on, and what stops it: the project's own fixtures, with chapters that need no cloud


class Window:
    """A copy of the project's entrance and fixtures, with chapters of a test."""

    def __init__(self, project: Path, root: Path, site: str) -> None:
        self._root = root
        self._site = site
        self.reports = root / "reports" / "rehearsal"
        root.mkdir()
        for name in ("conftest.py", "pytest.ini"):
            shutil.copy(project / name, root / name)
        shutil.copytree(project / "fixtures", root / "fixtures", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "ovnshift").symlink_to(project / "ovnshift")
        for phase in ("tests_pre", "tests_migrate", "tests_post"):
            for directory in (root / phase, root / phase / "linuxbridge_to_ovn"):
                directory.mkdir()
                (directory / "__init__.py").touch()

    def chapter(self, name: str, text: str, phase: str = "tests_migrate") -> None:
        head = "import pytest\nfrom pathlib import Path\nfrom ovnshift.errors import OvnshiftError\n\n"
        (self._root / phase / "linuxbridge_to_ovn" / f"test_{name}.py").write_text(head + text, encoding="utf-8")

    def run(self, *arguments: str) -> tuple[Done, dict[str, str]]:
        """How it ended, and what became of each test by its title."""
        done = started(self._root, self._site, *(arguments or ("tests_migrate",)))
        assert "INTERNALERROR" not in done.stdout, done.stdout
        said = re.findall(r"^ *(ok|warn|FAIL|ERROR|block)   (.*) \(\d+\.\d s\)$", done.stdout, re.MULTILINE)
        return done, {title: word for word, title in said}


@pytest.fixture
def window(project: Path, tmp_path: Path, no_cloud: str) -> Window:
    window = Window(project, tmp_path / "copy", no_cloud)
    window.chapter(
        "01_first",
        '''
def test_one(check):
    """The first step."""
    check.note("done")


def test_two(check):
    """The second step."""
    check.warn_of(["a tap"], "things are strange", remedy="look at them")
''',
    )
    window.chapter(
        "10_last",
        '''
@pytest.mark.goes_on
def test_nine(check):
    """The last step but one."""
    Path("nine").touch()


@pytest.mark.goes_on
def test_ten(check):
    """The last step."""
    Path("ten").touch()
''',
    )
    return window


ALL_WELL = {
    "The first step": "ok",
    "The second step": "warn",
    "The step between": "ok",
    "The last step but one": "ok",
    "The last step": "ok",
}


def test_a_window_in_which_nothing_fails_goes_through(window: Window) -> None:
    window.chapter("02_middle", 'def test_between(check):\n    """The step between."""\n')
    done, became = window.run()
    assert done.returncode == 0, done.stdout
    assert became == ALL_WELL
    assert list(became) == list(ALL_WELL)
    assert "MIGRATED: every step is done and proved (4 passed, 1 warning)" in done.stdout


def test_a_list_of_the_tests_writes_no_report(window: Window) -> None:
    done, _ = window.run("tests_migrate", "--collect-only")
    assert done.returncode == 0, done.stdout
    assert not window.reports.exists()


def test_a_plan_does_not_write_over_the_windows_report(window: Window) -> None:
    window.run()
    before = {path.name: path.read_bytes() for path in window.reports.iterdir()}
    window.run("tests_migrate", "--plan")
    after = {path.name: path.read_bytes() for path in window.reports.iterdir()}
    assert set(before) == {"migrate.html", "migrate.xml"}
    assert set(after) - set(before) == {"plan.html", "plan.xml"}
    assert {name: after[name] for name in before} == before


def test_what_is_refused_does_not_write_over_the_windows_report(window: Window) -> None:
    window.run()
    before = {path.name: path.read_bytes() for path in window.reports.iterdir()}
    assert b"MIGRATED" in before["migrate.html"]
    done, _ = window.run("tests_migrate", "-m", "not goes_on")
    refused(done, WHOLE)
    after = {path.name: path.read_bytes() for path in window.reports.iterdir()}
    assert {name for name in before if after.get(name) != before[name]} == set()


@pytest.mark.parametrize(
    ("middle", "word", "says"),
    [
        pytest.param(
            "    check.demand_none(['vm1'], 'of the instances run', remedy='stop it')",
            "FAIL",
            "1 of the instances run",
            id="fails",
        ),
        pytest.param(
            "    raise OvnshiftError('infra1', 'does not answer', 'see it')",
            "ERROR",
            "could not be done: infra1: does not answer",
            id="can not look",
        ),
        pytest.param("    assert 1 == 2", "FAIL", "AssertionError", id="asserts"),
        pytest.param("    raise KeyError('x')", "ERROR", "KeyError: 'x'", id="breaks"),
    ],
)
def test_what_fails_blocks_all_that_comes_after_it(
    window: Window, tmp_path: Path, middle: str, word: str, says: str
) -> None:
    window.chapter("02_middle", f'def test_between(check):\n    """The step between."""\n{middle}\n')
    done, became = window.run()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert became == {
        **ALL_WELL,
        "The step between": word,
        "The last step but one": "block",
        "The last step": "block",
    }
    assert says in done.stdout
    assert done.stdout.count("blocked by: The step between") >= 2
    assert "NOT MIGRATED" in done.stdout
    assert not (tmp_path / "copy" / "nine").exists()


def test_chapters_keep_their_order_whatever_failed_the_last_time(window: Window) -> None:
    window.chapter("02_middle", 'def test_between(check):\n    """The step between."""\n    assert not "this"\n')
    _, first = window.run()
    _, again = window.run()
    assert list(first) == list(again) == list(ALL_WELL)


def test_nothing_puts_a_later_chapter_first(window: Window) -> None:
    window.chapter("02_middle", 'def test_between(check):\n    """The step between."""\n    assert not "this"\n')
    window.run()
    done, became = window.run("tests_migrate", "--failed-first")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR or list(became) == list(ALL_WELL)


@pytest.mark.parametrize(
    "option", [f"--ignore={CHAPTERS}/test_01_first.py", "--ignore-glob=*/test_01_*"], ids=["path", "pattern"]
)
def test_a_chapter_that_is_ignored_is_refused(window: Window, option: str) -> None:
    done, _ = window.run("tests_migrate", option)
    refused(done, WHOLE)


@pytest.mark.parametrize("option", ["--setup-only", "--setup-plan"])
def test_what_was_only_set_up_was_not_done(window: Window, tmp_path: Path, option: str) -> None:
    done, _ = window.run("tests_migrate", option)
    assert not (tmp_path / "copy" / "ten").exists()
    assert "MIGRATED: every step is done and proved" not in done.stdout


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fixture_that_fails_blocks_as_well(window: Window, tmp_path: Path, when: str) -> None:
    error = "raise OvnshiftError('infra1', 'does not answer', 'see it')"
    body = f"    {error}\n    yield\n" if when == "before" else f"    yield\n    {error}\n"
    window.chapter(
        "02_middle",
        f'@pytest.fixture\ndef thing():\n{body}\n\ndef test_between(thing, check):\n    """The step between."""\n',
    )
    done, became = window.run()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert became["The step between"] == "ERROR"
    assert became["The last step"] == "block"
    assert not (tmp_path / "copy" / "ten").exists()


def test_what_goes_on_keeps_nothing_from_being_done(window: Window, tmp_path: Path) -> None:
    window.chapter(
        "02_middle",
        '''
@pytest.mark.goes_on
def test_between(check):
    """The step between."""
    raise OvnshiftError("vm1", "does not start", "see it")
''',
    )
    done, became = window.run()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert became == {**ALL_WELL, "The step between": "ERROR"}
    assert "NOT MIGRATED" in done.stdout
    assert (tmp_path / "copy" / "ten").exists()


def test_the_first_that_fails_is_the_one_that_is_named(window: Window) -> None:
    window.chapter(
        "02_middle",
        '''
@pytest.mark.goes_on
def test_between(check):
    """The step between."""
    assert not "this"


def test_after(check):
    """The step after it."""
    assert not "that"


def test_more(check):
    """One more step."""
''',
    )
    done, became = window.run()
    assert (became["The step between"], became["The step after it"], became["One more step"]) == (
        "FAIL",
        "FAIL",
        "block",
    )
    assert "blocked by: The step after it" in done.stdout
    assert "blocked by: The step between" not in done.stdout


def test_a_plan_goes_on_whatever_can_not_be_planned(window: Window) -> None:
    window.chapter("02_middle", 'def test_between(check):\n    """The step between."""\n    assert not "this"\n')
    done, became = window.run("tests_migrate", "--plan")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert became == {**ALL_WELL, "The step between": "FAIL"}
    assert "NOT TO BE PLANNED" in done.stdout
    assert not (window.reports / "migrate.html").exists()


def test_a_part_of_the_window_may_be_planned(window: Window) -> None:
    done, became = window.run("tests_migrate", "--plan", "-k", "test_two")
    assert done.returncode == 0, done.stdout
    assert became == {"The second step": "warn"}
    assert "PLANNED: nothing was changed" in done.stdout


def test_after_the_window_nothing_blocks_and_a_part_may_be_proved(window: Window) -> None:
    window.chapter(
        "1_cells",
        'def test_a(check):\n    """Cells."""\n    assert not "this"\n\n\ndef test_b(check):\n    """State."""\n',
        "tests_post",
    )
    done, became = window.run("tests_post")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert became == {"Cells": "FAIL", "State": "ok"}
    assert "WORSE THAN BEFORE" in done.stdout
    done, became = window.run("tests_post", "-k", "test_b")
    assert done.returncode == 0, done.stdout
    assert became == {"State": "ok"}


def test_the_scenarios_directory_is_named_as_well_as_the_whole(window: Window) -> None:
    done, became = window.run("tests_migrate/linuxbridge_to_ovn")
    assert done.returncode == 0, done.stdout
    assert "The last step" in became
