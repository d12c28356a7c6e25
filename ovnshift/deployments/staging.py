"""Files of an operator's that are changed together, beforehand: shown first, kept, written whole, put back byte for byte."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovnshift import files
from ovnshift.errors import OvnshiftError

KIND, VERSION = "staging", 1
# What an operator's files say around an edit may be secret; a diff goes into reports.
_SECRET = re.compile(r"(?i)pass|secret|token|key|credential|private|cert")
_ENTRY = re.compile(r"""^(\s*(?:-\s+)*["']?[\w.\-]+["']?\s*:)(\s.*)?$""")
_BARE = re.compile(r"""^\s*(?:-\s+["']?[\w.\-]*["']?|"[\w.\-]*",?|[\[\]{},]*|---|\.\.\.)\s*$""")


class StagingError(OvnshiftError):
    """Files can't be staged or put back."""


class State(StrEnum):
    """How a file is now, compared with what was staged."""

    BEFORE = "as it was"
    STAGED = "staged"
    RENEWED = "written anew by the deployer since, and still as it was staged in substance"
    CHANGED = "changed by somebody since"


_IN_PLACE = {State.STAGED, State.RENEWED}


@dataclass(frozen=True)
class Change:
    """What is to become of a file.

    Attributes:
        path: its place; a symbolic link stays one, and the file that it leads to is changed.
        before: its content now; None where it is not there.
        after: its content then.
    """

    path: Path
    before: bytes | None
    after: bytes

    @property
    def needed(self) -> bool:
        """Whether anything changes."""
        return self.before != self.after


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Staged(_Model):
    """A file that was staged, or was about to be.

    Attributes:
        path: its place, as it was named; ``target`` is where links lead to.
        before: its SHA-256; None where it was not there. ``after``: the one that it was given.
        mode: its permissions, ``user`` and ``group`` its owner.
        backup: the file below the record's directory that holds it as it was; ``copy_of_after`` as it was staged.
        made: directories that had to be made for it, the outermost first.
    """

    path: str
    target: str
    before: str | None
    after: str
    mode: int = Field(ge=0, le=0o7777)
    user: int = Field(ge=0)
    group: int = Field(ge=0)
    backup: str
    copy_of_after: str
    made: tuple[str, ...] = ()


class Record(_Model):
    """What a staging was about to do; how far it came is seen on the files themselves.

    Attributes:
        directory: of the deployer, which ties the record to it.
        begun_at: UTC, ISO 8601.
        files: in the order in which they are written.
    """

    directory: str
    begun_at: str
    files: tuple[Staged, ...]


def content_of(path: Path) -> bytes | None:
    """A file's content; None where it is not there.

    Raises:
        StagingError: it can't be read, or is no file.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise StagingError(str(path), "is a symbolic link that leads nowhere", "mend it, or remove it") from error
        return None
    except OSError as error:
        raise StagingError(
            str(path), f"could not be read: {error.strerror}", "run this as the user who deploys, on the deploy host"
        ) from error


def diff(change: Change) -> list[str]:
    """A unified diff in which values that may be secrets are left out."""
    old = [] if change.before is None else change.before.decode("utf-8", "replace").splitlines()
    new = change.after.decode("utf-8", "replace").splitlines()
    name = str(change.path)
    first = "/dev/null" if change.before is None else name
    heads, lines = ("---", "+++", "@@"), difflib.unified_diff(old, new, first, name, lineterm="", n=3)
    return [line if line.startswith(heads) else line[0] + _without_secret(line[1:]) for line in lines]


def _without_secret(line: str) -> str:
    entry = _ENTRY.match(line)
    if entry is not None:
        return f"{entry[1]} …" if entry[2] and _SECRET.search(line) else line
    if line.lstrip().startswith("#"):
        return "# …" if _SECRET.search(line) else line
    return line if _BARE.match(line) else "…"


class Staging:
    """The files that one change stages in one directory.

    Args:
        directory: of the deployer, which exists.
        kept: where the record and the copies go (``reports/<change>/staging``).
        accepts: whether a file that is not as it was staged still says what was staged, since the deployer itself writes it anew.
        loses_nothing: given such a file's path, its content now and the one before, whether going back loses nothing.
    """

    def __init__(
        self,
        directory: Path,
        kept: Path,
        accepts: Callable[[Path, bytes], bool] = lambda _path, _content: False,
        loses_nothing: Callable[[Path, bytes, bytes], bool] = lambda _path, _now, _before: False,
    ) -> None:
        self._accepts = accepts
        self._loses_nothing = loses_nothing
        self.directory = directory
        self._kept = kept
        self._path = kept / "record.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else stages in this directory meanwhile; the lock goes with this process.

        Raises:
            StagingError: somebody does.
        """
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StagingError(
                str(self.directory), f"can't be opened: {error.strerror}", "see deployment.directory"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise StagingError(
                str(self.directory), "is being staged by another run", "wait until it has ended, and run this again"
            ) from error
        finally:
            os.close(descriptor)

    def record(self) -> Record | None:
        """What was staged, or was about to be; None where nothing ever was.

        Raises:
            OvnshiftError: the record is damaged, or is of another directory.
        """
        if not self._path.exists():
            return None
        try:
            content = files.read_document(self._path, KIND, VERSION)
        except OvnshiftError as error:
            raise StagingError(
                error.place, error.problem, "bring it back as it was; the files as they were stand beside it"
            ) from error
        try:
            record = Record.model_validate(content)
        except ValidationError as error:
            raise StagingError(
                str(self._path), f"is not what a staging writes: {error.errors()[0]['msg']}", "bring it back as it was"
            ) from error
        if record.directory != str(self.directory.resolve()):
            raise StagingError(
                str(self._path),
                f"is of {record.directory}, and this site has {self.directory.resolve()}",
                "name another --change, or mend deployment.directory in the site file",
            )
        return record

    def states(self) -> dict[str, State]:
        """How every file of the record is now, by its path; none where nothing was staged."""
        record = self.record()
        return {} if record is None else {each.path: self._state(each) for each in record.files}

    def begin(self, changes: Sequence[Change]) -> None:
        """Keep all files as they are and write down what is to become of them; no file is changed yet.

        What an earlier run began and staged stays in the record as that run found it.

        Args:
            changes: all of them, computed from the files as they are now.

        Raises:
            StagingError: a file was changed since it was staged, or while this looked at it; the copies can't be written.
        """
        self.refuse_drift()
        earlier = self.record()
        known = {} if earlier is None else {each.path: each for each in earlier.files}
        kept = {path: each for path, each in known.items() if self._state(each) in _IN_PLACE}
        for change in changes:
            if change.needed and str(change.path) in kept:
                raise StagingError(
                    str(change.path),
                    "is staged already, and would be staged in another way now",
                    "pytest -m stage --rollback, and then stage it anew",
                )
        fresh = [self._keep(change) for change in changes if change.needed]
        if not fresh and len(kept) == len(known):
            return
        record = Record(
            directory=str(self.directory.resolve()),
            begun_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            files=(*kept.values(), *fresh),
        )
        files.write_document(self._path, KIND, VERSION, record.model_dump(mode="json"))

    def _keep(self, change: Change) -> Staged:
        target = _target(change.path)
        name = str(change.path.relative_to(self.directory)).replace("/", "__")
        made: list[str] = []
        parent = target.parent
        while not parent.exists():
            made.insert(0, str(parent))
            parent = parent.parent
        try:
            status = target.stat() if change.before is not None else parent.stat()
        except OSError as error:
            raise StagingError(str(target), f"can't be looked at: {error.strerror}", "run this again") from error
        self._kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        if change.before is not None:
            files.write_atomically(self._kept / f"{name}.before", change.before, mode=0o600)
        files.write_atomically(self._kept / f"{name}.after", change.after, mode=0o600)
        return Staged(
            path=str(change.path),
            target=str(target),
            before=None if change.before is None else _sum(change.before),
            after=_sum(change.after),
            mode=stat.S_IMODE(status.st_mode) if change.before is not None else 0o644,
            user=status.st_uid,
            group=status.st_gid,
            backup=f"{name}.before",
            copy_of_after=f"{name}.after",
            made=tuple(made),
        )

    def stage(self, path: Path) -> bool:
        """Write one file of the record.

        Returns:
            Whether it was changed now; not so when it is staged already, or needs no change.

        Raises:
            StagingError: somebody changed it meanwhile, or it can't be written.
        """
        record = self.record()
        staged = next((each for each in record.files if each.path == str(path)), None) if record else None
        if staged is None:
            return False
        now = self._state(staged)
        if now in _IN_PLACE:
            return False
        if now is State.CHANGED:
            raise _changed(staged)
        self._write(staged, self._copy(staged.copy_of_after, staged.after))
        return True

    def drift(self) -> list[str]:
        """What somebody has changed since it was staged: each file with how it differs; none where all is as it was staged.

        Raises:
            OvnshiftError: the record or a file can't be read.
        """
        found = []
        for each in (self.record() or Record(directory="", begun_at="", files=())).files:
            now = self._state(each)
            if now in _IN_PLACE:
                continue
            if now is State.BEFORE:
                found.append(f"{each.path}: is as it was before it was staged")
                continue
            content = content_of(Path(each.target))
            if content is None:
                found.append(f"{each.path}: is not there any more")
                continue
            change = Change(Path(each.path), self._copy(each.copy_of_after, each.after), content)
            found.append("\n".join([f"{each.path}: {now}", *diff(change)[2:]]))
        return found

    def refuse_drift(self) -> None:
        """Refuse to go on when somebody has changed a file since it was staged.

        Raises:
            StagingError: names the first of them.
        """
        record = self.record()
        for each in record.files if record else ():
            if self._state(each) is State.CHANGED:
                raise _changed(each)

    def undo(self, *, overwrite: bool = False) -> list[str]:
        """Put every file back as it was, byte for byte; all are looked at before the first is touched.

        Args:
            overwrite: also put back a file that somebody has changed since; it is kept beside its copies as ``….theirs``.

        Returns:
            The files that were put back now.

        Raises:
            StagingError: somebody has changed a file since, or a copy is damaged; nothing was put back then.
        """
        record = self.record()
        if record is None:
            return []
        for each in record.files:
            now = self._state(each)
            before = b"" if each.before is None else self._copy(each.backup, each.before)
            if overwrite or now in {State.BEFORE, State.STAGED}:
                continue
            found = content_of(Path(each.target)) or b""
            if now is State.CHANGED or not self._loses_nothing(Path(each.path), found, before):
                raise _changed(each, now)
        done = []
        for each in reversed(record.files):
            now = self._state(each)
            if now is State.BEFORE:
                continue
            content = content_of(Path(each.target))
            if now is not State.STAGED and content is not None:
                theirs = self._kept / each.backup.replace(".before", ".theirs")
                files.write_atomically(theirs, content, mode=0o600)
            if each.before is not None:
                self._write(each, self._copy(each.backup, each.before))
            elif content is not None:
                _remove(each)
            done.append(each.path)
        # Only now, so that a run that is killed on the way finds what is left to put back.
        files.rename_durably(self._path, self._kept / "undone.json")
        return done

    def _state(self, staged: Staged) -> State:
        content = content_of(Path(staged.target))
        found = None if content is None else _sum(content)
        if found == staged.after:
            return State.STAGED
        if found == staged.before:
            return State.BEFORE
        renewed = content is not None and self._accepts(Path(staged.path), content)
        return State.RENEWED if renewed else State.CHANGED

    def _copy(self, name: str, wanted: str) -> bytes:
        content = content_of(self._kept / name)
        if content is None or _sum(content) != wanted:
            raise StagingError(
                str(self._kept / name),
                "is missing" if content is None else "is not what was kept: its checksum is wrong",
                "bring it back as it was; without it there is nothing to put back or to compare with",
            )
        return content

    def _write(self, staged: Staged, content: bytes) -> None:
        target = Path(staged.target)
        if _target(Path(staged.path)) != target:
            raise StagingError(
                staged.path, f"leads elsewhere than to {target} by now", "make it lead there again, and run this again"
            )
        files.write_atomically(target, content, mode=staged.mode, owner=(staged.user, staged.group))


def _changed(staged: Staged, state: State = State.CHANGED) -> StagingError:
    if state is State.RENEWED:
        return StagingError(
            staged.path,
            "was written anew by the deployer since it was staged, with other hosts than before",
            "see whether hosts or containers were added since; --rollback --conflicts=overwrite puts back the file as it was "
            "before, and keeps this one",
        )
    return StagingError(
        staged.path,
        "was changed by somebody since it was staged",
        "pytest -m stage --plan shows the difference; take it back by hand, or --rollback --conflicts=overwrite puts the file "
        "back as it was before, and keeps theirs",
    )


def _remove(staged: Staged) -> None:
    target = Path(staged.target)
    try:
        target.unlink()
        files.sync_directory(target.parent)
        for directory in reversed(staged.made):
            # Somebody else may have put something there.
            if not any(Path(directory).iterdir()):
                Path(directory).rmdir()
    except OSError as error:
        raise StagingError(str(target), f"could not be removed: {error.strerror}", "run this again") from error


def _target(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise StagingError(str(path), f"leads nowhere: {error}", "mend the symbolic link") from error


def _sum(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
