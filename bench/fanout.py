"""Many hosts asked at once: our fleet against `ansible -f 50`, on the lab's real sshds: `python -m bench.fanout`.

Needs a lab that is up. Its five hosts get forty names each, so that there are 200 connections, each with a login of its own. The
work is the same on both sides: the state of one unit, as root. Ours opens connections and asks, then asks again on those that it
has; ansible gets pipelining and ControlPersist, which is its best, and its second run finds its connections as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import rich.console
import rich.table

from ovnshift import site as sites
from ovnshift.hosts import Fleet
from ovnshift.site import Site

SITE = Path("/var/lib/ovnshift-lab/site/site.toml")
UNIT = "ssh.service"
FORKS = 50
SECONDS = 600


def many(site: Site, number: int, directory: Path) -> tuple[Site, Path]:
    """A site with so many names for the lab's hosts, and an inventory of the same names.

    Args:
        site: the lab's.
        number: of names.
        directory: for the two files.
    """
    config = (site.ssh.config or Path("/dev/null")).read_text(encoding="utf-8")
    blocks, _, common = config.partition("Host *")
    places = dict(zip(*[iter(line.split()[1] for line in blocks.splitlines() if line.strip())] * 2, strict=True))
    hosts = [places[name] for name in site.cloud_hosts]
    names = {f"host{index:03}": hosts[index % len(hosts)] for index in range(number)}
    lines = [f"Host {name}\n    HostName {place}" for name, place in names.items()]
    file = directory / "ssh_config"
    file.write_text("\n".join([*lines, f"Host *{common}"]), encoding="utf-8")
    inventory = directory / "inventory.ini"
    inventory.write_text("\n".join(["[all]", *names, ""]), encoding="utf-8")
    ssh = site.ssh.model_copy(update={"config": file, "inventory": None})
    hosts_now = {name: f"ssh://{name}" for name in names}
    return site.model_copy(update={"ssh": ssh, "hosts": hosts_now}), inventory


def ours(site: Site) -> tuple[float, float]:
    """Seconds for all hosts, first with connections to be made, then with those."""
    fleet = Fleet(site)

    def ask() -> None:
        answers = fleet.every(site.hosts, lambda host: host.check("systemctl", "is-active", UNIT).strip())
        assert len(answers) == len(site.hosts)
        assert set(answers.values()) == {"active"}, answers

    try:
        return timed(ask), timed(ask)
    finally:
        fleet.close()


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def ansible(site: Site, inventory: Path, directory: Path) -> tuple[float, float]:
    """The same by ``ansible -f 50``, its connections kept between its two runs."""
    arguments = f"-F {site.ssh.config} -o ControlMaster=auto -o ControlPersist=60s"
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(directory),
        "ANSIBLE_LOCAL_TEMP": str(directory),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_SSH_ARGS": arguments,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory / "cp"),
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    }
    program = str(Path(sys.executable).with_name("ansible"))
    command = [program, "all", "-i", str(inventory), "-f", str(FORKS), "--become", "--one-line"]
    command += ["-m", "command", "-a", f"systemctl is-active {UNIT}"]

    def ask() -> None:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
        answers = [line for line in done.stdout.splitlines() if line.endswith("(stdout) active")]
        assert len(answers) == len(site.hosts), done.stdout[-2000:] + done.stderr[-2000:]

    return timed(ask), timed(ask)


def main() -> int:
    """Run both in turn, and print medians and ratios."""
    parser = argparse.ArgumentParser(description="many hosts asked at once")
    parser.add_argument("--hosts", type=int, default=200, help="names for the lab's hosts (200)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turn (3)")
    options = parser.parse_args()
    if not SITE.exists():
        print("there is no lab: python -m lab up", file=sys.stderr)
        return 1
    site = sites.load(SITE)
    site.check_way()
    took: dict[str, list[tuple[float, float]]] = {"ovnshift": [], f"ansible -f {FORKS}": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="ovnshift-bench-") as name:
            directory = Path(name)
            wide, inventory = many(site, options.hosts, directory)
            took["ovnshift"].append(ours(wide))
            took[f"ansible -f {FORKS}"].append(ansible(wide, inventory, directory))
    table = rich.table.Table(title=f"{options.hosts} connections to the lab's sshds, median of {options.rounds}")
    for heading in ("", "connect and ask, s", "ask again, s"):
        table.add_column(heading, justify="left" if not heading else "right")
    medians = {
        who: tuple(statistics.median(each[part] for each in rounds) for part in (0, 1)) for who, rounds in took.items()
    }
    for who, seconds in medians.items():
        table.add_row(who, *(f"{each:.1f}" for each in seconds))
    first, second = medians.values()
    table.add_row("ratio", *(f"{theirs / mine:.1f}" for mine, theirs in zip(first, second, strict=True)))
    rich.console.Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
