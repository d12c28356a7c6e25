"""Services from a distribution's packages, configured by a playbook of the operator's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ovnshift.errors import OvnshiftError
from ovnshift.site import Site

CHECK_SECONDS = 120


class DeploymentError(OvnshiftError):
    """The deployer is not there, or does not understand what it is given."""


def _ansible(program: str, arguments: list[str], home: Path, place: str) -> str:
    # Beside the interpreter: the virtual environment that this runs in brings ansible-core along.
    beside = Path(sys.executable).with_name(program)
    environment = {**os.environ, "ANSIBLE_HOME": str(home), "ANSIBLE_LOCAL_TEMP": str(home), "ANSIBLE_NOCOLOR": "1"}
    environment.setdefault("LC_ALL", "C.UTF-8")
    try:
        done = subprocess.run(
            [str(beside if beside.exists() else program), *arguments],
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise DeploymentError(
            place, f"{program} is not on this machine", "make setup installs it into .venv"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(
            place, f"{program} was not done in {CHECK_SECONDS} s", "run it by hand and see"
        ) from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-400:]
        raise DeploymentError(
            place, f"{program} ended with {done.returncode}: {said}", "mend it; nothing was run on any host"
        )
    return done.stdout


def check_playbook(site: Site, home: Path) -> list[str]:
    """See that Ansible understands the playbook and its inventory; nothing is run on any host.

    Args:
        site: names them.
        home: a directory for Ansible's own files.

    Returns:
        The inventory's hosts.

    Raises:
        DeploymentError: it does not.
    """
    inventory, playbook = str(site.deployment.inventory), str(site.deployment.playbook)
    _ansible("ansible-playbook", ["--syntax-check", "--inventory", inventory, playbook], home, playbook)
    listed = json.loads(_ansible("ansible-inventory", ["--inventory", inventory, "--list"], home, inventory))
    groups = {name: group for name, group in listed.items() if name != "_meta"}
    return sorted({host for group in groups.values() for host in group.get("hosts", [])})
