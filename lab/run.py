"""Running programs of this machine: arguments as a list, a bound on the time, the output kept for the error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.errors import LabError

# Proxies and the like of the caller are none of a host's business, but apt and debootstrap need them.
_BASE_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def environment(**more: str) -> dict[str, str]:
    """The caller's environment with the machine's own programs first, whatever virtual environment is active."""
    return {**os.environ, **_BASE_ENVIRONMENT, **more}


def run(
    command: Sequence[str],
    *,
    timeout: float = 60,
    stdin: str | None = None,
    next_step: str = "look at the message above",
    where: str = "this machine",
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program and return what it printed.

    Args:
        command: program and arguments; no shell is involved.
        timeout: seconds after which it is killed.
        stdin: text for its standard input; none means an empty one.
        next_step: what to advise when it fails.
        where: the place that an error names.
        log: a file that keeps everything it printed, as it comes.
        env: its environment, :func:`environment` unless told.

    Raises:
        LabError: it is not there, it exited other than 0, or it did not end in time.
    """
    result = attempt(command, timeout=timeout, stdin=stdin, where=where, log=log, env=env)
    if result.returncode != 0:
        output = result.stderr or result.stdout
        if log is not None:
            output = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise LabError(f"on {where}: `{_printable(command)}` exited {result.returncode}", next_step, output)
    return result.stdout


def attempt(
    command: Sequence[str],
    *,
    timeout: float = 60,
    stdin: str | None = None,
    where: str = "this machine",
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    first: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Like :func:`run`, but an exit code other than 0 is an answer, not an error.

    ``first`` is called in the new process before the program is; only where no other thread runs.

    Raises:
        LabError: it is not there, or it did not end in time.
    """
    environ = dict(env) if env is not None else environment()
    try:
        if log is None:
            return subprocess.run(
                command,
                input=stdin if stdin is not None else "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                env=environ,
                check=False,
                preexec_fn=first,
            )
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as stream:
            return subprocess.run(
                command,
                input=stdin if stdin is not None else "",
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                env=environ,
                check=False,
            )
    except FileNotFoundError as error:
        raise LabError(f"on {where}: there is no program {command[0]!r}", "make setup") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"on {where}: `{_printable(command)}` did not end within {timeout:.0f} s",
            "look at what it waits for, then run this again",
        ) from error


def _printable(command: Sequence[str]) -> str:
    text = " ".join(command)
    return text if len(text) < 200 else text[:197] + "..."
