"""Text for reports: lengths of time in words, and texts of others made short, printable and free of what is secret."""

from __future__ import annotations

import datetime
import re
from typing import Any

import markupsafe

from ovnshift.names import printable

HIDDEN = "(hidden)"
_NAME = (
    r"[\w.-]{0,60}(?:password|passwd|secret|token)[\w.-]{0,60}"  # bounded: logs are long, and looked through in one go
)
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_SECRETS = (
    (
        re.compile(rf"""(["']{_NAME}["']\s*:\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.IGNORECASE),
        rf'\g<1>"{HIDDEN}"',
    ),
    (re.compile(rf"^([ \t]*{_NAME}[ \t]*[=:][ \t]*)\S.*$", re.IGNORECASE | re.MULTILINE), rf"\g<1>{HIDDEN}"),
    (re.compile(rf"(?<![\w-])(--?{_NAME}[= ])\S+", re.IGNORECASE), rf"\g<1>{HIDDEN}"),
    (re.compile(r"(://[^/\s:@]*:)[^\s/]*@"), rf"\g<1>{HIDDEN}@"),
)


def duration(seconds: float) -> str:
    """A length of time in words: "0.8 s", "4 min 10 s", "2 h 5 min"."""
    seconds = max(seconds, 0.0)
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def moment(at: str) -> datetime.datetime:
    """A time of a journal or a measurement, in UTC; one without a zone is UTC already."""
    read = datetime.datetime.fromisoformat(at)
    return read.replace(tzinfo=datetime.UTC) if read.tzinfo is None else read.astimezone(datetime.UTC)


def clock(at: datetime.datetime, day: datetime.date | None = None) -> str:
    """The time of day; with the date where it is of another day."""
    return f"{at:%H:%M:%S}" if day in {None, at.date()} else f"{at:%m-%d %H:%M:%S}"


def without_secrets(value: Any) -> Any:
    """The same text, or JSON-able value, with what its name says to be secret hidden.

    A report is made to be handed on, and configuration files are among what is shown in it.
    """
    if isinstance(value, dict):
        return {
            key: HIDDEN
            if _SECRET_NAME.search(str(key)) and each and not isinstance(each, bool)
            else without_secrets(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(each) for each in value]
    if isinstance(value, str):
        for pattern, hidden in _SECRETS:
            value = pattern.sub(hidden, value)
    return value


def cut(text: str, most: int) -> str:
    """A text of at most so many bytes: its beginning and its end, and in between how much is not shown."""
    raw = text.encode(errors="replace")
    if len(raw) <= most:
        return text
    begin, end = raw[: most // 2].decode(errors="ignore"), raw[-(most // 2) :].decode(errors="ignore")
    return f"{begin}\n… {(len(raw) - most) / 1000:.1f} kB are not shown …\n{end}"


def line(text: str, most: int) -> str:
    """A text in one line of at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Room:
    """How much more text fits into a report.

    Args:
        size: bytes, as they stand in the HTML.
    """

    def __init__(self, size: int) -> None:
        self._left = size
        self.left_out = 0

    def take(self, text: str, most: int) -> str | None:
        """A text for people, cut to so many bytes and without secrets; None when there is no room left for it."""
        if min(len(text), most) > self._left:
            self.left_out += 1
            return None
        shown = cut(printable(without_secrets(text)), most)
        size = len(markupsafe.escape(shown).encode())
        if size > self._left:
            self.left_out += 1
            return None
        self._left -= size
        return shown
