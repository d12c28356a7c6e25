from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ovnshift.deployments.staging import Change, Staging, StagingError, State, content_of, diff
from ovnshift.errors import OvnshiftError

NAMES = ("a.yml", "below/b.yml", "c.json")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "deploy"
    for name in NAMES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(f"{name} before\xff\n".encode("latin-1"))
    (directory / "a.yml").chmod(0o640)
    return directory


@pytest.fixture
def staging(directory: Path, tmp_path: Path) -> Staging:
    return Staging(directory, tmp_path / "reports" / "staging")


def changes(directory: Path, *more: str) -> list[Change]:
    found = []
    for name in (*NAMES, *more):
        path = directory / name
        found.append(Change(path, path.read_bytes() if path.exists() else None, f"{name} after\n".encode()))
    return found


def everything(directory: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """Every file with its content, permissions and owner."""
    return {
        str(path.relative_to(directory)): (
            path.read_bytes(),
            path.stat().st_mode,
            path.stat().st_uid,
            path.stat().st_gid,
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def stage(staging: Staging, wanted: list[Change]) -> list[bool]:
    staging.begin(wanted)
    return [staging.stage(change.path) for change in wanted]


def test_files_are_written_and_put_back_to_the_byte(staging: Staging, directory: Path) -> None:
    os.chown(directory / "c.json", 12345, 23456)
    before = everything(directory)
    wanted = changes(directory, "new/deep/d.yml")
    assert stage(staging, wanted) == [True] * 4
    staged = everything(directory)
    assert {name: content for name, (content, *_) in staged.items()} == {
        str(change.path.relative_to(directory)): change.after for change in wanted
    }
    assert {name: rest for name, (_, *rest) in staged.items() if name in before} == {
        name: rest for name, (_, *rest) in before.items()
    }
    assert set(staging.states().values()) == {State.STAGED}
    assert staging.drift() == []
    assert len(staging.undo()) == 4
    assert everything(directory) == before
    assert sorted(path.name for path in directory.iterdir()) == ["a.yml", "below", "c.json"]
    assert staging.record() is None


def test_nothing_is_written_before_it_is_staged(staging: Staging, directory: Path) -> None:
    before = everything(directory)
    staging.begin(changes(directory))
    assert everything(directory) == before
    assert set(staging.states().values()) == {State.BEFORE}


def test_copies_are_for_nobody_else(staging: Staging, directory: Path, tmp_path: Path) -> None:
    stage(staging, changes(directory))
    kept = tmp_path / "reports" / "staging"
    assert {path.name: path.stat().st_mode & 0o777 for path in kept.iterdir() if path.suffix != ".json"} == {
        f"{name.replace('/', '__')}.{when}": 0o600 for name in NAMES for when in ("before", "after")
    }
    assert kept.stat().st_mode & 0o777 == 0o700


def test_twice_is_once(staging: Staging, directory: Path) -> None:
    stage(staging, changes(directory))
    record, staged = staging.record(), everything(directory)
    again = changes(directory)
    assert not any(change.needed for change in again)
    assert stage(staging, again) == [False] * 3
    assert staging.record() == record
    assert everything(directory) == staged


def test_what_needs_no_change_is_in_no_record(staging: Staging, directory: Path) -> None:
    path = directory / "a.yml"
    staging.begin([Change(path, path.read_bytes(), path.read_bytes())])
    assert staging.record() is None
    assert not staging.stage(path)
    assert staging.undo() == []


def test_a_symbolic_link_stays_one(staging: Staging, directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.yml"
    (directory / "a.yml").rename(elsewhere)
    (directory / "a.yml").symlink_to("../elsewhere.yml")
    stage(staging, changes(directory))
    assert (directory / "a.yml").is_symlink()
    assert elsewhere.read_bytes() == b"a.yml after\n"
    staging.undo()
    assert (directory / "a.yml").is_symlink()
    assert elsewhere.read_bytes() == b"a.yml before\xff\n"


def test_a_link_that_was_turned_elsewhere_is_not_followed(staging: Staging, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"1")
    (directory / "a.yml").unlink()
    (directory / "a.yml").symlink_to(tmp_path / "one")
    staging.begin(changes(directory))
    (directory / "a.yml").unlink()
    (directory / "a.yml").symlink_to(tmp_path / "two")
    with pytest.raises(StagingError, match="leads elsewhere than to"):
        staging.stage(directory / "a.yml")
    assert (tmp_path / "two").read_bytes() == b"1"


def test_a_change_by_somebody_is_seen_and_refused(staging: Staging, directory: Path) -> None:
    stage(staging, changes(directory))
    (directory / "below" / "b.yml").write_text("below/b.yml after\nadded: 1\n", encoding="utf-8")
    staged = everything(directory)
    assert staging.drift() == [f"{directory}/below/b.yml: changed by somebody since\n@@ -1 +1,2 @@\n …\n+added: 1"]
    for attempt in (staging.undo, lambda: staging.begin([]), lambda: staging.stage(directory / "below" / "b.yml")):
        with pytest.raises(StagingError, match=r"was changed by somebody since") as caught:
            attempt()
        assert caught.value.place == f"{directory}/below/b.yml"
    assert everything(directory) == staged


def test_a_change_by_somebody_can_be_overruled_and_is_kept(staging: Staging, directory: Path, tmp_path: Path) -> None:
    before = everything(directory)
    stage(staging, changes(directory))
    (directory / "below" / "b.yml").write_text("theirs\n", encoding="utf-8")
    staging.undo(overwrite=True)
    assert everything(directory) == before
    assert (tmp_path / "reports" / "staging" / "below__b.yml.theirs").read_text() == "theirs\n"


def test_a_link_that_leads_nowhere_is_refused(directory: Path) -> None:
    (directory / "d.yml").symlink_to("nowhere.yml")
    with pytest.raises(StagingError, match="leads nowhere"):
        content_of(directory / "d.yml")
    with pytest.raises(StagingError, match="Is a directory"):
        content_of(directory)


@pytest.mark.parametrize("how", ["removed", "as before"])
def test_a_file_that_went_back_by_hand_is_drift(staging: Staging, directory: Path, how: str) -> None:
    stage(staging, changes(directory))
    path = directory / "a.yml"
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"a.yml before\xff\n")
    assert len(staging.drift()) == 1
    assert str(path) in staging.drift()[0]


def test_what_the_deployer_writes_anew_is_no_drift_and_is_not_thrown_away(directory: Path, tmp_path: Path) -> None:
    staging = Staging(directory, tmp_path / "kept", lambda path, content: path.name == "c.json" and b"good" in content)
    stage(staging, changes(directory))
    (directory / "c.json").write_bytes(b"good and new")
    assert staging.drift() == []
    assert staging.states()[str(directory / "c.json")] is State.RENEWED
    staging.begin([])
    assert not staging.stage(directory / "c.json")
    with pytest.raises(StagingError, match="written anew by the deployer"):
        staging.undo()
    assert (directory / "c.json").read_bytes() == b"good and new"
    (directory / "c.json").write_bytes(b"bad")
    assert len(staging.drift()) == 1


def test_what_the_deployer_wrote_anew_without_adding_to_it_goes_back(directory: Path, tmp_path: Path) -> None:
    before = (directory / "c.json").read_bytes()
    asked: list[tuple[bytes, bytes]] = []

    def loses_nothing(path: Path, now: bytes, then: bytes) -> bool:
        assert path == directory / "c.json"
        asked.append((now, then))
        return b"more" not in now

    staging = Staging(directory, tmp_path / "kept", lambda _path, content: b"good" in content, loses_nothing)
    stage(staging, changes(directory))
    (directory / "c.json").write_bytes(b"good, and more")
    with pytest.raises(StagingError, match="written anew by the deployer since it was staged, with other hosts"):
        staging.undo()
    (directory / "c.json").write_bytes(b"good, in another order")
    assert str(directory / "c.json") in staging.undo()
    assert (directory / "c.json").read_bytes() == before
    assert asked == [(b"good, and more", before), (b"good, in another order", before)]


def test_a_file_that_would_be_staged_in_another_way_now_is_refused(staging: Staging, directory: Path) -> None:
    stage(staging, changes(directory))
    path = directory / "a.yml"
    with pytest.raises(StagingError, match="would be staged in another way now"):
        staging.begin([Change(path, path.read_bytes(), b"other\n")])


def test_staging_after_the_way_back_begins_anew(staging: Staging, directory: Path) -> None:
    stage(staging, changes(directory))
    staging.undo()
    (directory / "a.yml").write_bytes(b"edited meanwhile\n")
    before = everything(directory)
    stage(staging, changes(directory))
    staging.undo()
    assert everything(directory) == before


@pytest.mark.parametrize("damage", [b"", b"a.yml before", None])
def test_a_damaged_copy_keeps_everything_from_being_put_back(
    staging: Staging, directory: Path, tmp_path: Path, damage: bytes | None
) -> None:
    stage(staging, changes(directory))
    staged = everything(directory)
    copy = tmp_path / "reports" / "staging" / "a.yml.before"
    if damage is None:
        copy.unlink()
    else:
        copy.write_bytes(damage)
    with pytest.raises(StagingError, match=r"is missing|its checksum is wrong"):
        staging.undo()
    assert everything(directory) == staged


def test_a_record_that_was_edited_is_refused(staging: Staging, directory: Path, tmp_path: Path) -> None:
    stage(staging, changes(directory))
    record = tmp_path / "reports" / "staging" / "record.json"
    document = json.loads(record.read_text())
    document["content"]["files"][0]["target"] = "/etc/passwd"
    record.write_text(json.dumps(document))
    with pytest.raises(StagingError, match="its checksum is wrong") as caught:
        staging.undo()
    assert "pytest -m pre" not in caught.value.next_step


def test_a_record_of_another_directory_is_refused(staging: Staging, directory: Path, tmp_path: Path) -> None:
    stage(staging, changes(directory))
    (tmp_path / "other").mkdir()
    with pytest.raises(StagingError, match="and this site has"):
        Staging(tmp_path / "other", tmp_path / "reports" / "staging").states()


def test_two_at_once_are_refused(directory: Path, tmp_path: Path) -> None:
    first, second = (Staging(directory, tmp_path / name) for name in ("one", "two"))
    with first.locked(), pytest.raises(StagingError, match="is being staged by another run"), second.locked():
        pass
    with second.locked():
        pass


STAGER = """
import sys
from pathlib import Path
from ovnshift.deployments.staging import Change, Staging
directory, kept = Path(sys.argv[1]), Path(sys.argv[2])
staging = Staging(directory, kept)
wanted = []
for name in sys.argv[4:]:
    path = directory / name
    wanted.append(Change(path, path.read_bytes() if path.exists() else None, f"{name} after\\n".encode()))
with staging.locked():
    staging.begin(wanted)
    for number, change in enumerate(wanted):
        if number == int(sys.argv[3]):
            print("half", flush=True)
            sys.stdin.read()
        staging.stage(change.path)
"""


@pytest.mark.parametrize("written", range(4))
@pytest.mark.parametrize("then", ["finish", "undo"])
def test_a_run_that_is_killed_is_finished_or_undone_by_the_next(
    directory: Path, tmp_path: Path, project: Path, written: int, then: str
) -> None:
    before = everything(directory)
    kept = tmp_path / "kept"
    names = [*NAMES, "new/d.yml"]
    command = [sys.executable, "-c", STAGER, str(directory), str(kept), str(written), *names]
    with subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stager:
        assert stager.stdout is not None
        assert stager.stdout.readline() == b"half\n"
        stager.kill()
    assert stager.returncode == -signal.SIGKILL
    staging = Staging(directory, kept)
    assert list(staging.states().values()) == [State.STAGED] * written + [State.BEFORE] * (4 - written)
    if then == "finish":
        with staging.locked():
            wanted = changes(directory, "new/d.yml")
            assert stage(staging, wanted) == [False] * written + [True] * (4 - written)
        assert {name: content for name, (content, *_) in everything(directory).items()} == {
            name: f"{name} after\n".encode() for name in names
        }
    assert len(staging.undo()) == (4 if then == "finish" else written)
    assert everything(directory) == before
    assert not (directory / "new").exists()


def test_a_way_back_that_stopped_is_carried_on(staging: Staging, directory: Path) -> None:
    before = everything(directory)
    stage(staging, changes(directory))
    (directory / "c.json").write_bytes(before["c.json"][0])
    assert len(staging.undo()) == 2
    assert everything(directory) == before


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", str(place)], check=True)
    try:
        path = place / "a.yml"
        path.write_bytes(b"before\n")
        staging = Staging(place, tmp_path / "kept")
        staging.begin([Change(path, b"before\n", b"x" * 100_000)])
        with pytest.raises(OvnshiftError, match="No space left on device"):
            staging.stage(path)
        assert [each.name for each in place.iterdir()] == ["a.yml"]
        assert path.read_bytes() == b"before\n"
        assert staging.undo() == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_difference_shows_edits_and_no_secrets() -> None:
    old = (
        "keystone_auth_admin_password: hunter2\nplain: shown\n# token: hunter3\nopts: {password: hunter4}\n"
        "neutron_plugin_type: ml2.lxb\npem: |\n  hunter5aGVsbG8=\n- plain-item\n"
    )
    lines = diff(Change(Path("/f"), old.encode(), old.replace("lxb", "ovn").encode()))
    text = "\n".join(lines)
    assert "hunter" not in text
    assert "-neutron_plugin_type: ml2.lxb\n+neutron_plugin_type: ml2.ovn" in text
    assert " plain: shown" in text
    assert " - plain-item" in text
    assert lines[:2] == ["--- /f", "+++ /f"]


def test_a_difference_to_nothing_says_that_the_file_is_made() -> None:
    assert diff(Change(Path("/f"), None, b"a: 1\n")) == ["--- /dev/null", "+++ /f", "@@ -0,0 +1 @@", "+a: 1"]
