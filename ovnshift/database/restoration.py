"""Neutron's rows back from OVN to LinuxBridge: by what was recorded of each, and by rules for what came since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pymysql
from pymysql.cursors import DictCursor

from ovnshift.database.connection import identifier, rows
from ovnshift.database.conversion import Conflict, RowChange, Value, put_back, roll_back

Key = tuple[Value, ...]

# What is in use follows from the segments that there are now, and is set by the rules below; networks that came or went since are
# nobody's conflict. Rows that were made for keys outside of vni_ranges are removed again.
DERIVED = frozenset({"ml2_geneve_allocations", "ml2_vxlan_allocations"})

# What is still OVN's, in the order in which a person would look: (what, how many, the statement that changes it).
SINCE: tuple[tuple[str, str, str], ...] = (
    (
        "bindings of OVN",
        "SELECT COUNT(*) AS n FROM ml2_port_bindings WHERE vif_type = 'ovs'",
        "UPDATE ml2_port_bindings SET vif_type = 'bridge' WHERE vif_type = 'ovs'",
    ),
    (
        "binding levels of OVN",
        "SELECT COUNT(*) AS n FROM ml2_port_binding_levels WHERE driver = 'ovn'",
        "UPDATE ml2_port_binding_levels SET driver = 'linuxbridge' WHERE driver = 'ovn'",
    ),
    (
        "Geneve segments",
        "SELECT COUNT(*) AS n FROM networksegments WHERE network_type = 'geneve'",
        "UPDATE networksegments SET network_type = 'vxlan' WHERE network_type = 'geneve'",
    ),
    (
        "VXLAN keys of segments without a row",
        (
            "SELECT COUNT(*) AS n FROM networksegments s LEFT JOIN ml2_vxlan_allocations a ON a.vxlan_vni = s.segmentation_id "
            "WHERE s.network_type = 'vxlan' AND a.vxlan_vni IS NULL"
        ),
        (
            "INSERT INTO ml2_vxlan_allocations (vxlan_vni, allocated) SELECT DISTINCT s.segmentation_id, 1 "
            "FROM networksegments s LEFT JOIN ml2_vxlan_allocations a ON a.vxlan_vni = s.segmentation_id "
            "WHERE s.network_type = 'vxlan' AND a.vxlan_vni IS NULL"
        ),
    ),
    (
        "VXLAN keys of segments that may be given away",
        (
            "SELECT COUNT(*) AS n FROM ml2_vxlan_allocations a JOIN networksegments s ON s.segmentation_id = a.vxlan_vni "
            "WHERE s.network_type = 'vxlan' AND a.allocated = 0"
        ),
        (
            "UPDATE ml2_vxlan_allocations a JOIN networksegments s ON s.segmentation_id = a.vxlan_vni "
            "SET a.allocated = 1 WHERE s.network_type = 'vxlan' AND a.allocated = 0"
        ),
    ),
    (
        "Geneve keys in use",
        "SELECT COUNT(*) AS n FROM ml2_geneve_allocations WHERE allocated = 1",
        "UPDATE ml2_geneve_allocations SET allocated = 0 WHERE allocated = 1",
    ),
    (
        "routers of OVN's provider",
        "SELECT COUNT(*) AS n FROM providerresourceassociations WHERE provider_name = 'ovn'",
        "UPDATE providerresourceassociations SET provider_name = 'single_node' WHERE provider_name = 'ovn'",
    ),
    (
        # OVN's router plugin writes none; LinuxBridge's takes such a router for HA where that is the default, and fails on it.
        "routers without attributes of their own",
        (
            "SELECT COUNT(*) AS n FROM routers r LEFT JOIN router_extra_attributes e ON e.router_id = r.id "
            "WHERE e.router_id IS NULL"
        ),
        (
            "INSERT INTO router_extra_attributes (router_id, distributed, service_router, ha, availability_zone_hints) "
            "SELECT r.id, 0, 0, 0, '[]' FROM routers r LEFT JOIN router_extra_attributes e ON e.router_id = r.id "
            "WHERE e.router_id IS NULL"
        ),
    ),
    (
        "revision numbers that OVN's driver keeps",
        "SELECT COUNT(*) AS n FROM ovn_revision_numbers",
        "DELETE FROM ovn_revision_numbers",
    ),
    (
        "places in OVN's hash ring",
        "SELECT COUNT(*) AS n FROM ovn_hash_ring",
        "DELETE FROM ovn_hash_ring",
    ),
)


@dataclass(frozen=True)
class Sorted:
    """Recorded changes, by what has become of their rows.

    Attributes:
        ours: rows that still are what was made of them.
        back: rows that are as they were already.
        changed: rows that somebody has changed since.
        gone: rows that are not there any more, or are there again.
    """

    ours: list[RowChange] = field(default_factory=list)
    back: list[RowChange] = field(default_factory=list)
    changed: list[RowChange] = field(default_factory=list)
    gone: list[RowChange] = field(default_factory=list)


def _key(change: RowChange, values: Mapping[str, Value] | None) -> Key:
    """A row's key, where columns of the key may be among those that change."""
    return tuple((values or {}).get(name, value) for name, value in change.key.items())


