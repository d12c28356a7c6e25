"""Neutron's rows, converted and put back: on the lab's MariaDB, in a copy of Neutron's schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pymysql
import pytest
from pymysql.cursors import DictCursor

from ovnshift import site as sites
from ovnshift.database import backup, conversion, restoration
from ovnshift.database.connection import DatabaseError, connect, identifier, login_of, rows
from ovnshift.database.conversion import Conflict, RowChange
from ovnshift.site import Site
from tests.lab.conftest import SITE, Lab

COPY = "ovnshift_copy"
USED_KEYS = "SELECT segmentation_id FROM networksegments WHERE network_type = 'vxlan'"
Connection: TypeAlias = "pymysql.Connection[DictCursor]"


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    assert lab.site
    return sites.load(SITE / "site.toml")


@pytest.fixture(scope="module")
def dump(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "neutron.sql"
    backup.dump(site, path)
    return path


@pytest.fixture
def copy(site: Site, dump: Path) -> Iterator[Connection]:
    """Neutron's schema as it is now, in a schema of its own."""
    with connect(site) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {identifier(COPY)}")
        cursor.execute(f"CREATE DATABASE {identifier(COPY)}")
        backup.restore(login_of(site), dump, COPY)
        try:
            with connect(site, COPY) as copy:
                yield copy
        finally:
            cursor.execute(f"DROP DATABASE {identifier(COPY)}")


def keep_nothing(_: object) -> None:
    """Nobody wants to go back."""


def everything(connection: Connection) -> dict[str, backup.Table]:
    connection.rollback()
    return backup.tables(connection, COPY)


def count(connection: Connection, statement: str) -> int:
    return int(rows(connection, statement)[0]["n"])


def test_rows_are_planned_and_nothing_is_changed(copy: Connection) -> None:
    before = everything(copy)
    planned = conversion.read(copy)
    assert {change.table for change in planned} == {
        "ml2_port_bindings",
        "ml2_port_binding_levels",
        "networksegments",
        "ml2_geneve_allocations",
        "ml2_vxlan_allocations",
        "providerresourceassociations",
        "ports",
        "routerports",
    }
    shown = [str(change) for change in planned]
    assert any(
        line.startswith("ml2_port_bindings [port_id=") and line.endswith("vif_type: bridge → ovs") for line in shown
    )
    assert everything(copy) == before


def test_all_of_the_old_driver_is_gone_and_keys_are_taken(copy: Connection) -> None:
    keys = {row["segmentation_id"] for row in rows(copy, USED_KEYS)}
    assert keys
    with copy.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ml2_vxlan_endpoints (ip_address, udp_port, host) VALUES ('192.0.2.1', 4789, 'gone')"
        )
    copy.commit()
    done = conversion.apply(copy, keep_nothing)
    assert {change.table for change in done} >= {"ml2_vxlan_endpoints", "ports", "networksegments"}
    for statement in (
        "SELECT COUNT(*) AS n FROM ml2_port_bindings WHERE vif_type = 'bridge'",
        "SELECT COUNT(*) AS n FROM ml2_port_binding_levels WHERE driver = 'linuxbridge'",
        "SELECT COUNT(*) AS n FROM networksegments WHERE network_type = 'vxlan'",
        "SELECT COUNT(*) AS n FROM ml2_vxlan_allocations WHERE allocated = 1",
        "SELECT COUNT(*) AS n FROM providerresourceassociations WHERE provider_name <> 'ovn'",
        "SELECT COUNT(*) AS n FROM ports WHERE device_owner = 'network:ha_router_replicated_interface'",
        "SELECT COUNT(*) AS n FROM ml2_vxlan_endpoints",
    ):
        assert count(copy, statement) == 0, statement
    taken = {
        row["geneve_vni"] for row in rows(copy, "SELECT geneve_vni FROM ml2_geneve_allocations WHERE allocated = 1")
    }
    assert taken == keys


def test_a_second_time_there_is_nothing_to_do(copy: Connection) -> None:
    conversion.apply(copy, keep_nothing)
    after = everything(copy)
    assert conversion.apply(copy, keep_nothing) == []
    assert everything(copy) == after


def test_the_inverse_puts_every_row_back(copy: Connection) -> None:
    before = everything(copy)
    kept: list[RowChange] = []
    conversion.apply(copy, kept.extend)
    # As it is kept in a file
    kept = conversion.from_record(json.loads(json.dumps(conversion.to_record(kept))))
    assert everything(copy) != before
    number, conflicts = conversion.revert(copy, kept)
    assert (number, conflicts) == (len(kept), [])
    assert everything(copy) == before


