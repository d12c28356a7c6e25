"""Names, and other texts of a cloud, as people may be shown them.

Whoever may make a network says how it is called: Neutron takes any text of up to 255 characters. Lines on an operator's terminal
must not be forged, overwritten or reordered by one.
"""

from __future__ import annotations

import re

_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_UNPRINTABLE = re.compile(
    # What neither HTML nor XML may have; the halves of surrogate pairs come from file names and logs that are no UTF-8.
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
    # What goes back to the beginning of a line, or writes what follows from right to left.
    "|\r(?!\n)|[\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """Without terminal codes; what can't be printed becomes a replacement character."""
    return _UNPRINTABLE.sub("\ufffd", _TERMINAL.sub("", text))


def label(name: str, id_: str) -> str:
    """An object in one line: its name with the beginning of its id, since names may be double; the id where it has no name."""
    shown = " ".join(printable(name).split())
    return f"{shown} ({id_[:8]})" if shown else id_
