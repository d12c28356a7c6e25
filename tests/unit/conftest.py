"""What the tests without a lab leave as they found it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

NAMES = Path("/run/netns")


def mounts() -> int:
    """How often the directory of namespaces' names is mounted; `ip netns add` does that and leaves it behind."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return sum(line.split()[4] == str(NAMES) for line in lines)


@pytest.fixture(scope="package", autouse=True)
def _names_of_namespaces() -> Iterator[None]:
    before = mounts()
    yield
    if before == 0:
        assert not mounts() or not list(NAMES.iterdir())
        while mounts():
            subprocess.run(["umount", str(NAMES)], check=True)
