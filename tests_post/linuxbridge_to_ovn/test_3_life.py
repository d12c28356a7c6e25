"""Life goes on: fresh objects are made, reached, rebooted and deleted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures.checks import Check
from ovnshift.cloud import Topology
from ovnshift.migration.life import FreshObjects
from ovnshift.migration.window import Window


@pytest.fixture(scope="module")
def fresh(window: Window, topology: Topology) -> Iterator[FreshObjects]:
    """Objects of this module's own."""
    objects = FreshObjects(window, topology)
    objects.remove()
    yield objects
    objects.remove()


def _demand(fact: object, what: str, check: Check) -> None:
    check.demand(fact, f"there is no {what} to go on with", remedy="see the check before this one")


def test_a_network_and_a_router_can_be_made(fresh: FreshObjects, check: Check) -> None:
    """A new network and a new router can be made; the network gets a key that no other has."""
    check.note(fresh.make_network())


def test_an_instance_boots(fresh: FreshObjects, check: Check) -> None:
    """A new instance boots on the new network, and its port becomes ACTIVE."""
    _demand(fresh.network, "network", check)
    check.note(fresh.boot())


def test_it_is_reached_at_a_floating_ip(fresh: FreshObjects, check: Check) -> None:
    """It answers ping and SSH, at its own address and at a new floating IP from outside."""
    _demand(fresh.server, "instance", check)
    check.note(f"floating IP {fresh.give_floating_ip()}")
    check.note(fresh.reach())


def test_it_survives_a_hard_reboot(fresh: FreshObjects, check: Check) -> None:
    """It comes back after a hard reboot."""
    _demand(fresh.server, "instance", check)
    check.note(fresh.reboot_hard())


def test_all_of_it_can_be_deleted(fresh: FreshObjects, check: Check) -> None:
    """All of it can be deleted again."""
    gone = fresh.remove()
    check.demand(
        len(gone) >= 5,
        f"only {', '.join(gone) or 'nothing'} was there to delete",
        remedy="see the checks before this one",
    )
    check.note(", ".join(gone))
