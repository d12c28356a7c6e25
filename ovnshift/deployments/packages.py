"""Services from a distribution's packages, configured by a playbook of the operator's."""

from __future__ import annotations

import collections
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ovnshift.errors import OvnshiftError
from ovnshift.hosts import Connection
from ovnshift.site import Site

CHECK_SECONDS = 120
STOP_SECONDS = 10
KEEP_LINES = 40
# Followed by the number of the process that made it.
HOME_PREFIX = "ovnshift-ansible-"


class DeploymentError(OvnshiftError):
    """The deployer is not there, or does not understand what it is given."""


def _program(name: str) -> str:
    # Beside the interpreter: the virtual environment that this runs in brings ansible-core along.
    beside = Path(sys.executable).with_name(name)
    return str(beside if beside.exists() else name)


def _environment(home: Path) -> Mapping[str, str]:
    environment = {**os.environ, "ANSIBLE_HOME": str(home), "ANSIBLE_LOCAL_TEMP": str(home), "ANSIBLE_NOCOLOR": "1"}
    environment.setdefault("LC_ALL", "C.UTF-8")
    return environment


def _missing(place: str, program: str) -> DeploymentError:
    return DeploymentError(place, f"{program} is not on this machine", "make setup installs it into .venv")


def _ansible(program: str, arguments: list[str], home: Path, place: str) -> str:
    try:
        done = subprocess.run(
            [_program(program), *arguments],
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
            check=False,
            env=_environment(home),
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise _missing(place, program) from error
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(
            place, f"{program} was not done in {CHECK_SECONDS} s", "run it by hand and see"
        ) from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-400:]
        raise DeploymentError(
            place, f"{program} ended with {done.returncode}: {said}", "mend it; nothing was run on any host"
        )
    return done.stdout


def neutron_release(host: Connection) -> int:
    """The major version of Neutron on a host: 21 is Zed, 24 is 2024.1.

    Raises:
        DeploymentError: no program of its server is there, or none says its version.
        HostError: the host can't be asked.
    """
    said = []
    for program in ("neutron-server", "neutron-rpc-server"):
        done = host.run(program, "--version")
        if found := re.search(r"(\d+)\.\d+", done.text):
            return int(found[1])
        said.append(f"{program}: {done.complaint or done.returncode}")
    raise DeploymentError(
        host.name, f"Neutron's version is not known: {'; '.join(said)}", "put it on root's PATH there"
    )


def check_playbook(site: Site, home: Path) -> list[str]:
    """See that Ansible understands the playbook and its inventory; nothing is run on any host.

    Args:
        site: names them.
        home: a directory for Ansible's own files.

    Returns:
        The inventory's hosts.

    Raises:
        DeploymentError: it does not.
    """
    inventory, playbook = str(site.deployment.inventory), str(site.deployment.playbook)
    _ansible("ansible-playbook", ["--syntax-check", "--inventory", inventory, playbook], home, playbook)
    listed = json.loads(_ansible("ansible-inventory", ["--inventory", inventory, "--list"], home, inventory))
    groups = {name: group for name, group in listed.items() if name != "_meta"}
    return sorted({host for group in groups.values() for host in group.get("hosts", [])})


@contextmanager
def ansible_home() -> Iterator[Path]:
    """A directory for Ansible's own files, with a short path: it keeps sockets there. Those of runs that were killed go too."""
    temporary = Path(tempfile.gettempdir())
    for left in temporary.glob(f"{HOME_PREFIX}*"):
        number = left.name.removeprefix(HOME_PREFIX).partition("-")[0]
        if left.owner() == Path("/proc/self").owner() and not Path("/proc", number).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{HOME_PREFIX}{os.getpid()}-") as home:
        yield Path(home)


def deploy_command(site: Site) -> list[str]:
    """The command that deploys OVN."""
    assert site.deployment.playbook is not None
    return command_for(site, site.deployment.playbook)


def command_for(site: Site, playbook: Path) -> list[str]:
    """The command that runs a playbook."""
    deployment = site.deployment
    arguments = ["--inventory", str(deployment.inventory), *deployment.arguments, "--", str(playbook)]
    return ["ansible-playbook", *arguments]


