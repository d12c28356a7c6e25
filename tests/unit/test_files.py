from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnshift.errors import OvnshiftError
from ovnshift.files import checksum, read_document, write_atomically, write_document

CONTENT = {"name": 'a"; reboot #<b> ☃', "cells": [1, 2.5, None, {"nested": True}]}


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "reports" / "CHG-1" / "baseline.json"
    write_document(path, "baseline", 3, CONTENT)
    return path


def test_what_was_written_is_read_back(document: Path) -> None:
    assert read_document(document, "baseline", 3) == CONTENT
    assert [each.name for each in document.parent.iterdir()] == ["baseline.json"]


def test_a_document_of_an_earlier_version_is_read(document: Path) -> None:
    assert read_document(document, "baseline", 4) == CONTENT


def test_permissions_are_those_that_were_asked_for(tmp_path: Path) -> None:
    write_atomically(tmp_path / "secret", b"x")
    write_atomically(tmp_path / "open", b"x", mode=0o644)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("secret", "open")] == [0o600, 0o644]


def test_a_checksum_does_not_depend_on_the_order_of_keys() -> None:
    assert checksum({"a": 1, "b": [2]}) == checksum({"b": [2], "a": 1})
    assert checksum({"a": 1, "b": [2]}) != checksum({"a": 1, "b": ["2"]})


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")


def test_an_edited_document_is_refused(document: Path) -> None:
    _edit(document, content={**CONTENT, "name": "another"})
    with pytest.raises(OvnshiftError, match="was changed after it was written"):
        read_document(document, "baseline", 3)


def test_a_document_that_lost_its_checksum_is_refused(document: Path) -> None:
    _edit(document, checksum=None)
    with pytest.raises(OvnshiftError, match="its checksum is wrong"):
        read_document(document, "baseline", 3)


def test_another_kind_of_document_is_refused(document: Path) -> None:
    with pytest.raises(OvnshiftError, match="is no topology"):
        read_document(document, "topology", 3)


@pytest.mark.parametrize("version", [4, "3", None])
def test_a_document_of_a_later_or_unknown_version_is_refused(document: Path, version: object) -> None:
    _edit(document, version=version)
    with pytest.raises(OvnshiftError, match=f"has version {version}; this ovnshift reads up to 3") as caught:
        read_document(document, "baseline", 3)
    assert caught.value.next_step == "use the ovnshift that wrote it"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_document_is_refused(document: Path, share: float) -> None:
    whole = document.read_bytes()
    document.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(OvnshiftError, match="is no JSON"):
        read_document(document, "baseline", 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x00\xff", "is no JSON"),
        (b"not json", "is no JSON"),
        (b"[]", "is no baseline"),
        (b"null", "is no baseline"),
        (b"{}", "is no baseline"),
        (b'{"kind": "baseline", "version": 1}', "its checksum is wrong"),
        (b'{"kind": "baseline", "version": 1, "content": [], "checksum": "sha256:0"}', "its checksum is wrong"),
    ],
)
def test_what_is_no_document_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_bytes(content)
    with pytest.raises(OvnshiftError, match=says) as caught:
        read_document(path, "baseline", 3)
    assert caught.value.place == str(path)


def test_a_document_that_is_missing_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(OvnshiftError, match="No such file") as caught:
        read_document(tmp_path / "baseline.json", "baseline", 1)
    assert "pytest -m pre" in caught.value.next_step


def test_a_place_below_a_file_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OvnshiftError, match="could not be written"):
        write_atomically(tmp_path / "file" / "below" / "target", b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_a_directory_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(OvnshiftError, match="could not be written"):
        write_atomically(tmp_path / "target", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["target"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(small_disk: Path) -> None:
    target = small_disk / "baseline.json"
    write_document(target, "baseline", 1, CONTENT)
    with pytest.raises(OvnshiftError, match="No space left on device") as caught:
        write_document(target, "baseline", 1, {"much": "x" * 200_000})
    assert "make room" in caught.value.next_step
    assert read_document(target, "baseline", 1) == CONTENT
    assert [each.name for each in small_disk.iterdir()] == ["baseline.json"]


WRITER = """
import sys
from pathlib import Path
from ovnshift.files import write_document
print("writes", flush=True)
for number in range(1_000_000):
    write_document(Path(sys.argv[1]), "baseline", 1, {"number": number, "cells": [number] * 20_000})
"""


def test_writers_that_are_killed_leave_a_whole_document(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_document(path, "baseline", 1, {"number": -1, "cells": []})
    instants = random.Random(3)  # noqa: S311
    found = []
    for _ in range(6):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=project, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"writes\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writers[0].wait(timeout=instants.uniform(0.05, 0.25))
        finally:
            for writer in writers:
                writer.kill()
            codes = [writer.wait() for writer in writers]
            for writer in writers:
                assert writer.stdout is not None
                writer.stdout.close()
        assert codes == [-signal.SIGKILL] * 2
        content = read_document(path, "baseline", 1)
        assert content["cells"] == [content["number"]] * 20_000 or content["number"] == -1
        found.append(content["number"])
    assert max(found) >= 0, "nothing was ever written"
