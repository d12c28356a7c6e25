"""The hosts' image: one read-only root file system from Debian packages, made once and kept outside the checkout.

The image's name is a hash of its recipe, so that a change of the recipe makes another image, and an image is never
changed in place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab import mounts, paths
from lab.errors import LabError
from lab.progress import Progress
from lab.run import attempt, run

RECIPE = Path(__file__).resolve().parent / "recipe"
RELEASE = "bookworm"
# Part of the image's name: to be raised when this module changes what an image is.
SETTLED_BY = 3
BUILD_TIMEOUT = 30 * 60
# The user that operators, Ansible and the suite log in as; it may become root.
OPERATOR = "ops"
OPERATOR_UID = 2000

# The kernel of the guests, as a package, inside the image.
KERNEL = "root/kernel"


def fingerprint(files: Iterable[Path], more: str = "") -> str:
    """A short hash of files, with their names and whether they may be executed."""
    digest = hashlib.sha256(more.encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + oct(path.stat().st_mode & 0o111).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def directory() -> Path:
    """Where the image of this recipe is, or would be."""
    recipe = sorted(path for path in RECIPE.iterdir() if path.is_file())
    return paths.cache() / f"image-{fingerprint(recipe, f'{RELEASE} {SETTLED_BY}')}"


def is_cached() -> bool:
    """Whether the image of this recipe is whole and there."""
    return (directory() / "rootfs").is_dir()


def ensure(progress: Progress) -> Path:
    """The image of this recipe; made when it is not there.

    Returns:
        its directory; the hosts' root is ``rootfs/`` in it.

    Raises:
        LabError: apt or a program of the build failed; what was half made is thrown away by the next attempt.
    """
    target = directory()
    if is_cached():
        return target
    partial = target.with_name(target.name + ".partial")
    with progress.step(f"make the hosts' image {target.name} (packages of Debian {RELEASE})") as step:
        discard(partial)
        partial.mkdir(parents=True)
        step.waiting_for("apt")
        _install(partial)
        step.waiting_for("settings")
        _settle(partial / "rootfs")
        os.sync()
        partial.rename(target)
        step.note = f"{_size(target) / 1024**3:.1f} GiB"
    _prune(keep=target)
    return target


def discard(tree: Path) -> None:
    """Remove a root file system, first unmounting whatever a killed build left mounted in it."""
    mounts.unmount_all(tree)
    if tree.exists():
        shutil.rmtree(tree)


def packages() -> list[str]:
    """The packages of the recipe, some with the version that they are pinned to."""
    lines = (RECIPE / "packages.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _apt_sources() -> str:
    """This machine's own apt sources of the release, so that the image comes from where the machine's packages come from.

    Raises:
        LabError: there is none.
    """
    wanted = (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security")
    template = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
    sources: list[str] = []
    for line in run(["apt-get", "indextargets", "--format", template]).splitlines():
        kind, uri, release, component, signed_by = line.split("|", 4)
        if kind != "Packages" or release not in wanted or component != "main":
            continue
        option = f" [signed-by={signed_by}]" if signed_by.startswith("/") else ""
        sources.append(f"deb{option} {uri} {release} {component}")
    if not any(f" {RELEASE} " in source for source in sources):
        raise LabError(
            f"this machine's apt has no source of Debian {RELEASE} main, which the hosts' image is made from",
            "add one below /etc/apt/sources.list.d and run apt-get update",
        )
    return "\n".join(dict.fromkeys(sources)) + "\n"


def _install(partial: Path) -> None:
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Retries 3",
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--customize-hook={RECIPE / 'fetch-kernel.sh'}",
        f"--include={','.join(packages())}",
        RELEASE,
        str(partial / "rootfs"),
        "-",
    ]
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    run(
        command,
        timeout=BUILD_TIMEOUT,
        stdin=_apt_sources(),
        log=paths.LOGS / "image.log",
        next_step=f"read {paths.LOGS / 'image.log'}; if the package registry failed, run the same command again",
    )


def _settle(rootfs: Path) -> None:
    """Make the installed packages into hosts: nothing starts by itself, nobody has a key yet, logs go to the journal."""
    systemd = rootfs / "etc/systemd/system"
    (rootfs / "etc/systemd/system-preset").mkdir(parents=True, exist_ok=True)
    shutil.copy(RECIPE / "host.preset", rootfs / "etc/systemd/system-preset/00-lab.preset")
    # Directly, since `systemctl preset-all` keeps what packages linked by hand.
    for wants in [*systemd.glob("*.wants"), *systemd.glob("*.requires")]:
        shutil.rmtree(wants)
    run(["systemctl", f"--root={rootfs}", "enable", "dbus.socket"])
    masked = (RECIPE / "masked-units.txt").read_text(encoding="utf-8").splitlines()
    for unit in (line.strip() for line in masked):
        if unit and not unit.startswith("#"):
            link = systemd / unit
            link.unlink(missing_ok=True)
            link.symlink_to("/dev/null")
    for secret in (rootfs / "etc/ssh").glob("ssh_host_*"):
        secret.unlink()
    (rootfs / "etc/machine-id").write_text("", encoding="ascii")
    (rootfs / "etc/resolv.conf").unlink(missing_ok=True)
    (rootfs / "etc/resolv.conf").write_text("", encoding="ascii")
    (rootfs / "etc/hostname").unlink(missing_ok=True)
    # The packages' own logs of the build; a service that finds one owned by root dies without a word.
    for log in (rootfs / "var/log").rglob("*.log"):
        log.unlink()
    _collect_garbage_once(rootfs)
    _plug_by_libvirt(rootfs)
    run(["chroot", str(rootfs), "useradd", "--create-home", "--shell", "/bin/bash", f"--uid={OPERATOR_UID}", OPERATOR])
    (rootfs / "etc/sudoers.d/lab").write_text(f"{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n", encoding="ascii")
    (rootfs / "etc/sudoers.d/lab").chmod(0o440)


def _collect_garbage_once(rootfs: Path) -> None:
    """Take a second off the start of each of some twenty services, on one processor.

    eventlet 0.33 makes existing locks green with a full garbage collection for each, on top of the one that it needs; later
    releases do it once.
    """
    in_the_loop, before_it = "        new.acquire()\n    gc.collect()\n", "    for obj in gc.get_objects():\n"
    _change(
        rootfs,
        "eventlet/patcher.py",
        {in_the_loop: "        new.acquire()\n", before_it: "    gc.collect()\n" + before_it},
    )


def _plug_by_libvirt(rootfs: Path) -> None:
    """Let libvirt add an instance's tap to Open vSwitch, and set it up when the switch has it, as before Wallaby.

    Since then os-vif adds the port before libvirt makes its tap, and libvirt sets the tap up while ovs-vswitchd finds it. A
    datapath in user space reads the tap's flags then and writes them back with one more (lib/netdev-linux.c, update_flags): one
    tap in some forty that was set up in between is down for good.
    """
    line = "        profile.create_port = vif.get('delegate_create', False)\n"
    _change(rootfs, "nova/network/os_vif_util.py", {line: "        profile.create_port = False\n"})


def _change(rootfs: Path, module: str, changes: Mapping[str, str]) -> None:
    """Change lines of a Python module of the image, unless this release of it does not have each of them once.

    Args:
        rootfs: the image's root.
        module: its path below ``dist-packages``.
        changes: lines as they become, by what they are.
    """
    inside = f"usr/lib/python3/dist-packages/{module}"
    text = (rootfs / inside).read_text(encoding="utf-8")
    if any(text.count(old) != 1 for old in changes):
        return
    for old, new in changes.items():
        text = text.replace(old, new)
    (rootfs / inside).write_text(text, encoding="utf-8")
    run(["chroot", str(rootfs), "python3", "-m", "py_compile", f"/{inside}"])


def _prune(keep: Path) -> None:
    """Remove images that no lab stands on; an image takes 2 GiB."""
    mounted = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    for other in paths.cache().glob("image-*"):
        if other != keep and f"{other}/" not in mounted:
            discard(other)


def _size(tree: Path) -> int:
    result = attempt(["du", "--summarize", "--block-size=1", str(tree)])
    return int(result.stdout.split()[0]) if result.stdout else 0
