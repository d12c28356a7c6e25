"""The kept state: what every host had written when ``up`` was done. ``reset`` comes back to it, and so does the next ``up``.

It lies in the cache beside the image, as one more read-only layer for each host between the image and what the host writes.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from lab import blueprint, host, image, paths, processes, rootfs
from lab.run import run

# Whatever decides what the cloud looks like. A change of any makes another kept state.
_CODE = ("blueprint.py", "cloud.py", "rootfs.py", "store.py")


def directory(
    hosts_image: Path, guest: Path, *, management: str, vlan: bool, kvm: bool, mechanism: blueprint.Mechanism
) -> Path:
    """Where the kept state of such a lab is, or would be."""
    # What is written for the suite is on no host.
    files = sorted(
        path for path in rootfs.FILES.rglob("*") if path.is_file() and rootfs.FILES / "site" not in path.parents
    )
    names = "\n".join(str(path.relative_to(rootfs.FILES)) for path in files)
    code = [Path(__file__).parent / name for name in _CODE]
    more = "\n".join([hosts_image.name, guest.name, management, str(vlan), str(kvm), names])
    fingerprint = image.fingerprint([*files, *code], hashlib.sha256(more.encode()).hexdigest())
    return paths.cache() / f"cloud-{mechanism}-{fingerprint}"


def exists(kept: Path) -> bool:
    """Whether the state is kept, whole."""
    return kept.is_dir()


def keep(kept: Path) -> None:
    """Keep what the hosts have written until now.

    All processes of the lab stand still at one instant while it is copied, so that what is kept is what a power cut at
    that instant would have left: every server of the cloud comes up from that.
    """
    partial = kept.with_name(kept.name + ".partial")
    discard(partial)
    partial.mkdir(parents=True, mode=0o700)
    processes.freeze(frozen=True)
    try:
        for each in blueprint.HOSTS:
            run(["cp", "--archive", str(host.place(each) / "upper"), str(partial / each.name)], timeout=300)
    finally:
        processes.freeze(frozen=False)
    partial.rename(kept)
    _prune(kept)


def discard(kept: Path) -> None:
    """Forget a kept state."""
    if kept.exists():
        shutil.rmtree(kept)


def _is_of(kept: Path, mechanism: blueprint.Mechanism) -> bool:
    return kept.name.startswith(f"cloud-{mechanism}-")


def _prune(kept: Path) -> None:
    """Forget what no lab of this version would come back to; the state of a lab with the other mechanism stays."""
    mounted = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    others = tuple(f"cloud-{mechanism}-" for mechanism in blueprint.Mechanism if not _is_of(kept, mechanism))
    for other in paths.cache().glob("cloud-*"):
        if not other.name.startswith((kept.name, *others)) and f"{other}/" not in mounted:
            shutil.rmtree(other)
