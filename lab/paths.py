"""Where the lab keeps things on the machine, and how it writes them.

The places do not depend on the checkout, since the lab's names and addresses are the machine's: a lab that another
checkout built is found, and can be removed, from here.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

STATE = Path("/var/lib/ovnshift-lab")
LOCK = Path("/run/lock/ovnshift-lab.lock")
RECORD = STATE / "lab.json"
HOSTS = STATE / "hosts"
LOGS = STATE / "log"
SITE = STATE / "site"
PROJECT_ROOT = Path(__file__).resolve().parent.parent


def cache() -> Path:
    """Where images and built clouds are kept between labs: ``OVNSHIFT_LAB_CACHE``, else ``/var/cache/ovnshift-lab``."""
    return Path(os.environ.get("OVNSHIFT_LAB_CACHE", "/var/cache/ovnshift-lab"))


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
