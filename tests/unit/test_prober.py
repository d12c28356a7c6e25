from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnshift.connectivity.measure import pings_from, sweep_from
from ovnshift.hosts import Connection
from ovnshift.hosts.openssh import Local
from ovnshift.hosts.programs import BOOTSTRAP, envelope, source
from tests.unit.namespaces import Pair, echo_answers, inside, ip, pair, server

Probe = tuple[str, str | None, str, str, int | None]
PORT = 2222


@pytest.fixture(scope="module")
def both() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
def own() -> Iterator[Pair]:
    """For a test that changes more than its own addresses."""
    with pair() as made:
        yield made


@pytest.fixture
def here() -> Connection:
    return Local("here", sudo=False, seconds=60)


def sweep(here: Connection, *probes: Probe, count: int = 2, seconds: float = 0.5) -> dict[str, dict[str, Any]]:
    return sweep_from(here, probes, count=count, seconds=seconds, banner_seconds=seconds)


def forget(pair: Pair, *addresses: str) -> None:
    """Packets to these addresses leave, and nobody takes them."""
    for address in addresses:
        ip(
            "-n",
            pair.near,
            "neighbor",
            "replace",
            address,
            "lladdr",
            "02:00:00:00:00:99",
            "nud",
            "permanent",
            "dev",
            "eth0",
        )


def test_what_answers_is_counted_and_timed(both: Pair, here: Connection) -> None:
    answers = sweep(here, ("a", both.near, "icmp", "10.99.0.2", None), count=3)
    assert (answers["a"]["sent"], answers["a"]["received"]) == (3, 3)
    assert len(answers["a"]["times"]) == 3
    assert 0 < min(answers["a"]["times"]) < 1000
    assert "error" not in answers["a"]


def test_what_is_dead_does_not_answer_and_does_not_disturb_what_lives(both: Pair, here: Connection) -> None:
    forget(both, "10.99.0.9")
    answers = sweep(
        here, ("dead", both.near, "icmp", "10.99.0.9", None), ("live", both.near, "icmp", "10.99.0.2", None)
    )
    assert (answers["dead"]["sent"], answers["dead"]["received"], answers["dead"]["times"]) == (2, 0, [])
    assert answers["live"]["received"] == 2


def test_no_neighbour_is_said(both: Pair, here: Connection) -> None:
    ip("-n", both.near, "route", "replace", "unreachable", "10.98.0.0/16")
    answers = sweep(here, ("a", both.near, "icmp", "10.98.0.1", None), ("b", both.near, "icmp", "10.97.0.1", None))
    assert [answers[id_]["received"] for id_ in "ab"] == [0, 0]
    assert "No route to host" in answers["a"]["error"]
    assert "Network is unreachable" in answers["b"]["error"]


def test_what_a_router_refuses_is_said_with_who_refused(own: Pair, here: Connection) -> None:
    own.set(own.far, "net/ipv4/ip_forward", "1")
    ip("-n", own.far, "route", "add", "unreachable", "10.98.0.0/16")
    ip("-n", own.near, "route", "add", "10.98.0.0/16", "via", "10.99.0.2")
    answers = sweep(here, ("a", own.near, "icmp", "10.98.0.1", None))
    assert answers["a"]["received"] == 0
    assert answers["a"]["error"] == "unreachable, code 1, says 10.99.0.2"


@pytest.mark.parametrize("address", ["10.99.0.2", "fd99::2"])
def test_a_packet_of_the_mtu_passes_whole_and_one_byte_more_does_not(
    both: Pair, here: Connection, address: str
) -> None:
    answers = sweep(here, ("fits", both.near, "icmp", address, 1450), ("too big", both.near, "icmp", address, 1451))
    assert answers["fits"]["received"] == 2
    assert answers["too big"]["received"] == 0
    assert "too long" in answers["too big"]["error"].lower()


def test_a_smaller_mtu_on_the_way_is_said(own: Pair, here: Connection) -> None:
    own.set(own.far, "net/ipv4/ip_forward", "1")
    ip("-n", own.far, "link", "add", "narrow0", "mtu", "1400", "type", "veth", "peer", "name", "narrow1")
    ip("-n", own.far, "address", "add", "10.98.0.1/24", "dev", "narrow0")
    ip("-n", own.far, "link", "set", "narrow1", "up")
    ip("-n", own.far, "link", "set", "narrow0", "up")
    ip("-n", own.near, "route", "add", "10.98.0.0/24", "via", "10.99.0.2")
    answers = sweep(here, ("a", own.near, "icmp", "10.98.0.7", 1450))
    assert answers["a"]["received"] == 0
    assert answers["a"]["error"] == "too big: MTU 1400 on the way, says 10.99.0.2"


