"""A deployer's commands: found, run under a bound, shown as they go, kept, and ended with whoever asked for them."""

from __future__ import annotations

import collections
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ovnshift import files
from ovnshift.errors import OvnshiftError
from ovnshift.site import Site

CHECK_SECONDS = 120
STOP_SECONDS = 10
KEEP_LINES = 40
# Of this project's virtual environment, and no business of a deployer's.
_OURS = frozenset({"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"})
# Ends all that a program has started when it is told to end, since a wrapper (openstack-ansible is one) does not pass that on.
_KEEPER = """
stop() { trap '' TERM; kill -TERM 0; }
trap stop TERM
"$@" &
while :; do
    wait $!
    code=$?
    kill -0 $! 2>/dev/null || exit $code
done
"""
# Followed by the number of the process that made it.
HOME_PREFIX = "ovnshift-ansible-"


class DeploymentError(OvnshiftError):
    """The deployer is not there, or does not understand what it is given."""


@dataclass(frozen=True)
class Command:
    """A command of a deployer's, on this machine.

    Attributes:
        words: the program and its arguments; nothing of it is interpreted by a shell.
        place: the file that it runs, as errors name it.
        directory: where it is run; this one where there is none.
        bundled: whether the program may be the one that this project brings along, with a home of its own. Others keep the
            environment of whoever calls, without what belongs to this project's virtual environment.
    """

    words: tuple[str, ...]
    place: str
    directory: Path | None = None
    bundled: bool = False

    def __str__(self) -> str:
        return shlex.join(self.words) + (f"  (in {self.directory})" if self.directory else "")

    def program(self) -> str:
        """The program's place.

        Raises:
            DeploymentError: it is not there, or nobody may run it; or the directory is not there.
        """
        name = self.words[0]
        # Beside the interpreter: the virtual environment that this runs in brings ansible-core along.
        beside = Path(sys.executable).parent / name
        found = str(beside) if self.bundled and beside.exists() else shutil.which(name)
        if found is None:
            raise self.missing()
        if self.directory is not None and not self.directory.is_dir():
            raise DeploymentError(str(self.directory), "is not there", "see [deployment] in the site file")
        return found

    def missing(self) -> DeploymentError:
        """The program is not there."""
        hint = "make setup installs it into .venv" if self.bundled else "see [deployment] in the site file"
        return DeploymentError(self.place, f"{self.words[0]} is not on this machine", hint)

    def environment(self, home: Path) -> dict[str, str]:
        """What it is given.

        Args:
            home: a directory for Ansible's own files.
        """
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        environment.setdefault("LC_ALL", "C.UTF-8")
        if self.bundled:
            return {**environment, "ANSIBLE_HOME": str(home), "ANSIBLE_LOCAL_TEMP": str(home)}
        return {name: value for name, value in environment.items() if name not in _OURS}


def look(command: Command, home: Path) -> str:
    """Run a command that only looks, and give what it prints.

    Args:
        command: to be run; it may take :data:`CHECK_SECONDS`.
        home: a directory for Ansible's own files.

    Raises:
        DeploymentError: it is not there, fails, or takes too long.
    """
    program = command.program()
    try:
        done = subprocess.run(
            [program, *command.words[1:]],
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
            check=False,
            env=command.environment(home),
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise DeploymentError(
            command.place, f"{program} can't be run: {error.strerror}", "see [deployment] in the site file"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(
            command.place, f"{program} was not done in {CHECK_SECONDS} s", "run it by hand and see"
        ) from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-400:]
        raise DeploymentError(
            command.place,
            f"{command.words[0]} ended with {done.returncode}: {said}",
            "mend it; nothing was run on any host",
        )
    return done.stdout


@contextmanager
def ansible_home() -> Iterator[Path]:
    """A directory for Ansible's own files, with a short path: it keeps sockets there. Those of runs that were killed go too."""
    files.remove_left_overs(Path(tempfile.gettempdir()), HOME_PREFIX)
    with tempfile.TemporaryDirectory(prefix=f"{HOME_PREFIX}{os.getpid()}-") as home:
        yield Path(home)


def run(
    commands: Sequence[Command], site: Site, log: Path, home: Path, say: Callable[[str], None], what: str = "deployment"
) -> str:
    """Run a deployer's commands, one after the other; what they print is shown as it comes, and kept.

    Args:
        commands: to be run; the first that fails is the last.
        site: bounds all of them together (``limits.deploy_seconds``).
        log: the file that keeps what they print.
        home: a directory for Ansible's own files.
        say: is given the titles of tasks and what hosts say of them.
        what: they do, for errors.

    Returns:
        Ansible's recaps.

    Raises:
        DeploymentError: one failed, or took too long; then it is stopped.
    """
    deadline = time.monotonic() + site.limits.deploy_seconds
    recaps = [recap for command in commands if (recap := _run(command, site, log, home, say, deadline))]
    return "; ".join(recaps) or f"{what}: {len(commands)} commands ended well"


def _run(command: Command, site: Site, log: Path, home: Path, say: Callable[[str], None], deadline: float) -> str:
    place = command.place
    site.check_way()
    said = _Said(say)
    process = None
    program = command.program()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                # A run that is killed takes its playbook along: the next one runs it again, and not beside it.
                ["setpriv", "--pdeathsig", "TERM", "--", "sh", "-c", _KEEPER, "sh", program, *command.words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=command.environment(home),
                cwd=command.directory,
                start_new_session=True,
            )
            complete = _stream(process, deadline, stream.write, said)
        if complete:
            process.wait(timeout=STOP_SECONDS)
    except FileNotFoundError as error:
        if process is None and error.filename != str(log):
            raise command.missing() from error
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
            f"see {log}, mend it, and run this again: it is run again as a whole",
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
