"""Which Neutron a host has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ovnshift.hosts.connection import CommandFailed, Connection

# Neutron's major versions: Zed is 21, 2024.2 is 25; 2025.1 (26) has no LinuxBridge driver any more.
FIRST, LAST = 21, 25
# As a package, in OpenStack-Ansible's virtual environment, or in DevStack's.
_PROGRAM = """
for program in neutron-server neutron-linuxbridge-agent /openstack/venvs/neutron-*/bin/neutron-server \
  /opt/stack/data/venv/bin/neutron-server; do
  command -v "$program" >/dev/null 2>&1 && exec "$program" --version
done
echo "no Neutron program was found" >&2
exit 1
""".strip()


@dataclass(frozen=True)
class Release:
    """A version of Neutron."""

    major: int
    text: str

    def __str__(self) -> str:
        return self.text


def neutron_release(connection: Connection) -> Release:
    """The version of a host's Neutron.

    Raises:
        CommandFailed: there is none, or it does not say.
        HostError: the host could not be asked.
    """
    result = connection.run("sh", "-c", _PROGRAM)
    found = re.search(r"(\d+)\.\d+\.\d+\S*", result.text) if result.returncode == 0 else None
    if found is None:
        raise CommandFailed(
            connection.name,
            f"does not say which Neutron it has: {result.complaint}",
            "see groups.control in the site file",
        )
    return Release(int(found[1]), found[0])
