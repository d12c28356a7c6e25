"""Services from a distribution's packages, or from anywhere; OVN is deployed by a playbook or a program of the operator's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ovnshift.deployments.commands import Command, DeploymentError, look
from ovnshift.deployments.services import PACKAGES, Services
from ovnshift.site import Site


class Packages:
    """A :class:`~ovnshift.deployments.deployer.Deployer` that runs what the site file names, and edits no files.

    Args:
        site: names the playbook with its inventory, or the program.
        services: what the cloud calls its services; Debian's, Ubuntu's and RDO's packages call them the same.
    """

    def __init__(self, site: Site, services: Services = PACKAGES) -> None:
        self.services = services
        self._site = site

    def commands(self) -> list[Command]:
        """The playbook by ``ansible-playbook``, and the program: one of them or both."""
        deployment = self._site.deployment
        return self._of(deployment.playbook, deployment.command)

    def undo_commands(self) -> list[Command]:
        """The same with what takes OVN away again; none where the site file names nothing."""
        deployment = self._site.deployment
        return self._of(deployment.rollback, deployment.rollback_command)

    def _of(self, playbook: Path | None, program: Sequence[str]) -> list[Command]:
        deployment = self._site.deployment
        found = []
        if playbook is not None:
            words = ["ansible-playbook", "--inventory", str(deployment.inventory), *deployment.arguments]
            found.append(Command((*words, "--", str(playbook)), str(playbook), bundled=True))
        if program:
            found.append(Command(tuple(program), program[0]))
        return found

    def decides(self) -> list[str]:
        """The texts of inventory and playbook, or of the program."""
        deployment = self._site.deployment
        named = [deployment.inventory, deployment.playbook, *(Path(word) for word in deployment.command[:1])]
        return [path.read_bytes().decode("utf-8", "replace") for path in named if path is not None and path.is_file()]

    def check(self, home: Path) -> list[str] | None:
        """See that Ansible understands the playbook and its inventory, or that the program is there.

        Returns:
            The inventory's hosts; None where there is no inventory.

        Raises:
            DeploymentError: it does not.
        """
        for command in [*self.commands(), *self.undo_commands()]:
            command.program()
        deployment = self._site.deployment
        if deployment.playbook is None:
            return None
        inventory, playbook = str(deployment.inventory), str(deployment.playbook)
        look(
            Command(
                ("ansible-playbook", "--syntax-check", "--inventory", inventory, "--", playbook), playbook, bundled=True
            ),
            home,
        )
        listing = Command(("ansible-inventory", "--inventory", inventory, "--list"), inventory, bundled=True)
        try:
            groups = json.loads(look(listing, home))
            members = [group.get("hosts", []) for name, group in groups.items() if name != "_meta"]
        except (ValueError, AttributeError) as error:
            raise DeploymentError(inventory, f"gives no inventory: {error}", "run ansible-inventory --list") from error
        return sorted({host for hosts in members for host in hosts})

    def chassis(self) -> list[str] | None:
        """Which hosts become chassis is the playbook's business: not known beforehand."""
        return None

    def api_hosts(self) -> list[str] | None:
        """Nor where Neutron's server runs: the site file says it."""
        return None

    def drift(self, reports: Path) -> list[str]:
        """No files are staged."""
        del reports
        return []
