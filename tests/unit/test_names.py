"""Names that users of a cloud choose, which may be anything: on the way to shells, programs, pages and the terminal."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.options import PHASE, Phase
from fixtures.progress import Progress
from ovnshift.connectivity.cells import Outcome
from ovnshift.database.connection import identifier
from ovnshift.hosts import programs
from ovnshift.hosts.openssh import Local
from ovnshift.journal import State
from ovnshift.names import label, printable
from ovnshift.report import page
from ovnshift.report.result import CheckResult, Finding, verdict
from ovnshift.report.result import Outcome as Found
from tests.unit.test_report_window import Tags, both, compared, end, entry

ID = "0f5c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"
PIECES = (
    "'",
    '"',
    "`",
    "$(id)",
    "${HOME}",
    ";",
    "&&",
    "|",
    "\\",
    "*",
    "~",
    " ",
    "\t",
    "\n",
    "\r",
    "--",
    "-",
    "#",
    "%s",
    "%(x)s",
    "<script>alert(1)</script>",
    "</td>",
    "<!--",
    "]]>",
    "&lt;",
    "&#60;",
    "' onclick='x",
    "{{ 7 * 7 }}",
    "{% if x %}",
    "'; DROP TABLE ports; --",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x07",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\ufeff",
    "é",
    "日本",
    "🐍",
    "\u2028",
)
names = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=12).map("".join)
# What a program's arguments can have.
arguments = names.map(lambda text: text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8"))
# Each one is some processes.
dear = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class ThroughAShell(Local):
    """As sshd runs what it is given."""

    def _argv(self, command: str) -> list[str]:
        return ["sh", "-c", command]


@dear
@given(st.lists(arguments, min_size=1, max_size=5))
def test_a_program_gets_its_arguments_as_they_are(values: list[str]) -> None:
    host = ThroughAShell("box", sudo=False, seconds=60)
    done = host.run("printf", r"%s\0", *values)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8").split("\0") == [*values, ""]


@dear
@given(st.lists(names, max_size=5))
def test_a_program_on_a_host_gets_its_task_as_it_is(values: list[str]) -> None:
    host = ThroughAShell("box", sudo=False, seconds=60)
    program = b"import json, sys\nprint(json.dumps(json.load(sys.stdin)))\n"
    assert programs.run(host, program, values) == [values]


@given(names)
def test_a_label_is_one_line_and_ends_with_the_id(name: str) -> None:
    shown = label(name, ID)
    assert shown.endswith(("(0f5c1d2e)", ID))
    assert len(shown.splitlines()) == 1
    assert [each for each in shown if unicodedata.category(each) in {"Cc", "Cs"}] == []
    assert [
        each for each in shown if unicodedata.bidirectional(each) in {"LRO", "RLO", "LRE", "RLE", "LRI", "RLI"}
    ] == []


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cf", "Cn"))))
def test_other_names_stand_as_they_are(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize("name", ["", " ", "\n"])
def test_what_has_no_name_is_called_by_its_id(name: str) -> None:
    assert label(name, ID) == ID


def shape(shown: str) -> list[tuple[str, list[str]]]:
    """The elements of a piece of a page, with the names of their attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in Tags(shown).tags]


def pieces(name: str) -> list[str]:
    """Each piece of a page, with a name wherever one can stand."""
    web, guest = (end(f"x{name}", kind) for kind in ("network", "instance"))
    before, after = both((web, guest, Outcome.PASSED, Outcome.FAILED), (guest, web, Outcome.FAILED, Outcome.PASSED))
    result = CheckResult(name, name, Found.FAILED, findings=[Finding(name, (name,), name)])
    return [
        compared(before, after, evidence={label(guest.name, guest.id): [(name, name)]}),
        page.matrix(before, {guest.id: name}),
        page.finding(result),
        page.summary(verdict([result], good=name, bad=name), [result], {name: name}),
        page.steps([entry(1, State.FAILED, title=name, found={name: name}, proof=[name], problem=name, chapter=name)]),
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names)
def test_a_page_has_the_same_elements_whatever_things_are_called(name: str) -> None:
    name = label(name, ID)
    for shown, wanted in zip(pieces(name), pieces(f"harmless ({ID[:8]})"), strict=True):
        assert shape(shown) == shape(wanted)
        assert ID[:8] in Tags(shown).text


@given(names | st.from_regex(r"[A-Za-z0-9_]{0,70}[`\n]?", fullmatch=True))
def test_no_name_ends_what_stands_between_backticks(name: str) -> None:
    fits = name.isascii() and name.replace("_", "a").isalnum() and len(name) <= 64
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="is no name of a schema"):
        assert identifier(name) == f"`{name}`"


def test_the_terminal_gets_no_codes_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    capture = SimpleNamespace(global_and_fixture_disabled=contextlib.nullcontext)
    config = SimpleNamespace(
        pluginmanager=SimpleNamespace(getplugin=lambda _name: capture), stash={PHASE: Phase.MIGRATE}
    )
    progress = Progress(config)  # type: ignore[arg-type]
    progress.say("TASK [\x1b[0;32mok\x1b[0m] \x1b]0;gone\x07x\rREADY\u202e [bold]")
    assert capsys.readouterr().out == "      TASK [ok] x\ufffdREADY\ufffd [bold]\n"


def test_json_of_a_task_is_of_ascii_only() -> None:
    """Whatever a host's locale is."""
    assert programs.envelope(b"", ["日本\udcff"]).endswith(json.dumps(["日本\udcff"]).encode("ascii"))
