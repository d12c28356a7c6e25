"""The wires between the hosts: a network namespace of its own with a bridge for each network, and one veth to this machine.

Nothing of it is in the machine's own network namespace except that veth, and nothing of it routes.
"""

from __future__ import annotations

from pathlib import Path

from lab import blueprint, mounts
from lab.run import attempt, run

NETNS_DIRECTORY = Path("/run/netns")
NAMESPACE = NETNS_DIRECTORY / blueprint.FABRIC
_INNER_VETH = "machine"


def inside(*command: str) -> list[str]:
    """A command line that runs a program in the fabric's network namespace."""
    return ["nsenter", f"--net={NAMESPACE}", "--", *command]


def exists() -> bool:
    """Whether the fabric's namespace is there."""
    return NAMESPACE.exists() and attempt(inside("true")).returncode == 0


def ensure(addresses: blueprint.Addresses) -> None:
    """Make the fabric; what is there already stays."""
    if not exists():
        attempt(["ip", "netns", "delete", blueprint.FABRIC])
        run(["ip", "netns", "add", blueprint.FABRIC])
    # The namespaces' bridges carry frames; filtering them is the hosts' business.
    for key in ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"):
        run(inside("sysctl", "--quiet", "--write", key))
    for key in ("net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"):
        attempt(inside("sysctl", "--quiet", "--write", key))  # where br_netfilter is not loaded there is no such key
    run(inside("ip", "link", "set", "lo", "up"))
    for bridge in blueprint.FABRIC_BRIDGES:
        if attempt(inside("ip", "link", "show", bridge)).returncode != 0:
            run(inside("ip", "link", "add", "name", bridge, "type", "bridge", "stp_state", "0", "mcast_snooping", "0"))
        run(inside("ip", "link", "set", bridge, "up"))
    if not machine_has_veth():
        peer = ["peer", "name", _INNER_VETH, "netns", blueprint.FABRIC]
        run(["ip", "link", "add", "name", blueprint.LAB_VETH, "type", "veth", *peer])
    run(inside("ip", "link", "set", _INNER_VETH, "master", "br-mgmt", "up"))
    run(["ip", "address", "replace", f"{addresses.machine}/24", "dev", blueprint.LAB_VETH])
    run(["ip", "link", "set", blueprint.LAB_VETH, "up"])


def plug(interface: str, bridge: str) -> bool:
    """Put the fabric's end of a host's NIC on its bridge. False while there is no such interface yet."""
    return attempt(inside("ip", "link", "set", interface, "master", bridge, "up")).returncode == 0


def unplug(interface: str) -> None:
    """Remove a NIC of a host that is gone; the kernel takes its time to do that by itself."""
    if attempt(inside("ip", "link", "show", interface)).returncode == 0:
        attempt(inside("ip", "link", "delete", interface))  # it may have gone meanwhile


def machine_has_veth() -> bool:
    """Whether the lab's interface is on this machine."""
    return attempt(["ip", "link", "show", blueprint.LAB_VETH]).returncode == 0


def remove() -> None:
    """Take the fabric away, with all interfaces in it."""
    if machine_has_veth():
        run(["ip", "link", "delete", blueprint.LAB_VETH])
    if NAMESPACE.exists():
        run(["ip", "netns", "delete", blueprint.FABRIC])
    # `ip netns add` mounts the directory of names on itself, twice, and leaves that behind.
    if NETNS_DIRECTORY.is_dir() and not any(NETNS_DIRECTORY.iterdir()):
        mounts.unmount_all(NETNS_DIRECTORY)
        NETNS_DIRECTORY.rmdir()
