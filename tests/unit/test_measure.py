from __future__ import annotations

import contextlib
import dataclasses
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED

from ovnshift.connectivity import plan as plans
from ovnshift.connectivity.cells import Cell, CellRecord, Endpoint, Kind, Measurement, Outcome, Vantage
from ovnshift.connectivity.guest_session import PROGRAM, GuestError, GuestSession, PingAnswer, listens
from ovnshift.connectivity.measure import Measurer, Sweep, console_dhcp, console_metadata
from ovnshift.connectivity.plan import Plan, Vantages
from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Fleet
from ovnshift.hosts.openssh import Local
from ovnshift.site import Site
from tests.unit import clouds
from tests.unit.namespaces import Pair, ip, pair, server

BUSYBOX = "2 packets transmitted, 2 packets received, 0% packet loss|round-trip min/avg/max = 1.481/1.674/1.868 ms|"
IPUTILS = (
    "2 packets transmitted, 2 received, 0% packet loss, time 1002ms|rtt min/avg/max/mdev = 1.204/7.239/13.275/6.035 ms|"
)


@pytest.mark.parametrize(
    ("text", "sent", "received", "times"),
    [
        (BUSYBOX, 2, 2, (1.481, 1.674, 1.868)),
        (IPUTILS, 2, 2, (1.204, 7.239, 13.275)),
        ("3 packets transmitted, 0 packets received, 100% packet loss|", 3, 0, None),
        ("|2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 1001ms|", 2, 0, None),
        (
            "2 packets transmitted, 1 received, 50% packet loss, time 1ms|rtt min/avg/max/mdev = 1/2/3/0 ms|",
            2,
            1,
            (1, 2, 3),
        ),
        ("4 packets transmitted, 2 received, +1 duplicates, 50% packet loss|", 4, 2, None),
        ("ping: sendto: Network is unreachable|", 0, 0, None),
        ("", 0, 0, None),
    ],
)
def test_pings_of_busybox_and_iputils_are_read(
    text: str, sent: int, received: int, times: tuple[float, float, float] | None
) -> None:
    answer = PingAnswer.parse(text)
    assert (answer.sent, answer.received, answer.times) == (sent, received, times)
    assert answer.text == text.strip("|")


LISTENING = (
    "  sl  local_address rem_address   st tx_queue rx_queue|"
    " 0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4000|"
    " 1: 7900050A:0016 0100050A:C350 01 00000000:00000000 00:00000000 00000000 0 0 4001|"
    " 0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000|"
)


@pytest.fixture
def greeter() -> Iterator[int]:
    """A server that says what it is, and nothing else; its port."""

    class Greets(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"SSH-2.0-greeter\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Greets) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def asked(path: str, port: int) -> str:
    """What a guest's shell says of the server at a port, with the programs on this path."""
    done = subprocess.run(
        ["/bin/sh", "-c", PROGRAM],
        input=f"7 banner 1 127.0.0.1 {port}\n",
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


def test_a_guest_says_what_a_server_says_first(greeter: int, tmp_path: Path) -> None:
    assert asked("/usr/bin:/bin", greeter) == "7 banner SSH-2.0-greeter\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    assert asked("/usr/bin:/bin", nobody) == "7 banner -\n"
    # A guest that has no program to connect with says nothing, and not that nobody answers.
    assert asked(str(tmp_path), greeter) == "7 banner \n"


def test_listeners_of_both_families_are_found_and_connections_are_none() -> None:
    assert listens(LISTENING, 8080)
    assert listens(LISTENING, 80)
    assert not listens(LISTENING, 22)
    assert not listens(LISTENING, 0x350)
    assert not listens("", 8080)


CIRROS = """\
Starting network: udhcpc: started, v1.29.3
udhcpc: sending discover
udhcpc: sending select for 10.5.0.121
udhcpc: lease of 10.5.0.121 obtained, lease time 43200
route: SIOCADDRT: File exists
checking http://169.254.169.254/2009-04-04/instance-id
failed 1/20: up 3.00. request failed
successful after 2/20 tries: up 3.04. iid=i-00000009
"""
DHCLIENT = """\
[    4.1] DHCPDISCOVER on ens3 to 255.255.255.255 port 67 interval 3
[    4.2] DHCPACK of 10.5.0.121 from 10.5.0.2
[    4.3] bound to 10.5.0.121 -- renewal in 36810 seconds.
"""
CLOUD_INIT = """\
ci-info: ++++++++++++++++++++++Net device info+++++++++++++++++++++++
ci-info: |  ens3  | True |          10.5.0.121          | 255.255.255.0 | global | fa:16:3e:00:00:01 |
ci-info: |   lo   | True |          127.0.0.1           |   255.0.0.0   |  host  |         .         |
Cloud-init v. 22.4 finished at Mon. Datasource DataSourceOpenStackLocal [net,ver=2].  Up 12.5 seconds
"""


@pytest.mark.parametrize("text", [CIRROS, DHCLIENT, CLOUD_INIT])
def test_a_lease_is_found_in_the_console_log(text: str) -> None:
    found = console_dhcp(text, "10.5.0.121")
    assert found is not None
    good, line = found
    assert good
    assert "10.5.0.121" in line


@pytest.mark.parametrize("text", [CIRROS, DHCLIENT, CLOUD_INIT])
@pytest.mark.parametrize("address", ["10.5.0.12", "0.5.0.121", "110.5.0.121", "10.5.0.122", "1015.0.121"])
def test_a_lease_of_another_address_is_none_of_this(text: str, address: str) -> None:
    found = console_dhcp(text, address)
    assert found is not None
    assert not found[0]


def test_a_lease_that_was_never_given_is_a_failure() -> None:
    found = console_dhcp("udhcpc: started, v1.29.3\nudhcpc: sending discover\nudhcpc: no lease, failing\n", "10.5.0.12")
    assert found is not None
    assert not found[0]


@pytest.mark.parametrize("text", ["", "login: ", "[    0.0] Linux version 5.10\n"])
def test_a_log_that_says_nothing_says_nothing(text: str) -> None:
    assert console_dhcp(text, "10.5.0.121") is None
    assert console_metadata(text) is None


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (CIRROS, True),
        (CLOUD_INIT, True),
        ("failed 1/20: up 2.1. request failed\nfailed 20/20: up 40.1. request failed\n", False),
        ("failed 20/20: up 2.1.\nfailed to read iid from metadata. tried 20\n", False),
        ("Cloud-init finished. Datasource DataSourceNone.  Up 300 seconds\n", False),
        (CIRROS + "failed 1/20: up 2.1. request failed\nfailed to read iid from metadata. tried 20\n", False),
    ],
)
def test_the_last_word_about_metadata_counts(text: str, good: bool) -> None:  # noqa: FBT001
    found = console_metadata(text)
    assert found is not None
    assert found[0] is good
    assert found[1] in text


