"""The guests' image: a Debian cloud kernel, an initramfs of busybox and dropbear, and a disk of 1 MiB for the host key.

CirrOS cannot be downloaded everywhere; this guest says on its console and offers over SSH what CirrOS does.

Six guests boot in emulation on the machine's few processors, and whatever they unpack, verify or probe is what everybody waits
for. So the kernel and the initramfs are not compressed, and modules come without a signature that would be checked.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path
from typing import Literal

from lab import blueprint, image, paths, processes
from lab.errors import LabError
from lab.run import attempt, run

FILES = Path(__file__).resolve().parent / "recipe" / "guest"
DISK_BYTES = 1024**2
# What the guest loads at its start, with what these need.
MODULES = ("virtio_rng", "virtio_pci", "virtio_blk", "virtio_net", "evdev", "button")
# Nova's own command line names a console that the guest does not have, and boots for the last one named.
# The rest saves a third of a boot: ciphers that test themselves, memory cleared twice, ACPI's code for routing interrupts.
COMMAND_LINE = "console=ttyS0 panic=1 quiet cryptomgr.notests init_on_alloc=0 pci=noacpi,nomsi"
LZ4 = b"\x02\x21\x4c\x18"
SIGNED = b"~Module signature appended~\n"
PROBE_BOOTED = "lab-guest: probe booted"
PROBE_SECONDS = 30


def ensure(hosts_image: Path) -> Path:
    """The guests' image that goes with a hosts' image; made when it is not there.

    Returns:
        a directory with ``vmlinux``, ``initrd`` and ``disk``.

    Raises:
        LabError: the kernel's package is not where the recipe puts it, or a program failed.
    """
    files = sorted(path for path in FILES.rglob("*") if path.is_file())
    target = paths.cache() / f"guest-{image.fingerprint([*files, Path(__file__)], hosts_image.name)}"
    if target.is_dir():
        return target
    for old in paths.cache().glob("guest-*"):
        shutil.rmtree(old)
    partial = target.with_name(target.name + ".partial")
    _build(hosts_image / "rootfs", partial)
    partial.rename(target)
    return target


def _build(rootfs: Path, target: Path) -> None:
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=rootfs / "root") as scratch:
        work = Path(scratch)
        kernel, initramfs = work / "kernel", work / "initramfs"
        release = _unpack_kernel(rootfs, kernel)
        (work / "vmlinux.lz4").write_bytes(_payload(kernel / f"boot/vmlinuz-{release}"))
        _fill(rootfs, initramfs)
        _copy_modules(rootfs, kernel, initramfs, release)
        inside = "/" + str(work.relative_to(rootfs))
        script = (
            'cd "$1" && lz4 -dq vmlinux.lz4 vmlinux && cd initramfs && find . | cpio --quiet -H newc -o > ../initrd'
        )
        run(["chroot", str(rootfs), "sh", "-c", script, "pack", inside], timeout=120)
        for name in ("vmlinux", "initrd"):
            shutil.copy(work / name, target / name)
    disk = target / "disk"
    with disk.open("wb") as stream:
        stream.truncate(DISK_BYTES)
    run(["mke2fs", "-q", "-F", "-t", "ext2", "-m", "0", "-L", "lab-guest", str(disk)])


def boots_under(accelerator: Literal["kvm", "tcg"], hosts_image: Path, guest: Path) -> bool:
    """Whether the guest really boots on this machine, tried once with QEMU and no network, within half a minute.

    A /dev/kvm that is there proves little: nested ones exist on which a stock kernel hangs.
    """
    kvm = accelerator == "kvm"
    command = [
        *(
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--as-pid2",
            "--private-network",
            "--volatile=overlay",
        ),
        f"--machine={blueprint.MACHINE_PREFIX}probe",
        f"--directory={hosts_image / 'rootfs'}",
        f"--bind-ro={guest}:/mnt",
        *(["--bind=/dev/kvm"] if kvm else []),
        *(
            "timeout",
            str(PROBE_SECONDS),
            "qemu-system-x86_64",
            "-accel",
            accelerator,
            "-cpu",
            "host" if kvm else "qemu64",
        ),
        *("-m", str(blueprint.GUEST_MEMORY), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", "/mnt/vmlinux", "-initrd", "/mnt/initrd", "-append", "console=ttyS0 panic=-1 lab.probe"),
    ]
    # In a control group of the lab's, since nspawn leaves its own behind, for `down` to remove.
    result = attempt(command, timeout=PROBE_SECONDS + 30, first=lambda: processes.enter_group("probe"))
    return PROBE_BOOTED in result.stdout


def _unpack_kernel(rootfs: Path, target: Path) -> str:
    archives = list((rootfs / image.KERNEL).glob("linux-image-*.deb"))
    if len(archives) != 1:
        raise LabError(
            f"expected one kernel package in {rootfs / image.KERNEL}, found {len(archives)}", "python -m lab up"
        )
    run(["dpkg-deb", "--extract", str(archives[0]), str(target)])
    return next((target / "lib/modules").iterdir()).name


def _payload(vmlinuz: Path) -> bytes:
    """The compressed kernel in a vmlinuz, less the size at its end; the header, of Linux' boot protocol, says where it is."""
    file = vmlinuz.read_bytes()
    begin, length = struct.unpack_from("<II", file, 0x248)
    begin += (file[0x1F1] + 1) * 512
    payload = file[begin : begin + length - 4]
    if not payload.startswith(LZ4):
        raise LabError(f"{vmlinuz.name} is not packed with LZ4, as Debian's kernels for a cloud are", "report this")
    return payload