def sort(connection: pymysql.Connection[DictCursor], changes: Iterable[RowChange]) -> Sorted:
    """See what has become of rows that were changed. They stay locked until the transaction of the connection ends.

    Raises:
        DatabaseError: the database can't be asked.
    """
    found = Sorted()
    by_table: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[RowChange]] = {}
    for change in changes:
        columns = tuple(change.before or change.after or {})
        by_table.setdefault((change.table, tuple(change.key), columns), []).append(change)
    for (table, keys, columns), members in by_table.items():
        names = ", ".join(identifier(name) for name in dict.fromkeys((*keys, *columns)))
        statement = f"SELECT {names} FROM {identifier(table)} FOR UPDATE"  # noqa: S608, checked names
        now = {tuple(row[name] for name in keys): row for row in rows(connection, statement)}
        for change in members:
            _sort_one(change, now, found)
    return found


def _sort_one(change: RowChange, now: Mapping[Key, Mapping[str, Value]], found: Sorted) -> None:
    made = now.get(_key(change, change.after))
    was = now.get(_key(change, change.before))
    if change.table in DERIVED:
        (found.ours if change.before is None and made is not None else found.back).append(change)
        return
    if change.after is None:
        (found.ours if was is None else found.back).append(change)
    elif made is not None and all(made[name] == value for name, value in change.after.items()):
        found.ours.append(change)
    elif change.before is None:
        (found.back if made is None else found.changed).append(change)
    elif was is not None and all(was[name] == value for name, value in change.before.items()):
        found.back.append(change)
    else:
        (found.changed if made is not None or was is not None else found.gone).append(change)


def still_ovns(connection: pymysql.Connection[DictCursor]) -> dict[str, int]:
    """Kinds of rows that are OVN's, with their numbers; none when there are none.

    Raises:
        DatabaseError: the database can't be asked.
    """
    counted = {what: int(rows(connection, count)[0]["n"]) for what, count, _ in SINCE}
    return {what: count for what, count in counted.items() if count}


def go_back(
    connection: pymysql.Connection[DictCursor], changes: Sequence[RowChange], *, force: bool
) -> tuple[int, dict[str, int]]:
    """Put rows back and change those that came since, in one transaction.

    Args:
        connection: to Neutron's schema; what it did before is rolled back, and this commits.
        changes: what was recorded, oldest first.
        force: put back rows that somebody has changed since, too.

    Returns:
        How many rows were put back; and how many of each kind came since and were changed by rule.

    Raises:
        Conflict: rows were changed since and ``force`` is not given, or rows of OVN are left; nothing is changed.
        DatabaseError: the database refused, or went away; nothing is changed.
    """
    connection.rollback()
    try:
        connection.begin()
        found = sort(connection, changes)
        if found.changed and not force:
            raise Conflict(
                found.changed[0].table,
                f"{len(found.changed)} rows were changed by somebody else since: {found.changed[0]}",
                "look at them (--rollback --plan); --conflicts=overwrite puts them back all the same",
            )
        wanted = [*found.ours, *(found.changed if force else [])]
        # Keys that were made for segments go, whether they are in use by now or not.
        put_back(connection, [change for change in wanted if change.table in DERIVED], force=True)
        left = put_back(connection, [change for change in wanted if change.table not in DERIVED], force=force)
        if left:
            raise Conflict(
                left[0].table, f"{len(left)} rows can't be put back: {left[0]}", "who writes to the database?"
            )
        since = {}
        for what, _, statement in SINCE:
            with connection.cursor() as cursor:
                count = cursor.execute(statement)
            if count:
                since[what] = count
        if still := still_ovns(connection):
            raise Conflict(
                "database", f"rows are still OVN's: {still}", "stop neutron-server on every host, and run this again"
            )
        connection.commit()
    except BaseException:
        roll_back(connection)
        raise
    return len(wanted), since
