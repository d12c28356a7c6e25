"""What pre is made of, met with things that go wrong on a real cloud: bad names, hosts that hang, APIs that stumble."""

from __future__ import annotations

import http.client
import http.server
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from openstack.connection import Connection

from lab import blueprint
from ovnshift import cloud, site
from ovnshift.cloud import CloudError, Topology, discovery
from ovnshift.connectivity import plan as plans
from ovnshift.connectivity import tunnel_ends
from ovnshift.connectivity.cells import Kind, Measurement, Outcome
from ovnshift.connectivity.measure import Measurer
from ovnshift.connectivity.plan import Plan, Vantages
from ovnshift.hosts import Fleet, HostKeyChanged, LoginRefused, SudoRefused, Unreachable
from ovnshift.hosts.inventory import look_everywhere
from tests.lab.conftest import SITE, Lab
from tests.lab.test_2_pre import changed_site

ODD = 'a"; reboot #<b>'


@contextmanager
def fleet_of(path: Path) -> Iterator[Fleet]:
    fleet = Fleet(site.load(path))
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.fixture
def fleet(lab: Lab) -> Iterator[Fleet]:
    assert lab.site
    with fleet_of(SITE / "site.toml") as fleet:
        yield fleet


def sweep(lab: Lab, fleet: Fleet, topology: Topology, plan: Plan) -> dict[str, Measurement]:
    assert lab.site
    inventories, errors = look_everywhere(fleet, fleet.site.hosts)
    assert not errors
    vantages = Vantages(topology, inventories, fleet.site)
    return Measurer(fleet.site, topology, fleet, vantages, lambda _: "").sweep(plan).measurements


@pytest.fixture
def odd_instances(lab: Lab) -> Iterator[list[str]]:
    """Two instances of the same, unpleasant name, one of them on a network without DHCP."""
    demo = lab.cloud().connect_as_project("demo")
    image = demo.image.find_image(blueprint.IMAGE, ignore_missing=False)
    flavor = demo.compute.find_flavor(blueprint.FLAVOR, ignore_missing=False)
    network = demo.network.create_network(name='no dhcp, "quoted"')
    demo.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.77.0.0/24", enable_dhcp=False)
    web = demo.network.find_network("web", ignore_missing=False)
    group = demo.network.find_security_group(blueprint.SECURITY_GROUP, ignore_missing=False)
    servers = []
    try:
        for each in (web, network):
            server = demo.compute.create_server(
                name=ODD,
                image_id=image.id,
                flavor_id=flavor.id,
                networks=[{"uuid": each.id}],
                security_groups=[{"name": group.name}],
            )
            servers.append(demo.compute.wait_for_server(server, wait=120))
        yield [server.id for server in servers]
    finally:
        for server in servers:
            demo.compute.delete_server(server)
        for server in servers:
            demo.compute.wait_for_delete(server, wait=60)
        demo.network.delete_network(network)


def test_two_instances_of_one_unpleasant_name_stay_apart(lab: Lab, fleet: Fleet, odd_instances: list[str]) -> None:
    topology = cloud.discover(lab.cloud(), "lab")
    whole = plans.make(topology, fleet.site)
    mine = [cell for cell in whole.cells if cell.source.id in odd_instances or cell.target.id in odd_instances]
    to_odd = [cell for cell in mine if cell.kind is Kind.SSH and cell.target.id in odd_instances]
    assert {cell.target.id for cell in to_odd} == set(odd_instances)
    assert {cell.target.name for cell in to_odd} == {ODD}
    measured = sweep(lab, fleet, topology, Plan(tuple(cell for cell in mine if cell.kind is Kind.PING_WHOLE)))
    with_dhcp, without = odd_instances
    by_instance = {cell.target.id: measured[cell.id] for cell in mine if cell.kind is Kind.PING_WHOLE}
    assert by_instance[with_dhcp].sent > 0
    # No DHCP namespace and no router: nobody can reach it, and that is what is said.
    assert by_instance[without].outcome is Outcome.NOT_MEASURED
    assert "no namespace reaches" in by_instance[without].detail
    lost = Vantages(topology, {}, fleet.site).lost_afterwards(mine)
    assert {cell.id for cell in mine if cell.kind is Kind.SSH and cell.target.id == without} <= set(lost)


