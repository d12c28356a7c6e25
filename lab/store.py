"""What the lab knows about itself: one record, its secrets, one lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lab import blueprint, paths
from lab.errors import Busy, LabError, NotUp
from lab.run import run


class Record(BaseModel):
    """What kind of lab stands here. Written once by ``up``, completed when the lab is."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    #: The checkout that built it.
    checkout: Path
    #: The hosts' image, in the cache.
    image: Path
    #: Where the state is kept, or will be, that ``reset`` comes back to, in the cache.
    kept: Path
    management: str = blueprint.DEFAULT_MANAGEMENT
    vlan: bool
    kvm: bool
    mechanism: blueprint.Mechanism = blueprint.Mechanism.LINUXBRIDGE
    layout: blueprint.Layout = blueprint.Layout.PACKAGES
    #: True once ``up`` went through and the state is kept.
    complete: bool = False

    @property
    def addresses(self) -> blueprint.Addresses:
        return blueprint.Addresses(self.management)

    @property
    def contents(self) -> blueprint.Contents:
        return blueprint.CONTENTS[self.mechanism]

    def save(self) -> None:
        paths.write_atomically(paths.RECORD, self.model_dump_json(indent=2) + "\n")


def load_record() -> Record | None:
    """The record of the lab on this machine, or None where there is no lab.

    Raises:
        LabError: there is one that this version can't read.
    """
    try:
        text = paths.RECORD.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise LabError(
            f"{paths.RECORD} is not a record that this version of the lab can read",
            "python -m lab down, then python -m lab up",
            str(error),
        ) from error


def require_record() -> Record:
    """The record of the lab on this machine.

    Raises:
        NotUp: there is no lab here.
    """
    record = load_record()
    if record is None:
        raise NotUp("there is no lab on this machine", "python -m lab up")
    return record


class Secrets(BaseModel):
    """The lab's passwords, made anew for each cloud that is built."""

    model_config = ConfigDict(extra="forbid")

    admin: str
    demo: str
    service: str
    database: str
    rabbit: str
    metadata: str

    @classmethod
    def make(cls) -> Secrets:
        return cls(**{name: secrets.token_urlsafe(18) for name in cls.model_fields})


def keys(identity: Path) -> Path:
    """The private key that lets the operator into hosts and guests."""
    return identity / "id_ed25519"


def host_key(identity: Path, host: blueprint.Host) -> Path:
    """The private SSH host key of a host."""
    return identity / f"{host.name}_ssh_host_ed25519_key"


def identity_of(record: Record) -> Path:
    """The directory of a lab's passwords and keys; it goes with the kept state, which has them built in."""
    return record.kept.with_name(record.kept.name + ".identity")


def load_secrets(record: Record) -> Secrets:
    """The lab's passwords.

    Raises:
        LabError: they are not there or damaged.
    """
    file = identity_of(record) / "secrets.json"
    try:
        return Secrets.model_validate_json(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError) as error:
        raise LabError(
            f"{file} is missing or damaged", "python -m lab down, then python -m lab up --rebuild"
        ) from error


def ensure_identity(record: Record) -> Secrets:
    """The lab's passwords and keys; what is missing is made."""
    identity = identity_of(record)
    identity.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (identity / "secrets.json").exists():
        paths.write_atomically(identity / "secrets.json", Secrets.make().model_dump_json(indent=2) + "\n")
    for file in (keys(identity), *(host_key(identity, host) for host in blueprint.HOSTS)):
        if not file.with_name(file.name + ".pub").exists():
            file.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ovnshift-lab", "-f", str(file)])
    return load_secrets(record)


@contextlib.contextmanager
def exclusive(command: str) -> Iterator[None]:
    """Hold the lab for one command. The kernel frees it when the process ends, however it ends.

    Raises:
        Busy: somebody else holds it; the message says who.
    """
    paths.LOCK.parent.mkdir(parents=True, exist_ok=True)
    with paths.LOCK.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise Busy(
                f"the lab is being changed by {holder}", "wait for it to end, or stop it, then run this again"
            ) from error
        stream.truncate(0)
        stream.write(f"`python -m lab {command}` (process {os.getpid()})")
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)
