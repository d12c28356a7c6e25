"""9 Sync: OVN's northbound database is filled from Neutron's, compared twice, and the API is back."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.migration.sync import CHAPTER, NorthboundIsOurs, RepairNorthbound, StartApi
from ovnshift.migration.window import Window


def test_the_northbound_database_is_known(run: Run, window: Window) -> None:
    """The northbound database is empty, or holds nothing but this Neutron's objects."""
    run(NorthboundIsOurs(window))


def test_the_northbound_database_is_written(run: Run, window: Window) -> None:
    """It is written from Neutron's database; a second run finds no difference, and the log has no error."""
    run(RepairNorthbound(window, chapter=CHAPTER, key="repair"))


def test_the_api_is_back(run: Run, window: Window) -> None:
    """Neutron's server runs with OVN, and lists OVN's agents alive."""
    run(StartApi(window))
