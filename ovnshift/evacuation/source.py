"""The L3 agent that is to be emptied: named by its host, its id, or a Juju unit as in Charmed OpenStack's own documents."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ovnshift.cloud.topology import AGENT_L3, Agent, Topology
from ovnshift.errors import OvnshiftError

JUJU_SECONDS = 60.0
# An application's unit: neutron-gateway/2 (names as Juju allows them).
_UNIT = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*/\d+")


class NoSuchAgent(OvnshiftError):
    """There is no such L3 agent."""


def is_unit(name: str) -> bool:
    """Whether a name is one of a Juju unit."""
    return _UNIT.fullmatch(name) is not None


def find_agent(topology: Topology, name: str, juju_status: Path | None = None, option: str = "--from") -> Agent:
    """The L3 agent that is meant.

    Args:
        topology: the cloud.
        name: a host, an agent's id, or a Juju unit.
        juju_status: a saved copy of ``juju status --format json``; Juju itself is asked where it is None.
        option: where the name comes from, for messages.

    Raises:
        NoSuchAgent: none is called so, or several are.
        OvnshiftError: Juju can't be asked, or does not know the unit.
    """
    agents = topology.agents_of(AGENT_L3)
    if is_unit(name):
        names = hosts_of_unit(read_status(juju_status), name)
        what = f"{name}, which Juju has on {' alias '.join(names)}"
    else:
        names, what = [name], name
    found = [agent for agent in agents if agent.id == name or _is_called(agent, names)]
    if len(found) == 1:
        return found[0]
    hosts = ", ".join(sorted(agent.host for agent in agents)) or "none"
    if found:
        raise NoSuchAgent(
            f"{option} {name}",
            f"{len(found)} L3 agents are on {what}",
            "give the agent's id: openstack network agent list",
        )
    raise NoSuchAgent(
        f"{option} {name}", f"no L3 agent is on {what}", f"one of the hosts with an L3 agent, or its id: {hosts}"
    )


def _is_called(agent: Agent, names: Iterable[str]) -> bool:
    """By its host's name; where one has a domain and the other has none, by what stands before it."""
    host = agent.host.lower()
    for name in (each.lower() for each in names):
        if host == name or (("." in host) != ("." in name) and host.split(".")[0] == name.split(".")[0]):
            return True
    return False


def read_status(path: Path | None) -> dict[str, Any]:
    """What ``juju status --format json`` says, from a file or from Juju itself.

    Raises:
        OvnshiftError: it can't be had, or is something else.
    """
    command = ["juju", "status", "--format", "json"]
    place = str(path) if path is not None else " ".join(command)
    try:
        if path is not None:
            text = path.read_text(encoding="utf-8")
        else:
            done = subprocess.run(command, capture_output=True, text=True, timeout=JUJU_SECONDS, check=False)
            if done.returncode != 0:
                raise OvnshiftError(
                    place,
                    f"ended with {done.returncode}: {done.stderr.strip()[:400]}",
                    "juju login; or --juju-status FILE",
                )
            text = done.stdout
        found = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise OvnshiftError(
            place, f"can't be read: {error}", "save `juju status --format json`, and give it as --juju-status FILE"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise OvnshiftError(
            place, f"did not answer in {JUJU_SECONDS:.0f} s", "see the controller; or --juju-status FILE"
        ) from error
    except ValueError as error:
        raise OvnshiftError(place, f"is no JSON: {error}", "save it with --format json") from error
    if not isinstance(found, dict) or not isinstance(found.get("machines"), dict):
        raise OvnshiftError(place, "has no machines: it is no `juju status`", "save it with --format json")
    return found


def hosts_of_unit(status: Mapping[str, Any], unit: str) -> list[str]:
    """The names that the machine of a unit has, of which Neutron uses one: its host name, its DNS name, its instance's.

    Args:
        status: from :func:`read_status`.
        unit: such as ``neutron-gateway/2``.

    Raises:
        OvnshiftError: the status knows no such unit, or not where it is.
    """
    application = status.get("applications", {}).get(unit.partition("/")[0], {})
    units = application.get("units") or {}
    if unit not in units:
        known = sorted(name for each in status.get("applications", {}).values() for name in each.get("units") or {})
        raise OvnshiftError(
            f"--from {unit}", "Juju has no such unit", f"one of {', '.join(known) or 'none: see the model'}"
        )
    number = str(units[unit].get("machine", ""))
    parts = number.split("/")
    machines: Mapping[str, Any] = status["machines"]
    machine: Mapping[str, Any] | None = machines.get(parts[0])
    # A container stands below its machine: 0/lxd/3.
    for depth in range(3, len(parts) + 1, 2):
        machine = ((machine or {}).get("containers") or {}).get("/".join(parts[:depth]))
    if machine is None:
        raise OvnshiftError(f"--from {unit}", f"Juju does not say what its machine {number or '?'} is", "juju status")
    names = [str(machine[key]) for key in ("hostname", "dns-name", "instance-id") if machine.get(key)]
    if not names:
        raise OvnshiftError(
            f"--from {unit}", f"its machine {number} has no name yet", "wait until it is started; or name its host"
        )
    return list(dict.fromkeys(names))
