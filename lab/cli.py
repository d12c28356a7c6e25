"""The lab's command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lab import blueprint, host, lifecycle, status, store, teardown
from lab.errors import LabError, NotUp
from lab.progress import Progress

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """What can be asked of the lab."""
    top = argparse.ArgumentParser(prog="python -m lab", description="A real OpenStack cloud on this machine.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring the lab up; finish what an interrupted `up` began")
    up.add_argument("--management", metavar="CIDR", help=f"management network, a /24 ({blueprint.DEFAULT_MANAGEMENT})")
    up.add_argument(
        "--mechanism",
        type=blueprint.Mechanism,
        choices=list(blueprint.Mechanism),
        help="what plugs ports: linuxbridge (to migrate to OVN), or openvswitch (to move routers between hosts)",
    )
    up.add_argument(
        "--layout",
        type=blueprint.Layout,
        choices=list(blueprint.Layout),
        help="whose cloud it looks like: packages (as Debian has them), or openstack-ansible; a lab that is up is laid out anew",
    )
    up.add_argument("--rebuild", action="store_true", help="build the cloud anew, though its state is kept from before")
    commands.add_parser("reset", help="back to the state right after `up`")
    commands.add_parser("down", help="remove the lab and every trace of it but the cached image")
    state = commands.add_parser("status", help="hosts, services, agents, instances, and what is not as it should be")
    state.add_argument("--json", action="store_true", help="for programs")
    shell = commands.add_parser("shell", help="a root shell on a host, or one command there")
    shell.add_argument("host", choices=[each.name for each in blueprint.HOSTS], metavar="HOST")
    shell.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    logs = commands.add_parser("logs", help="a host's journal, or one unit's")
    logs.add_argument("host", choices=[each.name for each in blueprint.HOSTS], metavar="HOST")
    logs.add_argument("unit", nargs="?", metavar="UNIT")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    logs.add_argument("-n", "--lines", type=int, default=200, help="how many lines (200)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 it could not be done or something is wrong, 2 wrong usage."""
    options = parser().parse_args(arguments)
    progress = Progress()
    try:
        return _run(options, progress)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except OSError as error:
        # A full disk, most of all.
        print(f"error: {error}", file=sys.stderr)
        print(f"  next: mend that, then `python -m lab {options.command}` again", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"interrupted; `python -m lab {options.command}` again carries on", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(options: argparse.Namespace, progress: Progress) -> int:
    if os.geteuid() != 0:
        raise LabError(
            "the lab is root's: it is made of hosts, mounts and network namespaces", "run this as root, or by sudo"
        )
    match options.command:
        case "up":
            _check_management(options.management)
            with store.exclusive("up"):
                lifecycle.up(
                    progress,
                    management=options.management,
                    mechanism=options.mechanism,
                    layout=options.layout,
                    rebuild=options.rebuild,
                )
        case "reset":
            with store.exclusive("reset"):
                lifecycle.reset(progress)
        case "down":
            with store.exclusive("down"):
                if not teardown.remove_everything(progress):
                    progress.say("there is no lab on this machine")
        case "status":
            return status.show(as_json=options.json)
        case "shell":
            _become(host.inside(_host(options.host), *(options.words or ["/bin/bash", "--login"])))
        case "logs":
            command = ["journalctl", "--no-pager", f"--lines={options.lines}"]
            command += ["--follow"] if options.follow else []
            command += [f"--unit={options.unit}"] if options.unit else []
            _become(host.inside(_host(options.host), *command))
    return 0


def _check_management(management: str | None) -> None:
    try:
        blueprint.Addresses(management or blueprint.DEFAULT_MANAGEMENT)
    except ValueError as error:
        raise LabError(f"--management {management}: {error}", "give a free IPv4 /24, such as 198.19.0.0/24") from error


def _host(name: str) -> blueprint.Host:
    found = blueprint.host_named(name)
    if found is None:
        raise NotUp(f"there is no host {name}", f"one of {', '.join(each.name for each in blueprint.HOSTS)}")
    return found


def _become(command: Sequence[str]) -> None:
    """Replace this process by a program, so that terminal, signals and exit code are its own."""
    sys.stdout.flush()
    os.execvpe(command[0], list(command), {**os.environ, **host.guest_environment()})
