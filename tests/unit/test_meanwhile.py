from __future__ import annotations

from ovnshift.cloud.topology import OWNER_DHCP
from ovnshift.migration.meanwhile import changes
from tests.unit.clouds import Seed


def test_nothing_changed_is_nothing() -> None:
    assert changes(Seed().topology(), Seed().topology()) == []


def test_what_users_did_is_named() -> None:
    before, now = Seed(), Seed()
    fresh = now.network("fresh", "10.99.0.0/24")
    now.instance("vm-new", {"10.99.0.7": fresh}, "compute1")
    now.router("rtr-new", fresh)
    now.instances = [
        each.model_copy(update={"host": "compute2"}) if each.name == "vm-web1" else each
        for each in now.instances
        if each.name != "vm-db2"
    ]
    found = changes(before.topology(), now.topology())
    said = "\n".join(found)
    for line in (
        "network fresh (",
        "subnet 10.99.0.0/24 was made",
        "router rtr-new (",
        "instance vm-new (",
        "is on compute2, and was on compute1",
    ):
        assert line in said, line
    assert any(line.startswith("instance vm-db2 (") and line.endswith("was deleted") for line in found)


def test_what_agents_make_is_no_change() -> None:
    before, now = Seed(), Seed()
    before.port(before.web, ["10.5.0.2"], device_owner=OWNER_DHCP)
    now.port(now.web, ["10.5.0.9"], device_owner="network:distributed")
    assert changes(before.topology(), now.topology()) == []
