"""Chapter 2: what there is to go back to."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

from ovnshift import files
from ovnshift.database import backup
from ovnshift.errors import OvnshiftError
from ovnshift.migration.window import TOPOLOGY_VERSION, Window, read_snapshot, snapshot_path
from ovnshift.report.result import Finding, NotReady
from ovnshift.steps import Step

CHAPTER = "2 back up"
VERSION = 1
# What deployers change on the way to OVN; what is not there on a host is left out.
CONFIGURATION = ("etc/neutron", "etc/nova", "etc/openvswitch", "etc/ovn", "etc/default")
KEPT = "none is needed: it stays where it is"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise OvnshiftError(str(path), f"can't be read: {error.strerror}", "bring it back, or begin anew") from error


class KeepTopology(Step):
    """The cloud's objects as they are, in a file that everything later is compared with."""

    chapter = CHAPTER
    key = "topology"
    title = "keep what Neutron and Nova say exists"
    way_back = KEPT

    def __init__(self, window: Window) -> None:
        self._window = window
        self._path = snapshot_path(window.reports)

    def plan(self) -> list[str]:
        return [
            f"write {self._path}: {len(self._window.before.ports)} ports, {len(self._window.before.instances)} instances"
        ]

    def is_done(self) -> bool:
        return self._window.resumed and self._path.exists()

    def do(self, found: Any) -> None:
        del found
        content = self._window.before.model_dump(mode="json")
        files.write_document(self._path, "topology", TOPOLOGY_VERSION, content)

    def prove(self) -> list[str]:
        kept = read_snapshot(self._path)
        mine = self._window.before
        if (kept.identity_endpoint, kept.region) != (mine.identity_endpoint, mine.region):
            raise NotReady(Finding(f"{self._path} is of {kept.identity_endpoint}", (), "name another --change"))
        return [f"{self._path}: taken {kept.taken_at}, {len(kept.ports)} ports, checksum right"]


class BackUpDatabase(Step):
    """Neutron's schema, dumped, and restored into a scratch schema to see that it can be."""

    chapter = CHAPTER
    key = "database"
    title = "back up Neutron's database, and restore it into a scratch schema"
    way_back = KEPT

    def __init__(self, window: Window) -> None:
        self._window = window
        self._dump = window.backups / "neutron.sql"
        self._record = window.backups / "neutron.json"

    def plan(self) -> list[str]:
        settings = self._window.site.database
        return [
            f"mariadb-dump {settings.neutron} > {self._dump}",
            f"restore it into {settings.scratch}, compare it table by table, drop {settings.scratch}",
        ]

    def is_done(self) -> bool:
        return self._record.exists()

    def do(self, found: Any) -> None:
        del found
        proof = backup.prove(self._window.site, self._dump, self._window.say)
        content = {
            "sha256": proof.sha256,
            "tables": proof.tables,
            "rows": proof.rows,
            "identical": proof.identical,
        }
        files.write_document(self._record, "database backup", VERSION, content)

    def prove(self) -> list[str]:
        record = files.read_document(self._record, "database backup", VERSION)
        if _digest(self._dump) != record["sha256"]:
            raise NotReady(
                Finding(f"{self._dump} is not the dump that was proved", (), "bring it back; go no further without it")
            )
        size = (
            f"{record['tables']} tables, {record['rows']} rows, restored; {record['identical']} compared byte by byte"
        )
        return [f"{self._dump}: {size}; SHA-256 {record['sha256'][:16]}…"]


class BackUpConfiguration(Step):
    """A host's configuration of Neutron, Nova and Open vSwitch, as a tar file."""

    chapter = CHAPTER
    way_back = KEPT

    def __init__(self, window: Window, host: str) -> None:
        self._window = window
        self._host = host
        self._archive = window.backups / f"{host}.tar.gz"
        self.key = f"configuration/{host}"
        self.title = f"back up the configuration of {host}"

    def plan(self) -> list[str]:
        return [f"{self._host}: tar --create {' '.join('/' + each for each in CONFIGURATION)} > {self._archive}"]

    def is_done(self) -> bool:
        return self._archive.exists()

    def do(self, found: Any) -> None:
        del found
        command = ["tar", "--create", "--gzip", "--ignore-failed-read", "--file=-", "--directory=/"]
        # --ignore-failed-read leaves out what a host does not have; the exit code is 0 then, and 1 when a file changed meanwhile.
        host = self._window.fleet[self._host]
        there = [each for each in CONFIGURATION if host.run("test", "-d", f"/{each}").returncode == 0]
        if not there:
            raise NotReady(
                Finding(f"{self._host} has none of {', '.join(CONFIGURATION)}", (), "is this the right host?")
            )
        result = host.run(*command, "--", *there)
        if result.returncode not in {0, 1}:
            raise OvnshiftError(self._host, f"tar ended with {result.returncode}: {result.complaint}", "run it by hand")
        _names(self._host, result.stdout)
        files.write_atomically(self._archive, result.stdout, mode=0o600)

    def prove(self) -> list[str]:
        try:
            content = self._archive.read_bytes()
        except OSError as error:
            raise OvnshiftError(
                str(self._archive), f"can't be read: {error.strerror}", "remove it, and begin anew"
            ) from error
        return [f"{self._archive}: {len(_names(str(self._archive), content))} files, {len(content)} bytes"]


def _names(place: str, content: bytes) -> list[str]:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            return [member.name for member in archive if member.isfile()]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise OvnshiftError(place, f"is no whole tar file: {error}", "remove it, and run this again") from error
