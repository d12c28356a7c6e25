from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ovnshift.database.backup import Table, client, compare, login_file
from ovnshift.database.connection import DatabaseError, Login, identifier, login_of
from ovnshift.site import Site
from tests.unit import clouds


def site_with(path: Path, text: str) -> Site:
    path.write_text(text, encoding="utf-8")
    return clouds.site(database={"host": None, "user": None, "password_env": None, "defaults_file": str(path)})


def as_mariadb_reads_it(path: Path) -> dict[str, str]:
    """The same file in the eyes of MariaDB's own programs."""
    done = subprocess.run(
        ["my_print_defaults", f"--defaults-file={path}", "client"], capture_output=True, text=True, check=True
    )
    return dict(line.removeprefix("--").split("=", 1) for line in done.stdout.split("\n") if "=" in line)


PASSWORDS = {
    "plain": "gocubsgo",
    "spaces": "two words",
    "quoted": '"two words "',
    "single quotes": "'it is'",
    "a quote inside": "it's",
    "a quote at its end": "ends'",
    "both quotes": "'a\"b'",
    "escaped quote": r'"a\"b"',
    "backslash": r"a\\b",
    "backslash in quotes": r'"a\\b"',
    "unknown escape": r"a\d",
    "space escape": r"a\sb",
    "tab escape": r'"a\tb"',
    "hash": "a#b",
    "hash after a space": "a # b",
    "hash in quotes": '"a#b"',
    "comment after quotes": '"a" # the password',
    "semicolon": "a;b",
    "semicolon after a space": "a ; b",
    "semicolon in quotes": '"a;b"',
    "equals and colon": "a=b:c",
    "percent": "100%(x)s",
    "dollar": "$HOME`id`",
    "nothing": "",
    "empty quotes": '""',
    "one quote": '"',
    "umlaut": "größe",
}


@pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS.keys())
def test_an_option_file_means_what_it_means_to_mariadb(tmp_path: Path, password: str) -> None:
    path = tmp_path / "db.cnf"
    site = site_with(path, f"[client]\nhost = 192.0.2.10\nport = 3307\nuser = ovnshift\npassword = {password}\n")
    wanted = as_mariadb_reads_it(path)
    assert login_of(site) == Login(wanted["host"], int(wanted["port"]), wanted["user"], wanted["password"])


@pytest.mark.parametrize("password", [*PASSWORDS.values(), "two\nlines\r\n", "\\n"])
def test_a_login_reaches_mariadbs_clients_as_it_is_and_by_no_file_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".my.cnf").write_text("[client]\nuser=operator\npassword=of-another-database\nhost=elsewhere\n")
    login = Login("192.0.2.10", 3307, "ovnshift", password, Path("/etc/a ca.pem"))
    with login_file(login) as descriptor:
        assert str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("/memfd:")
        done = subprocess.run(
            client("my_print_defaults", descriptor, "client"), pass_fds=(descriptor,), capture_output=True, check=True
        )
    assert done.stdout.decode() == (
        f"--host=192.0.2.10\n--port=3307\n--user=ovnshift\n--password={password}\n"
        "--ssl-ca=/etc/a ca.pem\n--ssl-verify-server-cert\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "[client]\nhost=h\nuser=u\npassword=p\n",
        "# comment\n; another\n\n[mysqld]\nuser = mysql\n[client]\nhost=h\nuser=u\npassword=p\nport=3306\n",
        "[client]\nhost=h\n  user=u\n    password=p\n",
        "[client]\nhost=h\nuser=old\nuser=u\npassword=p\n",
        "[client]\nhost=h\nuser=u\n[mysql]\nno-auto-rehash\n[client]\npassword=p\n",
        '[client]\nhost="h"\nuser=\'u\'\npassword="p"\nssl-verify-server-cert\n',
        "[client]\r\nhost=h\r\nuser=u\r\npassword=p\r\n",
    ],
)
def test_an_option_file_may_be_written_in_any_of_mariadbs_ways(tmp_path: Path, text: str) -> None:
    path = tmp_path / "db.cnf"
    site = site_with(path, text)
    wanted = as_mariadb_reads_it(path)
    assert (wanted["host"], wanted["user"], wanted["password"]) == ("h", "u", "p")
    assert login_of(site) == Login("h", 3306, "u", "p")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[mysqld]\nuser=u\n",
        "[client]\nhost=h\npassword=p\n",
        "[client]\nuser\n",
        "[client]\nuser=u\nport=x\n",
        "user=u\n",
    ],
)
def test_what_is_no_clients_option_file_is_an_error_that_says_what_it_needs(tmp_path: Path, text: str) -> None:
    path = tmp_path / "db.cnf"
    with pytest.raises(DatabaseError) as caught:
        login_of(site_with(path, text))
    assert caught.value.place == str(path)
    assert "[client] with host, user and password" in caught.value.next_step


