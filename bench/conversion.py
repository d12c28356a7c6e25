"""The conversion of Neutron's rows against Neutron's own: `python -m bench.conversion` (as root; needs the lab's image).

The image's MariaDB runs in namespaces of its own, on a file system in memory, and holds Neutron's schema as the image's
`neutron-db-manage` makes it. It is filled with made-up networks and ports as LinuxBridge leaves them, and before each way
the same rows are put back. The ways:

ours: the plan, the planned changes written to a file, the transaction (which writes the inverse to a file before it
commits), and the checks afterwards; and then the way back, from that file.
Neutron's: `migrate_neutron_database_to_ovn()`, which was made for ML2/OVS: once with bindings as Open vSwitch's driver
writes them, so that it does all of its work, and once with LinuxBridge's, which it leaves as they are. Its imports and
its connecting are not counted.
bare statements: set-based, in one transaction, with no plan, no inverse and no checks.

What each way leaves behind is compared, and a difference ends the run.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import operator
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pymysql
import rich.console
import rich.table
from pymysql.cursors import DictCursor

from lab import image
from lab.errors import LabError
from lab.run import attempt, run
from ovnshift import files
from ovnshift.database import backup, conversion
from ovnshift.database.connection import connect, rows
from ovnshift.database.conversion import RowChange
from ovnshift.migration.rows import KIND, VERSION, left_of_the_old_driver, read_recorded
from ovnshift.site import Site

SIZES = (1_000, 20_000, 100_000)
# More ports than these would keep Neutron's function busy for minutes; and fewer than those are measured more than once.
MOST_FOR_NEUTRON = 20_000
LEAST_FOR_ONCE = 5_000
RUNS = 3
NEUTRON_SECONDS = 3600
START_SECONDS = 60
# As a server of so many ports has at least; the package's default of 128 MiB is too small for them.
POOL = "1G"

# Always there, and nobody's checkout is in it: a file system in memory is mounted over it, in our mount namespace only.
PLACE = Path("/dev/shm")
ROOT = PLACE / "root"
PASSWORD = "OVNSHIFT_BENCH_PASSWORD"  # noqa: S105, the variable's name
CONFIG = "/etc/neutron/bench.conf"
FILLED = (
    "standardattributes",
    "networks",
    "networksegments",
    "subnets",
    "ports",
    "ipallocations",
    "ml2_port_bindings",
    "ml2_port_binding_levels",
    "ml2_vxlan_allocations",
    "ml2_geneve_allocations",
    "ml2_vxlan_endpoints",
    "network_segment_ranges",
    "routers",
    "routerports",
    "providerresourceassociations",
    "trunks",
    "subports",
)
Connection: TypeAlias = "pymysql.Connection[DictCursor]"

# Identifiers as random as real ones, and the same in every run.
MADE_UP_ID = """
CREATE FUNCTION kept.id_of(kind VARCHAR(16), number INT) RETURNS VARCHAR(36) CHARACTER SET utf8mb3 DETERMINISTIC
RETURN INSERT(INSERT(INSERT(INSERT(MD5(CONCAT(kind, number)), 21, 0, '-'), 17, 0, '-'), 13, 0, '-'), 9, 0, '-')
"""
# Twenty ports a network. The first ports are routers', then come trunks' parents, then subports, and instances' are the
# rest; every fiftieth of those is bound nowhere. Geneve's range lacks the keys of the last networks.
FILL = (
    (
        "INSERT INTO standardattributes (id, resource_type, created_at, updated_at) "
        "SELECT seq, 'ports', NOW(), NOW() FROM seq_1_to_1000000 WHERE seq <= %(ports)s "
        "UNION ALL SELECT 1000000 + seq, 'networks', NOW(), NOW() FROM seq_1_to_1000000 WHERE seq <= %(networks)s "
        "UNION ALL SELECT 2000000 + seq, 'networksegments', NOW(), NOW() FROM seq_1_to_1000000 WHERE seq <= %(networks)s "
        "UNION ALL SELECT 3000000 + seq, 'subnets', NOW(), NOW() FROM seq_1_to_1000000 WHERE seq <= %(networks)s "
        "UNION ALL SELECT 4000000 + seq, 'routers', NOW(), NOW() FROM seq_1_to_1000000 WHERE seq <= %(routers)s "
        "UNION ALL SELECT 5000000 + seq, 'trunks', NOW(), NOW() FROM seq_1_to_1000000 WHERE seq <= %(trunks)s "
        "UNION ALL SELECT 6000001, 'network_segment_ranges', NOW(), NOW()"
    ),
    (
        "INSERT INTO networks (project_id, id, name, status, admin_state_up, standard_attr_id, mtu) "
        "SELECT 'p', kept.id_of('network', seq), CONCAT('net', seq), 'ACTIVE', 1, 1000000 + seq, 1450 "
        "FROM seq_1_to_1000000 WHERE seq <= %(networks)s"
    ),
    (
        "INSERT INTO networksegments (id, network_id, network_type, segmentation_id, standard_attr_id) "
        "SELECT kept.id_of('segment', seq), kept.id_of('network', seq), 'vxlan', seq, 2000000 + seq "
        "FROM seq_1_to_1000000 WHERE seq <= %(networks)s"
    ),
    (
        "INSERT INTO subnets (project_id, id, name, network_id, ip_version, cidr, enable_dhcp, standard_attr_id) "
        "SELECT 'p', kept.id_of('subnet', seq), '', kept.id_of('network', seq), 4, "
        "CONCAT('10.', seq DIV 256, '.', seq MOD 256, '.0/24'), 1, 3000000 + seq FROM seq_1_to_1000000 WHERE seq <= %(networks)s"
    ),
    (
        "INSERT INTO ports (project_id, id, name, network_id, mac_address, admin_state_up, status, device_id, device_owner, "
        "standard_attr_id) SELECT 'p', kept.id_of('port', seq), '', kept.id_of('network', 1 + seq %% %(networks)s), "
        "CONCAT('fa:16:3e:', SUBSTR(HEX(16777216 + seq), 2, 2), ':', SUBSTR(HEX(16777216 + seq), 4, 2), ':', "
        "SUBSTR(HEX(16777216 + seq), 6, 2)), 1, 'ACTIVE', "
        "IF(seq <= %(routers)s, kept.id_of('router', seq), kept.id_of('instance', seq)), CASE "
        "WHEN seq <= %(routers)s THEN IF(seq %% 2, 'network:ha_router_replicated_interface', 'network:router_interface') "
        "WHEN seq > %(routers)s + %(trunks)s AND seq <= %(routers)s + %(trunks)s + %(subports)s THEN 'trunk:subport' "
        "ELSE 'compute:nova' END, seq FROM seq_1_to_1000000 WHERE seq <= %(ports)s"
    ),
    (
        "INSERT INTO ipallocations (port_id, ip_address, subnet_id, network_id) SELECT kept.id_of('port', seq), "
        "CONCAT('10.', (1 + seq %% %(networks)s) DIV 256, '.', (1 + seq %% %(networks)s) MOD 256, '.', 2 + seq DIV "
        "%(networks)s), "
        "kept.id_of('subnet', 1 + seq %% %(networks)s), kept.id_of('network', 1 + seq %% %(networks)s) "
        "FROM seq_1_to_1000000 WHERE seq <= %(ports)s"
    ),
    (
        "INSERT INTO ml2_port_bindings (port_id, host, vif_type, profile, vif_details) SELECT id, "
        "IF(bound, CONCAT('compute-', LPAD(standard_attr_id %% %(hosts)s, 4, '0')), ''), IF(bound, 'bridge', 'unbound'), "
        "IF(device_owner = 'compute:nova', '{}', ''), IF(bound, '{\"connectivity\": \"l2\", \"port_filter\": true}', '') FROM "
        "(SELECT *, standard_attr_id %% 50 <> 0 OR device_owner <> 'compute:nova' AS bound FROM ports) AS p"
    ),
    (
        "INSERT INTO ml2_port_binding_levels (port_id, host, level, driver, segment_id) "
        "SELECT b.port_id, b.host, 0, 'linuxbridge', s.id FROM ml2_port_bindings b JOIN ports p ON p.id = b.port_id "
        "JOIN networksegments s ON s.network_id = p.network_id WHERE b.vif_type = 'bridge'"
    ),
    (
        "INSERT INTO ml2_vxlan_allocations (vxlan_vni, allocated) SELECT seq, seq <= %(networks)s FROM seq_1_to_1000000 "
        "WHERE seq <= 2 * %(networks)s"
    ),
    (
        "INSERT INTO ml2_geneve_allocations (geneve_vni, allocated) SELECT seq, 0 FROM seq_1_to_1000000 "
        "WHERE seq <= %(networks)s - %(networks)s DIV 20"
    ),
    (
        "INSERT INTO ml2_vxlan_endpoints (ip_address, udp_port, host) "
        "SELECT CONCAT('172.16.', seq DIV 256, '.', seq MOD 256), 8472, CONCAT('compute-', LPAD(seq - 1, 4, '0')) "
        "FROM seq_1_to_1000000 WHERE seq <= %(hosts)s"
    ),
    (
        "INSERT INTO network_segment_ranges (id, name, `default`, shared, network_type, minimum, maximum, standard_attr_id) "
        "VALUES (kept.id_of('range', 1), '', 1, 1, 'vxlan', 1, %(networks)s, 6000001)"
    ),
    (
        "INSERT INTO routers (project_id, id, name, status, admin_state_up, standard_attr_id) "
        "SELECT 'p', kept.id_of('router', seq), '', 'ACTIVE', 1, 4000000 + seq FROM seq_1_to_1000000 WHERE seq <= %(routers)s"
    ),
    (
        "INSERT INTO routerports (router_id, port_id, port_type) SELECT device_id, id, device_owner FROM ports "
        "WHERE standard_attr_id <= %(routers)s"
    ),
    (
        "INSERT INTO providerresourceassociations (provider_name, resource_id) "
        "SELECT IF(seq %% 2, 'ha', 'single_node'), kept.id_of('router', seq) FROM seq_1_to_1000000 WHERE seq <= %(routers)s"
    ),
    (
        "INSERT INTO trunks (project_id, id, port_id, standard_attr_id) "
        "SELECT 'p', kept.id_of('trunk', seq), kept.id_of('port', %(routers)s + seq), 5000000 + seq "
        "FROM seq_1_to_1000000 WHERE seq <= %(trunks)s"
    ),
    (
        "INSERT INTO subports (port_id, trunk_id, segmentation_type, segmentation_id) "
        "SELECT kept.id_of('port', %(routers)s + %(trunks)s + seq), kept.id_of('trunk', 1 + seq %% %(trunks)s), 'vlan', "
        "100 + seq DIV %(trunks)s FROM seq_1_to_1000000 WHERE seq <= %(subports)s"
    ),
)
# The bindings that Neutron's function was made for.
AS_OPEN_VSWITCH = (
    (
        'UPDATE ml2_port_bindings SET vif_type = \'ovs\', vif_details = \'{"connectivity": "l2", "port_filter": true, '
        '"ovs_hybrid_plug": false, "datapath_type": "system", "bridge_name": "br-int"}\' WHERE vif_type = \'bridge\''
    ),
    "UPDATE ml2_port_binding_levels SET driver = 'openvswitch' WHERE driver = 'linuxbridge'",
)
BARE = (
    "UPDATE ml2_port_bindings SET vif_type = 'ovs' WHERE vif_type = 'bridge'",
    "UPDATE ml2_port_binding_levels SET driver = 'ovn' WHERE driver = 'linuxbridge'",
    (
        "UPDATE ml2_port_bindings b JOIN subports s ON s.port_id = b.port_id JOIN trunks t ON t.id = s.trunk_id SET b.profile = "
        "JSON_SET(IF(b.profile = '', '{}', b.profile), '$.parent_name', t.port_id, '$.tag', s.segmentation_id)"
    ),
    (
        "INSERT INTO ml2_geneve_allocations (geneve_vni, allocated) "
        "SELECT segmentation_id, 1 FROM networksegments WHERE network_type = 'vxlan' ON DUPLICATE KEY UPDATE allocated = 1"
    ),
    "UPDATE ml2_vxlan_allocations SET allocated = 0 WHERE allocated = 1",
    "UPDATE networksegments SET network_type = 'geneve' WHERE network_type = 'vxlan'",
    "UPDATE network_segment_ranges SET network_type = 'geneve' WHERE network_type = 'vxlan'",
    "UPDATE providerresourceassociations SET provider_name = 'ovn'",
    "UPDATE ports SET device_owner = 'network:router_interface' WHERE device_owner = 'network:ha_router_replicated_interface'",
    "UPDATE routerports SET port_type = 'network:router_interface' WHERE port_type = 'network:ha_router_replicated_interface'",
    "DELETE FROM ml2_vxlan_endpoints",
)
# Run by the image's Python, beside the image's Neutron.
NEUTRONS = f"""
import time
from neutron.common import config
from neutron.db.migration.models import head
from neutron.plugins.ml2.drivers.ovn import db_migration
from neutron_lib import context
from neutron_lib.db import api
from sqlalchemy import orm, text

