from __future__ import annotations

from collections.abc import Callable

import pytest

from ovnshift.migration.sync import SyncLog, read_log

UTIL = "neutron.cmd.ovn.neutron_ovn_db_sync_util"
SYNC = "neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb.ovn_db_sync"
CLIENT = "neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb.ovn_client"
REQUEST = "None req-6d1c63a1-4f54-4b54-9d55-0d4c3d2f5f7a - - - - - -"
NETWORK = "0b6f5d4e-1e7c-4c55-9f7e-2f0c2f7f8a11"
PORT = "2c1d8f0a-9a0b-45f8-8a34-8f5d1b6f0c22"
Read = Callable[..., SyncLog]
NORTH, SOUTH = "Sync completed for Northbound db", "Sync completed for Southbound db"


def line(level: str, module: str, text: str, request: str = "-") -> str:
    """As oslo.log's default formats write it, with a request or without."""
    return f"2026-01-02 22:15:07.123 4711 {level} {module} [{request}] {text}"


def info(text: str) -> str:
    return line("INFO", UTIL, text)


def warning(text: str, module: str = SYNC) -> str:
    return line("WARNING", module, text, REQUEST)


BEGIN = [
    info("Started Neutron OVN db sync"),
    line("INFO", "neutron.plugins.ml2.managers", "Configured mechanism driver names: ['ovn-sync']"),
    info("Sync for Northbound db started with mode : log"),
]
MIDDLE = [info(NORTH), info("Sync for Southbound db started with mode : log")]
END = [info(SOUTH)]
KNOWN = [
    warning("ACLs-to-be-added 0 ACLs-to-be-removed 0"),
    warning(f"Router Port port_id={PORT} needs to be updated for networks changed"),
    warning(f"Updating networks on router port {PORT} in OVN NB DB"),
]


