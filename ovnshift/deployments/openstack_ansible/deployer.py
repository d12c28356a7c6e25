"""OpenStack-Ansible's own playbooks, run from the deploy host as an operator would run them."""

from __future__ import annotations

from pathlib import Path

from ovnshift.deployments.commands import Command, look
from ovnshift.deployments.openstack_ansible import generator, inventory
from ovnshift.deployments.openstack_ansible.directory import FILES, INVENTORY, Directory, drift
from ovnshift.deployments.openstack_ansible.edits import CONTROLLER_GROUP
from ovnshift.deployments.openstack_ansible.release import detect
from ovnshift.deployments.services import OPENSTACK_ANSIBLE
from ovnshift.site import Site

# Of the checkout: where openstack-ansible is run.
_PLAYBOOKS = Path("playbooks")
SERVER_GROUP = "neutron_server"


class OpenStackAnsible:
    """A :class:`~ovnshift.deployments.deployer.Deployer` that runs ``openstack-ansible`` on this machine, the deploy host.

    Args:
        site: names the checkout, the directory, the playbooks and their arguments.
    """

    services = OPENSTACK_ANSIBLE

    def __init__(self, site: Site) -> None:
        self._site = site
        self._program = site.deployment.openstack_ansible

    def commands(self) -> list[Command]:
        """A command for each playbook, in the checkout's directory of playbooks."""
        return [self._playbook(name, *self._site.deployment.arguments) for name in self._site.deployment.playbooks]

    def undo_commands(self) -> list[Command]:
        """The operator's own playbook that takes OVN away, by ``openstack-ansible``."""
        rollback = self._site.deployment.rollback
        return [] if rollback is None else [self._playbook(str(rollback))]

    def _playbook(self, name: str, *arguments: str) -> Command:
        directory = self._site.deployment.checkout / _PLAYBOOKS
        return Command((self._program, name, *arguments), str(directory / name), directory)

    def decides(self) -> list[str]:
        """What was staged, but for the inventory, which each run writes anew."""
        directory = Directory(self._site)
        return [directory.text(name) for name in FILES if name != INVENTORY]

    def check(self, home: Path) -> list[str]:
        """See that ``openstack-ansible`` is there, of a release that is supported, and understands its playbooks.

        Returns:
            The hosts and containers of the inventory.

        Raises:
            OvnshiftError: it is not, or does not.
        """
        directory = Directory(self._site)
        detect(self._site.deployment.checkout)
        for name in self._site.deployment.playbooks:
            look(self._playbook(name, "--syntax-check"), home)
        return sorted(inventory.hosts(inventory.read(directory.text(INVENTORY), str(directory.path / INVENTORY))))

    def chassis(self) -> list[str] | None:
        """The hosts that run OVN's controller by the files as they will be staged; None where the generator is not installed."""
        if generator.installed(self._site) is None:
            return None
        directory = Directory(self._site)
        plan = directory.plan(detect(self._site.deployment.checkout))
        if plan.refusals:
            raise plan.refusals[0]
        made = generator.generated(self._site, directory, plan.changes)
        return sorted({generator.physical(made, name) for name in inventory.members(made, CONTROLLER_GROUP)})

    def api_hosts(self) -> list[str]:
        """The members of its group ``neutron_server``: hosts, or LXC containers by their own names."""
        directory = Directory(self._site)
        found = inventory.read(directory.text(INVENTORY), str(directory.path / INVENTORY))
        return sorted(inventory.members(found, SERVER_GROUP))

    def drift(self, reports: Path) -> list[str]:
        """Files that are not staged, or that somebody has changed since."""
        return drift(self._site, reports)