config.register_common_config_options()
config.init(["--config-file", "{CONFIG}"])
orm.configure_mappers()
with api.CONTEXT_READER.using(context.get_admin_context()) as session:
    session.execute(text("SELECT 1"))
begin = time.monotonic(), time.process_time()
db_migration.migrate_neutron_database_to_ovn()
print(time.monotonic() - begin[0], time.process_time() - begin[1])
"""


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock, and seconds of processors: this process's and MariaDB's together."""

    clock: float
    processors: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.clock + other.clock, self.processors + other.processors)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.clock - other.clock, self.processors - other.processors)


def now() -> Spent:
    """What was spent until now; of the clock and of this process only the difference of two means anything."""
    server = int((ROOT / "run/mysqld/mysqld.pid").read_text(encoding="ascii"))
    # The name, in parentheses, may hold blanks; then utime is the 12th field, stime the 13th (proc(5)).
    fields = Path(f"/proc/{server}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Spent(time.monotonic(), time.process_time() + ticks / os.sysconf("SC_CLK_TCK"))


def median(several: Iterable[Spent]) -> Spent:
    """Of each kind of seconds by itself."""
    clocks, processors = zip(*((each.clock, each.processors) for each in several), strict=True)
    return Spent(statistics.median(clocks), statistics.median(processors))


@dataclass(frozen=True)
class Effect:
    """What Neutron's function changes, as it is afterwards."""

    segments: dict[str, str]
    vxlan: set[int]
    geneve: set[int]
    profiles: dict[str, Any]


def wrong(what: str) -> SystemExit:
    """Why the numbers would mean nothing."""
    return SystemExit(f"the ways don't do the same work, so that nothing was compared: {what}")


def start() -> Site:
    """The image's MariaDB with Neutron's schema, empty. Everything ends with this process, which is the namespace's first.

    Raises:
        LabError: something of it does not start.
    """
    upper, work = PLACE / "upper", PLACE / "work"
    for directory in (upper, work, ROOT):
        directory.mkdir()
    layers = f"lowerdir={image.directory() / 'rootfs'},upperdir={upper},workdir={work}"
    run(["mount", "-t", "overlay", "overlay", "-o", layers, str(ROOT)])
    run(["mount", "--bind", "/dev", str(ROOT / "dev")])
    run(["mount", "-t", "proc", "proc", str(ROOT / "proc")])
    run(["ip", "link", "set", "lo", "up"])
    owner = (ROOT / "var/lib/mysql").stat()
    sockets = ROOT / "run/mysqld"
    sockets.mkdir(exist_ok=True)
    os.chown(sockets, owner.st_uid, owner.st_gid)
    with (PLACE / "mariadbd.log").open("wb") as log:
        options = [
            "--character-set-server=utf8mb3",
            "--collation-server=utf8mb3_general_ci",
            f"--innodb-buffer-pool-size={POOL}",
        ]
        command = ["chroot", str(ROOT), "mariadbd", "--user=mysql", "--bind-address=127.0.0.1", *options]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + START_SECONDS
    while attempt(["chroot", str(ROOT), "mariadb-admin", "--silent", "ping"]).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            said = (PLACE / "mariadbd.log").read_text(encoding="utf-8", errors="replace")
            raise LabError("the image's MariaDB does not start", "read what it says", said[-2000:])
        time.sleep(0.1)
    password = secrets.token_hex(16)
    os.environ[PASSWORD] = password
    statements = f"""
        CREATE DATABASE neutron; CREATE DATABASE kept;
        CREATE USER bench@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO bench@'%';
    """
    run(["chroot", str(ROOT), "mariadb"], stdin=statements)
    (ROOT / CONFIG.lstrip("/")).write_text(
        f"[DEFAULT]\ncore_plugin = ml2\n[database]\nconnection = mysql+pymysql://bench:{password}@127.0.0.1/neutron\n",
        encoding="utf-8",
    )
    run(["chroot", str(ROOT), "neutron-db-manage", "--config-file", CONFIG, "upgrade", "heads"], timeout=600)
    found = site()
    with connect(found) as connection:
        change(connection, MADE_UP_ID, *(f"CREATE TABLE kept.{table} LIKE neutron.{table}" for table in FILLED))
    return found


def site() -> Site:
    """A site of which only the database counts."""
    return Site.model_validate(
        {
            "cloud": {"name": "bench"},
            "hosts": {"h0": "ssh://h0"},
            "groups": {"compute": ["h0"]},
            "database": {"host": "127.0.0.1", "user": "bench", "password_env": PASSWORD},
            "ovn": {"northbound": "tcp:192.0.2.1:6641", "southbound": "tcp:192.0.2.1:6642"},
            "deployment": {"kind": "devstack"},
        }
    )


def change(connection: Connection, *statements: str, **values: int) -> None:
    """Run statements in one transaction."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement, values or None)
    connection.commit()


def fill(connection: Connection, ports: int) -> None:
    """Neutron's tables with so many ports, kept aside."""
    numbers = {
        "ports": ports,
        "networks": ports // 20,
        "hosts": max(ports // 100, 10),
        "routers": ports // 200,
        "trunks": ports // 500,
        "subports": ports // 100,
    }
    change(connection, "SET foreign_key_checks = 0", *(f"TRUNCATE {table}" for table in FILLED))
    change(connection, *FILL, **numbers)
    for table in FILLED:
        change(connection, f"TRUNCATE kept.{table}", f"INSERT INTO kept.{table} SELECT * FROM {table}")  # noqa: S608, our names


def put_back(connection: Connection) -> None:
    """The rows that were filled in, as new."""
    change(connection, "SET foreign_key_checks = 0", *(f"TRUNCATE {table}" for table in FILLED))
    for table in FILLED:
        change(connection, f"INSERT INTO {table} SELECT * FROM kept.{table}")  # noqa: S608, our names
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE TABLE {', '.join(FILLED)}")
    connection.rollback()


def tables(connection: Connection) -> dict[str, backup.Table]:
    """All tables with their numbers of rows and checksums."""
    connection.rollback()
    return backup.tables(connection, "neutron")


def effect(connection: Connection) -> Effect:
    """What is there of what Neutron's function changes."""
    connection.rollback()
    segments = rows(connection, "SELECT id, network_type FROM networksegments")
    vxlan = rows(connection, "SELECT vxlan_vni AS n FROM ml2_vxlan_allocations WHERE allocated = 1")
    geneve = rows(connection, "SELECT geneve_vni AS n FROM ml2_geneve_allocations WHERE allocated = 1")
    profiles = rows(connection, "SELECT b.port_id, b.profile FROM ml2_port_bindings b JOIN subports USING (port_id)")
    return Effect(
        {row["id"]: row["network_type"] for row in segments},
        {row["n"] for row in vxlan},
        {row["n"] for row in geneve},
        {row["port_id"]: json.loads(row["profile"] or "{}") for row in profiles},
    )


def ours(site: Site, inverse: Path) -> tuple[dict[str, Spent], list[RowChange]]:
    """What each part of our way took, and what was changed."""

    def keep(changes: Sequence[RowChange]) -> None:
        files.write_document(inverse, KIND, VERSION, {"rows": conversion.to_record(changes)})

    gc.collect()
    times = [now()]
    with connect(site) as connection:
        planned = conversion.read(connection)
        connection.rollback()
    times.append(now())
    files.write_atomically(inverse.with_name("rows-planned.txt"), "".join(f"{each}\n" for each in planned).encode())
    times.append(now())
    with connect(site) as connection:
        done = conversion.apply(connection, keep)
    times.append(now())
    with connect(site) as connection:
        again = conversion.read(connection)
        connection.rollback()
    left = left_of_the_old_driver(site)
    times.append(now())

    if again or any(left.values()):
        raise wrong(f"ours left {len(again)} rows to change, {left}")
    if {each.rule for each in done} != {rule.name for rule in conversion.RULES}:
        raise wrong("some rules had nothing to do")
    if sorted(map(str, done)) != sorted(map(str, planned)):
        raise wrong("ours did something else than it planned")
    spent = (after - before for before, after in pairwise(times))
    return dict(zip(("plan", "diff", "apply", "check"), spent, strict=True)), done


def back(site: Site, inverse: Path) -> Spent:
    """What our way back takes, with the reading of the file."""
    gc.collect()
    begin = now()
    with connect(site) as connection:
        count, conflicts = conversion.revert(connection, read_recorded(inverse))
    spent = now() - begin
    if conflicts:
        raise wrong(f"our way back put {count} rows back, and not {len(conflicts)}, the first of them {conflicts[0]}")
    return spent


def bare(site: Site) -> Spent:
    """What statements take without anything around them."""
    begin = now()
    with connect(site) as connection:
        change(connection, *BARE)
    return now() - begin


def neutrons() -> Spent:
    """What Neutron's function takes.

    Raises:
        LabError: it failed.
    """
    begin = now()
    said = run(["chroot", str(ROOT), "python3", "-"], stdin=NEUTRONS, timeout=NEUTRON_SECONDS).split()
    server = now() - begin
    return Spent(float(said[-2]), float(said[-1]) + server.processors)


@dataclass(frozen=True)
class Ours:
    """What our way came to, for the others to be compared with."""

    whole: Spent
    parts: dict[str, Spent]
    back: Spent
    done: list[RowChange]
    tables: dict[str, backup.Table]
    effect: Effect


def measure_ours(site: Site, connection: Connection, inverse: Path) -> Ours:
    """Our way and back, several times."""
    put_back(connection)
    before = tables(connection)
    parts, reverted = [], []
    for _ in range(RUNS):
        put_back(connection)
        spent, done = ours(site, inverse)
        parts.append(spent)
        after, changed = tables(connection), effect(connection)
        reverted.append(back(site, inverse))
        if tables(connection) != before:
            raise wrong("our way back does not lead back")
    return Ours(
        whole=median(functools.reduce(operator.add, each.values()) for each in parts),
        parts={part: median(each[part] for each in parts) for part in parts[0]},
        back=median(reverted),
        done=done,
        tables=after,
        effect=changed,
    )


def measure_bare(site: Site, connection: Connection, reference: Ours) -> Spent:
    """Bare statements, several times; every table must be as after ours."""
    spent = []
    for _ in range(RUNS):
        put_back(connection)
        spent.append(bare(site))
        found = tables(connection)
        if found != reference.tables:
            others = sorted(name for name, table in found.items() if table != reference.tables[name])
            raise wrong(f"bare statements leave others in {', '.join(others)}")
    return median(spent)


def measure_neutrons(connection: Connection, reference: Ours, runs: int, *before: str) -> Spent:
    """Neutron's function after some statements; what it changes must be as after ours."""
    made = {int(each.key["geneve_vni"] or 0) for each in reference.done if each.rule == "geneve keys to make"}
    wanted = replace(reference.effect, geneve=reference.effect.geneve - made)
    spent = []
    for _ in range(runs):
        put_back(connection)
        change(connection, *before)
        spent.append(neutrons())
        if effect(connection) != wanted:
            raise wrong("Neutron's function leaves other segments, keys or profiles than ours")
        named = rows(connection, "SELECT COUNT(*) AS n FROM ml2_port_bindings WHERE vif_details LIKE '%%bridge_name%%'")
        if named[0]["n"]:
            raise wrong(f"Neutron's function left {named[0]['n']} bindings as they were")
    return median(spent)


def measure(site: Site, ports: int) -> dict[str, Any]:
    """All ways with so many ports."""
    numbers: dict[str, Any]

    def say(what: str) -> None:
        sys.stderr.write(f"{ports} ports: {what}\n")

    with connect(site) as connection:
        say("fill")
        fill(connection, ports)
        say("ours")
        inverse = PLACE / f"rows-{ports}.json"
        reference = measure_ours(site, connection, inverse)
        ways = {"ours": reference.whole, **reference.parts, "back": reference.back}
        say(f"{ways['ours'].clock:.2f} s; bare statements")
        ways["bare"] = measure_bare(site, connection, reference)
        numbers = {"ports": ports, "rows": len(reference.done), "inverse_mb": inverse.stat().st_size / 1e6}
        if ports <= MOST_FOR_NEUTRON:
            runs = 1 if ports >= LEAST_FOR_ONCE else RUNS
            say(f"{ways['bare'].clock:.2f} s; Neutron's function, with Open vSwitch's bindings")
            ways["neutron"] = measure_neutrons(connection, reference, runs, *AS_OPEN_VSWITCH)
            say(f"{ways['neutron'].clock:.2f} s; Neutron's function, with LinuxBridge's bindings")
            ways["neutron_linuxbridge"] = measure_neutrons(connection, reference, runs)
            numbers["left_by_neutron"] = {kind: count for kind, count in left_of_the_old_driver(site).items() if count}
    return {**numbers, "seconds": {way: vars(spent) for way, spent in ways.items()}}


def inside(sizes: Sequence[int]) -> None:
    """All sizes, in namespaces that are ours; numbers to standard output."""
    try:
        run(["mount", "-t", "tmpfs", "-o", "size=80%,mode=0755", "tmpfs", str(PLACE)])
        sys.stderr.write("the image's MariaDB, and Neutron's schema\n")
        site = start()
        numbers = [measure(site, ports) for ports in sizes]
    except LabError as error:
        raise SystemExit(str(error)) from error
    sys.stdout.write(json.dumps(numbers))


def show(numbers: list[dict[str, Any]]) -> None:
    """The numbers for people."""
    table = rich.table.Table(
        title="Neutron's rows from LinuxBridge to OVN: seconds, and how many times our time that is; "
        "on a file system in memory, where a commit costs least"
    )
    for heading in (
        "ports",
        "rows changed",
        "seconds of",
        "ours",
        "plan",
        "diff",
        "transaction",
        "checks",
        "way back",
        "Neutron's, OVS",
        "times",
        "Neutron's, LinuxBridge",
        "times",
        "bare statements",
        "times",
    ):
        table.add_column(heading, justify="right")
    for each in numbers:
        for kind in ("clock", "processors"):
            seconds = {way: spent[kind] for way, spent in each["seconds"].items()}
            shown = [f"{each['ports']}", f"{each['rows']}"] if kind == "clock" else ["", ""]
            shown += [kind, *(f"{seconds[way]:.2f}" for way in ("ours", "plan", "diff", "apply", "check", "back"))]
            for way in ("neutron", "neutron_linuxbridge", "bare"):
                if way in seconds:
                    shown += [f"{seconds[way]:.2f}", f"{seconds[way] / seconds['ours']:.1f}"]
                else:
                    shown += ["", ""]
            table.add_row(*shown)
    console = rich.console.Console(width=160)
    console.print(table)
    for each in numbers:
        if "left_by_neutron" in each:
            left = ", ".join(f"{count} {what}" for what, count in each["left_by_neutron"].items())
            console.print(
                f"{each['ports']} ports: of LinuxBridge's rows, Neutron's function leaves {left or 'none'}.",
                soft_wrap=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    parser.add_argument(
        "--ports", type=int, nargs="+", default=list(SIZES), metavar="N", help="only these numbers of ports"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.ports)
        return
    if any(not 1_000 <= ports <= 1_000_000 for ports in arguments.ports):
        parser.error("from 1,000 to 1,000,000 ports")
    if os.geteuid() != 0:
        raise SystemExit("only root can mount the image: sudo .venv/bin/python -m bench.conversion")
    if not image.is_cached():
        raise SystemExit(f"there is no {image.directory()}: python -m lab up makes it")
    # Of mounts, networks and processes; all of them are gone with the first process, and that with this one.
    namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [sys.executable, "-m", "bench.conversion", "--inside", "--ports", *map(str, arguments.ports)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    child = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *namespaces, *command],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # Ctrl-C is for this process, which ends the other.
        start_new_session=True,
    )
    try:
        output, _ = child.communicate()
    except KeyboardInterrupt:
        raise SystemExit("stopped") from None
    finally:
        child.kill()
        child.wait()
    if child.returncode != 0:
        raise SystemExit(1)
    numbers = json.loads(output)
    show(numbers)
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
