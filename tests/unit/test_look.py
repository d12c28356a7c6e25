"""What a look around on a host says of services that were started before their configuration was changed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovnshift.hosts.programs import look


@pytest.mark.parametrize(
    ("command", "files"),
    [
        (
            "neutron-server: rpc (/usr/bin/python3 /bin/neutron-server --config-file=/etc/a.conf --config-file /etc/b.ini)",
            {"/etc/a.conf", "/etc/b.ini"},
        ),
        (
            "/openstack/venvs/nova-27.1.0/bin/python /openstack/venvs/nova-27.1.0/bin/nova-compute",
            {"/etc/nova/nova.conf", "/etc/nova/nova-compute.conf"},
        ),
        (
            "neutron-l3-agent (/usr/bin/python3 /usr/bin/neutron-l3-agent)",
            {"/etc/neutron/neutron.conf", "/etc/neutron/neutron-l3-agent.conf"},
        ),
        ("ovn-controller unix:/run/openvswitch/db.sock --no-chdir", set()),
        ("", set()),
    ],
)
def test_the_files_are_those_that_are_named_or_where_oslo_config_looks(command: str, files: set[str]) -> None:
    assert look.configuration(command) == {Path(each) for each in files}


def test_files_of_a_directory_are_the_configurations_in_it(tmp_path: Path) -> None:
    for name in ("a.conf", "b.conf", "README"):
        (tmp_path / name).write_text("", encoding="ascii")
    found = look.configuration(f"/usr/bin/neutron-l3-agent --config-file=/etc/l3.ini --config-dir={tmp_path}")
    assert found == {Path("/etc/l3.ini"), tmp_path / "a.conf", tmp_path / "b.conf"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A process that waits, and the file that its command line names, which was written an hour before."""
    path = tmp_path / "service.conf"
    path.write_text("", encoding="ascii")
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    command = [sys.executable, "-c", "input()", f"--config-file={path}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield str(process.pid), path
        assert process.stdin
        process.stdin.write(b"\n")


def test_a_file_that_is_changed_after_the_start_is_told(service: tuple[str, Path]) -> None:
    pid, path = service
    assert look.changed_since_start(pid) == []
    path.write_text("changed", encoding="ascii")
    assert look.changed_since_start(pid) == [str(path)]


def test_a_file_of_the_future_says_nothing(service: tuple[str, Path]) -> None:
    pid, path = service
    tomorrow = time.time() + 86400
    os.utime(path, (tomorrow, tomorrow))
    assert look.changed_since_start(pid) == []


def test_a_process_and_files_that_are_gone_say_nothing(service: tuple[str, Path]) -> None:
    pid, path = service
    path.unlink()
    assert look.changed_since_start(pid) == []
    assert look.changed_since_start("0") == []