def test_the_size_is_that_of_the_whole_packet(both: Pair, here: Connection) -> None:
    def seen() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

    with inside(both.far, seen) as listener:
        listener.settimeout(20)
        sweep(here, ("a", both.near, "icmp", "10.99.0.2", 1234), count=1)
        assert len(listener.recv(65536)) == 1234


def test_addresses_of_both_families_are_probed_in_one_sweep(both: Pair, here: Connection) -> None:
    answers = sweep(here, ("4", both.near, "icmp", "10.99.0.2", None), ("6", both.near, "icmp", "fd99::2", None))
    assert [answers[id_]["received"] for id_ in "46"] == [2, 2]


def test_several_namespaces_are_probed_in_one_sweep_and_each_from_inside(both: Pair, here: Connection) -> None:
    answers = sweep(
        here,
        ("near to far", both.near, "icmp", "10.99.0.2", None),
        ("far to near", both.far, "icmp", "10.99.0.1", None),
        ("the host's own", None, "icmp", "127.0.0.1", None),
        ("not from the host", None, "icmp", "fd99::2", None),
    )
    received = {id_: answer["received"] for id_, answer in answers.items()}
    assert received == {"near to far": 2, "far to near": 2, "the host's own": 2, "not from the host": 0}


def test_a_namespace_that_is_not_there_is_no_dead_target(both: Pair, here: Connection) -> None:
    answers = sweep(
        here,
        ("lost", "qdhcp-gone", "icmp", "10.99.0.2", None),
        ("lost too", "qdhcp-gone", "banner", "10.99.0.2", 22),
        ("live", both.near, "icmp", "10.99.0.2", None),
    )
    for id_ in ("lost", "lost too"):
        assert answers[id_] == {"id": id_, "vantage_error": "no namespace qdhcp-gone: No such file or directory"}
    assert answers["live"]["received"] == 2


def test_what_is_no_namespace_is_an_error_of_the_vantage(here: Connection) -> None:
    path = Path(f"/run/netns/ovnshift-unit-{os.getpid()}-no")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    try:
        answers = sweep(here, ("a", path.name, "icmp", "127.0.0.1", None))
    finally:
        path.unlink()
    assert "can't be entered" in answers["a"]["vantage_error"]


def test_an_answer_from_another_address_does_not_count(both: Pair, here: Connection) -> None:
    probe: Probe = ("a", both.near, "icmp", "10.99.0.2", None)
    with echo_answers(both.far, "10.99.0.3"):
        assert sweep(here, probe)["a"]["received"] == 0
    with echo_answers(both.far, "10.99.0.2"):
        assert sweep(here, probe)["a"]["received"] == 2


def test_duplicates_are_counted_apart(both: Pair, here: Connection) -> None:
    # The second target is silent, so that the program listens until its time is over.
    forget(both, "10.99.0.9")
    with echo_answers(both.far, "10.99.0.2", "10.99.0.2"):
        answers = sweep(
            here, ("a", both.near, "icmp", "10.99.0.2", None), ("dead", both.near, "icmp", "10.99.0.9", None)
        )
    assert (answers["a"]["received"], answers["a"]["duplicates"], len(answers["a"]["times"])) == (2, 2, 2)


def test_the_same_address_may_be_asked_for_more_than_once(both: Pair, here: Connection) -> None:
    probes: list[Probe] = [(str(n), both.near, "icmp", "10.99.0.2", None) for n in range(3)]
    assert [answer["received"] for answer in sweep(here, *probes).values()] == [2, 2, 2]


def test_no_probes_are_no_answers(here: Connection) -> None:
    assert sweep(here) == {}


def test_the_first_words_of_a_server_are_its_banner(both: Pair, here: Connection) -> None:
    with server(both.far, PORT, lambda each: each.sendall(b"SSH-2.0-dropbear_2020.81\r\nmore")):
        answers = sweep(
            here,
            ("4", both.near, "banner", "10.99.0.2", PORT),
            ("6", both.near, "banner", "fd99::2", PORT),
            ("tcp", both.near, "tcp", "10.99.0.2", PORT),
            seconds=10,
        )
    assert (answers["4"]["state"], answers["4"]["banner"]) == ("open", "SSH-2.0-dropbear_2020.81")
    assert answers["6"]["banner"] == "SSH-2.0-dropbear_2020.81"
    assert answers["tcp"]["state"] == "open"


