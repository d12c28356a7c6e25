"""Files that must survive: written whole or not at all, and checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ovnshift.errors import OvnshiftError


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Write a file so that a reader, also after a power cut, sees the old content or the new one and nothing between.

    Args:
        path: the file; its directory is made where it is missing.
        content: all of it.
        mode: its permissions.
        owner: its user and group, by number; this process's where there is none.

    Raises:
        OvnshiftError: the disk is full, or the place can't be written to. What was there is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            if owner is not None:
                os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        raise OvnshiftError(
            str(path), f"could not be written: {error.strerror or error}", "make room or mend its permissions"
        ) from error


def remove_left_overs(directory: Path, prefix: str) -> None:
    """Remove one's own directories ``<prefix><process>-…`` of processes that are gone: those of runs that were killed."""
    for path in directory.glob(f"{prefix}*-*"):
        process = path.name.removeprefix(prefix).partition("-")[0]
        if not process.isdigit() or Path("/proc", process).exists():
            continue
        # Another run may remove it at the same time.
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)


def sync_directory(directory: Path) -> None:
    """Make sure that names made, changed or removed in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_durably(old: Path, new: Path) -> None:
    """Give a file another name in its directory, in the place of what may have that name.

    Raises:
        OvnshiftError: it can't be.
    """
    try:
        old.replace(new)
        sync_directory(new.parent)
    except OSError as error:
        raise OvnshiftError(
            str(old), f"could not become {new.name}: {error.strerror or error}", "mend its directory's permissions"
        ) from error


def _canonical(content: Any) -> str:
    """JSON in one spelling: sorted keys, no spaces."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def checksum(content: Any) -> str:
    """SHA-256 of JSON-able content, in one spelling (sorted keys, no spaces)."""
    return _checksum(_canonical(content))


def _checksum(canonical: str) -> str:
    return "sha256:" + hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def write_document(path: Path, kind: str, version: int, content: dict[str, Any]) -> None:
    """Write a JSON document that says what it is, in which version, and what its content adds up to.

    Args:
        path: the file.
        kind: what it is ("baseline").
        version: of its content's layout.
        content: JSON-able.

    Raises:
        OvnshiftError: as :func:`write_atomically`.
    """
    canonical = _canonical(content)
    head = json.dumps({"kind": kind, "version": version, "checksum": _checksum(canonical)}, ensure_ascii=False)
    # The content as it is summed up: a document of a hundred thousand rows is spelled out once.
    write_atomically(path, f'{head[:-1]}, "content": {canonical}}}\n'.encode())


def read_document(path: Path, kind: str, version: int) -> dict[str, Any]:
    """Read what :func:`write_document` wrote.

    Returns:
        The content.

    Raises:
        OvnshiftError: it is missing, is something else, is of a later version, or was edited.
    """
    remedy = f"record it anew (pytest -m pre), or bring back the {path.name} that was written"
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise OvnshiftError(str(path), f"could not be read: {error.strerror}", remedy) from error
    except ValueError as error:
        raise OvnshiftError(str(path), f"is no JSON: {error}", remedy) from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise OvnshiftError(str(path), f"is no {kind}", remedy)
    found = document.get("version")
    if not isinstance(found, int) or found > version:
        raise OvnshiftError(
            str(path), f"has version {found}; this ovnshift reads up to {version}", "use the ovnshift that wrote it"
        )
    content = document.get("content")
    if not isinstance(content, dict) or checksum(content) != document.get("checksum"):
        raise OvnshiftError(str(path), "was changed after it was written: its checksum is wrong", remedy)
    return content
