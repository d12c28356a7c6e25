"""Instances are where Nova says, and stay there."""

from __future__ import annotations

import pytest

from fixtures.checks import Check
from fixtures.cloud import Inventories
from ovnshift.cloud import Topology
from ovnshift.site import Site

pytestmark = pytest.mark.pre


def test_no_instance_is_on_the_move(topology: Topology, check: Check) -> None:
    """No instance is being migrated, resized, built, rescued or deleted."""
    check.demand_none(
        [
            f"{instance.label} is {instance.status}" + (f", {instance.task_state}" if instance.task_state else "")
            for instance in topology.instances
            if instance.task_state
            or instance.status in {"MIGRATING", "RESIZE", "VERIFY_RESIZE", "BUILD", "REBOOT", "RESCUE"}
        ],
        "of the instances are on the move",
        remedy="wait, confirm or revert: openstack server resize confirm, openstack server migration abort",
    )


def test_instances_run_where_nova_says(topology: Topology, inventories: Inventories, site: Site, check: Check) -> None:
    """Every instance that Nova calls ACTIVE runs on its hypervisor, and nothing else of Nova's does."""
    wrong = []
    unseen = []
    for instance in topology.instances:
        if not instance.active or instance.host is None:
            continue
        inventory = inventories.found.get(instance.host)
        if inventory is None or inventory.domains is None:
            unseen.append(f"{instance.label} on {instance.host}")
        elif instance.id not in inventory.domains:
            wrong.append(f"{instance.label}: ACTIVE by Nova, not running on {instance.host}")
    for host in site.group("compute"):
        for uuid, name in (inventories.found[host].domains or {} if host in inventories.found else {}).items():
            known = topology.instance.get(uuid)
            if known is None or not known.active or known.host != host:
                state = f"{known.status} on {known.host} by Nova" if known else "unknown to Nova"
                wrong.append(f"{name} ({uuid[:8]}) runs on {host}: {state}")
    check.demand_none(
        wrong,
        "of the instances are not as Nova says",
        remedy="openstack server stop or start brings Nova and the hypervisor together; see nova-compute's log",
    )
    check.demand_none(
        unseen,
        "of the instances could not be seen: their hypervisor has no libvirt that answers, or could not be asked",
        remedy="see virsh list on that host",
    )
    check.warn_of(
        [f"{instance.label} is {instance.status}" for instance in topology.instances if not instance.active],
        "instances don't run: they will be migrated, but nothing can be proved of them",
        remedy="start them before the baseline if they matter: openstack server start",
    )
    check.note(f"{sum(instance.active for instance in topology.instances)} of {len(topology.instances)} instances run")
