"""systemd's units on a host."""

from __future__ import annotations

from collections.abc import Sequence

from ovnshift.hosts.connection import Connection


def unit_states(host: Connection, units: Sequence[str]) -> dict[str, dict[str, str]]:
    """ActiveState ("active") and UnitFileState ("enabled") of units, by unit; without those that the host does not have.

    Raises:
        HostError: the host can't be asked.
    """
    text = host.check("systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", "--", *units)
    found = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values.get("LoadState") not in {None, "not-found", "masked"}:
            found[values["Id"]] = {"active": values["ActiveState"], "enabled": values.get("UnitFileState", "")}
    return found