P, F, FL, N = Outcome.PASSED, Outcome.FAILED, Outcome.FLAPPING, Outcome.NOT_MEASURED


@pytest.mark.parametrize(
    ("outcomes", "together"),
    [
        ((), N),
        ((P,), P),
        ((P, P), P),
        ((F, F), F),
        ((P, F), FL),
        ((F, P), FL),
        ((FL, P), FL),
        ((P, FL), FL),
        ((FL, FL), FL),
        ((N, N), N),
        ((P, N), P),
        ((N, F), F),
        ((P, N, F), FL),
    ],
)
def test_what_differs_between_sweeps_flaps(outcomes: tuple[Outcome, ...], together: Outcome) -> None:
    end = Endpoint(kind="instance", id="1", name="vm")
    cell = Cell(kind=Kind.PING, source=end, target=end, address="10.5.0.121")
    record = CellRecord(
        cell=cell, measurements=tuple(Measurement(outcome=each, at="2026-01-01T00:00:00+00:00") for each in outcomes)
    )
    assert record.outcome is together
    assert (record.last.outcome if record.last else None) == (outcomes[-1] if outcomes else None)


# A whole sweep, of a cloud whose one host is this machine and whose instances are addresses in a namespace


class Guests(paramiko.ServerInterface):
    """An SSH server that refuses everybody."""

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:  # noqa: ARG002
        return AUTH_FAILED


KEY = paramiko.ECDSAKey.generate()


def refuses_logins(connection: socket.socket) -> None:
    transport = paramiko.Transport(connection)
    transport.add_server_key(KEY)
    with contextlib.suppress(paramiko.SSHException, EOFError):  # a probe that only wants the banner hangs up
        transport.start_server(server=Guests())
        transport.join(30)
    transport.close()


def says_nothing(connection: socket.socket) -> None:
    connection.recv(1)


@dataclasses.dataclass
class World:
    """The cloud, and the network that stands for one of its networks."""

    cloud: clouds.Builder
    pair: Pair
    site: Callable[..., Site]

    def sweep(self, *, console: Callable[[str], str] = lambda _: CIRROS, **changes: object) -> tuple[Plan, Sweep]:
        site = self.site(**changes)
        topology = self.cloud.topology()
        plan = plans.make(topology, site)
        hosts = clouds.inventories({"here": [f"qdhcp-{network.id}" for network in self.cloud.networks[:1]]})
        fleet = Fleet(site)
        try:
            return plan, Measurer(site, topology, fleet, Vantages(topology, hosts, site), console).sweep(plan)
        finally:
            fleet.close()