def _fill(rootfs: Path, initramfs: Path) -> None:
    shutil.copytree(FILES, initramfs)
    for folder in ("bin", "sbin", "proc", "sys", "dev", "run", "root", "lib", "lib64", "home/cirros"):
        (initramfs / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(rootfs / "bin/busybox", initramfs / "bin/busybox")
    run(["chroot", str(initramfs), "/bin/busybox", "--install", "-s", "/bin"])
    # busybox gives its privileges up for all but the programs that need them: ping's raw sockets, and su, since root has
    # no password in a guest.
    (initramfs / "bin/busybox").chmod(0o4755)
    for name in ("usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/sbin/ethtool"):
        _copy_with_libraries(rootfs, initramfs, name)
    password = run(["chroot", str(rootfs), "openssl", "passwd", "-6", "-stdin"], stdin=blueprint.GUEST_PASSWORD).strip()
    shadow = initramfs / "etc/shadow"
    shadow.write_text(
        f"root::19000:0:99999:7:::\n{blueprint.GUEST_USER}:{password}:19000:0:99999:7:::\n", encoding="ascii"
    )
    shadow.chmod(0o600)


def _copy_with_libraries(rootfs: Path, initramfs: Path, program: str) -> None:
    target = initramfs / program
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(rootfs / program, target)
    for line in run(["chroot", str(rootfs), "ldd", f"/{program}"]).splitlines():
        library = next((word for word in line.split() if word.startswith("/")), None)
        if library:
            copy = initramfs / library.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(rootfs / library.lstrip("/"), copy)


def _copy_modules(rootfs: Path, kernel: Path, initramfs: Path, release: str) -> None:
    run(["chroot", str(rootfs), "depmod", "-b", "/" + str(kernel.relative_to(rootfs)), release])
    source = kernel / "lib/modules" / release
    needs: dict[str, list[str]] = {}
    for line in (source / "modules.dep").read_text(encoding="utf-8").splitlines():
        module, _, others = line.partition(":")
        needs[module] = others.split()
    by_name = {Path(path).name.removesuffix(".ko").replace("-", "_"): path for path in needs}
    target = initramfs / "lib/modules" / release
    for name in MODULES:
        if name not in by_name:
            continue  # built into the kernel
        for path in [by_name[name], *needs[by_name[name]]]:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, target / path)
            _drop_signature(target / path)
    run(["chroot", str(rootfs), "depmod", "-b", "/" + str(initramfs.relative_to(rootfs)), release])


def _drop_signature(module: Path) -> None:
    """Cut off what scripts/sign-file of the kernel appended: a signature, 8 bytes and its length, and a magic word."""
    content = module.read_bytes()
    if content.endswith(SIGNED):
        end = len(content) - len(SIGNED)
        (length,) = struct.unpack_from(">I", content, end - 4)
        module.write_bytes(content[: end - 12 - length])