def test_a_server_that_accepts_and_says_nothing_is_not_open(both: Pair, here: Connection) -> None:
    def wait(connection: socket.socket) -> None:
        connection.recv(1)

    with server(both.far, PORT, wait):
        answers = sweep(here, ("a", both.near, "banner", "10.99.0.2", PORT))
    assert answers["a"]["state"] == "silent"
    assert "said nothing" in answers["a"]["error"]


def test_a_server_that_hangs_up_is_not_open(both: Pair, here: Connection) -> None:
    with server(both.far, PORT, lambda each: each.shutdown(socket.SHUT_RDWR)):
        answers = sweep(here, ("a", both.near, "banner", "10.99.0.2", PORT), seconds=10)
    assert answers["a"]["state"] == "silent"
    assert "without a word" in answers["a"]["error"]


@pytest.mark.parametrize("kind", ["banner", "tcp"])
def test_refused_dropped_and_unreachable_are_told_apart(both: Pair, here: Connection, kind: str) -> None:
    forget(both, "10.99.0.9")
    answers = sweep(
        here,
        ("refused", both.near, kind, "10.99.0.2", 9),
        ("dropped", both.near, kind, "10.99.0.9", 9),
        ("no route", both.near, kind, "10.97.0.1", 9),
    )
    assert {id_: answer["state"] for id_, answer in answers.items()} == {
        "refused": "refused",
        "dropped": "timeout",
        "no route": "failed",
    }


def test_bytes_that_are_no_text_do_no_harm(both: Pair, here: Connection) -> None:
    with server(both.far, PORT, lambda each: each.sendall(b"\xff\x00<script>\n")):
        answers = sweep(here, ("a", both.near, "banner", "10.99.0.2", PORT), seconds=10)
    assert answers["a"]["banner"].endswith("<script>")


def test_many_dead_targets_cost_one_timeout_in_all(both: Pair, here: Connection) -> None:
    dead = [f"10.99.30.{n}" for n in range(1, 201)]
    forget(both, *dead)

    def seconds_for(addresses: list[str]) -> float:
        probes: list[Probe] = [(address, both.near, "icmp", address, None) for address in addresses]
        probes += [(f"{address} tcp", both.near, "banner", address, 22) for address in addresses]
        begin = time.monotonic()
        answers = sweep(here, *probes, count=1, seconds=1.0)
        assert len(answers) == 2 * len(addresses)
        return time.monotonic() - begin

    one = seconds_for(dead[:1])
    assert seconds_for(dead) < 5 * one


def test_when_everything_has_answered_nothing_is_waited_for(both: Pair, here: Connection) -> None:
    bound = 30.0
    begin = time.monotonic()
    sweep(here, ("a", both.near, "icmp", "10.99.0.2", None), seconds=bound)
    assert time.monotonic() - begin < bound


MANY = [f"10.99.{4 + n // 250}.{1 + n % 250}" for n in range(1500)]


@pytest.fixture(scope="module")
def many(both: Pair) -> Pair:
    batch = "".join(f"address add {address}/32 dev eth0\n" for address in MANY)
    ip("-n", both.far, "-batch", "-", batch=batch)
    return both