def plain(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def coloured(lines: list[str]) -> str:
    """As a terminal is given it: codes before the level and at the end of the line."""
    return ended([each.replace("4711 ", "4711 \x1b[00;36m", 1) for each in lines])


def ended(lines: list[str]) -> str:
    return "".join(f"{each}\x1b[00m\n" for each in lines)


def rest_of_a_code(lines: list[str]) -> str:
    """Journals and pagers take the escape itself away."""
    return "".join(f"{each}[00m\n" for each in lines)


def carriage(lines: list[str]) -> str:
    return "\r\n".join(lines)


@pytest.fixture(params=[plain, coloured, ended, rest_of_a_code, carriage])
def read(request: pytest.FixtureRequest) -> Read:
    """Reads lines, in each way in which they may be written."""
    return lambda *lines: read_log(request.param(list(lines)))


def test_a_log_that_has_gone_through_has_no_difference(read: Read) -> None:
    assert read(*BEGIN, *MIDDLE, *END) == SyncLog(errors=(), differences=(), completed=True)


def test_what_is_listed_always_is_no_difference(read: Read) -> None:
    assert read(*BEGIN, *KNOWN, *MIDDLE, *END) == SyncLog(errors=(), differences=(), completed=True)


@pytest.mark.parametrize(
    "words",
    [
        f"Network found in Neutron but not in OVN DB, network_id={NETWORK}",
        f"Port found in OVN but not in Neutron, port_id={PORT}",
        f"Router Port found in Neutron but not in OVN DB, router port_id={PORT}",
        f"Router {NETWORK} snat [{{'logical_ip': '10.5.0.0/24', 'type': 'snat'}}] found in OVN but not in Neutron",
        f"DHCP options for subnet {NETWORK} is present in Neutron but out of sync for OVN",
        f"Missing metadata port found in Neutron for network {NETWORK}",
        "ACLs-to-be-added 1 ACLs-to-be-removed 0",
        "ACLs-to-be-added 10 ACLs-to-be-removed 0",
        "ACLs-to-be-added 0 ACLs-to-be-removed 1",
        "ACLs-to-be-added 0 ACLs-to-be-removed 10",
    ],
)
def test_a_warning_of_the_sync_is_a_difference(read: Read, words: str) -> None:
    assert read(*BEGIN, warning(words), *MIDDLE, *END) == SyncLog(errors=(), differences=(words,), completed=True)


def test_differences_are_counted_and_stay_in_their_order(read: Read) -> None:
    words = [f"Port found in Neutron but not in OVN DB, port_id={PORT[:-2]}{number}" for number in (30, 10, 20)]
    found = read(*BEGIN, *(warning(each) for each in words[:2]), *KNOWN, warning(words[2]), *MIDDLE, *END)
    assert found.differences == tuple(words)


def test_a_second_sync_of_the_same_log_is_no_second_database(read: Read) -> None:
    assert not read(*BEGIN, *MIDDLE, *BEGIN, *MIDDLE).completed


@pytest.mark.parametrize(
    "words",
    [
        f"Create network in OVN NB failed for network {NETWORK}",
        f"Create port in OVN NB failed for port {PORT}",
        f"Create router in OVN NB failed for router {NETWORK}",
        f"Update router port networks in OVN NB failed for router port {PORT}",
        f"Adding/Updating DHCP options for subnet {NETWORK} failed in OVN NB DB",
    ],
)
def test_a_repair_that_failed_is_an_error_though_it_is_only_a_warning(read: Read, words: str) -> None:
    found = read(*BEGIN, warning(words), *MIDDLE, *END)
    assert found == SyncLog(errors=(words,), differences=(), completed=True)


@pytest.mark.parametrize("level", ["ERROR", "CRITICAL", "TRACE"])
@pytest.mark.parametrize("module", [SYNC, UTIL, "ovsdbapp.backend.ovs_idl.transaction"])
def test_an_error_is_one_whoever_says_so(read: Read, level: str, module: str) -> None:
    words = f"Could not allocate IP addresses for metadata port in network {NETWORK}"
    found = read(*BEGIN, line(level, module, words), *MIDDLE, *END)
    assert found == SyncLog(errors=(words,), differences=(), completed=True)


def test_an_error_that_is_said_ten_times_is_one(read: Read) -> None:
    found = read(*BEGIN, *[line("ERROR", UTIL, 'No "ovn" mechanism driver found : "linuxbridge".')] * 10)
    assert found.errors == ('No "ovn" mechanism driver found : "linuxbridge".',)
    assert not found.completed


def test_a_traceback_without_a_prefix_is_an_error(read: Read) -> None:
    trace = ["Traceback (most recent call last):", '  File "/usr/bin/x", line 10, in <module>', "RuntimeError: no"]
    found = read(*BEGIN, *trace)
    assert found == SyncLog(errors=("Traceback (most recent call last):",), differences=(), completed=False)


def test_a_traceback_with_oslos_prefix_is_an_error_with_its_reason(read: Read) -> None:
    prefix = f"2026-01-02 22:15:07.123 4711 ERROR {UTIL}"
    trace = [f"{prefix} Traceback (most recent call last):", f"{prefix}   File x", f"{prefix} RuntimeError: no way"]
    found = read(*BEGIN, line("CRITICAL", UTIL, "Unhandled error: RuntimeError: no way"), *trace)
    assert found.errors[:2] == ("Unhandled error: RuntimeError: no way", "Traceback (most recent call last):")
    assert found.errors[-1] == "RuntimeError: no way"
    assert not found.completed


@pytest.mark.parametrize("module", [CLIENT, "neutron.scheduler.l3_ovn_scheduler", "oslo_config.cfg", "py.warnings"])
def test_a_warning_of_another_module_is_no_difference(read: Read, module: str) -> None:
    words = f"Network found in Neutron but not in OVN DB, network_id={NETWORK}, which failed"
    assert read(*BEGIN, warning(words, module), *MIDDLE, *END) == SyncLog((), (), completed=True)


def test_an_info_that_reads_like_a_difference_is_none(read: Read) -> None:
    found = read(*BEGIN, line("INFO", SYNC, "Port found in OVN but not in Neutron, failed"), *MIDDLE, *END)
    assert found == SyncLog((), (), completed=True)


@pytest.mark.parametrize("lines", range(len(BEGIN + MIDDLE + END)))
def test_a_log_that_was_cut_off_has_not_gone_through(read: Read, lines: int) -> None:
    assert read(*[*BEGIN, *MIDDLE, *END][:lines]) == SyncLog((), (), completed=False)


def test_half_a_last_line_does_not_count(read: Read) -> None:
    assert not read(*BEGIN, *MIDDLE, END[0][:40]).completed


def test_what_only_quotes_the_end_does_not_count(read: Read) -> None:
    assert not read(*BEGIN, *MIDDLE, info(f"waiting for: {SOUTH}")).completed
    assert not read(*BEGIN, *MIDDLE, SOUTH).completed


def test_lines_that_nobody_formatted_are_passed_over(read: Read) -> None:
    strange = [
        "/usr/lib/python3/dist-packages/x.py:10: UserWarning: something is old",
        "",
        "2026-01-02 22:15:07.123 no process",
        "ERROR without a date",
        "größer \ufffd \x00",
    ]
    assert read(*BEGIN, *strange, *MIDDLE, *END) == SyncLog((), (), completed=True)


def test_nothing_at_all_is_no_sync() -> None:
    assert read_log("") == SyncLog((), (), completed=False)