def test_no_password_is_in_an_error_or_in_what_a_login_shows_of_itself(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError) as caught:
        login_of(site_with(tmp_path / "db.cnf", "[client]\npassword=hunter2\nhunter2\n=hunter2\n"))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Login("h", 1, "u", "hunter2"))


def test_a_login_in_single_keys_takes_its_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    site = clouds.site(database={"port": 3307})
    monkeypatch.delenv("OVNSHIFT_TEST_PASSWORD", raising=False)
    with pytest.raises(DatabaseError, match="OVNSHIFT_TEST_PASSWORD is not in the environment") as caught:
        login_of(site)
    assert "export OVNSHIFT_TEST_PASSWORD" in caught.value.next_step
    monkeypatch.setenv("OVNSHIFT_TEST_PASSWORD", "a'\"\\#;b ")
    assert login_of(site) == Login("192.0.2.10", 3307, "ovnshift", "a'\"\\#;b ")


@pytest.mark.parametrize("name", ["neutron", "ml2_port_bindings", "A1", "x" * 64])
def test_names_of_neutrons_tables_are_put_between_backticks(name: str) -> None:
    assert identifier(name) == f"`{name}`"


@pytest.mark.parametrize("name", ["", "a`b", "a.b", "a b", "a;b", "a'b", "a-b", "ü", "x" * 65, "a\n", "`a`"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a schema, table or column"):
        identifier(name)


BEFORE = {"ports": Table(40, 111), "networks": Table(6, 222), "agents": Table(15, 333)}


def test_a_copy_that_is_the_same_is_identical() -> None:
    assert compare(BEFORE, BEFORE, dict(BEFORE)) == ([], 3)


def test_a_table_that_is_missing_or_has_other_rows_or_other_content_is_a_difference() -> None:
    restored = {"ports": Table(39, 111), "networks": Table(6, 999)}
    differences, identical = compare(BEFORE, BEFORE, restored)
    assert sorted(differences) == ["networks has other content", "ports has 39 rows, not 40", "table agents is missing"]
    assert identical == 0


@pytest.mark.parametrize(("count", "wrong"), [(39, True), (40, False), (41, False), (42, False), (43, True)])
def test_a_table_that_grew_meanwhile_may_have_any_number_between(count: int, wrong: bool) -> None:  # noqa: FBT001
    after = {**BEFORE, "ports": Table(42, 112)}
    differences, identical = compare(BEFORE, after, {**BEFORE, "ports": Table(count, 7)})
    assert differences == ([f"ports has {count} rows, not 40 to 42"] if wrong else [])
    assert identical == 2


def test_a_table_that_changed_meanwhile_is_not_called_identical() -> None:
    after = {**BEFORE, "agents": Table(15, 334)}
    assert compare(BEFORE, after, {**BEFORE, "agents": Table(15, 335)}) == ([], 2)


def test_a_table_that_came_or_went_meanwhile_is_no_difference() -> None:
    after = {name: table for name, table in BEFORE.items() if name != "agents"} | {"new": Table(1, 1)}
    restored = {name: BEFORE[name] for name in ("ports", "networks")}
    assert compare(BEFORE, after, restored) == ([], 2)


def test_a_table_without_a_checksum_is_not_called_identical() -> None:
    unknown = {"view": Table(3, None)}
    assert compare(unknown, unknown, unknown)[1] == 0
