"""TLS to Keystone, MariaDB and OVSDB: with a CA of the test's own, and refused with another one.

Each server runs on the lab's control host for a moment, beside the lab's own.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from lab import host
from lab.blueprint import CONTROL
from ovnshift import cloud
from ovnshift import site as sites
from ovnshift.cloud import CloudError
from ovnshift.database import backup
from ovnshift.database.connection import DatabaseError, connect, login_of, rows
from ovnshift.ovn import northbound
from ovnshift.ovn.databases import OvnError
from ovnshift.site import Site
from tests.lab.conftest import SITE, Lab
from tests.lab.test_2_pre import changed_site

PLACE = "/run/ovnshift-tests-tls"
KEYSTONE, MARIADB, OVSDB = 15000, 13306, 16641
UNIT = "tests-tls"

# Ends TLS before what listens on another port.
FRONT = """
import socket, ssl, sys, threading
port, behind, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(place + "/server.pem", place + "/server.key")
def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def serve(plain):
    try:
        client = context.wrap_socket(plain, server_side=True)
        server = socket.create_connection((sys.argv[4], behind))
    except OSError:
        plain.close()
        return
    back = threading.Thread(target=pump, args=(server, client), daemon=True)
    back.start()
    pump(client, server)
    back.join()
with socket.create_server((sys.argv[4], port)) as listening:
    while True:
        threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""


@dataclass(frozen=True)
class Authority:
    """A CA, the files that it made, and where they are."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"


def openssl(directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def authority(directory: Path, address: str) -> Authority:
    """A CA with a certificate for a server at an address, and one for a client."""
    directory.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        directory, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=a test's CA"
    )
    for name, san in (("server", f"IP:{address}"), ("client", "DNS:client")):
        openssl(directory, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (directory / "extensions").write_text(f"subjectAltName={san}\n", encoding="utf-8")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions")
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    return Authority(directory)


@pytest.fixture(scope="module")
def address(lab: Lab) -> str:
    """Of the control host, as the site file has it."""
    return str(login_of(sites.load(SITE / "site.toml")).host) if lab.site else ""


@pytest.fixture(scope="module")
def ours(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A CA whose certificate for a server is on the control host."""
    made = authority(tmp_path_factory.mktemp("tls") / "ours", address)
    host.execute(CONTROL, "install", "-d", "-m", "755", PLACE)
    for name in ("ca.pem", "server.pem", "server.key"):
        host.execute(CONTROL, "tee", f"{PLACE}/{name}", stdin=(made.directory / name).read_text(encoding="utf-8"))
    yield made
    host.execute(CONTROL, "rm", "-r", PLACE)


