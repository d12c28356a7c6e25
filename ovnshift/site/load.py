"""From site.toml to a :class:`Site`, with errors that point at the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ovnshift.errors import OvnshiftError
from ovnshift.site.models import Site

_HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*("[^"]*"|'[^']*'|[\w.-]+)\s*=""")


class SiteError(OvnshiftError):
    """The site file can't be used."""


# What only a migration to OVN needs.
_OF_MIGRATION = ("ovn", "deployment")


def load(path: Path, *, migrating: bool = True) -> Site:
    """Read and check a site file.

    Args:
        path: the file.
        migrating: whether it has to say where OVN is, and who deploys it.

    Raises:
        SiteError: it is not there, is no TOML, or says something that is not allowed; every wrong key is named with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(
            str(path), f"could not be read: {error}", "--site FILE names another; site.example.toml explains each key"
        ) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SiteError(str(path), f"is no TOML: {error}", "mend that line") from error
    missing = [name for name in _OF_MIGRATION if migrating and name not in values]
    try:
        site = Site.model_validate(values)
    except ValidationError as error:
        problems = []
        for each in error.errors(include_input=False, include_url=False):
            message = each["msg"].removeprefix("Value error, ")
            location = list(each["loc"])
            if not location and (named := re.match(r"([a-z]+)\.([a-z_]+): ", message)):
                location = [named[1], named[2]]
                message = message[named.end() :]
            line = line_of(text, [part for part in location if part != "[key]"])
            key = ".".join(str(part) for part in location)
            problems.append(f"line {line}: {key}: {message}" if line else f"{key}: {message}")
        raise _unusable(path, [*problems, *_required(missing)]) from error
    if missing:
        raise _unusable(path, _required(missing))
    return site


def _required(names: Sequence[str]) -> list[str]:
    return [f"{name}: Field required" for name in names]


def _unusable(path: Path, problems: Sequence[str]) -> SiteError:
    return SiteError(
        str(path), "\n  ".join(["can't be used:", *problems]), "site.example.toml says what each key allows"
    )


def line_of(text: str, location: Sequence[str | int]) -> int | None:
    """The line on which a key stands, counted from 1; where it is missing, that of the nearest table around it.

    Args:
        text: the TOML.
        location: names of tables and keys, and numbers for the elements of an array of tables, as pydantic gives them.
    """
    best: tuple[int, int] | None = None  # how much of the location a line answers, and its number
    seen: dict[str, int] = {}
    table: list[str | int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            name = header[1].strip("\"'")
            table = [part.strip("\"' ") for part in name.split(".")]
            if line.lstrip().startswith("[["):
                seen[name] = seen.get(name, -1) + 1
                table.append(seen[name])
            here: list[str | int] = list(table)
        elif key := _KEY.match(line):
            here = [*table, key[1].strip("\"'")]
        else:
            continue
        if list(location[: len(here)]) == here and (best is None or len(here) > best[0]):
            best = (len(here), number)
    return best[1] if best else None
