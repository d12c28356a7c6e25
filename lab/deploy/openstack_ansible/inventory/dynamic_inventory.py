#!/usr/bin/env python3
"""Who is in which group, by openstack_user_config.yml and env.d, in the way of OpenStack-Ansible's own generator.

It knows what the lab's files use: hosts on metal, belongs_to, contains, host_vars, global_overrides. As the real one it keeps
what openstack_inventory.json had: nobody ever leaves a group by being left out of the configuration.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

INVENTORY = "openstack_inventory.json"
Tree = dict[str, Any]


class ConfigurationError(Exception):
    """The configuration can't be made an inventory of."""


def merged(base: Tree, more: Tree) -> Tree:
    """Two trees of mappings as one; where both have a value that is no mapping, the second one's stands."""
    result = dict(base)
    for key, value in more.items():
        mine = result.get(key)
        result[key] = merged(mine, value) if isinstance(value, dict) and isinstance(mine, dict) else value
    return result


def load(path: Path) -> Tree:
    """A YAML file's mapping; empty where the file is.

    Raises:
        ConfigurationError: it is something else.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise ConfigurationError(f"{path}: is no mapping")
    return found or {}


def environment(places: list[Path]) -> Tree:
    """The skeletons of all files of env.d, the later directory's over the earlier one's."""
    tree: Tree = {"component_skel": {}, "container_skel": {}, "physical_skel": {}}
    for place in places:
        for path in sorted(place.glob("*.yml")):
            tree = merged(tree, load(path))
    return tree


class Inventory:
    """The groups, as they grow.

    Args:
        kept: what openstack_inventory.json had.
    """

    def __init__(self, kept: Tree) -> None:
        self.groups: Tree = kept
        self.hostvars: Tree = kept.setdefault("_meta", {}).setdefault("hostvars", {})

    def group(self, name: str) -> Tree:
        """A group; it is made where there is none."""
        found: Tree = self.groups.setdefault(name, {})
        found.setdefault("children", [])
        found.setdefault("hosts", [])
        return found

    def join(self, group: str, host: str) -> None:
        """A host is in a group from now on."""
        hosts = self.group(group)["hosts"]
        if host not in hosts:
            hosts.append(host)

    def below(self, parent: str, child: str) -> None:
        """A group is part of another from now on."""
        self.group(child)
        children = self.group(parent)["children"]
        if child not in children:
            children.append(child)


def generate(config: Tree, skeletons: Tree, kept: Tree) -> Tree:
    """The inventory of a configuration.

    Raises:
        ConfigurationError: a container holds a component that env.d does not have, or is not on metal.
    """
    inventory = Inventory(kept)
    overrides = config.get("global_overrides") or {}
    inventory.group("all").setdefault("vars", {}).update(overrides)
    for kind in ("component_skel", "physical_skel"):
        for name, skeleton in skeletons[kind].items():
            for parent in skeleton.get("belongs_to") or []:
                inventory.below(parent, name)
    physical = {name: hosts for name, hosts in config.items() if name.endswith("_hosts") and hosts}
    for group, hosts in physical.items():
        for host, said in hosts.items():
            inventory.join(group, host)
            known = inventory.hostvars.setdefault(host, {})
            known.update({"ansible_host": said["ip"], "management_address": said["ip"], "physical_host": host})
            known.update(said.get("host_vars") or {})
    for name, skeleton in skeletons["container_skel"].items():
        for component in skeleton.get("contains") or []:
            if component not in skeletons["component_skel"]:
                raise ConfigurationError(f"{name} contains {component}, which no component_skel has")
            for containers in skeleton.get("belongs_to") or []:
                members = physical.get(containers.replace("_containers", "_hosts"), {})
                if members and not (skeleton.get("properties") or {}).get("is_metal"):
                    raise ConfigurationError(f"{name} is not on metal, and the lab has no containers")
                for host in members:
                    inventory.join(component, host)
    return inventory.groups


def main() -> int:
    """Print the inventory, and keep it beside the configuration."""
    parser = argparse.ArgumentParser(description="OpenStack-Ansible's inventory")
    parser.add_argument("--config", default=os.environ.get("OSA_CONFIG_DIR", "/etc/openstack_deploy"), type=Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--host")
    options = parser.parse_args()
    if options.host:
        print("{}")
        return 0
    directory: Path = options.config
    try:
        kept = directory / INVENTORY
        had = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        skeletons = environment([Path(__file__).resolve().parent / "env.d", directory / "env.d"])
        made = generate(load(directory / "openstack_user_config.yml"), skeletons, had)
    except (ConfigurationError, OSError, ValueError, KeyError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    text = json.dumps(made, indent=4, sort_keys=True)
    if not kept.exists() or kept.read_text(encoding="utf-8") != text:
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False, encoding="utf-8") as stream:
            stream.write(text)
        Path(stream.name).replace(kept)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