def test_an_end_of_a_tunnel_that_an_agent_lost_is_named_and_added(lab: Lab, fleet: Fleet) -> None:
    topology = cloud.discover(lab.cloud(), "lab")
    whole = tunnel_ends.look(topology, fleet)
    assert whole.networks >= len(blueprint.TENANT_NETWORKS)
    assert whole.unknown == ()
    network = next(each for each in topology.networks if each.name == "web")
    interface = f"vxlan-{network.segments[0].segmentation_id}"
    (target,) = (each for each in blueprint.INSTANCES if each.name == "vm-web2")
    (compute,) = (each for each in blueprint.HOSTS if each.name == target.hypervisor)
    inside = ("sudo", "ip", "netns", "exec", lab.namespace_of("web"))

    def reached() -> bool:
        """By who has to ask for its MAC address, of everybody."""
        assert lab.ssh("infra1", *inside, "ip", "neigh", "flush", "all").returncode == 0
        return lab.ssh("infra1", *inside, "ping", "-c1", "-W2", target.address).returncode == 0

    entry = (tunnel_ends.EVERYBODY, "dev", interface, "dst", compute.tunnel_address)
    assert reached()
    assert lab.ssh("infra1", "sudo", "bridge", "fdb", "del", *entry).returncode == 0
    try:
        (unknown,) = tunnel_ends.look(topology, fleet).unknown
        assert (unknown.host, unknown.other) == ("infra1", compute.name)
        assert unknown.command == ("bridge", "fdb", "append", *entry)
        assert not reached()
        tunnel_ends.add(fleet, [unknown])
        assert tunnel_ends.look(topology, fleet) == whole
        assert reached()
        # What an agent has added meanwhile is no error.
        tunnel_ends.add(fleet, [unknown])
    finally:
        lab.ssh("infra1", "sudo", "bridge", "fdb", "append", *entry)


def test_an_api_that_answers_500_now_and_then_is_asked_again(lab: Lab, tmp_path: Path) -> None:
    with stumbling("http://198.18.0.11:9696", every=7) as (url, failures):
        path = with_endpoint(lab, tmp_path, url)
        discovery.retries.clear()
        found = cloud.discover(cloud.connect(site.load(path)), "lab")
    assert {each.name for each in found.networks} >= {"web", "app", "db"}
    assert failures
    assert discovery.retries


def test_an_api_that_always_answers_500_is_named(lab: Lab, tmp_path: Path) -> None:
    with stumbling("http://198.18.0.11:9696", every=1) as (url, _):
        connection = cloud.connect(site.load(with_endpoint(lab, tmp_path, url)))
        with pytest.raises(CloudError, match=r"failed \(4 times\)"):
            cloud.discover(connection, "lab")


def with_endpoint(lab: Lab, directory: Path, url: str) -> Path:
    clouds = yaml.safe_load((SITE / "clouds.yaml").read_text(encoding="utf-8"))
    clouds["clouds"][lab.site["cloud"]["name"]]["network_endpoint_override"] = url
    (directory / "clouds.yaml").write_text(yaml.safe_dump(clouds), encoding="utf-8")
    return changed_site(directory, (lab.site["cloud"]["clouds_file"], str(directory / "clouds.yaml")))


@contextmanager
def stumbling(target: str, *, every: int) -> Iterator[tuple[str, list[str]]]:
    """A proxy before the real API that answers every so manieth request with 500."""
    host = urllib.parse.urlsplit(target)
    failures: list[str] = []
    count = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal count
            count += 1
            if count % every == 0:
                failures.append(self.path)
                status, body = 500, b"oops"
            else:
                upstream = http.client.HTTPConnection(host.hostname or "", host.port, timeout=30)
                upstream.request("GET", self.path, headers=dict(self.headers))
                answer = upstream.getresponse()
                status, body = answer.status, answer.read()
                upstream.close()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", failures
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_that_has_expired_is_renewed(lab: Lab) -> None:
    connection: Connection = cloud.connect(site.load(SITE / "site.toml"))
    token = connection.authorize()
    lab.cloud().session.delete(
        "/auth/tokens", endpoint_filter={"service_type": "identity"}, headers={"X-Subject-Token": token}
    )
    assert len(cloud.discover(connection, "lab").instances) >= len(blueprint.INSTANCES)