@pytest.fixture(scope="module")
def others(address: str, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that nobody on the control host knows."""
    return authority(tmp_path_factory.mktemp("tls") / "others", address)


@contextmanager
def serving(address: str, port: int, *command: str, user: str = "root") -> Iterator[None]:
    """A program on the control host that listens there."""
    unit = f"{UNIT}-{port}"
    host.execute(CONTROL, "systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--uid={user}", "--", *command)

    def listens() -> bool:
        try:
            socket.create_connection((address, port), timeout=2).close()
        except OSError:
            return False
        return True

    try:
        waiting = Retrying(retry=retry_if_result(lambda up: not up), stop=stop_after_delay(60), wait=wait_fixed(0.2))
        waiting(listens)
        yield
    finally:
        host.execute(CONTROL, "systemctl", "stop", unit)


def with_clouds(directory: Path, address: str, certificate: Path) -> Site:
    """A site whose Keystone is behind TLS."""
    clouds = yaml.safe_load((SITE / "clouds.yaml").read_text(encoding="utf-8"))
    for each in clouds["clouds"].values():
        each["auth"]["auth_url"] = f"https://{address}:{KEYSTONE}"
        each["cacert"] = str(certificate)
    path = directory / "clouds.yaml"
    path.write_text(yaml.safe_dump(clouds), encoding="utf-8")
    return sites.load(changed_site(directory, (str(SITE / "clouds.yaml"), str(path))))


def test_keystone(address: str, ours: Authority, others: Authority, tmp_path: Path) -> None:
    with serving(address, KEYSTONE, "python3", "-c", FRONT, str(KEYSTONE), "5000", PLACE, address):
        connection = cloud.connect(with_clouds(tmp_path, address, ours.certificate))
        assert connection.session.get_token()
        with pytest.raises(CloudError, match="certificate verify failed"):
            cloud.connect(with_clouds(tmp_path, address, others.certificate))


@contextmanager
def mariadb(address: str) -> Iterator[None]:
    """A MariaDB of its own, with TLS."""
    data = f"{PLACE}/mariadb"
    host.execute(CONTROL, "install", "-d", "-o", "mysql", data)
    host.execute(CONTROL, "chown", "mysql", f"{PLACE}/server.key")
    host.execute(CONTROL, "mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", timeout=120)
    socket_file = f"{data}/socket"
    options = (
        f"--datadir={data}",
        f"--socket={socket_file}",
        f"--port={MARIADB}",
        f"--bind-address={address}",
        f"--pid-file={data}/pid",
        f"--ssl-cert={PLACE}/server.pem",
        f"--ssl-key={PLACE}/server.key",
        f"--ssl-ca={PLACE}/ca.pem",
        "--require-secure-transport=ON",
    )
    with serving(address, MARIADB, "mariadbd", "--no-defaults", *options, user="mysql"):
        statements = (
            "CREATE DATABASE neutron; CREATE TABLE neutron.t (a INT PRIMARY KEY); INSERT INTO neutron.t VALUES (7);"
        )
        grant = "CREATE USER tls@'%' IDENTIFIED BY 'a password'; GRANT ALL ON *.* TO tls@'%';"
        host.execute(CONTROL, "mariadb", f"--socket={socket_file}", stdin=statements + grant)
        yield


def database_site(address: str, certificate: Path, directory: Path) -> Site:
    section = f"""host = "{address}"
port = {MARIADB}
user = "tls"
password_env = "OVNSHIFT_TESTS_TLS"
ca_certificate = "{certificate}"
"""
    return sites.load(changed_site(directory, (f'defaults_file = "{SITE}/database.cnf"\n', section)))


def test_mariadb(
    address: str, ours: Authority, others: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By PyMySQL, and by mariadb-dump, which read the site's CA each in its own way."""
    monkeypatch.setenv("OVNSHIFT_TESTS_TLS", "a password")
    with mariadb(address):
        site = database_site(address, ours.certificate, tmp_path)
        with connect(site) as connection:
            assert rows(connection, "SELECT a FROM t") == [{"a": 7}]
            assert rows(connection, "SHOW STATUS LIKE 'Ssl_cipher'")[0]["Value"]
        backup.dump(site, tmp_path / "dump.sql")
        assert "INSERT INTO `t`" in (tmp_path / "dump.sql").read_text(encoding="utf-8")
        wrong = database_site(address, others.certificate, tmp_path)
        with pytest.raises(DatabaseError, match=r"(?i)certificate"), connect(wrong):
            pass
        with pytest.raises(DatabaseError, match=r"(?i)certificate"):
            backup.dump(wrong, tmp_path / "wrong.sql")
        assert not (tmp_path / "wrong.sql").exists()


def ovn_site(address: str, made: Authority, certificate: Path, directory: Path) -> Site:
    remote = f"ssl:{address}:{OVSDB}"
    text = (SITE / "site.toml").read_text(encoding="utf-8")
    old = next(line for line in text.splitlines() if line.startswith("northbound"))
    keys = f"""northbound = "{remote}"
private_key = "{made.directory}/client.key"
certificate = "{made.directory}/client.pem"
ca_certificate = "{certificate}"
"""
    return sites.load(changed_site(directory, (f"{old}\n", keys)))


def test_ovsdb(address: str, ours: Authority, others: Authority, tmp_path: Path) -> None:
    """OVN's northbound database, empty; the client's certificate is asked for as well."""
    database = f"{PLACE}/nb.db"
    host.execute(CONTROL, "ovsdb-tool", "create", database, "/usr/share/ovn/ovn-nb.ovsschema")
    command = (
        "ovsdb-server",
        f"--remote=pssl:{OVSDB}:{address}",
        f"--private-key={PLACE}/server.key",
        f"--certificate={PLACE}/server.pem",
        f"--ca-cert={PLACE}/ca.pem",
        f"--unixctl={PLACE}/nb.ctl",
        database,
    )
    with serving(address, OVSDB, *command):
        assert northbound(ovn_site(address, ours, ours.certificate, tmp_path)).switches == {}
        with pytest.raises(OvnError):
            northbound(ovn_site(address, ours, others.certificate, tmp_path))
        with pytest.raises(OvnError):
            northbound(ovn_site(address, others, ours.certificate, tmp_path))