def neighbours_of(namespace: str) -> set[str]:
    done = subprocess.run(["ip", "-n", namespace, "neighbor"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in done.stdout.splitlines()}


def test_more_neighbours_than_the_kernel_remembers_all_answer_and_are_forgotten(many: Pair, here: Connection) -> None:
    before = neighbours_of(many.near)
    answers = sweep(here, *[(address, many.near, "icmp", address, None) for address in MANY], seconds=20)
    assert [id_ for id_, answer in answers.items() if answer["received"] != 2] == []
    assert len(answers) == len(MANY)
    # The kernel itself may have learnt the far side's link-local address meanwhile.
    after = neighbours_of(many.near)
    assert before <= after
    assert not after & set(MANY)


def test_servers_of_more_neighbours_than_the_kernel_remembers_are_all_heard(many: Pair, here: Connection) -> None:
    with server(many.far, PORT, lambda each: each.sendall(b"SSH-2.0-x\r\n")):
        answers = sweep(here, *[(address, many.near, "banner", address, PORT) for address in MANY], seconds=20)
    assert [id_ for id_, answer in answers.items() if answer["state"] != "open"] == []
    assert len(answers) == len(MANY)


def test_of_more_neighbours_than_the_kernel_remembers_the_dead_do_not_disturb_the_others(
    many: Pair, here: Connection
) -> None:
    dead = [f"10.99.20.{number}" for number in range(1, 101)]
    addresses = [*MANY[:700], *dead, *MANY[700:]]
    answers = sweep(here, *[(address, many.near, "icmp", address, None) for address in addresses], count=1, seconds=3)
    assert {id_ for id_, answer in answers.items() if not answer["received"]} == set(dead)


def test_more_connections_than_a_process_may_have_files_are_all_tried(many: Pair) -> None:
    here = Local("here", sudo=False, seconds=60)
    ip("-n", many.near, "route", "replace", "unreachable", "10.98.0.0/16")
    probes = [(address, many.near, "banner", f"10.98.{n // 250}.{n % 250}", 22) for n, address in enumerate(MANY)]
    task = {"probes": probes, "count": 1, "interval": 0.1, "seconds": 1, "banner_seconds": 1}
    program = source("ovnshift.connectivity.programs", "sweep.py")
    done = here.run("prlimit", "--nofile=256:20000", "--", "python3", "-c", BOOTSTRAP, stdin=envelope(program, task))
    assert done.returncode == 0, done.complaint
    states = [json.loads(line)["state"] for line in done.text.splitlines()]
    assert states == ["failed"] * len(MANY)


# Without Python


def test_without_python_pings_are_sent_with_the_hosts_own_ping(both: Pair, here: Connection) -> None:
    forget(both, "10.99.0.9")
    answers = pings_from(
        here,
        [
            ("live", both.near, "icmp", "10.99.0.2", None),
            ("dead", both.near, "icmp", "10.99.0.9", None),
            ("six", both.near, "icmp", "fd99::2", None),
            ("whole", both.near, "icmp", "10.99.0.2", 1450),
            ("too big", both.near, "icmp", "10.99.0.2", 1451),
            ("whole six", both.near, "icmp", "fd99::2", 1450),
            ("lost", "qdhcp-gone", "icmp", "10.99.0.2", None),
            ("ssh", both.near, "banner", "10.99.0.2", 22),
        ],
        count=2,
        seconds=1,
    )
    received = {id_: answer.get("received") for id_, answer in answers.items() if "vantage_error" not in answer}
    assert received == {"live": 2, "dead": 0, "six": 2, "whole": 2, "too big": 0, "whole six": 2}
    assert min(answers["live"]["times"]) > 0
    assert "qdhcp-gone" in answers["lost"]["vantage_error"]
    assert answers["ssh"]["vantage_error"] == "here has no python3"


def test_without_python_no_pings_are_no_answers(here: Connection) -> None:
    assert pings_from(here, [], count=2, seconds=1) == {}


# The relay


def test_the_relay_joins_a_connection_from_the_namespace(both: Pair, here: Connection) -> None:
    def echo(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            connection.sendall(data)

    said = os.urandom(300_000)
    with server(both.far, PORT, echo):
        stream = here.open(sys.executable, "-c", BOOTSTRAP)
        try:
            task = {"namespace": both.near, "address": "10.99.0.2", "port": PORT, "seconds": 10}
            head = envelope(source("ovnshift.connectivity.programs", "relay.py"), task) + b"\n"
            stream.settimeout(20)
            heard = b""
            for part in (head, *(said[n : n + 10_000] for n in range(0, len(said), 10_000))):
                left = part
                while left:
                    left = left[stream.send(left) :]
                wanted = len(heard) + (0 if part is head else len(part))
                while len(heard) < wanted:
                    data = stream.recv(65536)
                    assert data, "the relay ended"
                    heard += data
        finally:
            stream.close()
    assert heard == said


def test_the_relay_ends_when_the_server_hangs_up(both: Pair, here: Connection) -> None:
    def greet_and_go(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-x\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    with server(both.far, PORT, greet_and_go):
        stream = here.open(sys.executable, "-c", BOOTSTRAP)
        try:
            stream.settimeout(20)
            task = {"namespace": both.near, "address": "fd99::2", "port": PORT, "seconds": 10}
            stream.send(envelope(source("ovnshift.connectivity.programs", "relay.py"), task) + b"\n")
            heard = b""
            while data := stream.recv(100):
                heard += data
        finally:
            stream.close()
    assert heard == b"SSH-2.0-x\r\n"


def test_the_relay_ends_when_nobody_answers(both: Pair) -> None:
    task = {"namespace": both.near, "address": "10.99.0.2", "port": 9, "seconds": 10}
    program = source("ovnshift.connectivity.programs", "relay.py")
    done = subprocess.run(
        [sys.executable, "-c", BOOTSTRAP],
        input=envelope(program, task) + b"\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert b"refused" in done.stderr
