"""What has become of the cloud since the window was opened, while nobody of ours was at work."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from ovnshift.cloud.topology import OWNER_DHCP, OWNER_HA_INTERFACE, OWNER_METADATA, OWNER_ROUTER_HA, Topology
from ovnshift.journal import Journal
from ovnshift.migration.window import Window

# Made and deleted by agents and by the migration itself.
OWN_OWNERS = frozenset({OWNER_DHCP, OWNER_HA_INTERFACE, OWNER_ROUTER_HA, OWNER_METADATA})
API_HELD, API_BACK = "5 retire agents/Neutron's server", "9 sync/api"


def api_is_held(journal: Journal) -> bool:
    """Whether Neutron's server is off since this window stopped it; Nova can't list instances then either."""
    return journal.begun(API_HELD) and not journal.begun(API_BACK)


# What users make and delete, each with how to read its ids and labels.
_KINDS: dict[str, Callable[[Topology], dict[str, str]]] = {
    "network": lambda cloud: {each.id: each.label for each in cloud.networks if not each.is_ha_network},
    "subnet": lambda cloud: {each.id: each.cidr for each in cloud.subnets},
    "router": lambda cloud: {each.id: each.label for each in cloud.routers},
    "port": lambda cloud: {each.id: each.label for each in cloud.ports if each.device_owner not in OWN_OWNERS},
    "floating IP": lambda cloud: {each.id: each.address for each in cloud.floating_ips},
    "security group": lambda cloud: {each.id: each.label for each in cloud.security_groups},
    "instance": lambda cloud: {each.id: each.label for each in cloud.instances},
}


def changes(before: Topology, now: Topology) -> list[str]:
    """What users have made and deleted since, and instances that are elsewhere."""
    found = []
    for kind, labels in _KINDS.items():
        old, new = labels(before), labels(now)
        found += [f"{kind} {label} was made" for id_, label in new.items() if id_ not in old]
        found += [f"{kind} {label} was deleted" for id_, label in old.items() if id_ not in new]
    for instance in now.instances:
        was = before.instance.get(instance.id)
        if was is not None and was.host != instance.host:
            found.append(f"instance {instance.label} is on {instance.host}, and was on {was.host}")
    return found


def restarted(window: Window, since: str) -> list[str]:
    """Hosts that were started after a moment (UTC, ISO 8601), with when.

    Raises:
        HostError: a host can't be asked.
    """
    moment = datetime.datetime.fromisoformat(since)
    # The time since the start of its first process, which in a container is not the machine's.
    answers = window.fleet.every(
        window.site.cloud_hosts, lambda host: int(host.check("ps", "-o", "etimes=", "-p", "1").strip())
    )
    now = datetime.datetime.now(datetime.UTC)
    begun = {host: now - datetime.timedelta(seconds=seconds) for host, seconds in answers.items()}
    return [f"{host} was started at {when:%Y-%m-%d %H:%M:%S} UTC" for host, when in begun.items() if when > moment]
