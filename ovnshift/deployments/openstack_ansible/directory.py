"""The deploy host's ``/etc/openstack_deploy``: what is in it, and what has to change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ovnshift.deployments.openstack_ansible import edits, inventory
from ovnshift.deployments.openstack_ansible.release import Release, detect
from ovnshift.deployments.staging import Change, Staging, StagingError, content_of
from ovnshift.errors import OvnshiftError
from ovnshift.site import Site

USER_VARIABLES = "user_variables.yml"
INVENTORY = "openstack_inventory.json"
NETWORK_HOSTS = "group_vars/network_hosts"
ENV_NEUTRON = "env.d/neutron.yml"
ENV_NOVA = "env.d/nova.yml"
USER_CONFIG = "openstack_user_config.yml"
# In the order in which they are written; the inventory comes last, since env.d decides who is put into its groups again.
FILES = (USER_VARIABLES, NETWORK_HOSTS, ENV_NEUTRON, ENV_NOVA, USER_CONFIG, INVENTORY)
_MAY_BE_MISSING = (NETWORK_HOSTS, ENV_NEUTRON, ENV_NOVA)
# What names LinuxBridge in a file that is not staged, outside of comments.
_LINUXBRIDGE = re.compile(r"neutron_linuxbridge_agent(?!_)|ml2\.lxb|host_bind_override")
_STAGED_VARIABLES = re.compile(
    r"^(neutron_plugin_type|neutron_plugin_base|neutron_ml2_drivers_type|neutron_provider_networks)\s*:"
)


@dataclass(frozen=True)
class Plan:
    """What is to become of the six files.

    Attributes:
        changes: by the names in :data:`FILES`, of those that can be edited.
        refusals: of those that can't.
        remarks: what somebody should know, though nothing stands in the way.
    """

    changes: Mapping[str, Change]
    refusals: tuple[OvnshiftError, ...]
    remarks: tuple[str, ...]


class Directory:
    """A deploy host's directory, on this machine.

    Args:
        site: names it (``deployment.directory``) and the cloud's hosts.

    Raises:
        StagingError: it is not there or can't be read, or has no user configuration or inventory: this is not the deploy host.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.path = site.deployment.directory
        try:
            missing = [name for name in (USER_CONFIG, INVENTORY) if not (self.path / name).is_file()]
        except OSError as error:
            raise StagingError(
                str(self.path), f"can't be looked into: {error.strerror}", "run this as the user who deploys"
            ) from error
        if missing:
            raise StagingError(
                str(self.path),
                f"has no {' and no '.join(missing)}" if self.path.is_dir() else "is not there",
                "run this on the deploy host, where OpenStack-Ansible is run from; deployment.directory names the directory",
            )

    def text(self, name: str) -> str:
        """A file's text; empty where it is not there.

        Raises:
            StagingError: it can't be read, or is no text.
        """
        content = content_of(self.path / name)
        try:
            return "" if content is None else content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1 if content else 1
            raise StagingError(f"{self.path / name}, line {line}", "is no UTF-8 text", "mend that line") from error

    def strangers(self) -> list[str]:
        """Network and compute hosts of the site file that the inventory does not have."""
        known = inventory.hosts(inventory.read(self.text(INVENTORY), str(self.path / INVENTORY)))
        # Nova may know a host by its full name, where the inventory has the short one.
        short = {name.partition(".")[0] for name in known}
        wanted = dict.fromkeys([*self._site.group("network"), *self._site.group("compute")])
        return [name for name in wanted if name not in known and name.partition(".")[0] not in short]

    def plan(self, release: Release) -> Plan:
        """What is to become of the files; nothing is written.

        Args:
            release: of OpenStack-Ansible.

        Raises:
            StagingError: a file can't be read.
        """
        rename = self._site.deployment.rename_bridges
        edit: dict[str, Callable[[str, str], str]] = {
            USER_VARIABLES: edits.user_variables,
            NETWORK_HOSTS: edits.network_hosts,
            ENV_NEUTRON: lambda text, place: edits.env_neutron(text, place, northd_in=self._northd_in()),
            ENV_NOVA: lambda text, place: edits.env_nova(text, place, compute_holds=release.compute_holds),
            USER_CONFIG: lambda text, place: edits.user_config(text, place, rename=rename),
            INVENTORY: inventory.without_agents,
        }
        changes: dict[str, Change] = {}
        refusals: list[OvnshiftError] = []
        for name in FILES:
            path = self.path / name
            try:
                if name == NETWORK_HOSTS:
                    path = self._network_hosts()
                before = content_of(path)
                if before is None and name not in _MAY_BE_MISSING:
                    raise StagingError(str(path), "is not there", "see deployment.directory in the site file")
                after = edit[name](self.text(str(path.relative_to(self.path))), str(path)).encode("utf-8")
            except OvnshiftError as error:
                refusals.append(error)
                continue
            changes[name] = Change(path, before, after)
        remarks = () if refusals else tuple(self._remarks(changes, release))
        return Plan(changes, tuple(refusals), remarks)

    def _network_hosts(self) -> Path:
        """The file of the group's variables; Ansible takes it with and without an ending."""
        plain = self.path / NETWORK_HOSTS
        found = [
            path
            for path in (plain, *(plain.with_name(f"{plain.name}{end}") for end in (".yml", ".yaml")))
            if path.exists()
        ]
        if len(found) > 1 or plain.is_dir():
            raise StagingError(
                str(plain),
                "is a directory" if plain.is_dir() else f"stands beside {found[-1].name}",
                f"add the module openvswitch to {edits.MODULES} there as docs/openstack-ansible.md shows, or make it one file",
            )
        return found[0] if found else plain

    def _groups(self) -> set[str]:
        found = set(edits.groups_with_hosts(self.text(USER_CONFIG), str(self.path / USER_CONFIG)))
        for path in sorted((self.path / "conf.d").rglob("*.y*ml")):
            found |= edits.groups_with_hosts(self.text(str(path.relative_to(self.path))), str(path))
        return found

    def _northd_in(self) -> str | None:
        """Where ovn-northd goes: to the hosts that are named for it (None), else beside Neutron's server."""
        groups = self._groups()
        if "network-northd_hosts" in groups:
            return None
        for group in ("network", "network-infra"):
            if f"{group}_hosts" in groups:
                return f"{group}_containers"
        raise StagingError(
            str(self.path / USER_CONFIG),
            "has no hosts for ovn-northd: no network-northd_hosts, network_hosts or network-infra_hosts",
            "add network-northd_hosts with the hosts that OVN's databases are to be on",
        )

    def _remarks(self, changes: Mapping[str, Change], release: Release) -> Iterator[str]:
        config = changes[USER_CONFIG]
        for each in edits.loose_networks(config.after.decode("utf-8"), str(config.path)):
            yield (
                f"{config.path}, {each}: no network_interface, so that nothing plugs the hosts' interface into this bridge; "
                "name it there, or ovs-vsctl add-port on each host"
            )
        for each in edits.other_networks(config.after.decode("utf-8"), str(config.path)):
            yield f"{config.path}, {each}, is bound to other groups than Neutron's agents, and is left as it is"
        variables = changes[USER_VARIABLES]
        for plugin in edits.agent_plugins(variables.after.decode("utf-8"), str(variables.path)):
            yield f"{variables.path}: the service plugin {plugin} works in an agent that OVN has not"
        if "network-gateway_hosts" not in self._groups() and "neutron_ovn_gateway" not in release.compute_holds:
            yield (
                f"{config.path}: no network-gateway_hosts, so that no chassis is marked as a gateway, and OVN takes every "
                "chassis with the provider network's bridge for one; all hypervisors need that network then"
            )

    def accepts(self, path: Path, content: bytes) -> bool:
        """Whether a file that was written since still says what was staged: the inventory, which each run of ansible renews."""
        if path != self.path / INVENTORY:
            return False
        try:
            text = content.decode("utf-8")
            return inventory.without_agents(text, str(path)) == text
        except (UnicodeDecodeError, OvnshiftError):
            return False

    def loses_nothing(self, path: Path, now: bytes, before: bytes) -> bool:
        """Whether the inventory of before has all hosts and containers of the one that the generator has written since."""
        texts = [content.decode("utf-8", "replace") for content in (now, before)]
        try:
            known, had = (inventory.hosts(inventory.read(text, str(path))) for text in texts)
        except OvnshiftError:
            return False
        return known == had

    def elsewhere(self) -> list[str]:
        """Lines outside of the six files that still name LinuxBridge, or set what is staged: they would undo it.

        Returns:
            Files with their lines; not what the lines say.
        """
        found = []
        staged = {self.path / name for name in FILES}
        for path in self._other_files():
            if path in staged:
                continue
            content = content_of(path) or b""
            for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
                said = line.partition("#")[0]
                overrides = path.parent == self.path and path.name.startswith("user_") and _STAGED_VARIABLES.match(said)
                if match := overrides or _LINUXBRIDGE.search(said):
                    found.append(f"{path}, line {number}: {match[0].rstrip(': ')}")
        return found

    def _other_files(self) -> Iterator[Path]:
        yield from sorted(self.path.glob("user_*.yml"))
        for name in ("conf.d", "env.d", "group_vars", "host_vars"):
            for path in sorted((self.path / name).rglob("*")):
                if path.is_file() and path.suffix in {"", ".yml", ".yaml"}:
                    yield path


def staging_in(directory: Directory, reports: Path) -> Staging:
    """What a change stages in a deploy host's directory; its record is beside the change's reports."""
    return Staging(directory.path, reports / "staging", directory.accepts, directory.loses_nothing)


def drift(site: Site, reports: Path) -> list[str]:
    """What keeps the deploy host's files from saying what the window needs: asked at its beginning, days after staging.

    Args:
        site: names the directory.
        reports: of the change.

    Returns:
        Files that somebody has changed since they were staged, with how; and those that still have to be staged. None where all
        is as it should be.

    Raises:
        OvnshiftError: a file can't be read, or can't be understood any more.
    """
    directory = Directory(site)
    plan = directory.plan(detect(site.deployment.checkout))
    if plan.refusals:
        raise plan.refusals[0]
    changed = staging_in(directory, reports).drift()
    waiting = [f"{change.path}: is not staged" for change in plan.changes.values() if change.needed]
    named = {each.partition(": ")[0] for each in changed}
    return [*changed, *(each for each in waiting if each.partition(": ")[0] not in named)]
