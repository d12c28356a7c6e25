"""OpenStack-Ansible's own inventory generator, on a copy of what is staged."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ovnshift.deployments.openstack_ansible import inventory
from ovnshift.deployments.openstack_ansible.directory import FILES, INVENTORY, USER_CONFIG, Directory
from ovnshift.deployments.openstack_ansible.edits import CONTROLLER_GROUP, NORTHD_GROUP
from ovnshift.deployments.staging import Change, StagingError
from ovnshift.site import Site

# Where bootstrap-ansible.sh puts the interpreter that has what the generator needs.
RUNTIME = Path("/opt/ansible-runtime/bin/python")
GENERATOR = Path("inventory/dynamic_inventory.py")
SECONDS = 120


def installed(site: Site) -> Path | None:
    """The generator, where OpenStack-Ansible is installed."""
    path = site.deployment.checkout / GENERATOR
    return path if path.is_file() else None


def generated(
    site: Site, directory: Directory, changes: Mapping[str, Change], runtime: Path = RUNTIME
) -> dict[str, Any]:
    """The inventory that comes of what is staged.

    The generator writes what it makes beside the configuration that it reads (osa_toolkit/generate.py), so it is given a copy:
    configuration, ``conf.d``, ``env.d`` and the inventory, without secrets. Nothing of the deploy host's is written to.

    Args:
        site: names the checkout.
        directory: the deploy host's.
        changes: what becomes of the files, whether written already or not.
        runtime: the interpreter; where it is not there, the one that the generator names itself.

    Raises:
        StagingError: it refuses the configuration, does not end in time, or gives no inventory.
    """
    program = installed(site)
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="ovnshift-inventory-") as name:
        copy = Path(name)
        _copy(directory.path, copy, changes)
        command = [str(program), "--config", str(copy), "--list"]
        if runtime.exists():
            command.insert(0, str(runtime))
        place = str(program)
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OSA_CONFIG_DIR": name, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise StagingError(place, f"did not end in {SECONDS} s", "run it by hand with --check, and see") from error
        except OSError as error:
            raise StagingError(
                place, f"can't be run: {error.strerror}", "scripts/bootstrap-ansible.sh of OpenStack-Ansible mends it"
            ) from error
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])[-400:].replace(
                name, str(directory.path)
            )
            raise StagingError(
                place, f"refuses what is staged: {said}", "mend the files that it names, and run this again"
            )
        return inventory.read(done.stdout, f"output of {place}")


def _copy(source: Path, copy: Path, changes: Mapping[str, Change]) -> None:
    try:
        for part in ("conf.d", "env.d"):
            if (source / part).is_dir():
                shutil.copytree(source / part, copy / part)
        for name in FILES:
            change = changes.get(name)
            if change is not None and (name in {INVENTORY, USER_CONFIG} or name.startswith("env.d/")):
                (copy / name).parent.mkdir(exist_ok=True)
                (copy / name).write_bytes(change.after)
    except (OSError, shutil.Error) as error:
        raise StagingError(
            str(source), f"could not be copied: {error}", "make room for a copy, and run this again"
        ) from error


def problems(found: Mapping[str, Any], site: Site) -> list[str]:
    """What is wrong with a generated inventory: agents that came back, chassis or central services that are missing."""
    made = dict(found)
    wrong = [
        f"{group}: {', '.join(_some(left))}"
        for group in inventory.AGENT_GROUPS
        if (left := inventory.members(made, group))
    ]
    on_metal = {physical(made, name).partition(".")[0] for name in inventory.members(made, CONTROLLER_GROUP)}
    missing = [name for name in site.group("compute") if name.partition(".")[0] not in on_metal]
    if missing:
        wrong.append(f"{CONTROLLER_GROUP} lacks {', '.join(_some(missing))}")
    wrong += [
        f"{group} has no hosts" for group in (NORTHD_GROUP, "neutron_server") if not inventory.members(made, group)
    ]
    return wrong


def physical(found: Mapping[str, Any], name: str) -> str:
    """The host that a container of an inventory is on; a host is on itself."""
    return str(found["_meta"].get("hostvars", {}).get(name, {}).get("physical_host") or name)


def _some(names: Iterable[str]) -> list[str]:
    ordered = sorted(names)
    return ordered[:10] + ([f"{len(ordered) - 10} more"] if len(ordered) > 10 else [])
