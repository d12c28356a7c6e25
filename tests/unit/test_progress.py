from __future__ import annotations

import io

import pytest
from rich.console import Console

from lab.errors import LabError
from lab.progress import Progress


def plain() -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return Progress(Console(file=stream, force_terminal=False, width=200)), stream


def test_off_a_terminal_each_step_is_a_line_at_its_start_and_its_end() -> None:
    progress, stream = plain()
    with progress.step("hosts boot") as step:
        step.waiting_for("infra1")
        step.note = "6 of 6"
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  …   hosts boot"
    assert lines[1].startswith("  ok  hosts boot: 6 of 6 (")
    assert len(lines) == 2


def test_a_step_that_fails_says_so_and_the_error_goes_on() -> None:
    progress, stream = plain()
    with pytest.raises(LabError), progress.step("hosts boot"):
        raise LabError("host x did not boot", "read its console")
    assert "FAIL  hosts boot (" in stream.getvalue()
    assert " ok " not in stream.getvalue()


def test_names_are_printed_as_they_are() -> None:
    progress, stream = plain()
    with progress.step('waiting for [bold]a"; reboot #<b>[/bold]'):
        pass
    assert 'waiting for [bold]a"; reboot #<b>[/bold]' in stream.getvalue()


def test_an_error_says_what_is_next_and_shows_the_end_of_the_output() -> None:
    text = str(LabError("it failed", "try this", "\n".join(f"line {number}" for number in range(100))))
    assert text.startswith("it failed\n  next: try this\n")
    assert "line 99" in text
    assert "line 10\n" not in text