def local_site(**changes: object) -> Site:
    values: dict[str, object] = {
        "hosts": {"here": "local://"},
        "groups": {"network": ["here"], "compute": ["here"]},
        "ssh": {"sudo": False},
        "limits": {"probe_seconds": 1, "banner_seconds": 3, "login_seconds": 20},
    }
    full = clouds.site()
    return Site.model_validate({**full.model_dump(exclude_unset=True, mode="json"), **values, "guests": [], **changes})


@pytest.fixture(scope="module")
def both() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
def world(both: Pair) -> Iterator[World]:
    cloud = clouds.Builder()
    web = cloud.network("web", "10.99.0.0/16", mtu=1450)
    cloud.instance("vm-a", {"10.99.0.2": web}, "here")
    link = Path("/run/netns", f"qdhcp-{web.id}")
    link.symlink_to(Path("/run/netns", both.near))
    try:
        yield World(cloud, both, local_site)
    finally:
        link.unlink()


def outcomes(plan: Plan, sweep: Sweep) -> dict[tuple[str, str], Outcome]:
    return {(cell.kind, cell.target.name): sweep.measurements[cell.id].outcome for cell in plan.cells}


LOGIN_REFUSED = [{"user": "cirros", "password": "wrong", "closed_port": 81}]
NO_LOGIN = [{"login": False, "closed_port": 81}]


def test_a_sweep_measures_every_cell_once(world: World) -> None:
    with server(world.pair.far, 22, refuses_logins):
        plan, sweep = world.sweep(guests=NO_LOGIN, console=lambda _: CIRROS.replace("10.5.0.121", "10.99.0.2"))
    assert set(sweep.measurements) == {cell.id for cell in plan.cells}
    assert set(outcomes(plan, sweep).values()) == {Outcome.PASSED}
    assert {cell.kind for cell in plan.cells} >= {Kind.PING, Kind.PING_WHOLE, Kind.SSH, Kind.CLOSED_PORT}
    assert sweep.notes == []


def test_the_host_key_of_a_guest_is_recorded_also_where_nobody_may_log_in(world: World) -> None:
    with server(world.pair.far, 22, refuses_logins):
        _, sweep = world.sweep(guests=NO_LOGIN)
    fingerprint = KEY.fingerprint
    assert sweep.host_keys == {world.cloud.instances[0].id: f"ecdsa-sha2-nistp256 {fingerprint}"}


def test_a_login_that_is_refused_fails_and_what_needs_it_is_not_measured(world: World) -> None:
    with server(world.pair.far, 22, refuses_logins):
        plan, sweep = world.sweep(guests=LOGIN_REFUSED)
    found = outcomes(plan, sweep)
    assert found[Kind.SSH, "vm-a"] is Outcome.FAILED
    assert found[Kind.METADATA, "metadata"] is Outcome.NOT_MEASURED
    assert found[Kind.DHCP, "vm-a"] is Outcome.NOT_MEASURED
    assert found[Kind.PING, "vm-a"] is Outcome.PASSED
    said = [sweep.measurements[cell.id].detail for cell in plan.cells if cell.kind == Kind.SSH]
    assert "the login of cirros is refused" in said[0]
    assert "wrong" not in str(sweep)


def test_a_guest_that_accepts_and_never_answers_fails_and_stops_nothing_else(world: World) -> None:
    with server(world.pair.far, 22, says_nothing):
        plan, sweep = world.sweep(guests=LOGIN_REFUSED)
    found = outcomes(plan, sweep)
    assert found[Kind.SSH, "vm-a"] is Outcome.FAILED
    assert found[Kind.METADATA, "metadata"] is Outcome.NOT_MEASURED
    assert found[Kind.PING, "vm-a"] is Outcome.PASSED


