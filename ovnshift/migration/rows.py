"""Chapter 8: Neutron's rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovnshift import files
from ovnshift.database import conversion
from ovnshift.database.connection import connect, rows
from ovnshift.database.conversion import RowChange, Rule
from ovnshift.hosts.release import neutron_release
from ovnshift.migration.agents import hold_api
from ovnshift.migration.window import Window
from ovnshift.ovn import southbound
from ovnshift.report.result import Finding, NotReady
from ovnshift.site import Site
from ovnshift.steps import Step

CHAPTER = "8 database"
VERSION = 1
KIND = "changed rows"
# Of each kind; the file has them all.
SHOWN = 12
INTEGRATION_BRIDGE = "br-int"


def recorded(backups: Path) -> list[Path]:
    """Files that say which rows were changed, oldest first."""
    return sorted(backups.glob("rows-*.json"))


def read_recorded(path: Path) -> list[RowChange]:
    """The rows that a file says were changed.

    Raises:
        OvnshiftError: it was changed or is missing.
    """
    return conversion.from_record(files.read_document(path, KIND, VERSION)["rows"])


_LEFT = {
    "bindings of LinuxBridge": "SELECT COUNT(*) AS n FROM ml2_port_bindings WHERE vif_type = 'bridge'",
    "binding levels of LinuxBridge": (
        "SELECT COUNT(*) AS n FROM ml2_port_binding_levels WHERE driver IN ('linuxbridge', 'l2population')"
    ),
    "VXLAN segments": "SELECT COUNT(*) AS n FROM networksegments WHERE network_type = 'vxlan'",
    "Geneve segments whose key may be given away again": (
        "SELECT COUNT(*) AS n FROM networksegments s LEFT JOIN ml2_geneve_allocations a "
        "ON a.geneve_vni = s.segmentation_id AND a.allocated = 1 WHERE s.network_type = 'geneve' AND a.geneve_vni IS NULL"
    ),
    "VXLAN keys in use": "SELECT COUNT(*) AS n FROM ml2_vxlan_allocations WHERE allocated = 1",
    "VXLAN endpoints": "SELECT COUNT(*) AS n FROM ml2_vxlan_endpoints",
    "VXLAN segment ranges": "SELECT COUNT(*) AS n FROM network_segment_ranges WHERE network_type = 'vxlan'",
    "routers of another provider": (
        "SELECT COUNT(*) AS n FROM providerresourceassociations p JOIN routers r ON r.id = p.resource_id "
        "WHERE p.provider_name <> 'ovn'"
    ),
    "ports of HA routers": "SELECT COUNT(*) AS n FROM ports WHERE device_owner LIKE 'network:ha_router%%'",
    "router ports of HA routers": "SELECT COUNT(*) AS n FROM routerports WHERE port_type LIKE 'network:ha_router%%'",
}


def left_of_the_old_driver(site: Site) -> dict[str, int]:
    """Rows that are still the old driver's, counted by kind, with other questions than those that change them.

    Raises:
        DatabaseError: the database can't be asked.
    """
    with connect(site) as connection:
        return {what: int(rows(connection, statement)[0]["n"]) for what, statement in _LEFT.items()}


class ConvertRows(Step):
    """All of Neutron's rows that name the old driver, in one transaction; what they were is kept before it is committed."""

    chapter = CHAPTER
    key = "rows"
    title = "change Neutron's rows from LinuxBridge to OVN"
    way_back = "its chapter 3 puts rows back by what is recorded of them, in one transaction"

    def __init__(self, window: Window) -> None:
        self._window = window

    @functools.cached_property
    def _has_details(self) -> bool:
        """Whether this release of Neutron writes a binding's bridge and datapath."""
        control = self._window.fleet[self._window.site.group("control")[0]]
        return neutron_release(control).major >= conversion.DETAILS_SINCE

    def _rules(self) -> list[Rule]:
        """What concerns this release of Neutron, with what the chassis say."""
        if not self._has_details:
            return list(conversion.RULES)
        chassis = southbound(self._window.site).chassis.values()
        datapaths = {each.hostname: each.options.get("datapath-type") or "system" for each in chassis}
        return [*conversion.RULES, conversion.details_rule(INTEGRATION_BRIDGE, datapaths)]

    def _pending(self, rules: Sequence[Rule]) -> list[RowChange]:
        with connect(self._window.site) as connection:
            found = conversion.read(connection, rules)
            connection.rollback()
        return found

    def plan(self) -> list[str]:
        # What the chassis say is not known before OVN is deployed.
        pending = self._pending(conversion.RULES)
        by_rule: dict[str, list[RowChange]] = {}
        for change in pending:
            by_rule.setdefault(change.rule, []).append(change)
        whys = {rule.name: rule.why for rule in conversion.RULES}
        lines = []
        for rule, changes in by_rule.items():
            lines.append(f"{len(changes)} rows, {rule}: {whys[rule]}")
            lines += [f"  {change}" for change in changes[:SHOWN]]
            if len(changes) > SHOWN:
                lines.append(f"  … and {len(changes) - SHOWN} more; all of them are in {self._diff()}")
        if self._has_details:
            lines.append("bindings' details: bridge and datapath type, as each host's chassis says by then")
        if pending:
            files.write_atomically(self._diff(), "".join(f"{change}\n" for change in pending).encode())
        return lines or ["no row is to be changed"]

    def _diff(self) -> Path:
        return self._window.evidence / "rows-planned.txt"

    def is_done(self) -> bool:
        return not self._pending(self._rules())

    def do(self, found: Any) -> None:
        del found
        running = [step.title for step in hold_api(self._window) if not step.is_done()]
        if running:
            raise NotReady(
                Finding(
                    "Neutron's server runs, and would write with one driver what the other reads",
                    tuple(running),
                    "stop it",
                )
            )
        with connect(self._window.site) as connection:
            changed = conversion.apply(connection, self._keep, self._rules())
        self._window.say(f"{len(changed)} rows changed")

    def _keep(self, changes: Sequence[RowChange]) -> None:
        number = len(recorded(self._window.backups)) + 1
        path = self._window.backups / f"rows-{number:03}.json"
        files.write_document(path, KIND, VERSION, {"rows": conversion.to_record(changes)})

    def prove(self) -> list[str]:
        """By reading again, with other questions than those that changed them."""
        left = {what: count for what, count in left_of_the_old_driver(self._window.site).items() if count}
        if left:
            wrong = tuple(f"{count} {what}" for what, count in left.items())
            raise NotReady(Finding("rows of the old driver are left", wrong, "who writes to the database?"))
        with connect(self._window.site) as connection:
            counted = rows(
                connection,
                "SELECT (SELECT COUNT(*) FROM ml2_port_bindings WHERE vif_type = 'ovs') AS ovs, "
                "(SELECT COUNT(*) FROM networksegments WHERE network_type = 'geneve') AS geneve",
            )[0]
        ovs, geneve = counted["ovs"], counted["geneve"]
        kept = [str(path.name) for path in recorded(self._window.backups)]
        return [
            f"{ovs} bindings are OVN's, {geneve} segments Geneve; no row of the old driver",
            f"the way back: {', '.join(kept)}",
        ]
