"""What the old agents left is removed: on the kernel of this machine, in namespaces of the test's own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lab import paths
from ovnshift.hosts import CommandFailed
from ovnshift.hosts.cleanup import Belongings, Leftover, look, remove
from ovnshift.hosts.openssh import Local
from ovnshift.hosts.programs import BOOTSTRAP, clean, envelope, source

# More than a removal takes on a busy machine, in seconds.
ENOUGH = 120

INIT = """
import os, signal, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
os.mkdir("/run/netns")
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
sys.stdin.read()
"""
WAITING = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
HOLDING = "import signal, sys; f = open(sys.argv[1]); print('ready', flush=True); signal.pause()"
TAP = """
import fcntl, signal, struct, sys
f = open("/dev/net/tun", "r+b", buffering=0)
fcntl.ioctl(f, 0x400454CA, struct.pack("16sH22x", sys.argv[1].encode(), 0x1002))
print("ready", flush=True)
signal.pause()
"""
PACKET_FILTERS = ["legacy", "nft"]
ROUTES = ("-6", "route", "show", "table", "all")


class Box(Local):
    """A host: namespaces that end with it, and the tools' directory first in its path."""

    def __init__(self, tools: Path) -> None:
        super().__init__("box", sudo=False, seconds=60)
        kinds = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        self.tools = tools
        self._init = subprocess.Popen(
            ["unshare", *kinds, "python3", "-c", INIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._started: list[subprocess.Popen[bytes]] = []
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == b"ready\n"

    def _argv(self, command: str) -> list[str]:
        here = Path("/proc", str(self._init.pid), "ns")
        enter = [f"--net={here / 'net'}", f"--mount={here / 'mnt'}", f"--pid={here / 'pid_for_children'}"]
        path = f"PATH={self.tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return ["nsenter", *enter, "env", path, "LC_ALL=C", *shlex.split(command)]

    def argv(self, *argv: str) -> list[str]:
        """What runs a program in it, from outside."""
        return self._argv(shlex.join(argv))

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start something that says when it is ready."""
        process = subprocess.Popen(
            self.argv(*argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def ip(self, *lines: str) -> None:
        self.check("ip", "-batch", "-", stdin="".join(f"{line}\n" for line in lines).encode())

    def links(self) -> dict[str, dict[str, Any]]:
        return {link["ifname"]: link for link in json.loads(self.check("ip", "-json", "-details", "address"))}

    def addresses(self, name: str) -> set[str]:
        entries = self.links()[name]["addr_info"]
        return {f"{each['local']}/{each['prefixlen']}" for each in entries if each["scope"] == "global"}

    def namespaces(self) -> set[str]:
        return {path for path in self.check("ls", "-1", "--quoting-style=literal", "/run/netns").splitlines() if path}

    def routes(self, *which: str) -> list[str]:
        return self.check("ip", *which, "route", "show", "table", "all").splitlines()

    def close(self) -> None:
        assert self._init.stdin is not None
        assert self._init.stdout is not None
        self._init.stdin.close()
        self._init.wait(timeout=20)
        self._init.stdout.close()
        for each in self._started:
            each.wait(timeout=20)
            assert each.stdout is not None
            each.stdout.close()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the packet filters' tools are when this machine has none: taken from the lab's image, if that is there."""
    directory = tmp_path_factory.mktemp("tools")
    image = next(iter(sorted(paths.cache().glob("image-*/rootfs"))), None)
    if image is None:
        return directory
    programs = {
        f"{name}-{kind}{suffix}": [f"xtables-{kind}-multi", f"{name}{suffix}"]
        for name in ("iptables", "ip6tables")
        for kind in PACKET_FILTERS
        for suffix in ("", "-save", "-restore")
    }
    programs |= {"ebtables": ["xtables-nft-multi", "ebtables"], "ipset": ["ipset"]}
    libraries = next(image.glob("usr/lib/*-linux-gnu"))
    for name, (program, *arguments) in programs.items():
        if shutil.which(name) is None:
            line = shlex.join([str(image / "usr/sbin" / program), *arguments])
            lines = ["#!/bin/sh", f"export LD_LIBRARY_PATH={libraries} XTABLES_LIBDIR={libraries}/xtables"]
            (directory / name).write_text("\n".join([*lines, f'exec {line} "$@"', ""]), encoding="utf-8")
            (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def box(tools: Path) -> Iterator[Box]:
    made = Box(tools)
    try:
        yield made
    finally:
        made.close()


def need(box: Box, *argv: str) -> None:
    done = box.run(*argv)
    if done.returncode != 0:
        pytest.skip(f"{shlex.join(argv)} does not work here: {done.complaint}")


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class World:
    """A host with a flat network that has the host's addresses, and a VXLAN network with an instance, DHCP and a router."""

    box: Box
    flat: str = field(default_factory=new_id)
    tenant: str = field(default_factory=new_id)
    router: str = field(default_factory=new_id)
    group: str = field(default_factory=new_id)
    instance: str = field(default_factory=new_id)
    dhcp: str = field(default_factory=new_id)
    inside: str = field(default_factory=new_id)
    outside: str = field(default_factory=new_id)
    stray: str = field(default_factory=new_id)

    @property
    def belongings(self) -> Belongings:
        return Belongings(
            networks=(self.flat, self.tenant),
            routers=(self.router,),
            ports=(self.instance, self.dhcp, self.inside, self.outside, self.stray),
            vnis=(4711,),
            security_groups=(self.group,),
            interfaces=("eth1",),
        )

    @property
    def flat_bridge(self) -> str:
        return f"brq{self.flat[:11]}"

    @property
    def bridge(self) -> str:
        return f"brq{self.tenant[:11]}"

    @property
    def tap(self) -> str:
        return f"tap{self.instance[:11]}"

    @property
    def names(self) -> set[tuple[str, str]]:
        """All that the agents left, but for processes and packet filters."""
        taps = {f"tap{port[:11]}" for port in (self.instance, self.dhcp, self.inside, self.outside)}
        moved = {"10.99.0.1/24", "10.99.7.1/32", "fd99::1/64"}
        moved |= {"default via 10.99.0.2 metric 99", "10.50.0.0/16 via 10.99.0.2 metric 7", "192.0.2.0/24 metric 3"}
        moved |= {"default via fd99::2 metric 77", "198.51.100.0/24 via 10.99.0.2 table 44"}
        return {
            ("namespace", f"qdhcp-{self.tenant}"),
            ("namespace", f"qrouter-{self.router}"),
            *(("tap", tap) for tap in {*taps, f"ha-{self.stray[:11]}"}),
            *(("address", f"{each} on {self.flat_bridge}") for each in moved),
            ("bridge", self.flat_bridge),
            ("bridge", self.bridge),
            ("vxlan", "vxlan-4711"),
        }

    def build(self) -> None:
        flat, bridge = self.flat_bridge, self.bridge
        self.box.ip(
            "netns add outside",
            "link add eth1 type veth peer name eth0 netns outside",
            "link set eth1 up",
            f"link add {flat} type bridge",
            f"link set eth1 master {flat}",
            f"link set {flat} up",
            f"address add 10.99.0.1/24 broadcast 10.99.0.255 dev {flat}",
            f"address add 10.99.7.1/32 dev {flat}",
            f"address add fd99::1/64 dev {flat} nodad",
        )
        self.box.check("ip", "-n", "outside", "address", "add", "10.99.0.2/24", "dev", "eth0")
        self.box.check("ip", "-n", "outside", "address", "add", "fd99::2/64", "dev", "eth0", "nodad")
        self.box.check("ip", "-n", "outside", "link", "set", "eth0", "up")
        self.box.ip(
            f"route add 192.0.2.0/24 dev {flat} metric 3 src 10.99.7.1 proto static",
            f"route add default via 10.99.0.2 dev {flat} metric 99",
            f"route add 10.50.0.0/16 via 10.99.0.2 dev {flat} metric 7 mtu 1300",
            f"route add 198.51.100.0/24 via 10.99.0.2 dev {flat} table 44",
            f"link add {bridge} type bridge",
            f"link set {bridge} up",
            "link add vxlan-4711 type vxlan id 4711 dstport 4789 local 10.99.0.1",
            f"link set vxlan-4711 master {bridge} up",
            f"tuntap add {self.tap} mode tap",
            f"link set {self.tap} master {bridge} up",
            f"tuntap add ha-{self.stray[:11]} mode tap",
            f"netns add qdhcp-{self.tenant}",
            f"netns add qrouter-{self.router}",
            f"link add tap{self.dhcp[:11]} type veth peer name ns-{self.dhcp[:11]} netns qdhcp-{self.tenant}",
            f"link set tap{self.dhcp[:11]} master {bridge} up",
            f"link add tap{self.inside[:11]} type veth peer name qr-{self.inside[:11]} netns qrouter-{self.router}",
            f"link set tap{self.inside[:11]} master {bridge} up",
            f"link add tap{self.outside[:11]} type veth peer name qg-{self.outside[:11]} netns qrouter-{self.router}",
            f"link set tap{self.outside[:11]} master {flat} up",
        )
        self.box.check("ip", "-6", "route", "add", "default", "via", "fd99::2", "dev", flat, "metric", "77")

    def tunnel_over_the_flat_bridge(self) -> None:
        self.box.ip(
            "link delete vxlan-4711",
            f"link add vxlan-4711 type vxlan id 4711 dstport 4789 local 10.99.0.1 dev {self.flat_bridge}",
            f"link set vxlan-4711 master {self.bridge} up",
        )

    def daemon(self, namespace: str, script: str = WAITING, *arguments: str) -> subprocess.Popen[bytes]:
        return self.box.start("ip", "netns", "exec", namespace, "python3", "-c", script, *arguments)


@pytest.fixture
def world(box: Box) -> World:
    made = World(box)
    made.build()
    return made


def names(leftovers: list[Leftover], *states: str) -> set[tuple[str, str]]:
    """Kinds and names of these states, without the tools that are missing here."""
    chosen = [each for each in leftovers if not states or each.state in states]
    return {(each.kind, each.name) for each in chosen if "can't be looked at" not in each.why}


def of(leftovers: list[Leftover], kind: str, name: str = "") -> list[Leftover]:
    return [each for each in leftovers if each.kind == kind and name in each.name]


def foreign(box: Box) -> set[str]:
    """Build what looks like the agents' and is of nobody who is known; its names."""
    tap, unknown = f"tap{new_id()[:11]}", f"brq{new_id()[:11]}"
    box.ip(
        "link add br0 type bridge",
        f"link add {unknown} type bridge",
        f"tuntap add {tap} mode tap",
        f"link set {tap} master br0",
        "link add vxlan-99 type vxlan id 99 dstport 4790 local 127.0.0.1",
        "link add vxlan-4712 type bridge",
        f"address add 203.0.113.1/24 dev {unknown}",
    )
    return {"br0", unknown, tap, "vxlan-99", "vxlan-4712"}


def lasting(lines: list[str]) -> list[str]:
    """Routes but for those that an interface has by itself as soon as it is up."""
    passing = ("local fe80", "fe80", "anycast fe80", "multicast")
    return sorted(line.strip() for line in lines if not line.startswith(passing))


def everything(box: Box) -> list[Any]:
    """All that a look may not change."""
    filters = [box.run(f"{name}-{kind}-save").text for name in ("iptables", "ip6tables") for kind in PACKET_FILTERS]
    return [
        {name: (link.get("master"), link["address"], box.addresses(name)) for name, link in box.links().items()},
        lasting(box.routes("-4")),
        lasting(box.routes("-6")),
        box.namespaces(),
        [rules(text) for text in filters],
        box.run("ebtables", "-t", "nat", "-L").text,
        box.run("ipset", "list").text,
    ]


def rules(text: str) -> list[str]:
    """What iptables-save printed, without its comments and counters."""
    return [re.sub(r"\[\d+:\d+\]", "", line) for line in text.splitlines() if not line.startswith("#")]


# Everything together


def test_a_look_finds_everything_and_changes_nothing(world: World) -> None:
    strangers = foreign(world.box)
    world.daemon(f"qdhcp-{world.tenant}")
    before = everything(world.box)
    found = look(world.box, world.belongings)
    assert everything(world.box) == before
    assert names(found, "found") - {(each.kind, each.name) for each in of(found, "process")} == world.names
    assert {name for _, name in names(found, "strange")} == strangers - {"br0"}
    (process,) = of(found, "process")
    assert process.name.endswith(" python3")
    assert process.why == f"runs in qdhcp-{world.tenant}"
    assert not names(found, "removed", "left", "in use")


def test_the_plan_says_what_would_be_done(world: World) -> None:
    found = look(world.box, world.belongings)
    commands = {each.name: each.command for each in found}
    assert commands[f"qdhcp-{world.tenant}"] == f"ip netns delete qdhcp-{world.tenant}"
    assert commands[world.tap] == f"ip link delete dev {world.tap}"
    assert commands["vxlan-4711"] == "ip link delete dev vxlan-4711"
    assert commands[world.flat_bridge] == f"ip link delete dev {world.flat_bridge} type bridge"
    address = commands[f"10.99.0.1/24 on {world.flat_bridge}"]
    assert address == "ip address add 10.99.0.1/24 broadcast 10.99.0.255 dev eth1"
    route = commands[f"default via 10.99.0.2 metric 99 on {world.flat_bridge}"]
    assert route.startswith("ip -4 route append default via 10.99.0.2 dev eth1 metric 99")


def test_what_is_known_is_removed_and_nothing_else_is(world: World) -> None:
    strangers = foreign(world.box)
    unknown = f"qdhcp-{new_id()}"
    world.box.ip(f"netns add {unknown}")
    mine = world.daemon(f"qdhcp-{world.tenant}")
    other = [world.daemon(name) for name in (unknown, "outside")]
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert names(done, "left", "in use", "found") == set()
    assert names(done, "removed") - {(each.kind, each.name) for each in of(done, "process")} == world.names
    assert [each.state for each in of(done, "process")] == ["removed"]
    assert {name for _, name in names(done, "strange")} == (strangers - {"br0"}) | {unknown}
    assert set(world.box.links()) == {"lo", "eth1"} | strangers
    assert world.box.namespaces() == {"outside", unknown}
    assert mine.wait(timeout=20) is not None
    assert [each.poll() for each in other] == [None, None]


def test_a_second_removal_finds_nothing_to_do(world: World) -> None:
    foreign(world.box)
    remove(world.box, world.belongings, seconds=ENOUGH)
    before = everything(world.box)
    again = remove(world.box, world.belongings, seconds=ENOUGH)
    assert names(again, "found", "removed", "left", "in use") == set()
    assert everything(world.box) == before


def test_what_is_left_of_a_removal_that_was_cut_off_is_removed_by_the_next(world: World) -> None:
    remove(world.box, world.belongings, seconds=0.001)
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert names(done, "left", "in use", "found") == set()
    assert set(world.box.links()) == {"lo", "eth1"}
    assert world.box.addresses("eth1") == {"10.99.0.1/24", "10.99.7.1/32", "fd99::1/64"}


def test_nothing_known_is_nothing_removed(world: World) -> None:
    before = everything(world.box)
    done = remove(world.box, Belongings(), seconds=ENOUGH)
    assert names(done) == names(done, "strange")
    assert everything(world.box) == before


# Addresses and routes


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_addresses_and_routes_are_back_on_the_physical_interface(world: World, family: str) -> None:
    def kept(device: str) -> list[str]:
        lines = [line for line in world.box.routes(family) if f"dev {device} " in line]
        return [line.replace(f"dev {device} ", "dev DEVICE ") for line in lasting(lines)]

    before = kept(world.flat_bridge)
    assert len(before) >= 3
    remove(world.box, world.belongings, seconds=ENOUGH)
    assert kept("eth1") == before
    assert world.box.addresses("eth1") == {"10.99.0.1/24", "10.99.7.1/32", "fd99::1/64"}


@pytest.mark.parametrize("address", ["10.99.0.1", "fd99::1"])
def test_the_host_is_not_cut_off(world: World, address: str) -> None:
    # The bridge has another MAC than the interface, so that the neighbour has to learn.
    world.box.ip(f"link set {world.flat_bridge} address 02:00:00:00:00:01")
    ping = ["ip", "netns", "exec", "outside", "ping", "-n", "-q", "-i", "0.02"]
    world.box.check(*ping, "-c", "1", "-w", "20", address)
    if ":" in address:
        until(lambda: "multicast ff00::/8 dev eth0" in world.box.check("ip", "-n", "outside", *ROUTES))
    with subprocess.Popen(
        world.box.argv("timeout", "--signal=INT", "4", *ping, address), stdout=subprocess.PIPE
    ) as process:
        done = remove(world.box, world.belongings, seconds=ENOUGH)
        assert names(done, "left") == set()
        text = process.communicate(timeout=30)[0].decode()
    match = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    assert match is not None, text
    lost = int(match[1]) - int(match[2])
    assert int(match[1]) > 50
    assert lost <= 25, text
    for target in ("10.99.0.2", "fd99::2"):
        world.box.check("ping", "-n", "-q", "-c", "1", "-w", "20", target)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel does some time after a link is up."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_addresses_that_could_go_to_nobody_keep_the_bridge(world: World) -> None:
    world.box.ip(f"address add 10.98.0.1/24 dev {world.bridge}")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    (bridge,) = of(done, "bridge", world.bridge)
    assert bridge.state == "strange"
    assert bridge.why == "has 10.98.0.1, and 0 physical interfaces that could get it"
    assert world.box.addresses(world.bridge) == {"10.98.0.1/24"}
    (tunnel,) = of(done, "vxlan")
    assert (tunnel.state, tunnel.why) == ("strange", f"is in {world.bridge}, which stays")


def test_an_address_that_can_not_move_keeps_the_bridge_and_the_other_addresses(world: World) -> None:
    disable = "/proc/sys/net/ipv6/conf/eth1/disable_ipv6"
    world.box.check("dd", "status=none", f"of={disable}", stdin=b"1")
    done = remove(world.box, world.belongings, seconds=8)
    (bridge,) = of(done, "bridge", world.flat_bridge)
    assert (bridge.state, bridge.why) == ("left", "its addresses and routes could not all be moved")
    (address,) = of(done, "address", "fd99::1/64")
    assert address.state == "left"
    assert "ip ended with 2" in address.why
    assert world.box.addresses(world.flat_bridge) == {"10.99.0.1/24", "10.99.7.1/32", "fd99::1/64"}
    world.box.check("ping", "-n", "-q", "-c", "1", "-w", "20", "10.99.0.2")
    world.box.check("dd", "status=none", f"of={disable}", stdin=b"0")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert names(done, "left") == set()
    assert world.box.addresses("eth1") == {"10.99.0.1/24", "10.99.7.1/32", "fd99::1/64"}


def test_an_address_that_is_lost_with_the_bridge_is_made_again(world: World, tmp_path: Path) -> None:
    ip = shutil.which("ip")
    assert ip is not None
    lines = [
        "#!/bin/sh",
        f'{ip} "$@" || exit',
        f'[ "$3 $4" != "dev {world.flat_bridge}" ] || [ "$2" != delete ] && exit',
    ]
    (tmp_path / "ip").write_text(
        "\n".join([*lines, f"{ip} address delete 10.99.7.1/32 dev eth1", ""]), encoding="utf-8"
    )
    (tmp_path / "ip").chmod(0o755)
    before = lasting(world.box.routes("-4"))
    world.box.tools = tmp_path
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert names(done, "left") == set()
    assert ("address", f"10.99.7.1/32 on {world.flat_bridge}") in names(done, "removed")
    assert world.box.addresses("eth1") == {"10.99.0.1/24", "10.99.7.1/32", "fd99::1/64"}
    assert lasting(world.box.routes("-4")) == sorted(line.replace(world.flat_bridge, "eth1") for line in before)


def test_an_address_that_is_lost_with_the_bridge_and_can_not_be_made_again_is_left(
    world: World, tmp_path: Path
) -> None:
    ip = shutil.which("ip")
    assert ip is not None
    gone = tmp_path / "gone"
    lines = ["#!/bin/sh", f'[ -e {gone} ] && [ "$2 $3" = "add 10.99.7.1/32" ] && echo no >&2 && exit 2']
    lines += [f'{ip} "$@" || exit', f'[ "$3 $4" != "dev {world.flat_bridge}" ] || [ "$2" != delete ] && exit']
    lines += [f"touch {gone}", f"{ip} address delete 10.99.7.1/32 dev eth1", ""]
    (tmp_path / "ip").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "ip").chmod(0o755)
    world.box.tools = tmp_path
    done = remove(world.box, world.belongings, seconds=8)
    (address,) = of(done, "address", "10.99.7.1/32")
    assert (address.state, address.why) == ("left", "ip ended with 2: no")
    assert address.command == "ip address add 10.99.7.1/32 dev eth1"


# Bridges that others use


def test_a_bridge_with_somebody_elses_interface_stays_with_its_tunnel(world: World) -> None:
    world.box.ip("tuntap add guest0 mode tap", f"link set guest0 master {world.bridge}")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    (bridge,) = of(done, "bridge", world.bridge)
    assert (bridge.state, bridge.why) == ("strange", "has guest0, which is not Neutron's")
    assert [each.state for each in of(done, "vxlan")] == ["strange"]
    assert {"guest0", world.bridge} <= set(world.box.links())
    assert world.flat_bridge not in world.box.links()


def test_a_bridge_on_which_something_is_made_stays(world: World) -> None:
    world.box.ip(f"link add vxlan9 type vxlan id 9 dstport 4791 local 10.99.0.1 dev {world.flat_bridge}")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    (bridge,) = of(done, "bridge", world.flat_bridge)
    assert (bridge.state, bridge.why) == ("strange", "vxlan9 is made on it")
    assert of(done, "address") == []
    assert world.box.links()["eth1"]["master"] == world.flat_bridge
    assert "vxlan9" in world.box.links()


def test_a_bridge_with_an_unnamed_veth_is_strange(world: World) -> None:
    found = look(world.box, world.belongings.model_copy(update={"interfaces": ()}))
    assert [each.why for each in of(found, "bridge", world.flat_bridge)] == ["has eth1, which is not Neutron's"]


def test_a_tunnel_with_a_known_number_in_somebody_elses_bridge_stays(world: World) -> None:
    world.box.ip("link add br0 type bridge", "link set vxlan-4711 master br0")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert [each.why for each in of(done, "vxlan")] == ["is in br0, which is no bridge of Neutron's"]
    assert "vxlan-4711" in world.box.links()


# Instances that run


def test_a_tap_that_a_process_has_open_stays_with_all_that_it_needs(world: World) -> None:
    process = world.box.start("python3", "-c", TAP, world.tap)
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    (tap,) = of(done, "tap", world.tap)
    assert tap.state == "in use"
    assert re.fullmatch(r"process \d+ \(python3\) has it open", tap.why)
    assert names(done, "in use") == {("tap", world.tap), ("bridge", world.bridge), ("vxlan", "vxlan-4711")}
    assert {world.tap, world.bridge, "vxlan-4711"} <= set(world.box.links())
    assert process.poll() is None
    assert names(done, "removed") == world.names - names(done, "in use")


def test_a_bridge_below_the_tunnel_of_an_instance_that_runs_stays(world: World) -> None:
    world.tunnel_over_the_flat_bridge()
    world.box.start("python3", "-c", TAP, world.tap)
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    (bridge,) = of(done, "bridge", world.flat_bridge)
    assert (bridge.state, bridge.why) == ("in use", "vxlan-4711 is made on it")
    assert of(done, "address") == []
    assert {world.bridge, world.flat_bridge, "vxlan-4711"} <= set(world.box.links())


def test_a_bridge_below_a_tunnel_that_goes_is_removed(world: World) -> None:
    world.tunnel_over_the_flat_bridge()
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert names(done, "removed") == world.names
    assert set(world.box.links()) == {"lo", "eth1"}


# Processes


def test_a_process_that_ignores_term_is_killed(world: World) -> None:
    process = world.daemon(f"qrouter-{world.router}", STUBBORN)
    done = remove(world.box, world.belongings, seconds=4)
    assert [each.state for each in of(done, "process")] == ["removed"]
    assert process.wait(timeout=20) != 0
    assert f"qrouter-{world.router}" not in world.box.namespaces()


def test_an_agents_program_is_known_by_the_id_in_its_command_line(world: World, tmp_path: Path) -> None:
    program = tmp_path / "neutron-keepalived-state-change"
    program.write_text(WAITING, encoding="utf-8")
    theirs = world.box.start("python3", str(program), f"--router_id={world.router}")
    other_router = world.box.start("python3", str(program), f"--router_id={new_id()}")
    other_program = world.box.start("python3", "-c", WAITING, "keepalived", world.router)
    found = look(world.box, world.belongings)
    assert [each.why for each in of(found, "process")] == [f"belongs to router {world.router}"]
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert [each.state for each in of(done, "process")] == ["removed"]
    assert theirs.wait(timeout=20) is not None
    assert (other_router.poll(), other_program.poll()) == (None, None)


def test_a_namespace_that_somebody_else_keeps_is_left_until_it_is_free(world: World) -> None:
    name = f"qdhcp-{world.tenant}"
    holder = world.box.start("python3", "-c", HOLDING, f"/run/netns/{name}")
    begin = time.monotonic()
    done = remove(world.box, world.belongings, seconds=8)
    assert time.monotonic() - begin < 30
    (namespace,) = of(done, "namespace", name)
    assert namespace.state == "left"
    assert re.fullmatch(r"process \d+ \(python3\) has it open", namespace.why)
    assert names(done, "left") == {("namespace", name)}
    assert holder.poll() is None
    assert name in world.box.namespaces()
    kill(holder)
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert names(done, "removed") == {("namespace", name)}
    assert name not in world.box.namespaces()


def kill(process: subprocess.Popen[bytes]) -> None:
    """nsenter waits for its child and does not pass signals on."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    subprocess.run(["kill", "-KILL", *children], check=True)
    process.wait(timeout=20)


def test_a_removal_goes_on_as_soon_as_the_namespace_is_free(world: World) -> None:
    name = f"qdhcp-{world.tenant}"
    holder = world.box.start("timeout", "2", "python3", "-c", HOLDING, f"/run/netns/{name}")
    begin = time.monotonic()
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert time.monotonic() - begin < 30
    assert names(done, "left") == set()
    assert holder.wait(timeout=20) == 124


def test_the_hosts_own_network_under_a_routers_name_is_not_touched(world: World) -> None:
    name = f"qrouter-{world.router}"
    world.box.check("ip", "netns", "delete", name)
    world.box.check("ip", "netns", "attach", name, "1")
    process = world.box.start("python3", "-c", WAITING)
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert [each.why for each in of(done, "namespace", name)] == ["is the host's own network under another name"]
    assert process.poll() is None
    assert name in world.box.namespaces()


def test_a_namespace_with_a_second_name_is_not_touched(world: World) -> None:
    process = world.daemon("outside")
    name = f"qrouter-{world.router}"
    world.box.check("ip", "netns", "delete", name)
    world.box.check("touch", f"/run/netns/{name}")
    world.box.check("mount", "--bind", "/run/netns/outside", f"/run/netns/{name}")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert [each.why for each in of(done, "namespace", name)] == ["is also called outside"]
    assert process.poll() is None


def test_a_name_without_a_namespace_is_removed(world: World) -> None:
    name = f"qdhcp-{world.flat}"
    world.box.check("touch", f"/run/netns/{name}")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert [each.state for each in of(done, "namespace", name)] == ["removed"]
    assert name not in world.box.namespaces()


# Names


def test_names_with_odd_characters_are_strange_and_do_no_harm(world: World) -> None:
    spaces = ["qdhcp-x; rm -rf y", "qrouter-$(touch z)", f"qdhcp-{world.tenant}'\""]
    bridges = ["brq'x", 'brq"x', "brq$(id)", "brq\\x", "brq-\u00e4"]
    for name in spaces:
        world.box.check("ip", "netns", "add", name)
    for name in bridges:
        world.box.check("ip", "link", "add", "name", name, "type", "bridge")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert names(done, "left", "found") == set()
    assert {name for _, name in names(done, "strange")} == {*spaces, *bridges}
    assert set(world.box.links()) == {"lo", "eth1", *bridges}
    assert world.box.namespaces() == {"outside", *spaces}


def test_names_that_begin_like_a_known_one_are_strange(world: World) -> None:
    longer, bare = f"{world.bridge}0", "brq"
    world.box.ip(f"link add {longer} type bridge", f"link add {bare} type bridge", f"netns add qdhcp-{world.tenant}0")
    found = look(world.box, world.belongings)
    assert names(found, "strange") == {("bridge", longer), ("bridge", bare), ("namespace", f"qdhcp-{world.tenant}0")}


KINDS = ["networks", "routers", "ports", "security_groups"]
NO_IDS = ["", "*", "0", f"{uuid.UUID(int=0)}\n", str(uuid.UUID(int=0))[:11]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("id_", NO_IDS)
def test_what_is_no_id_is_refused(kind: str, id_: str) -> None:
    with pytest.raises(ValidationError):
        Belongings.model_validate({kind: (id_,)})


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_refuses_what_is_no_id_by_itself(box: Box, kind: str) -> None:
    program = source("ovnshift.hosts.programs", "clean.py")
    for id_ in NO_IDS:
        task = {**Belongings().model_dump(), kind: [id_], "apply": True, "seconds": 1}
        refused = box.run("python3", "-c", BOOTSTRAP, stdin=envelope(program, task))
        assert (refused.returncode, "is no id" in refused.complaint) == (1, True)


# VLANs


def vlan_link(name: str, parent: str, number: int, master: str) -> dict[str, Any]:
    info = {"info_kind": "vlan", "info_data": {"protocol": "802.1Q", "id": number}}
    return {"ifname": name, "link": parent, "master": master, "linkinfo": info, "addr_info": []}


def bridge_link(name: str, *addresses: str) -> dict[str, Any]:
    entries = [{"family": "inet", "local": each, "prefixlen": 24, "scope": "global"} for each in addresses]
    return {"ifname": name, "linkinfo": {"info_kind": "bridge"}, "addr_info": entries}


def states(belongings: Belongings, *links: dict[str, Any]) -> dict[str, str]:
    found = clean.interfaces(clean.Known(belongings.model_dump()), list(links), [], {})
    return {f"{each.kind} {each.name}": each.state for each in found}


@pytest.mark.parametrize("physical", ["eth1", None])
def test_a_vlan_interface_in_a_known_bridge_is_known_by_its_number(physical: str | None) -> None:
    network = new_id()
    known, bridge = Belongings(networks=(network,), vlans=((physical, 100),)), f"brq{network[:11]}"
    assert states(known, vlan_link("eth1.100", "eth1", 100, bridge), bridge_link(bridge)) == {
        "vlan eth1.100": "found",
        f"bridge {bridge}": "found",
    }
    # What the agent makes of a long name.
    assert (
        states(known, vlan_link("eth1longe12.100", "eth1", 100, bridge), bridge_link(bridge))["vlan eth1longe12.100"]
        == "found"
    )


def test_other_vlan_interfaces_are_not_known() -> None:
    network = new_id()
    known, bridge = Belongings(networks=(network,), vlans=(("eth1", 100),)), f"brq{network[:11]}"
    for link in (
        vlan_link("eth1.101", "eth1", 101, bridge),
        vlan_link("eth2.100", "eth2", 100, bridge),
        vlan_link("storage", "eth1", 100, bridge),
    ):
        assert states(known, link, bridge_link(bridge)) == {f"bridge {bridge}": "strange"}
    assert states(known, vlan_link("eth1.100", "eth1", 100, "br0"), bridge_link("br0")) == {}


def test_a_vlan_interface_that_gets_addresses_back_was_the_hosts() -> None:
    network = new_id()
    known, bridge = Belongings(networks=(network,), vlans=(("eth1", 100),)), f"brq{network[:11]}"
    assert states(known, vlan_link("eth1.100", "eth1", 100, bridge), bridge_link(bridge, "10.0.0.1")) == {
        "vlan eth1.100": "strange",
        f"address 10.0.0.1/24 on {bridge}": "found",
        f"bridge {bridge}": "found",
    }


def test_vlan_interfaces_are_removed(world: World) -> None:
    need(world.box, "ip", "link", "add", "link", "eth1", "name", "eth1.100", "type", "vlan", "id", "100")
    network = new_id()
    bridge = f"brq{network[:11]}"
    world.box.ip(f"link add {bridge} type bridge", f"link set eth1.100 master {bridge}")
    known = world.belongings.model_copy(
        update={"networks": (*world.belongings.networks, network), "vlans": (("eth1", 100),)}
    )
    done = remove(world.box, known, seconds=ENOUGH)
    assert ("vlan", "eth1.100") in names(done, "removed")
    assert set(world.box.links()) == {"lo", "eth1"}


# Packet filters

FOREIGN = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:mine - [0:0]
-A INPUT -s {net}1 -m comment --comment "a \\"quoted\\" -j neutron-linuxbri-INPUT" -j ACCEPT
-A FORWARD -j mine
-A FORWARD -i tap'x -j DROP
-A mine -d {net}2 -j LOG --log-prefix "-j neutron-linuxbri-x "
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s {net}3 -j MASQUERADE
COMMIT
"""
# What IptablesManager makes in the agent with the iptables firewall driver.
AGENTS = """*filter
:neutron-filter-top -
:neutron-linuxbri-FORWARD -
:neutron-linuxbri-INPUT -
:neutron-linuxbri-OUTPUT -
:neutron-linuxbri-i{port} -
:neutron-linuxbri-local -
:neutron-linuxbri-o{port} -
:neutron-linuxbri-sg-chain -
:neutron-linuxbri-sg-fallback -
-I INPUT 1 -j neutron-linuxbri-INPUT
-I FORWARD 1 -j neutron-filter-top
-I FORWARD 2 -j neutron-linuxbri-FORWARD
-I OUTPUT 1 -j neutron-filter-top
-I OUTPUT 2 -j neutron-linuxbri-OUTPUT
-A neutron-filter-top -j neutron-linuxbri-local
-A neutron-linuxbri-FORWARD -i {tap} -m comment --comment "Direct traffic to the VM" -j neutron-linuxbri-sg-chain
-A neutron-linuxbri-INPUT -i {tap} -j neutron-linuxbri-o{port}
-A neutron-linuxbri-i{port} -j neutron-linuxbri-sg-fallback
-A neutron-linuxbri-o{port} -j RETURN
-A neutron-linuxbri-sg-chain -i {tap} -j neutron-linuxbri-i{port}
-A neutron-linuxbri-sg-chain -j ACCEPT
-A neutron-linuxbri-sg-fallback -m comment --comment "Default drop rule" -j DROP
COMMIT
*raw
:neutron-linuxbri-OUTPUT -
:neutron-linuxbri-PREROUTING -
-A PREROUTING -j neutron-linuxbri-PREROUTING
-A OUTPUT -j neutron-linuxbri-OUTPUT
-A neutron-linuxbri-PREROUTING -i {tap} -j ACCEPT
COMMIT
*mangle
:neutron-linuxbri-FORWARD -
-A FORWARD -j neutron-linuxbri-FORWARD
COMMIT
*nat
:neutron-linuxbri-POSTROUTING -
:neutron-linuxbri-snat -
:neutron-postrouting-bottom -
-A POSTROUTING -j neutron-linuxbri-POSTROUTING
-A POSTROUTING -j neutron-postrouting-bottom
-A neutron-postrouting-bottom -m comment --comment "Perform source NAT on outgoing traffic." -j neutron-linuxbri-snat
COMMIT
"""


@dataclass
class Filter:
    """One kind of iptables in a box, with rules of others."""

    world: World
    stem: str

    def load(self, text: str) -> None:
        self.world.box.check(f"{self.stem}-restore", "--noflush", stdin=text.encode())

    def load_agents(self) -> None:
        self.load(AGENTS.format(port=self.world.instance[:10], tap=self.world.tap))

    @property
    def rules(self) -> list[str]:
        return rules(self.world.box.check(f"{self.stem}-save"))


@pytest.fixture(params=[f"{name}-{kind}" for name in ("iptables", "ip6tables") for kind in PACKET_FILTERS])
def packets(world: World, request: pytest.FixtureRequest) -> Filter:
    made = Filter(world, request.param)
    need(world.box, f"{made.stem}-restore", "--version")
    # The nft kind makes a table when it is first used; the legacy kind needs it in the kernel.
    for table in ("filter", "nat", "mangle", "raw"):
        need(world.box, made.stem, "-t", table, "-S")
    made.load(FOREIGN.format(net="192.0.2." if made.stem.startswith("iptables") else "2001:db8::"))
    return made


def test_the_agents_chains_are_removed_and_all_else_stays_byte_for_byte(packets: Filter) -> None:
    # Tables that have only had the agent's chains stay behind, empty.
    packets.load("*raw\nCOMMIT\n*mangle\nCOMMIT\n")
    packets.load_agents()
    packets.load("*raw\n-F neutron-linuxbri-OUTPUT\nCOMMIT\n")
    with_agents = packets.rules
    assert look(packets.world.box, packets.world.belongings)
    assert packets.rules == with_agents
    done = remove(packets.world.box, packets.world.belongings, seconds=ENOUGH)
    chains = [line.split()[0][1:] for line in with_agents if line.startswith(":neutron-")]
    found = [each for each in of(done, "iptables chain", packets.stem) if each.state == "removed"]
    assert sorted(each.name.split()[2] for each in found) == sorted(chains)
    assert {each.name.split()[1] for each in found} == {"filter", "raw", "mangle", "nat"}
    assert names(done, "left", "found") == set()
    after = packets.rules
    assert not [line for line in after if line.startswith(":neutron-")]
    # In the order in which it was, line for line.
    assert after == [
        line
        for line in with_agents
        if not line.startswith((":neutron-", "-A neutron-")) and not re.search(r" -j neutron-\S+$", line)
    ]
    again = remove(packets.world.box, packets.world.belongings, seconds=ENOUGH)
    assert names(again, "removed", "left", "found") == set()
    assert packets.rules == after


def test_what_was_there_before_the_agent_is_there_after_it(packets: Filter) -> None:
    for table in ("raw", "mangle"):
        packets.load(f"*{table}\n-A OUTPUT -o lo -j ACCEPT\nCOMMIT\n")
    before = packets.rules
    packets.load_agents()
    assert packets.rules != before
    remove(packets.world.box, packets.world.belongings, seconds=ENOUGH)
    assert packets.rules == before


def test_a_chain_to_which_somebody_else_leads_stays_with_all_behind_it(packets: Filter) -> None:
    packets.load_agents()
    packets.load("*filter\n-A mine -j neutron-linuxbri-sg-chain\nCOMMIT\n")
    done = remove(packets.world.box, packets.world.belongings, seconds=ENOUGH)
    strange = {
        each.name.split()[2] for each in of(done, "iptables chain", f"{packets.stem} ") if each.state == "strange"
    }
    port = packets.world.instance[:10]
    behind = {f"neutron-linuxbri-i{port}", "neutron-linuxbri-sg-fallback"}
    assert strange == {"neutron-linuxbri-sg-chain", *behind}
    assert {line.split()[0][1:] for line in packets.rules if line.startswith(":neutron-")} == strange
    assert "-A mine -j neutron-linuxbri-sg-chain" in packets.rules
    assert names(done, "left") == set()


def test_a_chain_that_another_agent_shares_stays_without_our_rule(packets: Filter) -> None:
    packets.load_agents()
    packets.load("*filter\n:neutron-openvswi-local -\n-A neutron-filter-top -j neutron-openvswi-local\nCOMMIT\n")
    done = remove(packets.world.box, packets.world.belongings, seconds=ENOUGH)
    (shared,) = of(done, "iptables chain", f"{packets.stem} filter neutron-filter-top")
    assert (shared.state, shared.why) == ("strange", "has rules of others")
    lines = [line for line in packets.rules if "neutron-" in line and "mine" not in line and "quoted" not in line]
    assert [line.strip() for line in lines] == [
        ":neutron-filter-top -",
        ":neutron-openvswi-local -",
        "-A FORWARD -j neutron-filter-top",
        "-A OUTPUT -j neutron-filter-top",
        "-A neutron-filter-top -j neutron-openvswi-local",
    ]


def test_the_filters_of_an_instance_that_runs_stay(packets: Filter) -> None:
    packets.load_agents()
    before = packets.rules
    packets.world.box.start("python3", "-c", TAP, packets.world.tap)
    done = remove(packets.world.box, packets.world.belongings, seconds=ENOUGH)
    assert {each.state for each in of(done, "iptables chain", f"{packets.stem} ")} == {"in use"}
    assert packets.rules == before


def ebtables(world: World, *argv: str) -> None:
    world.box.check("ebtables", "-t", "nat", "--concurrent", *argv)


def protect(world: World, tap: str) -> None:
    """What arp_protect.py does for a port."""
    for kind in ("MAC", "ARP"):
        chain = f"neutron{kind}-{tap}"
        ebtables(world, "-N", chain, "-P", "DROP")
        ebtables(world, "-A", chain, "-j", "DROP")
    ebtables(world, "-I", "PREROUTING", "-i", tap, "-j", f"neutronMAC-{tap}")
    macs = "fa:16:3e:00:00:01,fa:16:3e:00:00:02"
    ebtables(world, "-I", f"neutronMAC-{tap}", "-i", tap, "--among-src", macs, "-j", "RETURN")
    ebtables(world, "-I", f"neutronARP-{tap}", "-p", "ARP", "--arp-ip-src", "10.0.0.7", "-j", "ACCEPT")
    ebtables(world, "-A", "PREROUTING", "-i", tap, "-j", f"neutronARP-{tap}", "-p", "ARP")


def test_the_chains_of_known_taps_are_removed_from_ebtables(world: World) -> None:
    need(world.box, "ebtables", "-t", "nat", "-L")
    other = f"tap{new_id()[:11]}"
    ebtables(world, "-N", "mine", "-P", "ACCEPT")
    ebtables(world, "-A", "PREROUTING", "-i", "eth9", "-j", "mine")
    protect(world, other)
    before = world.box.check("ebtables", "-t", "nat", "-L")
    protect(world, world.tap)
    # Also when the tap itself is gone.
    gone = f"tap{world.stray[:11]}"
    protect(world, gone)
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    theirs = {f"nat neutron{kind}-{tap}" for kind in ("MAC", "ARP") for tap in (world.tap, gone)}
    assert {name for kind, name in names(done, "removed") if kind == "ebtables chain"} == theirs
    strange = {name for kind, name in names(done, "strange") if kind == "ebtables chain"}
    assert strange == {f"nat neutron{kind}-{other}" for kind in ("MAC", "ARP")}
    assert world.box.check("ebtables", "-t", "nat", "-L") == before


def test_the_ebtables_chains_of_an_instance_that_runs_stay(world: World) -> None:
    need(world.box, "ebtables", "-t", "nat", "-L")
    protect(world, world.tap)
    before = world.box.check("ebtables", "-t", "nat", "-L")
    world.box.start("python3", "-c", TAP, world.tap)
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert {each.state for each in of(done, "ebtables chain")} == {"in use"}
    assert world.box.check("ebtables", "-t", "nat", "-L") == before


def test_the_sets_of_known_groups_are_removed(world: World) -> None:
    need(world.box, "ipset", "list", "-n")
    own = [f"NIPv4{world.group}"[:29], f"NIPv6{world.group}"[:29], f"{f'NIPv4{world.group}'[:29]}-n"]
    other = f"NIPv4{new_id()}"[:29]
    for name in (*own, other, "mine"):
        world.box.check("ipset", "create", name, "hash:net", "family", "inet6" if "v6" in name else "inet")
    world.box.check("ipset", "add", own[0], "10.0.0.7")
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert {name for kind, name in names(done, "removed") if kind == "ipset"} == set(own)
    assert {name for kind, name in names(done, "strange") if kind == "ipset"} == {other}
    assert set(world.box.check("ipset", "list", "-n").split()) == {other, "mine"}


def test_a_set_that_a_rule_of_the_agent_uses_is_removed_after_it(packets: Filter) -> None:
    world = packets.world
    need(world.box, "ipset", "list", "-n")
    family = "4" if packets.stem.startswith("iptables") else "6"
    name = f"NIPv{family}{world.group}"[:29]
    world.box.check("ipset", "create", name, "hash:net", "family", "inet" if family == "4" else "inet6")
    packets.load_agents()
    rule = f"-A neutron-linuxbri-i{world.instance[:10]} -m set --match-set {name} src -j RETURN"
    need(world.box, packets.stem, *shlex.split(rule))
    done = remove(world.box, world.belongings, seconds=ENOUGH)
    assert [each.state for each in of(done, "ipset", name)] == ["removed"]
    assert world.box.check("ipset", "list", "-n") == ""


def test_a_set_that_somebody_else_uses_is_left(world: World) -> None:
    need(world.box, "ipset", "list", "-n")
    name = f"NIPv4{world.group}"[:29]
    world.box.check("ipset", "create", name, "hash:net")
    need(world.box, "iptables-nft", "-A", "INPUT", "-m", "set", "--match-set", name, "src", "-j", "DROP")
    done = remove(world.box, world.belongings, seconds=8)
    (group,) = of(done, "ipset", name)
    assert group.state == "left"
    assert "ipset ended with 1" in group.why


def test_tools_that_are_missing_are_said(world: World, tmp_path: Path) -> None:
    for name in ("python3", "ip", "env"):
        program = shutil.which(name)
        assert program is not None
        (tmp_path / name).symlink_to(program)
    if any(Path(where, "iptables-save").exists() for where in ("/usr/local/sbin", "/usr/sbin", "/sbin")):
        pytest.skip("this machine has iptables where every host has it")
    world.box.tools = tmp_path
    found = look(world.box, world.belongings)
    missing = {(each.kind, each.name): each.why for each in found if "can't be looked at" in each.why}
    assert set(missing) == {
        ("iptables chain", "iptables"),
        ("iptables chain", "ip6tables"),
        ("ebtables chain", "nat"),
        ("ebtables chain", "filter"),
        ("ipset", "ipset"),
    }
    assert missing["ipset", "ipset"] == "can't be looked at: ipset: No such file or directory"
    assert names(found, "found") == world.names


def test_a_host_whose_links_can_not_be_read_is_an_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "ip").write_text("#!/bin/sh\necho broken >&2\nexit 3\n", encoding="utf-8")
    (tmp_path / "ip").chmod(0o755)
    world.box.tools = tmp_path
    with pytest.raises(CommandFailed, match="ip ended with 3: broken"):
        look(world.box, world.belongings)


def test_a_leftover_says_what_it_is() -> None:
    assert str(Leftover(kind="bridge", name="brq1", state="found")) == "bridge brq1: found"
    assert str(Leftover(kind="tap", name="tap1", state="left", why="busy")) == "tap tap1: left (busy)"
