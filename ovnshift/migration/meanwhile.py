"""What has become of the cloud since the window was opened, while nobody of ours was at work."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from ovnshift.cloud.topology import OWNER_DHCP, OWNER_HA_INTERFACE, OWNER_ROUTER_HA, Port, Topology
from ovnshift.journal import Journal
from ovnshift.migration.window import Window

OWNER_METADATA = "network:distributed"
# Made and deleted by agents and by the migration itself.
OWN_OWNERS = frozenset({OWNER_DHCP, OWNER_HA_INTERFACE, OWNER_ROUTER_HA, OWNER_METADATA})
API_HELD, API_BACK = "5 retire agents/Neutron's server", "9 sync/api"


def api_is_held(journal: Journal) -> bool:
    """Whether Neutron's server is off since this window stopped it; Nova can't list instances then either."""
    return journal.begun(API_HELD) and not journal.begun(API_BACK)


def _compared(kind: str, before: Iterable[tuple[str, str]], now: Iterable[tuple[str, str]]) -> list[str]:
    """What came and what went, of pairs of id and label."""
    old, new = dict(before), dict(now)
    came = [f"{kind} {label} was made" for id_, label in new.items() if id_ not in old]
    return came + [f"{kind} {label} was deleted" for id_, label in old.items() if id_ not in new]


def _ports(ports: Sequence[Port]) -> list[tuple[str, str]]:
    """Those of users."""
    return [(port.id, port.label) for port in ports if port.device_owner not in OWN_OWNERS]


def changes(before: Topology, now: Topology) -> list[str]:
    """What users have made and deleted since, and instances that are elsewhere."""
    networks = (
        [(each.id, each.label) for each in topology.networks if not each.is_ha_network] for topology in (before, now)
    )
    found = _compared("network", *networks)
    found += _compared("subnet", *([(each.id, each.cidr) for each in topology.subnets] for topology in (before, now)))
    found += _compared("router", *([(each.id, each.label) for each in topology.routers] for topology in (before, now)))
    found += _compared("port", *(_ports(topology.ports) for topology in (before, now)))
    found += _compared(
        "floating IP", *([(each.id, each.address) for each in topology.floating_ips] for topology in (before, now))
    )
    found += _compared(
        "security group", *([(each.id, each.label) for each in topology.security_groups] for topology in (before, now))
    )
    found += _compared(
        "instance", *([(each.id, each.label) for each in topology.instances] for topology in (before, now))
    )
    for instance in now.instances:
        old = before.instance.get(instance.id)
        if old is not None and old.host != instance.host:
            found.append(f"instance {instance.label} is on {instance.host}, and was on {old.host}")
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
