"""Who installs OVN on a cloud: one of several, chosen in the site file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ovnshift.deployments.commands import Command
from ovnshift.deployments.openstack_ansible.deployer import OpenStackAnsible
from ovnshift.deployments.packages import Packages
from ovnshift.deployments.services import DEVSTACK, PACKAGES, Services
from ovnshift.errors import OvnshiftError
from ovnshift.site import Site
from ovnshift.site.models import Absent


class Deployer(Protocol):
    """What a migration asks of whoever deploys a cloud."""

    @property
    def services(self) -> Services:
        """Units and programs, by their names on this cloud."""

    def commands(self) -> list[Command]:
        """What deploys OVN, in order."""

    def undo_commands(self) -> list[Command]:
        """What takes away what was built; none where nobody has named anything."""

    def decides(self) -> list[str]:
        """The texts that decide what comes of :meth:`commands`: with others, it has to be deployed anew.

        Raises:
            OvnshiftError: one can't be read.
        """

    def check(self, home: Path) -> list[str] | None:
        """See that it could begin, without running anything on any host.

        Args:
            home: a directory for Ansible's own files.

        Returns:
            The names of the hosts that it knows; None where it does not say.

        Raises:
            OvnshiftError: it could not.
        """

    def chassis(self) -> list[str] | None:
        """The hosts that become chassis; None where it does not say.

        Raises:
            OvnshiftError: its files can't be understood.
        """

    def api_hosts(self) -> list[str] | None:
        """The hosts or containers that Neutron's server runs in; None where it does not say.

        Raises:
            OvnshiftError: its files can't be understood.
        """

    def drift(self, reports: Path) -> list[str]:
        """What of its files does not say what the window needs: not staged yet, or changed by somebody since.

        Args:
            reports: of the change.

        Raises:
            OvnshiftError: a file can't be read or understood.
        """


def services_of(site: Site) -> Services:
    """What a cloud calls its services; as packages do where the site file has no deployer, since the work needs none.

    Raises:
        OvnshiftError: its deployer is one that is not known.
    """
    return PACKAGES if isinstance(site.deployment, Absent) else deployer_of(site).services


def deployer_of(site: Site) -> Deployer:
    """A cloud's deployer.

    Raises:
        OvnshiftError: it is one that is not known.
    """
    match site.deployment.kind:
        case "packages":
            return Packages(site)
        case "openstack-ansible":
            return OpenStackAnsible(site)
        case "devstack":
            return Packages(site, DEVSTACK)
        case kind:
            raise OvnshiftError(
                f"deployment.kind {kind}",
                "its services are not known",
                'kind = "packages" with a playbook of your own, if its units are called as packages call them',
            )