def test_a_host_that_hangs_costs_a_bounded_time(lab: Lab, tmp_path: Path) -> None:
    path = changed_site(tmp_path, ("sudo = true\n", "sudo = true\nconnect_seconds = 2\n"))
    assert lab.command("shell", "infra3", "pkill", "-STOP", "-o", "-x", "sshd").returncode == 0
    try:
        with fleet_of(path) as fleet, pytest.raises(Unreachable, match="infra3"):
            fleet["infra3"].check("true")
    finally:
        assert lab.command("shell", "infra3", "pkill", "-CONT", "-o", "-x", "sshd").returncode == 0
    with fleet_of(path) as fleet:
        assert fleet["infra3"].check("echo", "back") == "back\n"


def test_sudo_that_is_refused_is_said(lab: Lab, tmp_path: Path) -> None:
    key = (SITE / "id_ed25519.pub").read_text(encoding="ascii")
    make = (
        "useradd --create-home nosudo && mkdir -m 700 ~nosudo/.ssh && "
        "cat > ~nosudo/.ssh/authorized_keys && chown -R nosudo ~nosudo"
    )
    assert lab.ssh("infra2", "sudo", "sh", "-c", f"'{make}'", stdin=key).returncode == 0
    path = changed_site(tmp_path, ('infra2 = "ssh://infra2"', 'infra2 = "ssh://nosudo@infra2"'))
    try:
        with fleet_of(path) as fleet:
            assert fleet["infra2"].run("id", "-un", user=True).text == "nosudo\n"
            with pytest.raises(SudoRefused, match="infra2: sudo was refused"):
                fleet["infra2"].check("true")
    finally:
        lab.ssh("infra2", "sudo", "pkill", "-u", "nosudo")
        lab.ssh("infra2", "sudo", "userdel", "--remove", "nosudo")


@pytest.mark.parametrize("kind", ["ssh", "paramiko"])
def test_both_kinds_of_connections_say_the_same(lab: Lab, tmp_path: Path, kind: str) -> None:
    known = (SITE / "known_hosts").read_text(encoding="utf-8").splitlines()
    key_of_another = known[0].split(" ", 1)[1]
    changed = [line if not line.startswith("infra3,") else f"{line.split()[0]} {key_of_another}" for line in known]
    (tmp_path / "known_hosts").write_text("\n".join(changed) + "\n", encoding="utf-8")
    assert lab.site
    path = changed_site(
        tmp_path,
        ("sudo = true\n", f'sudo = true\nconnect_seconds = 3\nknown_hosts = "{tmp_path / "known_hosts"}"\n'),
        ('infra1 = "ssh://infra1"', f'infra1 = "{kind}://infra1"'),
        ('infra2 = "ssh://infra2"', f'infra2 = "{kind}://nobody@infra2"'),
        ('infra3 = "ssh://infra3"', f'infra3 = "{kind}://infra3"'),
        ("[hosts]\n", f'[hosts]\ngone = "{kind}://198.18.0.99"\n'),
    )
    with fleet_of(path) as fleet:
        assert fleet["infra1"].run("cat", stdin=b"x" * 300_000).stdout == b"x" * 300_000
        assert fleet["infra1"].run("sh", "-c", "echo 'a b' >&2; exit 3").returncode == 3
        assert fleet["infra1"].check("echo", 'a"; reboot #<b>', "$HOME") == 'a"; reboot #<b> $HOME\n'
        assert fleet["infra1"].testinfra.service("neutron-l3-agent").is_running
        with pytest.raises(LoginRefused):
            fleet["infra2"].check("true")
        with pytest.raises(HostKeyChanged):
            fleet["infra3"].check("true")
        with pytest.raises(Unreachable):
            fleet["gone"].check("true")


def test_an_ansible_inventory_names_connections(lab: Lab, tmp_path: Path) -> None:
    inventory = lab.site["deployment"]["inventory"]
    path = changed_site(
        tmp_path,
        ("sudo = true\n", f'sudo = true\ninventory = "{inventory}"\n'),
        ('compute1 = "ssh://compute1"', 'compute1 = "ansible://compute1"'),
    )
    with fleet_of(path) as fleet:
        assert fleet["compute1"].check("hostname") == "compute1\n"
        assert fleet["compute1"].check("id", "-u") == "0\n"
