from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lab import processes


def test_groups_that_go_while_their_members_are_looked_for_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As units do that end while a host boots."""
    monkeypatch.setattr(processes, "group_directories", lambda: [tmp_path])
    stays = tmp_path / "infra1" / "payload"
    stays.mkdir(parents=True)
    (stays / "cgroup.procs").write_text("4711\n", encoding="ascii")
    over = threading.Event()

    def come_and_go() -> None:
        number = 0
        while not over.is_set():
            number += 1
            unit = stays / f"unit{number % 50}.service"
            unit.mkdir()
            (unit / "cgroup.procs").write_text("4712\n", encoding="ascii")
            (unit / "cgroup.procs").unlink()
            unit.rmdir()

    worker = threading.Thread(target=come_and_go)
    worker.start()
    try:
        found = [processes.members() for _ in range(2000)]
    finally:
        over.set()
        worker.join()
    assert all(4711 in each for each in found)
    assert set().union(*found) <= {4711, 4712}
    assert processes.members("infra1") == {4711}
    assert processes.members("infra2") == set()
