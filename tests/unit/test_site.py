from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from ovnshift.errors import OvnshiftError
from ovnshift.site import Site, SiteError, load
from tests.unit import clouds

GOOD = """\
[cloud]
name = "mycloud"

[hosts]
infra1 = "ssh://infra1"
compute1 = "ssh://ops@compute1:2222?sudo=true"

[groups]
control = ["infra1"]
network = ["infra1"]
compute = ["compute1"]

[database]
host = "192.0.2.10"
user = "ovnshift"
password_env = "OVNSHIFT_DB_PASSWORD"

[ovn]
northbound = "tcp:192.0.2.11:6641"
southbound = "tcp:192.0.2.11:6642,tcp:[2001:db8::2]:6642"

[deployment]
kind = "kolla-ansible"

[[guests]]
instance = "appliance"
login = false

[[guests]]
image = "cirros"
user = "cirros"
password = "gocubsgo"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_site_file_that_is_right_loads(tmp_path: Path) -> None:
    site = load(written(tmp_path, GOOD))
    assert site.cloud.name == "mycloud"
    assert site.group("network") == ["infra1"]
    assert site.group("edge") == []
    assert site.cloud_hosts == ["infra1", "compute1"]
    assert [guest.login for guest in site.guests] == [False, True]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('name = "mycloud"', 'nam = "mycloud"', 2, r"cloud\.nam: Extra inputs are not permitted"),
        ('name = "mycloud"', "name = 7", 2, r"cloud\.name: Input should be a valid string"),
        (
            '"ssh://infra1"',
            '"telnet://infra1"',
            5,
            r"hosts\.infra1: a connection is ssh://.*ansible://HOST or local://",
        ),
        ('"ssh://infra1"', '"ssh://"', 5, r"hosts\.infra1: a connection is ssh://"),
        (
            'network = ["infra1"]',
            'network = ["infra9"]',
            10,
            r"groups\.network: 'infra9' is not in \[hosts\], which has",
        ),
        ("network = [", "storage = [", 10, r"groups\.storage.*'control', 'network', 'compute', 'chassis' or 'edge'"),
        ('compute = ["compute1"]', "compute = []", 11, r"groups\.compute: at least one host"),
        ('host = "192.0.2.10"', "", 13, "database: either defaults_file, or host, user and password_env"),
        (
            'user = "ovnshift"',
            'user = "o"\nport = 0',
            16,
            r"database\.port: Input should be greater than or equal to 1",
        ),
        ('user = "ovnshift"', 'user = "o"\nneutron = "a`b"', 16, r"database\.neutron: String should match pattern"),
        ('user = "ovnshift"', 'user = "o"\nscratch = "neutron"', 13, "scratch must not be Neutron's own schema"),
        ('"tcp:192.0.2.11:6641"', '"http://192.0.2.11"', 19, r"ovn\.northbound: an OVSDB remote is tcp:ADDRESS:PORT"),
        ('"tcp:192.0.2.11:6641"', '"ssl:192.0.2.11:6641"', 18, "ssl: needs private_key, certificate and ca_certif"),
        ('kind = "kolla-ansible"', 'kind = "juju"', 23, r"deployment\.kind: .*'packages', 'openstack-ansible'"),
        (
            'kind = "kolla-ansible"',
            'kind = "packages"',
            22,
            'kind = "packages" needs inventory and playbook, or command',
        ),
        ('user = "cirros"\n', "", 29, r"guests\.1: either user with password, password_env or key, or login = false"),
        ('user = "cirros"', 'user = "c"\nclosed_port = 0', 32, r"guests\.1\.closed_port: Input should be greater"),
        ("login = false", 'login = "perhaps"', 27, r"guests\.0\.login: Input should be a valid boolean"),
        (
            "[deployment]",
            "[ssh]\nconnect_seconds = 'soon'\n[deployment]",
            23,
            r"ssh\.connect_seconds: Input should be a",
        ),
        ("[deployment]", '[ssh]\nconfig = "/nonexistent/f"\n[deployment]', 23, "ssh.config: there is no file /nonex"),
        ("[deployment]", '[outside]\nhost = "edge"\n[deployment]', 23, r"outside\.host: 'edge' is not in \[hosts\]"),
        ("[deployment]", '[outside]\ntarget = "here"\n[deployment]', 23, r"outside\.target: value is not a valid IP"),
    ],
)
def test_a_wrong_key_is_named_with_its_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(SiteError) as caught:
        load(path)
    assert caught.value.place == str(path)
    assert re.search(rf"^  line {line}: .*{says}", caught.value.problem, re.MULTILINE), caught.value.problem
    assert "site.example.toml" in caught.value.next_step


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("name =", "nam =").replace('"ssh://infra1"', '"rsh://infra1"').replace("kolla-ansible", "juju")
    with pytest.raises(SiteError) as caught:
        load(written(tmp_path, text))
    for line in ("line 2: cloud.nam", "line 5: hosts.infra1", "line 23: deployment.kind"):
        assert line in caught.value.problem


def test_a_section_that_is_missing_is_named(tmp_path: Path) -> None:
    text = GOOD.replace("[ovn]", "").replace("northbound", "ca_certificate").replace("southbound", "port")
    with pytest.raises(SiteError, match=r"ovn: Field required"):
        load(written(tmp_path, text[: text.index("ca_certificate")] + text[text.index("[deployment]") :]))


def test_an_inventory_is_needed_for_ansible(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"ssh\.inventory: ansible:// needs an inventory"):
        load(written(tmp_path, GOOD.replace("ssh://infra1", "ansible://infra1")))


@pytest.mark.parametrize("content", [b"[cloud\nname = 'x'\n", b"cloud = \n", b"\xff\xfe\x00", b"[cloud]\n[cloud]\n"])
def test_what_is_no_toml_is_an_error_of_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(content)
    with pytest.raises(SiteError, match=r"site\.toml: (is no TOML: .*line \d|could not be read)"):
        load(path)


def test_a_site_file_that_is_not_there_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="No such file") as caught:
        load(tmp_path / "site.toml")
    assert "--site FILE" in caught.value.next_step


def test_a_directory_is_no_site_file(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="could not be read"):
        load(tmp_path)


def test_no_secret_is_in_an_error(tmp_path: Path) -> None:
    text = GOOD.replace('user = "cirros"', "user = 7").replace('"gocubsgo"', '["hunter2-secret"]')
    with pytest.raises(SiteError) as caught:
        load(written(tmp_path, text))
    assert "guests.1.password" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_not_in_what_a_site_shows_of_itself(tmp_path: Path) -> None:
    assert "gocubsgo" not in repr(load(written(tmp_path, GOOD)))


@pytest.mark.parametrize("name", ["it's", "two words", 'a"; reboot #<b>', "<script>alert(1)</script>", "x;y", "a.b"])
def test_names_may_be_anything_that_toml_can_say(tmp_path: Path, name: str) -> None:
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    text = GOOD.replace('"mycloud"', quoted).replace('"appliance"', quoted)
    text = text.replace("[hosts]\n", f'[hosts]\n{quoted} = "ssh://192.0.2.77"\n').replace('["infra1"]', f"[{quoted}]")
    site = load(written(tmp_path, text))
    assert site.cloud.name == name
    assert site.hosts[name] == "ssh://192.0.2.77"
    assert site.group("network") == [name]
    guest = site.guest_for(image=None, project="", instance=name, instance_id="1")
    assert guest is not None
    assert not guest.login


@pytest.mark.parametrize("name", ["two words", "x;y", "a.b", "it's"])
def test_the_line_of_a_quoted_key_is_found(tmp_path: Path, name: str) -> None:
    text = GOOD.replace("[hosts]\n", f'[hosts]\n"{name}" = "rsh://x"\n')
    with pytest.raises(SiteError, match=rf"line 5: hosts\.{re.escape(name)}: a connection is"):
        load(written(tmp_path, text))


def test_the_first_guest_entry_that_fits_counts() -> None:
    site = clouds.site(
        guests=[
            {"instance": "appliance", "login": False},
            {"instance": "0123-id", "user": "by-id", "password": "x"},
            {"image": "cirros", "project": "demo", "user": "both", "password": "x"},
            {"image": "cirros", "user": "image", "password": "x"},
        ]
    )

    def user(image: str | None, project: str, instance: str, instance_id: str = "1") -> str | None:
        guest = site.guest_for(image=image, project=project, instance=instance, instance_id=instance_id)
        return guest.user if guest else "nobody"

    assert user("cirros", "demo", "appliance") is None
    assert user("debian", "demo", "any", "0123-id") == "by-id"
    assert user("cirros", "demo", "any") == "both"
    assert user("cirros", "other", "any") == "image"
    assert user("debian", "demo", "any") == "nobody"
    assert user(None, "demo", "any") == "nobody"


def test_a_guest_entry_without_keys_fits_all() -> None:
    site = clouds.site(guests=[{"user": "root", "password": "x"}])
    assert site.guest_for(image=None, project="", instance="", instance_id="") is site.guests[0]


def test_a_guests_password_comes_from_the_environment_where_the_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = clouds.site(guests=[{"user": "root", "password_env": "OVNSHIFT_TEST_GUEST"}]).guests[0]
    monkeypatch.delenv("OVNSHIFT_TEST_GUEST", raising=False)
    with pytest.raises(OvnshiftError, match="OVNSHIFT_TEST_GUEST is not in the environment"):
        guest.secret()
    monkeypatch.setenv("OVNSHIFT_TEST_GUEST", "from there")
    assert guest.secret() == "from there"


def test_nothing_is_sent_while_the_sites_interface_is_missing() -> None:
    with pytest.raises(OvnshiftError, match="through nosuch0 only, and this machine has no such interface"):
        clouds.site(cloud={"only_through": "nosuch0"}).check_way()
    clouds.site(cloud={"only_through": "lo"}).check_way()
    clouds.site().check_way()


def _example(project: Path, tmp_path: Path, *, with_options: bool) -> str:
    """The example with every file that it names made below tmp_path; with options, also every key that is commented out."""
    text = (project / "site.example.toml").read_text(encoding="utf-8")
    if with_options:
        text = re.sub(r"^# (?=[a-z_0-9]+ = |\[window\])", "", text, flags=re.MULTILINE)
    number = 0

    def existing(match: re.Match[str]) -> str:
        nonlocal number
        number += 1
        path = tmp_path / f"file-{number}"
        path.touch()
        return f'{match[1]} = "{path}"'

    keys = "clouds_file|config|identity_file|known_hosts|inventory|defaults_file|playbook|rollback|[a-z_]*certificate|private_key"
    return re.sub(rf'^({keys}) = "[^"]*"', existing, text, flags=re.MULTILINE)


@pytest.mark.parametrize("with_options", [False, True])
def test_the_example_loads(project: Path, tmp_path: Path, with_options: bool) -> None:  # noqa: FBT001
    site = load(written(tmp_path, _example(project, tmp_path, with_options=with_options)))
    assert len(site.guests) == 2
    assert (site.cloud.only_through is not None) is with_options


def test_the_example_shows_every_key_that_there_is(project: Path, tmp_path: Path) -> None:
    text = (project / "site.example.toml").read_text(encoding="utf-8")
    for name, field in Site.model_fields.items():
        assert re.search(rf"^(# )?\[\[?{name}\]", text, re.MULTILINE), f"no [{name}]"
        section = getattr(load(written(tmp_path, _example(project, tmp_path, with_options=True))), name)
        keys = type(section[0]).model_fields if name == "guests" else getattr(type(section), "model_fields", {})
        for key in keys:
            assert re.search(rf"\b{key} = ", text), f"{name}.{key} is not in the example ({field.annotation})"


def test_the_examples_defaults_are_the_defaults(project: Path) -> None:
    text = (project / "site.example.toml").read_text(encoding="utf-8")
    shown = tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", text[text.index("[limits]") :], flags=re.MULTILINE))
    assert shown["limits"] == clouds.site().limits.model_dump()


def test_a_path_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    (tmp_path / "clouds.yaml").touch()
    site = load(written(tmp_path, GOOD.replace("[hosts]", 'clouds_file = "~/clouds.yaml"\n[hosts]')))
    assert site.cloud.clouds_file == tmp_path / "clouds.yaml"


def test_moving_routers_needs_neither_ovn_nor_a_deployer(tmp_path: Path) -> None:
    text = re.sub(r"\[(ovn|deployment)\]\n([^\[\n][^\n]*\n|\n)*", "", GOOD)
    assert "northbound" not in text
    site = load(written(tmp_path, text), migrating=False)
    assert site.database.neutron == "neutron"
    with pytest.raises(OvnshiftError, match=r"\[ovn\] is missing"):
        _ = site.ovn.northbound
    with pytest.raises(OvnshiftError, match=r"\[deployment\] is missing"):
        _ = site.deployment.kind
    with pytest.raises(SiteError, match=r"ovn: Field required\n  deployment: Field required"):
        load(written(tmp_path, text))
