"""A YAML file of an operator's, edited in places: what is not edited stays as it is, to the byte."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from ruamel.yaml import YAML, MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError

from ovnshift.errors import OvnshiftError

Node = Any  # of ruamel.yaml, which has no common class for the three that it exports
Value = str | list[Any] | dict[str, Any]

_STRING = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_BY_HAND = "make this edit by hand as docs/openstack-ansible.md shows, and run this again"
# What may stand without quotes: it begins with a letter, and YAML can read nothing else into it.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*\Z")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


class EditRefused(OvnshiftError):
    """A file can't be edited safely; it is as it was."""


class Document:
    """A YAML file that is parsed once, edited by places in its text, and parsed again to see that it says what it should.

    Nothing is written by a YAML emitter: mixed indentation, comments, quotes and blank lines of a file are its operator's.

    Args:
        text: of the file; an empty one is an empty mapping.
        place: names it in messages.

    Raises:
        EditRefused: it is no YAML, has several documents, the same key twice in one mapping, or something other than a mapping
            at its top; with the line.
    """

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self.place = place
        self._edits: list[tuple[int, int, str]] = []
        if "\r" in text or text.startswith("\ufeff"):
            raise self.refusal(1, "has a byte-order mark or line ends of Windows", "dos2unix it, and run this again")
        root = _composed(text, place)
        if root is not None and root.tag == _NULL and not root.value:
            root = None
        if root is not None and not isinstance(root, MappingNode):
            raise self.refusal(_line(root), "is no mapping of keys to values at its top", _BY_HAND)
        self.root: Node | None = root
        self._plain: dict[int, Any] = {}
        self._open: set[int] = set()
        self._shared: dict[int, str] = {}
        self._parents: dict[int, Node] = {}
        self._data: dict[str, Any] = {} if root is None else self._walk(root)

    def refusal(self, line: int, problem: str, next_step: str = _BY_HAND) -> EditRefused:
        """An error with the file and the line, counted from 1."""
        return EditRefused(f"{self.place}, line {line}", problem, next_step)

    def _walk(self, node: Node) -> Any:
        if id(node) in self._plain:
            if id(node) in self._open:
                raise self.refusal(
                    _line(node), f"holds itself (*{node.anchor})", "mend it; ansible could not read it either"
                )
            self._share(node, str(node.anchor))
            return self._plain[id(node)]
        self._open.add(id(node))
        plain: Any
        if isinstance(node, MappingNode):
            plain = self._plain[id(node)] = {}
            lines: dict[str, int] = {}
            for key, value in node.value:
                name = _name(key)
                if name in lines:
                    raise self.refusal(
                        _line(key),
                        f"has the key {key.value!r} again, which stands in line {lines[name]} already",
                        "keep one of the two, and run this again",
                    )
                lines[name] = _line(key)
                self._parents[id(value)] = node
                plain[name] = self._walk(value)
        elif isinstance(node, SequenceNode):
            plain = self._plain[id(node)] = []
            for item in node.value:
                self._parents[id(item)] = node
                plain.append(self._walk(item))
        else:
            plain = self._plain[id(node)] = (str(node.tag), node.value)
        self._open.remove(id(node))
        return plain

    def _share(self, node: Node, anchor: str) -> None:
        if id(node) in self._shared:
            return
        self._shared[id(node)] = anchor
        children = [value for _, value in node.value] if isinstance(node, MappingNode) else []
        for child in node.value if isinstance(node, SequenceNode) else children:
            self._share(child, anchor)

    # What it says

    def line(self, node: Node) -> int:
        """The line of a node, counted from 1."""
        return _line(node)

    def find(self, mapping: Node | None, key: str) -> Node | None:
        """The value of a key; None where there is none, or only an empty one.

        Raises:
            EditRefused: it is no mapping, or keys are merged into it from elsewhere (``<<``).
        """
        pair = self._pair(mapping, key)
        return None if pair is None or pair[1].tag == _NULL else pair[1]

    def has(self, mapping: Node | None, key: str) -> bool:
        """Whether a key is there, also with an empty value."""
        return self._pair(mapping, key) is not None

    def key_line(self, mapping: Node, key: str) -> int:
        """The line of a key that is there."""
        pair = self._pair(mapping, key)
        assert pair is not None
        return _line(pair[0])

    def _pair(self, mapping: Node | None, key: str) -> tuple[Node, Node] | None:
        if mapping is None:
            return None
        if not isinstance(mapping, MappingNode):
            raise self.refusal(_line(mapping), f"is no mapping, so that it can't have {key}")
        for name, _ in mapping.value:
            if name.value == "<<" and name.style is None:
                raise self.refusal(
                    _line(name),
                    f"merges keys from elsewhere (<<) into the mapping in which {key} is to be edited",
                    "write the merged keys out there, and run this again",
                )
        return next(((name, value) for name, value in mapping.value if _name(name) == key), None)

    def is_empty(self, node: Node | None) -> bool:
        """Whether it is missing, or an empty value, mapping or list."""
        return node is None or node.tag == _NULL or (not isinstance(node, ScalarNode) and not node.value)

    def text_of(self, node: Node | None) -> str | None:
        """A scalar's text; None where there is none.

        Raises:
            EditRefused: it is a list or a mapping.
        """
        if node is None:
            return None
        if not isinstance(node, ScalarNode):
            raise self.refusal(_line(node), "is a list or a mapping where a single value is expected")
        return str(node.value)

    def items(self, sequence: Node | None) -> list[Node]:
        """A list's items; none where there is no list, or an empty mapping in its place.

        Raises:
            EditRefused: it is something else.
        """
        if sequence is None or (isinstance(sequence, MappingNode) and not sequence.value):
            return []
        if not isinstance(sequence, SequenceNode):
            raise self.refusal(_line(sequence), "is no list, which is expected here")
        return list(sequence.value)

    def names(self, sequence: Node | None) -> list[str]:
        """A list's items, all of them single values."""
        return [str(self.text_of(item)) for item in self.items(sequence)]

    # Edits

    def set(self, mapping: Node, key: str, value: str) -> None:
        """Give a key that is there another value, in its own quotes."""
        pair = self._pair(mapping, key)
        assert pair is not None
        self._replace(pair[1], value, f"{key} is to become {value}")
        self._plain[id(mapping)][key] = (_STRING, value)

    def rename(self, mapping: Node, old: str, new: str) -> None:
        """Give a key another name."""
        pair = self._pair(mapping, old)
        assert pair is not None
        self._replace(pair[0], new, f"{old} is to become {new}", owner=mapping)
        plain = self._plain[id(mapping)]
        plain[new] = plain.pop(old)

    def remove(self, mapping: Node, key: str) -> None:
        """Take away a key whose value is on its line."""
        pair = self._pair(mapping, key)
        assert pair is not None
        self._touch(mapping, f"{key} is to go")
        begin, end = self._whole_lines(pair[0], self._end(pair), r"\s*", f"{key} is to go")
        self._edits.append((begin, end, ""))
        del self._plain[id(mapping)][key]

    def replace_item(self, sequence: Node, index: int, value: str) -> None:
        """Put another value in the place of a list's item, in its own quotes."""
        item = sequence.value[index]
        self._replace(item, value, f"{item.value} is to become {value}")
        self._plain[id(sequence)][index] = (_STRING, value)

    def remove_items(self, sequence: Node, indices: Sequence[int]) -> None:
        """Take items away from a list of which at least one stays."""
        assert len(indices) < len(sequence.value)
        for index in indices:
            self._edits.append(self._item_span(sequence, index))
        self._plain[id(sequence)][:] = [
            each for index, each in enumerate(self._plain[id(sequence)]) if index not in indices
        ]

    def empty(self, mapping: Node, key: str) -> None:
        """Make a list an empty mapping (``{}``), as OpenStack-Ansible's documents do; comments between its items stay."""
        pair = self._pair(mapping, key)
        assert pair is not None
        name, sequence = pair
        self._touch(sequence, f"{key} is to become empty")
        if sequence.flow_style:
            self._edits.append((sequence.start_mark.index, sequence.end_mark.index, "{}"))
        else:
            for index in range(len(sequence.value)):
                self._edits.append(self._item_span(sequence, index))
            colon = self.text.index(":", name.end_mark.index) + 1
            self._edits.append((colon, colon, " {}"))
        self._plain[id(mapping)][key] = {}

    def append(self, sequence: Node, value: Value, *, quoted: bool = False) -> None:
        """Add an item at the end of a list.

        Args:
            sequence: that is there.
            value: text, or a mapping of such; a text gets the quotes that the item before it has.
            quoted: put texts in double quotes.
        """
        what = f"{_flow(value)} is to be added"
        self._touch(sequence, what)
        if not sequence.value:
            place = sequence.start_mark.index + 1
            self._edits.append((place, place, _flow(value)))
        elif sequence.flow_style:
            place = self._end_of(sequence.value[-1])
            self._edits.append((place, place, f", {_flow(value)}"))
        else:
            last = sequence.value[-1]
            self._end_of(sequence)
            quote = last.style if isinstance(last, ScalarNode) and last.style in {"'", '"'} else None
            quote = '"' if quoted else quote
            column = self._dash(last) - self._line_start(self._dash(last))
            self._insert_after(self._end_of(last), _block([value], column, quote))
        self._plain[id(sequence)].append(_plain(value))

    def add(
        self,
        mapping: Node | None,
        key: str,
        value: Value,
        *,
        quoted: bool = False,
        before: str | None = None,
        after: str | None = None,
    ) -> None:
        """Add a key to a mapping, at its end unless told otherwise; None stands for the mapping at the top of an empty file.

        Args:
            mapping: that is there.
            key: that is not there, or has an empty value.
            value: text, a list or a mapping of such.
            quoted: put texts in double quotes.
            before: a key of the top's that it is to stand before, and before the comments above that one.
            after: a key that it is to follow.
        """
        pair = self._pair(mapping, key)
        quote = '"' if quoted else None
        if pair is not None:
            self._fill(pair, value, quote)
        elif mapping is self.root and before is not None and (follower := self._pair(mapping, before)) is not None:
            place = self._above(follower[0])
            self._edits.append((place, place, "\n".join([*_block({key: value}, 0, quote), "", ""])))
        elif mapping is None or mapping is self.root:
            end = len(self.text)
            if re.search(r"(?m)^\.\.\.(\s|$)", self.text):
                raise self.refusal(
                    self.text[:end].count("\n") + 1, f"ends its document (...), so that {key} can't follow"
                )
            gap = "" if not self.text or self.text.endswith("\n") else "\n"
            if self.root is not None and not (self.text + gap).endswith("\n\n"):
                gap += "\n"
            lines = _block({key: value}, 0, quote)
            self._edits.append((end, end, gap + "\n".join(lines) + "\n"))
        else:
            self._touch(mapping, f"{key} is to be added")
            if mapping.flow_style:
                first = mapping.value[0][0].start_mark.index if mapping.value else None
                place = mapping.start_mark.index + 1 if first is None else self._end(mapping.value[-1])
                self._edits.append((place, place, (", " if mapping.value else "") + f"{key}: {_flow(value)}"))
            else:
                first_key = mapping.value[0][0].start_mark.index
                column = first_key - self._line_start(first_key)
                leader = self._pair(mapping, after) if after is not None else None
                self._insert_after(self._end(leader or mapping.value[-1]), _block({key: value}, column, quote))
        target = self._data if mapping is None else self._plain[id(mapping)]
        target[key] = _plain(value)

    def _fill(self, pair: tuple[Node, Node], value: Value, quote: str | None) -> None:
        """Give a value to a key that has an empty one."""
        name, empty = pair
        if empty.tag != _NULL and empty.value:
            raise self.refusal(_line(name), f"has {name.value} with a value of its own")
        self._touch(empty, f"{name.value} is to be filled")
        colon = self.text.index(":", name.end_mark.index) + 1
        end = max(colon, empty.end_mark.index) if empty.value or empty.tag != _NULL else colon
        if isinstance(value, str) or not value:
            self._edits.append((colon, end, f" {_inline(value, quote)}"))
            return
        column = name.start_mark.index - self._line_start(name.start_mark.index)
        self._edits.append((colon, end, ""))
        self._insert_after(end, _block(value, column + 2, quote))

    def _replace(self, node: Node, value: str, what: str, *, owner: Node | None = None) -> None:
        self._touch(owner if owner is not None else node, what)
        if not isinstance(node, ScalarNode):
            raise self.refusal(_line(node), f"has a list or a mapping where {what}")
        begin, end = node.start_mark.index, node.end_mark.index
        if node.style in {"|", ">"} or self.text[begin : begin + 1] in {"!", "&"} or "\n" in self.text[begin:end]:
            raise self.refusal(_line(node), f"has a block, a tag or an anchor where {what}")
        self._edits.append((begin, end, _scalar(value, node.style)))

    def _touch(self, node: Node, what: str) -> None:
        """Only what is said once may be edited: an edit below an anchor would change every place that uses it."""
        seen: Node | None = node
        while seen is not None:
            anchor = self._shared.get(id(seen))
            if anchor is not None:
                used = re.search(rf"\*{re.escape(anchor)}(?![\w-])", self.text)
                users = f", which line {self.text[: used.start()].count(chr(10)) + 1} uses too" if used else ""
                raise self.refusal(
                    _line(node),
                    f"is below the anchor &{anchor}{users}, and {what} here only",
                    "write it out where it is used, and run this again",
                )
            seen = self._parents.get(id(seen))

    def _item_span(self, sequence: Node, index: int) -> tuple[int, int, str]:
        items = sequence.value
        item = items[index]
        what = f"{getattr(item, 'value', 'an item')} is to go"
        self._touch(sequence, what)
        if sequence.flow_style:
            if index:
                return self._end_of(items[index - 1]), self._end_of(item), ""
            end = items[1].start_mark.index if len(items) > 1 else self._end_of(item)
            return item.start_mark.index, end, ""
        begin, end = self._whole_lines(item, self._end_of(item), r"\s*-\s+", what)
        return begin, end, ""

    def _whole_lines(self, node: Node, end: int, before: str, what: str) -> tuple[int, int]:
        begin = self._line_start(node.start_mark.index)
        if not re.fullmatch(before, self.text[begin : node.start_mark.index]):
            raise self.refusal(_line(node), f"has more than this in its line, and {what}")
        return begin, min(self._line_end(end) + 1, len(self.text))

    def _insert_after(self, index: int, lines: list[str]) -> None:
        end = self._line_end(index)
        self._edits.append((end, end, "\n" + "\n".join(lines)))

    def _dash(self, item: Node) -> int:
        """Where the dash of a block list's item stands."""
        return self.text.rindex("-", 0, item.start_mark.index)

    def _end(self, pair: tuple[Node, Node]) -> int:
        key, value = pair
        empty = isinstance(value, ScalarNode) and value.start_mark.index == value.end_mark.index
        return (
            int(key.end_mark.index) + 1
            if empty or value.start_mark.index < key.start_mark.index
            else self._end_of(value)
        )

    def _end_of(self, node: Node) -> int:
        """Where a node's own text ends; ruamel's mark for a block is where the next token begins."""
        if isinstance(node, ScalarNode):
            end = int(node.end_mark.index)
            while node.style in {"|", ">"} and end > node.start_mark.index and self.text[end - 1] == "\n":
                end -= 1
            return end
        if node.flow_style or not node.value:
            return int(node.end_mark.index)
        if isinstance(node, SequenceNode) and node.value[-1].start_mark.index < node.start_mark.index:
            raise self.refusal(_line(node), "is a list that ends with an alias (*), and something is to follow it")
        return self._end(node.value[-1]) if isinstance(node, MappingNode) else self._end_of(node.value[-1])

    def _above(self, key: Node) -> int:
        """Where the line of a key begins, or the first of the comments directly above it."""
        place = self._line_start(key.start_mark.index)
        while place and self.text[self._line_start(place - 1) : place].lstrip().startswith("#"):
            place = self._line_start(place - 1)
        return place

    def _line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end

    # What comes of it

    def render(self) -> str:
        """The text with its edits.

        Raises:
            EditRefused: it would not say what it should.
        """
        text = self.text
        # Insertions at one place stand in the order in which they were made.
        for _, (begin, end, new) in sorted(
            enumerate(self._edits), key=lambda each: (each[1][0], each[0]), reverse=True
        ):
            text = text[:begin] + new + text[end:]
        if self._edits:
            again = Document(text, self.place)
            if again._data != self._data:
                raise self.refusal(
                    min(self.text[: max(begin - 1, 0)].count("\n") + 1 for begin, _, _ in self._edits),
                    "is written in a way in which the edit would change something else as well",
                )
        return text


