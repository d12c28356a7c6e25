"""What the tests without a lab leave as they found it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NAMES = Path("/run/netns")
BEFORE = pytest.StashKey[int]()


def mounts() -> int:
    """How often the directory of namespaces' names is mounted; `ip netns add` does that and leaves it behind."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return sum(line.split()[4] == str(NAMES) for line in lines)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[BEFORE] = mounts()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Once all workers have ended, and not in one of them: the others still use it."""
    if hasattr(session.config, "workerinput") or session.config.stash[BEFORE]:
        return
    if mounts() and (left := sorted(path.name for path in NAMES.iterdir())):
        pytest.exit(f"tests left namespaces: {', '.join(left)}", returncode=1)
    while mounts():
        subprocess.run(["umount", str(NAMES)], check=True)