def sync_command(site: Site, mode: str, tool: str) -> list[str]:
    """The command that compares Neutron's database with OVN's northbound one ("log"), or writes the latter ("repair").

    Args:
        site: as whom it runs, and with which configuration.
        mode: see above.
        tool: ``neutron-ovn-db-sync-util``, by its name or by its path.
    """
    config = [argument for file in site.deployment.sync_config for argument in ("--config-file", file)]
    return [
        "runuser",
        "--user",
        site.deployment.sync_user,
        "--",
        tool,
        *config,
        "--ovn-neutron_sync_mode",
        mode,
    ]


def deploy(site: Site, log: Path, home: Path, say: Callable[[str], None], playbook: Path | None = None) -> str:
    """Run a playbook, the one that deploys OVN unless another is named; what it prints is shown as it comes, and kept.

    Args:
        site: names the playbook and its inventory, and bounds it (``limits.deploy_seconds``).
        log: the file that keeps what it prints.
        home: a directory for Ansible's own files.
        say: is given the titles of tasks and what hosts say of them.
        playbook: another one than the site file's.

    Returns:
        Its recap.

    Raises:
        DeploymentError: it failed on a host, ended in another way, or took too long; then it is stopped.
    """
    playbook = playbook or site.deployment.playbook
    assert playbook is not None
    command = command_for(site, playbook)
    place = str(playbook)
    site.check_way()
    said = _Said(say)
    process = None
    program = _program(command[0])
    if shutil.which(program) is None:
        raise _missing(place, command[0])
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                # A run that is killed takes its playbook along: the next one runs it again, and not beside it.
                ["setpriv", "--pdeathsig", "TERM", "--", program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(home),
                start_new_session=True,
            )
            complete = _stream(process, time.monotonic() + site.limits.deploy_seconds, stream.write, said)
        if complete:
            process.wait(timeout=STOP_SECONDS)
    except FileNotFoundError as error:
        if process is None and error.filename != str(log):
            raise _missing(place, command[0]) from error
        raise DeploymentError(str(log), f"can't be written: {error.strerror}", "see its directory") from error
    except OSError as error:
        raise DeploymentError(
            str(log), f"can't be written: {error.strerror}", "make room; the playbook was stopped, run this again"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(place, "closed its output and did not end", f"see {log}, and run this again") from error
    finally:
        if process is not None:
            _stop(process)
    if not complete:
        raise DeploymentError(
            place,
            f"was not done in {site.limits.deploy_seconds:.0f} s and was stopped; last: {' | '.join(said.last)}",
            f"see {log}; it can be run again, and limits.deploy_seconds can be raised",
        )
    if process.returncode != 0:
        raise DeploymentError(
            place,
            f"ended with {process.returncode}: {' | '.join(said.wrong or said.last)[:600]}",
            f"see {log}, mend it, and run this again: the playbook is run again as a whole",
        )
    return "; ".join(said.recap)


class _Said:
    """What of a playbook's output is worth telling: what failed first, the recap, and the last lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.wrong: list[str] = []
        self.recap: list[str] = []
        self.last: collections.deque[str] = collections.deque(maxlen=3)

    def take(self, line: str) -> None:
        """One line of it."""
        if line:
            self.last.append(line)
        if re.match(r"(fatal|failed|ERROR)|\[ERROR\]", line) and len(self.wrong) < KEEP_LINES:
            self.wrong.append(line)
        if re.search(r" : ok=\d+", line):
            self.recap.append(re.sub(r" +", " ", line))
        if re.match(r"(PLAY|TASK|RUNNING|fatal|failed|changed)", line):
            self._say(line.rstrip(" *")[:200])


def _stream(process: subprocess.Popen[bytes], deadline: float, keep: Callable[[bytes], object], said: _Said) -> bool:
    """Whether it ended before the deadline."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if not selector.select(timeout=max(0.0, min(1.0, deadline - time.monotonic()))):
                continue
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                return True
            keep(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                said.take(line.decode("utf-8", "replace").rstrip())
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=STOP_SECONDS)
    if process.stdout is not None:
        process.stdout.close()
