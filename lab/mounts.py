"""What is mounted where. ``os.path.ismount`` misses bind mounts within one file system, so the kernel is asked."""

from __future__ import annotations

import re
from pathlib import Path

from lab.run import run


def at_or_below(place: Path) -> list[Path]:
    """Mount points at a place and below it, innermost first; a place mounted twice comes twice."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        # Blanks in names are written as octal escapes (proc(5)).
        target = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4]))
        if target == place or place in target.parents:
            found.append(target)
    return sorted(found, key=lambda target: len(target.parts), reverse=True)


def unmount_all(place: Path) -> None:
    """Unmount everything at a place and below it.

    Raises:
        LabError: something there is in use.
    """
    for target in at_or_below(place):
        run(
            ["umount", str(target)],
            next_step=f"find out what uses it (fuser --mount {target}), then python -m lab down",
        )


def is_mounted(place: Path) -> bool:
    """Whether something is mounted right at a place."""
    return place in at_or_below(place)
