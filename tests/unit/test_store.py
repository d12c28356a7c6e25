from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import paths, store
from lab.errors import Busy, LabError, NotUp


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RECORD", tmp_path / "lab.json")
    monkeypatch.setattr(paths, "LOCK", tmp_path / "lock" / "lab.lock")


def record(tmp_path: Path) -> store.Record:
    return store.Record(checkout=tmp_path, image=tmp_path / "image", kept=tmp_path / "cloud-1", vlan=False, kvm=False)


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = record(tmp_path)
    written.save()
    assert store.load_record() == written
    assert paths.RECORD.stat().st_mode & 0o777 == 0o600


def test_no_record_is_no_lab() -> None:
    assert store.load_record() is None
    with pytest.raises(NotUp, match="no lab on this machine") as caught:
        store.require_record()
    assert caught.value.next_step == "python -m lab up"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "unknown": true}', "\0"])
def test_a_record_that_can_not_be_read_is_an_error_with_a_way_out(text: str) -> None:
    paths.RECORD.write_text(text, encoding="utf-8")
    with pytest.raises(LabError, match=r"lab\.json is not a record") as caught:
        store.load_record()
    assert "python -m lab down" in caught.value.next_step


def test_secrets_are_long_and_all_different() -> None:
    values = list(store.Secrets.make().model_dump().values())
    assert len(set(values)) == len(values)
    assert min(len(value) for value in values) >= 24


def test_identity_is_made_once(tmp_path: Path) -> None:
    this = record(tmp_path)
    first = store.ensure_identity(this)
    identity = store.identity_of(this)
    keys = {path.name: path.read_bytes() for path in identity.iterdir()}
    assert store.ensure_identity(this) == first
    assert {path.name: path.read_bytes() for path in identity.iterdir()} == keys
    assert identity.stat().st_mode & 0o777 == 0o700
    assert (identity / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_damaged_secrets_are_an_error(tmp_path: Path) -> None:
    this = record(tmp_path)
    store.ensure_identity(this)
    (store.identity_of(this) / "secrets.json").write_text("{}", encoding="utf-8")
    with pytest.raises(LabError, match="missing or damaged"):
        store.load_secrets(this)


HOLDER = """
import sys
from pathlib import Path
from lab import paths, store
paths.LOCK = Path(sys.argv[1])
with store.exclusive("up"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lab_is_one_commands_at_a_time_and_free_after_a_kill(project: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(paths.LOCK)],
        cwd=project,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(project)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=rf"`python -m lab up` \(process {holder.pid}\)"), store.exclusive("down"):
            pass
        holder.kill()
        holder.wait()
    with store.exclusive("down"):
        assert f"process {os.getpid()}" in paths.LOCK.read_text(encoding="utf-8")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    paths.write_atomically(target, "old")

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        paths.write_atomically(target, "new")
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]
