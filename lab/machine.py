"""The machine that the lab stands on: what its kernel has, whether there is room, whether the lab's addresses are free."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab import blueprint
from lab.errors import LabError
from lab.run import attempt, run

GIB = 1024**3
NEEDED_MEMORY = 10 * GIB
NEEDED_DISK_IMAGE = 6 * GIB
NEEDED_DISK = 2 * GIB

_NEEDED_KINDS = {
    "veth": ["veth", "peer", "name", "probe1"],
    "bridge": ["bridge"],
    "vxlan": ["vxlan", "id", "1", "dstport", "4789"],
}
_NEEDED_PROGRAMS = ("systemd-nspawn", "mmdebstrap", "ip", "nsenter", "ssh-keygen", "mke2fs")


@dataclass(frozen=True)
class Kernel:
    """The features that change what the lab looks like."""

    vlan: bool
    kvm_device: bool


def can_add_link(arguments: list[str]) -> bool:
    """Whether this kernel makes links like that; tried in a network namespace that ends with the attempt."""
    return attempt(["unshare", "--net", "ip", "link", "add", "name", "probe0", "type", *arguments]).returncode == 0


def has_vlan() -> bool:
    """Whether the kernel has 802.1Q sub-interfaces."""
    script = "ip link add probe0 type veth peer name probe1 && ip link add link probe0 name probe0.5 type vlan id 5"
    return attempt(["unshare", "--net", "sh", "-c", script]).returncode == 0


def check(addresses: blueprint.Addresses, *, image_is_cached: bool, place: Path, cache: Path) -> Kernel:
    """Say whether the lab can stand here, before anything is changed.

    Args:
        addresses: the management network to be used.
        image_is_cached: whether the disk must also have room for an image.
        place: where the hosts' disks go.
        cache: where the image goes.

    Raises:
        LabError: it can't; the first reason, with what to do.
    """
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network namespaces, mounts and hosts", "sudo make rehearsal")
    for program in _NEEDED_PROGRAMS:
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            raise LabError(f"this machine has no {program}", "make setup")
    for kind, arguments in _NEEDED_KINDS.items():
        if not can_add_link(arguments):
            raise LabError(
                f"this kernel ({os.uname().release}) can't make links of kind {kind}",
                f"load its module (modprobe {kind}), or use a kernel that has it",
            )
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        raise LabError("this kernel has no overlayfs", "modprobe overlay, or use a kernel that has it")
    if not Path("/dev/net/tun").exists():
        raise LabError("this machine has no /dev/net/tun", "modprobe tun")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory < NEEDED_MEMORY:
        raise LabError(
            f"this machine has {memory / GIB:.1f} GiB of memory, the lab needs {NEEDED_MEMORY // GIB} GiB",
            "use a larger machine",
        )
    _check_disk(place, NEEDED_DISK, "what the hosts write")
    if not image_is_cached:
        _check_disk(cache, NEEDED_DISK_IMAGE, "the image")
    check_addresses(addresses)
    return Kernel(vlan=has_vlan(), kvm_device=Path("/dev/kvm").exists())


def _check_disk(place: Path, needed: int, what: str) -> None:
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise LabError(
            f"{existing} has {free / GIB:.1f} GiB free, {what} needs {needed / GIB:.0f} GiB",
            "make room there, or set OVNSHIFT_LAB_CACHE to a place with room for the image",
        )


def check_addresses(addresses: blueprint.Addresses) -> None:
    """Make sure that the management network is nobody else's.

    Raises:
        LabError: an address or a route of this machine, other than the lab's own interface, lies in it.
    """
    for link in json.loads(run(["ip", "-json", "-4", "address", "show"])):
        if link.get("ifname") == blueprint.LAB_VETH:
            continue
        for address in link.get("addr_info", []):
            found = ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
            if found.overlaps(addresses.network):
                raise LabError(
                    f"{addresses.network} is in use: {link['ifname']} has {address['local']}/{address['prefixlen']}",
                    "python -m lab up --management 198.19.0.0/24, or another free /24",
                )
    for route in json.loads(run(["ip", "-json", "-4", "route", "show"])):
        if route.get("dev") == blueprint.LAB_VETH or route["dst"] == "default":
            continue
        if ipaddress.ip_network(route["dst"], strict=False).overlaps(addresses.network):
            raise LabError(
                f"{addresses.network} is in use: this machine has a route to {route['dst']} through {route.get('dev')}",
                "python -m lab up --management 198.19.0.0/24, or another free /24",
            )


def lab_is_reachable(addresses: blueprint.Addresses) -> bool:
    """Whether this machine's own end of the lab's veth is there, so that nothing meant for the lab leaves elsewhere."""
    result = attempt(["ip", "-json", "-4", "address", "show", "dev", blueprint.LAB_VETH])
    if result.returncode != 0:
        return False
    found = {entry["local"] for link in json.loads(result.stdout) for entry in link.get("addr_info", [])}
    return addresses.machine in found


def require_reachable(addresses: blueprint.Addresses) -> None:
    """Raise unless the lab's interface is there.

    Raises:
        LabError: it is not; nothing was sent.
    """
    if not lab_is_reachable(addresses):
        raise LabError(
            f"the lab's interface {blueprint.LAB_VETH} with {addresses.machine} is not there, so nothing was sent",
            "python -m lab up",
        )
