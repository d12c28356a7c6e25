"""``openstack_inventory.json``: who is in which group, as OpenStack-Ansible's generator keeps it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ovnshift.deployments.openstack_ansible.document import EditRefused

AGENT_GROUPS = ("neutron_dhcp_agent", "neutron_l3_agent", "neutron_linuxbridge_agent", "neutron_metadata_agent")
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class _Member:
    """A key of an object with its value, by where both stand in the text."""

    key: str
    at: int
    begin: int
    end: int
    value: Any


def read(text: str, place: str) -> dict[str, Any]:
    """The inventory, by group.

    Raises:
        EditRefused: it is no JSON, or has the same key twice in an object.
    """
    try:
        inventory = json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        raise EditRefused(f"{place}, line {error.lineno}", f"is no JSON: {error.msg}", _MEND) from error
    except _Twice as error:
        lines = [text[: found.start()].count("\n") + 1 for found in re.finditer(re.escape(json.dumps(error.key)), text)]
        at = f", line {lines[-1]}" if lines else ""
        raise EditRefused(f"{place}{at}", f"has the key {error.key!r} twice in one object", _MEND) from error
    if not isinstance(inventory, dict) or not isinstance(inventory.get("_meta"), dict):
        raise EditRefused(place, "is no inventory: it has no _meta at its top", _MEND)
    return inventory


_MEND = "bring it back from backup_openstack_inventory.tar beside it, and run this again"


class _Twice(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def without_agents(text: str, place: str) -> str:
    """The inventory with nobody in the L3, DHCP, LinuxBridge and metadata groups; what is around their members stays.

    Raises:
        EditRefused: one of these groups has groups below it, which somebody made by hand; or as :func:`read` says.
    """
    inventory = read(text, place)
    spans: list[tuple[int, int]] = []
    for group in _members(text, _after_space(text, 0)):
        if group.key not in AGENT_GROUPS:
            continue
        here = f"{place}, line {text[: group.at].count(chr(10)) + 1}"
        if not isinstance(group.value, dict):
            raise EditRefused(here, f"{group.key} is no group: it has no children and hosts", _MEND)
        below = group.value.get("children")
        if below:
            raise EditRefused(
                here,
                f"{group.key} has the groups {', '.join(map(str, below))} below it, which somebody made by hand",
                "take them out of its children, and run this again",
            )
        for part in _members(text, group.begin):
            if part.key != "hosts" or not part.value:
                continue
            if not isinstance(part.value, list):
                raise EditRefused(here, f"the hosts of {group.key} are no list", _MEND)
            spans.append((part.begin + 1, part.end - 1))
    for begin, end in reversed(spans):
        # The members' lines go; the line on which the bracket closes stays, as after an edit by hand.
        last = text.rfind("\n", begin, end)
        text = text[:begin] + ("" if last < 0 else text[last:end]) + text[end:]
    wanted = {
        name: {**group, "hosts": []} if name in AGENT_GROUPS and group.get("hosts") else group
        for name, group in inventory.items()
    }
    if read(text, place) != wanted:
        raise EditRefused(place, "is written in a way in which the edit would change something else", "edit it by hand")
    return text


def _members(text: str, begin: int) -> Iterator[_Member]:
    """The members of the object that begins there; the text is known to be JSON."""
    index = _after_space(text, begin + 1)
    while text[index] == '"':
        at = index
        key, index = _DECODER.raw_decode(text, index)
        index = _after_space(text, _after_space(text, index) + 1)
        value, end = _DECODER.raw_decode(text, index)
        yield _Member(key, at, index, end, value)
        index = _after_space(text, end)
        if text[index] == ",":
            index = _after_space(text, index + 1)


def _after_space(text: str, index: int) -> int:
    found = _SPACE.match(text, index)
    assert found is not None
    return found.end()


def hosts(inventory: dict[str, Any]) -> set[str]:
    """The names of all hosts and containers."""
    hostvars = inventory["_meta"].get("hostvars")
    return set(hostvars) if isinstance(hostvars, dict) else set()


def members(inventory: dict[str, Any], group: str) -> set[str]:
    """The hosts of a group and of the groups below it; none where there is no such group."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [group]
    while waiting:
        name = waiting.pop()
        here = inventory.get(name)
        if name in seen or not isinstance(here, dict):
            continue
        seen.add(name)
        found.update(here.get("hosts") or [])
        waiting += here.get("children") or []
    return found
