"""Neutron's rows from LinuxBridge to OVN: planned row by row, applied in one transaction, with an inverse.

Each rule is a pair of constant statements: one that reads the rows that it concerns with what they will be, one that changes all
of them at once. What the second changed is counted against what the first read.
"""

from __future__ import annotations

import gc
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pymysql
from pydantic import TypeAdapter
from pymysql.cursors import DictCursor

from ovnshift.database.connection import DatabaseError, identifier, rows
from ovnshift.errors import OvnshiftError

Value = str | int | None
# Rows that are put back by one statement; from 1,000 values on MariaDB makes a table of a list.
BATCH = 500


@dataclass(frozen=True)
class Rule:
    """One kind of change.

    Attributes:
        name: of the rule.
        table: that it changes.
        keys: its primary key.
        columns: what it changes.
        why: for people.
        read: reads the keys, each column as ``old_…`` and as ``new_…``.
        change: changes all of them; None for rows that are made or removed (their columns are all of the row's).
        insert: rows that are not there yet are made.
        delete: the rows are removed.
        values: go beside both statements.
    """

    name: str
    table: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    why: str
    read: str
    change: str
    insert: bool = False
    delete: bool = False
    values: tuple[Value, ...] = ()


RULES: tuple[Rule, ...] = (
    Rule(
        "bindings",
        "ml2_port_bindings",
        ("port_id", "host"),
        ("vif_type",),
        "Nova plugs a port by its VIF type",
        "SELECT port_id, host, vif_type AS old_vif_type, 'ovs' AS new_vif_type FROM ml2_port_bindings "
        "WHERE vif_type = 'bridge' FOR UPDATE",
        "UPDATE ml2_port_bindings SET vif_type = 'ovs' WHERE vif_type = 'bridge'",
    ),
    Rule(
        "binding levels",
        "ml2_port_binding_levels",
        ("port_id", "host", "level"),
        ("driver",),
        "the API shows it as bound_drivers",
        "SELECT port_id, host, level, driver AS old_driver, 'ovn' AS new_driver FROM ml2_port_binding_levels "
        "WHERE driver = 'linuxbridge' FOR UPDATE",
        "UPDATE ml2_port_binding_levels SET driver = 'ovn' WHERE driver = 'linuxbridge'",
    ),
    Rule(
        "subports",
        "ml2_port_bindings",
        ("port_id", "host"),
        ("profile",),
        "OVN's trunk driver finds a subport's parent and tag in its profile",
        "SELECT b.port_id, b.host, b.profile AS old_profile, "
        "JSON_SET(IF(b.profile = '', '{}', b.profile), '$.parent_name', t.port_id, '$.tag', s.segmentation_id) AS new_profile "
        "FROM ml2_port_bindings b JOIN subports s ON s.port_id = b.port_id JOIN trunks t ON t.id = s.trunk_id "
        "WHERE b.profile NOT LIKE '%%parent_name%%' FOR UPDATE",
        "UPDATE ml2_port_bindings b JOIN subports s ON s.port_id = b.port_id JOIN trunks t ON t.id = s.trunk_id "
        "SET b.profile = "
        "JSON_SET(IF(b.profile = '', '{}', b.profile), '$.parent_name', t.port_id, '$.tag', s.segmentation_id) "
        "WHERE b.profile NOT LIKE '%%parent_name%%'",
    ),
    Rule(
        "geneve keys to make",
        "ml2_geneve_allocations",
        ("geneve_vni",),
        ("allocated",),
        "a key outside vni_ranges has no row, and might be given to the next network",
        "SELECT DISTINCT s.segmentation_id AS geneve_vni, NULL AS old_allocated, 1 AS new_allocated FROM networksegments s "
        "LEFT JOIN ml2_geneve_allocations a ON a.geneve_vni = s.segmentation_id "
        "WHERE s.network_type IN ('vxlan', 'geneve') AND a.geneve_vni IS NULL",
        "INSERT INTO ml2_geneve_allocations (geneve_vni, allocated) SELECT DISTINCT s.segmentation_id, 1 FROM networksegments s "
        "LEFT JOIN ml2_geneve_allocations a ON a.geneve_vni = s.segmentation_id "
        "WHERE s.network_type IN ('vxlan', 'geneve') AND a.geneve_vni IS NULL",
        insert=True,
    ),
    Rule(
        "geneve keys in use",
        "ml2_geneve_allocations",
        ("geneve_vni",),
        ("allocated",),
        "the next network might be given the same key",
        "SELECT a.geneve_vni, a.allocated AS old_allocated, 1 AS new_allocated FROM ml2_geneve_allocations a "
        "JOIN networksegments s ON s.segmentation_id = a.geneve_vni AND s.network_type IN ('vxlan', 'geneve') "
        "WHERE a.allocated = 0 FOR UPDATE",
        "UPDATE ml2_geneve_allocations a "
        "JOIN networksegments s ON s.segmentation_id = a.geneve_vni AND s.network_type IN ('vxlan', 'geneve') "
        "SET a.allocated = 1 WHERE a.allocated = 0",
    ),
    Rule(
        "vxlan keys in use",
        "ml2_vxlan_allocations",
        ("vxlan_vni",),
        ("allocated",),
        "nothing uses them any more",
        "SELECT vxlan_vni, allocated AS old_allocated, 0 AS new_allocated FROM ml2_vxlan_allocations "
        "WHERE allocated = 1 FOR UPDATE",
        "UPDATE ml2_vxlan_allocations SET allocated = 0 WHERE allocated = 1",
    ),
    Rule(
        "segments",
        "networksegments",
        ("id",),
        ("network_type",),
        "OVN's tunnels between chassis are Geneve; the key stays",
        "SELECT id, network_type AS old_network_type, 'geneve' AS new_network_type FROM networksegments "
        "WHERE network_type = 'vxlan' FOR UPDATE",
        "UPDATE networksegments SET network_type = 'geneve' WHERE network_type = 'vxlan'",
    ),
    Rule(
        "segment ranges",
        "network_segment_ranges",
        ("id",),
        ("network_type",),
        "new networks get their keys from them",
        "SELECT id, network_type AS old_network_type, 'geneve' AS new_network_type FROM network_segment_ranges "
        "WHERE network_type = 'vxlan' FOR UPDATE",
        "UPDATE network_segment_ranges SET network_type = 'geneve' WHERE network_type = 'vxlan'",
    ),
    Rule(
        "router providers",
        "providerresourceassociations",
        ("provider_name", "resource_id"),
        ("provider_name",),
        "an unknown provider fails every update of its router from 2024.1 on (LP#2103697)",
        "SELECT p.provider_name, p.resource_id, p.provider_name AS old_provider_name, 'ovn' AS new_provider_name "
        "FROM providerresourceassociations p JOIN routers r ON r.id = p.resource_id "
        "WHERE p.provider_name IN ('single_node', 'ha', 'dvr', 'dvrha') FOR UPDATE",
        "UPDATE providerresourceassociations p JOIN routers r ON r.id = p.resource_id SET p.provider_name = 'ovn' "
        "WHERE p.provider_name IN ('single_node', 'ha', 'dvr', 'dvrha')",
    ),
    Rule(
        "HA interfaces",
        "ports",
        ("id",),
        ("device_owner",),
        "OVN makes a router port of a router_interface only",
        "SELECT id, device_owner AS old_device_owner, 'network:router_interface' AS new_device_owner FROM ports "
        "WHERE device_owner = 'network:ha_router_replicated_interface' FOR UPDATE",
        "UPDATE ports SET device_owner = 'network:router_interface' "
        "WHERE device_owner = 'network:ha_router_replicated_interface'",
    ),
    Rule(
        "HA interfaces' kind",
        "routerports",
        ("router_id", "port_id"),
        ("port_type",),
        "as above",
        "SELECT router_id, port_id, port_type AS old_port_type, 'network:router_interface' AS new_port_type FROM routerports "
        "WHERE port_type = 'network:ha_router_replicated_interface' FOR UPDATE",
        "UPDATE routerports SET port_type = 'network:router_interface' "
        "WHERE port_type = 'network:ha_router_replicated_interface'",
    ),
    Rule(
        "vxlan endpoints",
        "ml2_vxlan_endpoints",
        ("ip_address",),
        ("udp_port", "host"),
        "the agents that they belong to are retired",
        "SELECT ip_address, udp_port AS old_udp_port, host AS old_host, NULL AS new_udp_port, NULL AS new_host "
        "FROM ml2_vxlan_endpoints FOR UPDATE",
        "DELETE FROM ml2_vxlan_endpoints",
        delete=True,
    ),
)


