"""What the network under the tunnels looks like: the fabric's bridge, and each host's end of it; and instances' taps."""

from __future__ import annotations

import subprocess

from lab import blueprint, fabric, host
from lab.errors import LabError

_LOOKS = (
    ("ip", "-brief", "-4", "address", "show", "to", str(blueprint.TUNNEL)),
    ("ip", "-brief", "link", "show", "eth1"),
    ("ip", "neigh", "show", "to", str(blueprint.TUNNEL)),
    ("ip", "-brief", "link", "show", "type", "tun"),
)


def _lines(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return [" ".join(line.split()) for line in (done.stdout or done.stderr).splitlines()]


def wires() -> str:
    """Each host's tunnel address, NIC, neighbours there and taps; and which MAC the bridge knows behind which port."""
    said = []
    for each in blueprint.HOSTS:
        if each.has_tunnel:
            try:
                said += [f"{each.name}: {line}" for look in _LOOKS for line in _lines(host.inside(each, *look))]
            except LabError as error:
                said.append(f"{each.name}: {error}")
    if fabric.exists():
        table = _lines(fabric.inside("bridge", "fdb", "show", "br", "br-vxlan"))
        said += [f"br-vxlan: {line}" for line in table if "permanent" not in line]
    return "\n".join(said)