def test_a_key_file_that_is_no_key_stops_nothing_else(world: World, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("this is no key\n")
    with server(world.pair.far, 22, refuses_logins):
        plan, sweep = world.sweep(guests=[{"user": "cirros", "key": str(tmp_path / "key")}])
    found = outcomes(plan, sweep)
    assert found[Kind.PING, "vm-a"] is Outcome.PASSED
    assert found[Kind.METADATA, "metadata"] is Outcome.NOT_MEASURED


def test_a_password_that_is_not_in_the_environment_stops_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OVNSHIFT_TEST_GUEST", raising=False)
    with server(world.pair.far, 22, refuses_logins):
        plan, sweep = world.sweep(guests=[{"user": "cirros", "password_env": "OVNSHIFT_TEST_GUEST"}])
    assert outcomes(plan, sweep)[Kind.METADATA, "metadata"] is Outcome.NOT_MEASURED
    assert any("OVNSHIFT_TEST_GUEST is not in the environment" in note for note in sweep.notes)


def test_a_port_that_should_be_closed_and_is_open_fails(world: World) -> None:
    with server(world.pair.far, 81, says_nothing):
        plan, sweep = world.sweep(guests=NO_LOGIN)
    closed = [sweep.measurements[cell.id] for cell in plan.cells if cell.kind == Kind.CLOSED_PORT]
    assert [(each.outcome, each.detail) for each in closed] == [(Outcome.FAILED, "open")]


def test_what_is_no_ssh_server_fails_though_it_is_open(world: World) -> None:
    with server(world.pair.far, 22, lambda each: each.sendall(b"220 mail.example.org ESMTP\r\n")):
        plan, sweep = world.sweep(guests=NO_LOGIN)
    said = [sweep.measurements[cell.id] for cell in plan.cells if cell.kind == Kind.SSH]
    assert [(each.outcome, each.detail) for each in said] == [(Outcome.FAILED, "220 mail.example.org ESMTP")]


def test_a_dead_instance_fails_and_so_does_not_its_neighbour(world: World) -> None:
    world.cloud.instance("vm-dead", {"10.99.0.9": world.cloud.networks[0]}, "here")
    plan, sweep = world.sweep()
    found = outcomes(plan, sweep)
    assert (found[Kind.PING, "vm-dead"], found[Kind.PING, "vm-a"]) == (Outcome.FAILED, Outcome.PASSED)
    assert found[Kind.PING_WHOLE, "vm-dead"] is Outcome.FAILED


@pytest.fixture
def narrow(both: Pair) -> Iterator[None]:
    for mtu in ("1400", "1450"):
        for namespace in (both.near, both.far):
            ip("-n", namespace, "link", "set", "eth0", "mtu", mtu)
        if mtu == "1400":
            yield


@pytest.mark.usefixtures("narrow")
def test_a_way_that_carries_less_than_the_networks_mtu_fails_for_whole_packets_only(world: World) -> None:
    plan, sweep = world.sweep()
    found = outcomes(plan, sweep)
    assert (found[Kind.PING, "vm-a"], found[Kind.PING_WHOLE, "vm-a"]) == (Outcome.PASSED, Outcome.FAILED)


def test_a_network_that_no_namespace_reaches_is_not_measured_and_the_reason_says_so(world: World) -> None:
    other = world.cloud.network("other", "10.97.0.0/24")
    world.cloud.instance("vm-b", {"10.97.0.9": other}, "here")
    plan, sweep = world.sweep(guests=LOGIN_REFUSED)
    unreached = [cell for cell in plan.cells if cell.source.id == other.id]
    assert {sweep.measurements[cell.id].outcome for cell in unreached} == {Outcome.NOT_MEASURED}
    assert {sweep.measurements[cell.id].detail for cell in unreached} == {
        f"no namespace reaches {unreached[0].source.label}"
    }
    assert outcomes(plan, sweep)[Kind.PING, "vm-a"] is Outcome.PASSED


def test_a_host_that_can_not_be_asked_is_a_note_and_its_cells_are_not_measured(world: World) -> None:
    plan, sweep = world.sweep(hosts={"here": "ssh://127.0.0.1:9"})
    assert {sweep.measurements[cell.id].outcome for cell in plan.cells if cell.kind == Kind.PING} == {
        Outcome.NOT_MEASURED
    }
    assert len(sweep.notes) == 1
    assert "here: can't be reached" in sweep.notes[0]


def test_a_guest_with_two_networks_is_logged_in_to_where_its_address_is(world: World) -> None:
    other = world.cloud.network("other", "10.97.0.0/24")
    two = world.cloud.instance("vm-two", {"10.99.0.3": world.cloud.networks[0], "10.97.0.3": other}, "here")
    with server(world.pair.far, 22, refuses_logins):
        _, sweep = world.sweep(guests=NO_LOGIN)
    assert two.id in sweep.host_keys


def test_a_console_log_that_nova_does_not_give_is_no_failure(world: World) -> None:
    def console(_: str) -> str:
        raise OvnshiftError("Nova", "no console log: 500", "openstack console log show")

    plan, sweep = world.sweep(console=console)
    logs = [cell for cell in plan.cells if cell.kind in {Kind.CONSOLE_DHCP, Kind.CONSOLE_METADATA}]
    assert {sweep.measurements[cell.id].outcome for cell in logs} == {Outcome.NOT_MEASURED}


def test_a_session_with_a_guest_that_is_not_there_says_so() -> None:
    vantage = Vantage(host="here")
    with pytest.raises(GuestError, match=r"127\.0\.0\.1 from here: no SSH with it"):
        GuestSession(Local("here", sudo=False, seconds=60), vantage, "127.0.0.1", seconds=5, port=9)