# The first release of Neutron (2024.1) whose OVN driver writes them, in bind_port
# (neutron/plugins/ml2/drivers/ovn/mech_driver/mech_driver.py).
DETAILS_SINCE = 24


def details_rule(bridge: str, datapaths: Mapping[str, str]) -> Rule:
    """The rule for what Neutron from :data:`DETAILS_SINCE` on knows about a binding's switch.

    Args:
        bridge: that instances are plugged into ("br-int").
        datapaths: datapath type ("system", "netdev") by host; ports bound elsewhere stay as they are.
    """
    details = "IF(b.vif_details = '', '{}', b.vif_details)"
    made = (
        f"JSON_SET({details}, '$.bridge_name', %s, "
        "'$.datapath_type', JSON_UNQUOTE(JSON_EXTRACT(%s, CONCAT('$.\"', b.host, '\"'))))"
    )
    concerned = (
        "b.vif_type IN ('bridge', 'ovs') AND JSON_CONTAINS_PATH(%s, 'one', CONCAT('$.\"', b.host, '\"')) "
        f"AND NOT JSON_CONTAINS_PATH({details}, 'all', '$.bridge_name', '$.datapath_type')"
    )
    by_host = json.dumps(dict(datapaths))
    return Rule(
        "bindings' details",
        "ml2_port_bindings",
        ("port_id", "host"),
        ("vif_details",),
        "live migration and trunks look for the bridge and its datapath there",
        f"SELECT b.port_id, b.host, b.vif_details AS old_vif_details, {made} AS new_vif_details "  # noqa: S608, constants
        f"FROM ml2_port_bindings b WHERE {concerned} FOR UPDATE",
        f"UPDATE ml2_port_bindings b SET b.vif_details = {made} WHERE {concerned}",  # noqa: S608, constants
        values=(bridge, by_host, by_host),
    )


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row that changes. ``before`` is None for a row that is made, ``after`` for one that is removed."""

    rule: str
    table: str
    key: dict[str, Value]
    before: dict[str, Value] | None
    after: dict[str, Value] | None

    def __str__(self) -> str:
        key = ", ".join(f"{name}={value}" for name, value in self.key.items())
        if self.before is None or self.after is None:
            return f"{self.table} [{key}]: {'+' if self.before is None else '-'} {self.after or self.before}"
        changes = ", ".join(f"{name}: {self.before[name]} → {self.after[name]}" for name in self.after)
        return f"{self.table} [{key}]: {changes}"


_RECORD = TypeAdapter(list[RowChange])


def to_record(changes: Sequence[RowChange]) -> list[dict[str, Any]]:
    """Changes as they are kept in a file, JSON-able."""
    names = RowChange.__slots__
    return [{name: getattr(change, name) for name in names} for change in changes]


def from_record(record: Any) -> list[RowChange]:
    """Changes that were kept.

    Raises:
        pydantic.ValidationError: they are none.
    """
    return _RECORD.validate_python(record)


class Conflict(OvnshiftError):
    """Rows are not as they were when they were read; nothing was changed."""


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Python does not look for garbage meanwhile; among tens of thousands of rows, all of them kept, that costs much."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_garbage_left()
def read(connection: pymysql.Connection[DictCursor], rules: Iterable[Rule] = RULES) -> list[RowChange]:
    """The rows that would change, and to what. They stay locked until the transaction of the connection ends.

    Raises:
        DatabaseError: as :func:`ovnshift.database.connection.connect`.
    """
    return [change for rule in rules for change in _read(connection, rule)]


def _read(connection: pymysql.Connection[DictCursor], rule: Rule) -> list[RowChange]:
    olds = [(column, f"old_{column}") for column in rule.columns]
    news = [(column, f"new_{column}") for column in rule.columns]
    return [
        RowChange(
            rule=rule.name,
            table=rule.table,
            key={key: row[key] for key in rule.keys},
            before=None if rule.insert else {column: row[old] for column, old in olds},
            after=None if rule.delete else {column: row[new] for column, new in news},
        )
        for row in rows(connection, rule.read, *rule.values)
    ]


@_garbage_left()
def apply(
    connection: pymysql.Connection[DictCursor],
    keep: Callable[[Sequence[RowChange]], None],
    rules: Sequence[Rule] = RULES,
) -> list[RowChange]:
    """Change all rows in one transaction.

    Args:
        connection: to Neutron's schema; what it did before is rolled back, and this commits.
        keep: is given the changes before the transaction commits, to keep them for the way back; if it fails, nothing is changed.
        rules: what to change.

    Returns:
        What was changed; nothing the second time.

    Raises:
        Conflict: a statement changed another number of rows than were read; nothing is changed.
        DatabaseError: the database refused, or went away; nothing is changed.
    """
    connection.rollback()
    done: list[RowChange] = []
    try:
        connection.begin()
        for rule in rules:
            wanted = _read(connection, rule)
            with connection.cursor() as cursor:
                changed = cursor.execute(rule.change, rule.values) if wanted else 0
            if changed != len(wanted):
                raise Conflict(
                    rule.table,
                    f"{len(wanted)} rows were read for {rule.name}, {changed} changed",
                    "somebody else writes to Neutron's database: stop neutron-server on every host, and run this again",
                )
            done += wanted
        left = read(connection, rules)
        if left:
            raise Conflict(
                left[0].table, f"{len(left)} rows are as before: {left[0]}", "look at them; nothing was changed"
            )
        keep(done)
        connection.commit()
    except BaseException:
        roll_back(connection)
        raise
    return done


def roll_back(connection: pymysql.Connection[DictCursor]) -> None:
    """End a transaction that has failed.

    Raises:
        DatabaseError: the connection is gone.
    """
    try:
        connection.rollback()
    except pymysql.MySQLError as error:
        # The connection is gone, and the server rolls back what it had not committed; the first error is the one to tell.
        raise DatabaseError(
            "database", f"went away in the transaction: {error}", "nothing was changed; run this again"
        ) from error


def revert(connection: pymysql.Connection[DictCursor], changes: Iterable[RowChange]) -> tuple[int, list[RowChange]]:
    """Put rows back, the newest rule first, in one transaction, each only where it still is what was made of it.

    Returns:
        How many were put back, and those that were not, because they have changed since.
    """
    connection.rollback()
    connection.begin()
    changes = list(changes)
    try:
        conflicts = put_back(connection, changes)
        connection.commit()
    except BaseException:
        roll_back(connection)
        raise
    return len(changes) - len(conflicts), conflicts


def put_back(
    connection: pymysql.Connection[DictCursor], changes: Sequence[RowChange], *, force: bool = False
) -> list[RowChange]:
    """Put rows back, the newest rule first, in the transaction that is open.

    Args:
        connection: to Neutron's schema.
        changes: what was recorded, oldest first.
        force: also where a row is not any more what was made of it.

    Returns:
        Those that were not put back: their rows have changed since, or are gone.
    """
    return [left for batch in _batches(reversed(changes)) for left in _put_back(connection, batch, force=force)]


def _batches(changes: Iterable[RowChange]) -> Iterator[list[RowChange]]:
    """Changes that one statement can put back. Rules stay in their order; the rows of a rule don't depend on each other."""
    for _, of_rule in groupby(changes, key=lambda change: change.rule):
        alike: defaultdict[Hashable, list[RowChange]] = defaultdict(list)
        for change in of_rule:
            # Removed rows are inserted, each with its own values; others are all found by one condition and set to one value.
            before = change.before and tuple(change.before if change.after is None else change.before.items())
            after = change.after and tuple(change.after.items())
            alike[change.table, tuple(change.key), before, after].append(change)
        for group in alike.values():
            for begin in range(0, len(group), BATCH):
                yield group[begin : begin + BATCH]