def _composed(text: str, place: str) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    # Ansible reads YAML 1.1, in which yes and on are no text.
    yaml.version = (1, 1)
    try:
        with warnings.catch_warnings():
            # An anchor that is given twice is nobody's mistake but ruamel's warning.
            warnings.simplefilter("ignore", ReusedAnchorWarning)
            return yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(part) for part in (error.context, error.problem) if part)
        several = "another document" in problem
        raise EditRefused(
            place if mark is None else f"{place}, line {mark.line + 1}",
            "holds several documents (---)" if several else f"is no YAML: {problem}",
            "keep one of them" if several else "mend that line; ansible could not read it either",
        ) from error
    except YAMLError as error:
        raise EditRefused(
            place, f"is no YAML: {' '.join(str(error).split())}", "mend it, and run this again"
        ) from error


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _name(key: Node) -> str:
    return str(key.value) if isinstance(key, ScalarNode) else repr([_name(each) for each in _scalars(key)])


def _scalars(node: Node) -> Iterator[Node]:
    if isinstance(node, ScalarNode):
        yield node
        return
    for each in node.value:
        for part in each if isinstance(each, tuple) else (each,):
            yield from _scalars(part)


def _plain(value: Value) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return ("tag:yaml.org,2002:bool", value) if value in {"true", "false"} else (_STRING, value)


def _scalar(value: str, style: str | None) -> str:
    if style == "'":
        return "'" + value.replace("'", "''") + "'"
    if style is None and _PLAIN.match(value) and (value.lower() not in _WORDS or value in {"true", "false"}):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _flow(value: Value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(each) for each in value) + "]"
    return _scalar(value, None)


def _block(value: Value, column: int, quote: str | None) -> list[str]:
    """A value as lines of block YAML, from a column on."""
    indent = " " * column
    lines: list[str] = []
    if isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, (dict, list)) and each:
                lines += [f"{indent}{key}:", *_block(each, column + 2, quote)]
            else:
                lines.append(f"{indent}{key}: {_inline(each, quote)}")
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, (dict, list)) and each:
                first, *rest = _block(each, column + 2, quote)
                lines += [f"{indent}- {first.lstrip()}", *rest]
            else:
                lines.append(f"{indent}- {_inline(each, quote)}")
    else:
        lines.append(indent + _inline(value, quote))
    return lines


def _inline(value: Value, quote: str | None) -> str:
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    return _scalar(value, None if value in {"true", "false"} else quote)
