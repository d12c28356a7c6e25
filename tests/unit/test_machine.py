"""What the machine must have. Tried for real, in network and mount namespaces that end with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import blueprint, machine
from lab.errors import LabError


def in_namespaces(project: Path, setup: str, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a network and a mount namespace of its own, after some set-up there."""
    return subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-ec", setup + '\nexec "$@"', "sh", *command],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(project), **env},
    )


CHECK_ADDRESSES = "from lab import blueprint, machine; machine.check_addresses(blueprint.Addresses())"
CHECK = (
    "from lab import blueprint, machine, paths\n"
    "machine.check(blueprint.Addresses(), image_is_cached=False, place=paths.STATE, cache=paths.cache())"
)


def test_this_machine_can_carry_the_lab(project: Path) -> None:
    result = in_namespaces(project, "true", sys.executable, "-c", CHECK)
    assert result.returncode == 0, result.stderr


WITH_A_ROUTE = (
    "ip link add wan type veth peer name wan1; ip address add 203.0.113.2/24 dev wan; ip link set wan up;"
    " ip link set wan1 up; ip route add 198.18.0.0/15 via 203.0.113.1"
)


@pytest.mark.parametrize(
    ("setup", "place"),
    [
        ("ip address add 198.18.0.77/32 dev lo; ip link set lo up", "lo has 198.18.0.77/32"),
        ("ip address add 198.16.0.1/14 dev lo; ip link set lo up", "lo has 198.16.0.1/14"),
        (WITH_A_ROUTE, "a route to 198.18.0.0/15 through wan"),
    ],
)
def test_a_management_network_in_use_is_named(project: Path, setup: str, place: str) -> None:
    result = in_namespaces(project, setup, sys.executable, "-c", CHECK_ADDRESSES)
    assert result.returncode == 1
    assert f"198.18.0.0/24 is in use: {'this machine has ' if 'route' in place else ''}{place}" in result.stderr
    assert "--management 198.19.0.0/24" in result.stderr


def test_other_networks_are_nobodys_business(project: Path) -> None:
    setup = "ip address add 198.20.0.1/24 dev lo; ip address add 10.0.0.1/8 dev lo; ip link set lo up"
    assert in_namespaces(project, setup, sys.executable, "-c", CHECK_ADDRESSES).returncode == 0


def test_too_little_disk_is_said_with_the_place(project: Path, tmp_path: Path) -> None:
    setup = f"mount -t tmpfs -o size=100m tmpfs '{tmp_path}'"
    result = in_namespaces(project, setup, sys.executable, "-c", CHECK, OVNSHIFT_LAB_CACHE=str(tmp_path / "cache"))
    assert result.returncode == 1
    assert f"{tmp_path} has 0.1 GiB free, the image needs 6 GiB" in result.stderr
    assert "OVNSHIFT_LAB_CACHE" in result.stderr


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "NEEDED_MEMORY", 2**60)
    with pytest.raises(LabError, match=r"GiB of memory, the lab needs \d+ GiB"):
        machine.check(blueprint.Addresses(), image_is_cached=True, place=tmp_path, cache=tmp_path)


def test_a_missing_program_is_said(project: Path) -> None:
    result = in_namespaces(project, "mount --bind /dev/null /usr/bin/mmdebstrap", sys.executable, "-c", CHECK)
    assert result.returncode == 1
    assert "this machine has no mmdebstrap" in result.stderr
    assert "make setup" in result.stderr


def test_only_root_can_bring_it_up(project: Path) -> None:
    code = CHECK.replace("machine.check(", "import os; os.setuid(65534); machine.check(")
    result = in_namespaces(project, "true", sys.executable, "-c", code)
    assert result.returncode == 1
    assert "the lab needs root" in result.stderr


NOTHING_SENT = """
import json, subprocess
from pathlib import Path
from lab import cloud, store
from lab.errors import LabError

record = store.Record(checkout=Path("/x"), image=Path("/x"), kept=Path("/x"), vlan=False, kvm=False)
try:
    cloud.connect(record, store.Secrets.make())
except LabError as error:
    print(error)
links = json.loads(subprocess.check_output(["ip", "-json", "-statistics", "link", "show", "wan"]))
print("packets:", links[0]["stats64"]["tx"]["packets"])
"""


def test_nothing_is_sent_while_the_labs_interface_is_missing(project: Path) -> None:
    """The lab's addresses would leave by the default route of a machine whose lab is down."""
    setup = (
        "sysctl --quiet --write net.ipv6.conf.default.disable_ipv6=1; ip link add wan type veth peer name wan1;"
        " ip link set wan up; ip link set wan1 up; ip route add default dev wan"
    )
    result = in_namespaces(project, setup, sys.executable, "-c", NOTHING_SENT)
    assert result.returncode == 0, result.stderr
    assert "ovnlab0 with 198.18.0.1 is not there, so nothing was sent" in result.stdout
    assert "packets: 0" in result.stdout


def test_a_missing_kernel_feature_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_NEEDED_KINDS", {"nosuchkind": ["nosuchkind"]})
    with pytest.raises(LabError, match="can't make links of kind nosuchkind") as caught:
        machine.check(blueprint.Addresses(), image_is_cached=True, place=tmp_path, cache=tmp_path)
    assert "modprobe nosuchkind" in caught.value.next_step