def _put_back(connection: pymysql.Connection[DictCursor], batch: list[RowChange], *, force: bool) -> list[RowChange]:
    """Put rows back that are alike; those that can't be, since they have changed, are left and returned."""
    statement, values = _inverse(batch, force=force)
    with connection.cursor() as cursor:
        if len(batch) == 1:
            return [] if cursor.execute(statement, values) else batch
        cursor.execute("SAVEPOINT batch")
        if cursor.execute(statement, values) == len(batch):
            return []
        # Some have changed. One by one, so that it shows which.
        cursor.execute("ROLLBACK TO SAVEPOINT batch")
    return [change for change in batch if _put_back(connection, [change], force=force)]


def _inverse(batch: list[RowChange], *, force: bool) -> tuple[str, list[Value]]:
    """The statement that undoes changes that are alike, and its values; rows are found by their keys only if it is forced."""
    first = batch[0]
    table = identifier(first.table)
    if first.after is None:
        removed = [{**change.key, **(change.before or {})} for change in batch]
        names = ", ".join(identifier(name) for name in removed[0])
        statement = f"INSERT IGNORE INTO {table} ({names}) VALUES {_places(len(removed[0]), len(batch))}"  # noqa: S608, checked names
        return statement, [value for row in removed for value in row.values()]
    # A column that is changed and part of the key is found by what was made of it.
    keys = [name for name in first.key if name not in first.after]
    made = {name: value for name, value in first.after.items() if not force or name in first.key}
    conditions = [f"{identifier(name)} <=> %s" for name in made]
    if len(batch) == 1:
        # MariaDB would not use the key for a list of one.
        conditions += [f"{identifier(name)} = %s" for name in keys]
    else:
        found_by = ", ".join(identifier(name) for name in keys)
        conditions.append(f"({found_by}) IN ({_places(len(keys), len(batch))})")
    where = " AND ".join(conditions)
    found = [*made.values(), *(change.key[name] for change in batch for name in keys)]
    if first.before is None:
        return f"DELETE FROM {table} WHERE {where}", found  # noqa: S608, checked names
    assignments = ", ".join(f"{identifier(name)} = %s" for name in first.before)
    return f"UPDATE {table} SET {assignments} WHERE {where}", [*first.before.values(), *found]  # noqa: S608, checked names


def _places(width: int, rows: int) -> str:
    """Places for the values of rows."""
    return ", ".join([f"({', '.join(['%s'] * width)})"] * rows)