def test_rows_that_changed_since_are_not_put_back(copy: Connection) -> None:
    kept: list[RowChange] = []
    conversion.apply(copy, kept.extend)
    with copy.cursor() as cursor:
        cursor.execute("UPDATE ml2_port_bindings SET vif_type = 'unbound' LIMIT 1")
    copy.commit()
    number, conflicts = conversion.revert(copy, kept)
    assert number == len(kept) - 1
    assert [change.rule for change in conflicts] == ["bindings"]
    assert count(copy, "SELECT COUNT(*) AS n FROM ml2_port_bindings WHERE vif_type = 'unbound'") >= 1


def test_what_is_not_linuxbridges_is_left_alone(copy: Connection) -> None:
    with copy.cursor() as cursor:
        for number, kind in enumerate(("unbound", "binding_failed", "hw_veb")):
            cursor.execute(
                "UPDATE ml2_port_bindings SET vif_type = %s WHERE port_id = (SELECT id FROM ports ORDER BY id LIMIT 1 OFFSET %s)",
                (kind, number),
            )
    copy.commit()
    conversion.apply(copy, keep_nothing)
    kinds = {row["vif_type"] for row in rows(copy, "SELECT vif_type FROM ml2_port_bindings")}
    assert {"unbound", "binding_failed", "hw_veb", "ovs"} <= kinds


def test_a_key_outside_the_ranges_is_made(copy: Connection) -> None:
    with copy.cursor() as cursor:
        cursor.execute(
            "DELETE FROM ml2_geneve_allocations WHERE geneve_vni IN "
            "(SELECT segmentation_id FROM networksegments WHERE network_type = 'vxlan')"
        )
    copy.commit()
    before = everything(copy)
    kept: list[RowChange] = []
    conversion.apply(copy, kept.extend)
    assert "geneve keys to make" in {change.rule for change in kept}
    conversion.revert(copy, kept)
    assert everything(copy) == before


def test_bindings_get_the_bridge_and_datapath_of_their_host(copy: Connection) -> None:
    """As Neutron's OVN driver writes them from 2024.1 on."""
    rule = conversion.details_rule("br-int", {"compute1": "netdev"})
    rules = [*conversion.RULES, rule]
    untouched = everything(copy)
    kept: list[RowChange] = []
    conversion.apply(copy, kept.extend, rules)
    details = {
        (row["host"], row["vif_details"])
        for row in rows(copy, "SELECT host, vif_details FROM ml2_port_bindings WHERE vif_type = 'ovs'")
    }
    mine = [json.loads(text) for host, text in details if host == "compute1"]
    assert mine
    assert all((each["bridge_name"], each["datapath_type"]) == ("br-int", "netdev") for each in mine)
    assert all("port_filter" in each for each in mine)
    assert all("bridge_name" not in text for host, text in details if host != "compute1")
    assert conversion.read(copy, rules) == []
    conversion.revert(copy, kept)
    assert everything(copy) == untouched


def test_when_what_was_done_cannot_be_kept_nothing_is_done(copy: Connection) -> None:
    before = everything(copy)

    def full_disk(_: object) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        conversion.apply(copy, full_disk)
    assert everything(copy) == before


def test_a_database_that_goes_away_in_the_transaction_has_changed_nothing(copy: Connection, site: Site) -> None:
    before = everything(copy)
    mine = count(copy, "SELECT CONNECTION_ID() AS n")

    def killed(_: object) -> None:
        with connect(site, COPY) as other, other.cursor() as cursor:
            cursor.execute("KILL CONNECTION %s", (mine,))

    with pytest.raises((DatabaseError, pymysql.MySQLError)):
        conversion.apply(copy, killed)
    with connect(site, COPY) as again:
        assert everything(again) == before


def test_somebody_else_who_writes_is_noticed(copy: Connection) -> None:
    before = everything(copy)
    bindings = next(rule for rule in conversion.RULES if rule.name == "bindings")
    narrow = conversion.Rule(
        **{
            **vars(bindings),
            "change": "UPDATE ml2_port_bindings SET vif_type = 'ovs' WHERE vif_type = 'bridge' LIMIT 1",
        }
    )
    with pytest.raises(Conflict, match=r"rows were read for bindings, 1 changed"):
        conversion.apply(copy, keep_nothing, [narrow])
    assert everything(copy) == before


# The way back: by the record, and by rule for what came since


@pytest.fixture
def converted(copy: Connection) -> tuple[dict[str, backup.Table], list[RowChange]]:
    """Rows are OVN's: what they were, and the record of it."""
    untouched = everything(copy)
    kept: list[RowChange] = []
    conversion.apply(copy, kept.extend)
    return untouched, kept


Converted: TypeAlias = "tuple[dict[str, backup.Table], list[RowChange]]"


def test_the_way_back_puts_every_row_back(copy: Connection, converted: Converted) -> None:
    untouched, kept = converted
    number, since = restoration.go_back(copy, kept, force=False)
    # Keys in use follow from the segments; those that were made for them are removed.
    derived = [change for change in kept if change.table in restoration.DERIVED and change.before is not None]
    assert number == len(kept) - len(derived)
    assert set(since) <= {"VXLAN keys of segments that may be given away", "Geneve keys in use"}
    assert everything(copy) == untouched
    assert restoration.still_ovns(copy) == {}


def test_a_row_that_somebody_changed_stops_the_way_back_unless_it_is_overwritten(
    copy: Connection, converted: Converted
) -> None:
    untouched, kept = converted
    port = next(change.key["port_id"] for change in kept if change.rule == "bindings")
    with copy.cursor() as cursor:
        cursor.execute("UPDATE ml2_port_bindings SET vif_type = 'vhostuser' WHERE port_id = %s", (port,))
        copy.commit()
    before = everything(copy)
    with pytest.raises(Conflict, match=str(port)):
        restoration.go_back(copy, kept, force=False)
    assert everything(copy) == before
    found = restoration.sort(copy, kept)
    assert [change.key["port_id"] for change in found.changed] == [port]
    restoration.go_back(copy, kept, force=True)
    assert everything(copy) == untouched


def test_what_came_since_goes_back_by_rule(copy: Connection, converted: Converted) -> None:
    _, kept = converted
    segment = rows(copy, "SELECT network_id FROM networksegments WHERE network_type = 'geneve' LIMIT 1")[0]
    with copy.cursor() as cursor:
        cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
        cursor.execute(
            "INSERT INTO networksegments (id, network_id, network_type, segmentation_id, is_dynamic, segment_index, "
            "standard_attr_id) VALUES ('made-on-ovn', %s, 'geneve', 16000000, 0, 1, 999999)",
            (segment["network_id"],),
        )
        cursor.execute("INSERT INTO ml2_geneve_allocations VALUES (16000000, 1)")
        copy.commit()
    _, since = restoration.go_back(copy, kept, force=False)
    assert since["Geneve segments"] == 1
    assert since["VXLAN keys of segments without a row"] == 1
    assert count(copy, "SELECT COUNT(*) AS n FROM networksegments WHERE network_type = 'geneve'") == 0
    assert count(copy, "SELECT allocated AS n FROM ml2_vxlan_allocations WHERE vxlan_vni = 16000000") == 1
    assert count(copy, "SELECT allocated AS n FROM ml2_geneve_allocations WHERE geneve_vni = 16000000") == 0


def test_a_router_that_was_made_on_ovn_gets_attributes(copy: Connection, converted: Converted) -> None:
    """Without them LinuxBridge's router plugin takes it for HA, and fails on it."""
    _, kept = converted
    with copy.cursor() as cursor:
        cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
        cursor.execute(
            "INSERT INTO routers (id, name, standard_attr_id, enable_snat) VALUES ('made-on-ovn', 'made', 999999, 1)"
        )
        copy.commit()
    _, since = restoration.go_back(copy, kept, force=False)
    assert since["routers without attributes of their own"] == 1
    made = rows(copy, "SELECT ha, distributed FROM router_extra_attributes WHERE router_id = 'made-on-ovn'")
    assert made == [{"ha": 0, "distributed": 0}]


def test_a_port_that_was_deleted_since_stays_deleted(copy: Connection, converted: Converted) -> None:
    _, kept = converted
    # Nothing else may point at it: a floating IP or a router would keep the row.
    free = rows(
        copy,
        "SELECT id FROM ports WHERE LEFT(device_owner, 8) = 'compute:' "
        "AND id NOT IN (SELECT fixed_port_id FROM floatingips WHERE fixed_port_id IS NOT NULL)",
    )
    ports = {row["id"] for row in free}
    port = next(
        change.key["port_id"] for change in kept if change.rule == "bindings" and change.key["port_id"] in ports
    )
    with copy.cursor() as cursor:
        cursor.execute("DELETE FROM ports WHERE id = %s", (port,))
        copy.commit()
    gone = restoration.sort(copy, kept).gone
    assert {change.rule for change in gone} >= {"bindings", "binding levels"}
    restoration.go_back(copy, kept, force=False)
    assert count(copy, "SELECT COUNT(*) AS n FROM ml2_port_bindings WHERE vif_type = 'ovs'") == 0
