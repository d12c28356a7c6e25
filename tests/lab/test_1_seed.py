"""The seed's inspections, on the lab: the same connections from the same places."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from lab import blueprint, guest, store
from tests.lab.conftest import Lab
from tests.lab.probes import Guest, ping

BY_NAME = {each.name: each for each in blueprint.INSTANCES}
ALL = pytest.mark.parametrize("name", list(BY_NAME))
WITH_FLOATING_IP = [each for each in blueprint.INSTANCES if each.floating_ip]


def test_up_says_that_the_lab_is_up(lab: Lab) -> None:
    assert "The lab is up" in lab.up_output
    assert "FAIL" not in lab.up_output


def test_routers_networks_and_instances_are_the_seeds(lab: Lab) -> None:
    cloud = lab.cloud()
    assert {router.name for router in cloud.network.routers()} == {"rtr-web", "rtr-db"}
    names = {network.name for network in cloud.network.networks()}
    assert {"web", "app", "db", "vlan100", "vlan200"} <= names
    demo = cloud.network.find_network("web", ignore_missing=False).project_id
    assert f"HA network tenant {demo}" in names
    assert {subnet.cidr for subnet in cloud.network.subnets()} == {
        *("10.5.0.0/24", "172.25.0.0/24", "192.168.55.0/24", "192.168.100.0/24", "192.168.200.0/24", "169.254.192.0/18")
    }
    servers = {server.name: server for server in cloud.compute.servers(all_projects=True)}
    assert {name: server.status for name, server in servers.items()} == dict.fromkeys(BY_NAME, "ACTIVE")
    for name, instance in BY_NAME.items():
        addresses = {entry["addr"] for entries in servers[name].addresses.values() for entry in entries}
        assert addresses == {instance.address} | ({instance.floating_ip} if instance.floating_ip else set())
        assert servers[name].hypervisor_hostname == instance.hypervisor


def test_every_router_has_one_active_and_two_standby_agents(lab: Lab) -> None:
    cloud = lab.cloud()
    for router in cloud.network.routers():
        states = sorted(agent.ha_state for agent in cloud.network.routers_hosting_l3_agents(router))
        assert states == ["active", "standby", "standby"], router.name
        active = [a.host for a in cloud.network.routers_hosting_l3_agents(router) if a.ha_state == "active"]
        gateway = router.external_gateway_info["external_fixed_ips"][0]["ip_address"]
        holders = [
            host
            for host in ("infra1", "infra2", "infra3")
            if f" {gateway}/24 " in lab.ssh(host, f"sudo ip netns exec qrouter-{router.id} ip -4 address").stdout
        ]
        assert holders == active, f"{router.name}: the API says {active}, its gateway address is on {holders}"


def test_three_dhcp_agents_serve_each_network(lab: Lab) -> None:
    cloud = lab.cloud()
    for name in ("web", "app", "db", "vlan100", "vlan200"):
        network = cloud.network.find_network(name, ignore_missing=False)
        hosts = {agent.host for agent in cloud.network.network_hosting_dhcp_agents(network)}
        assert hosts == {"infra1", "infra2", "infra3"}, name
        assert len(list(cloud.network.ports(network_id=network.id, device_owner="network:dhcp"))) == 3
        for host in hosts:
            assert f"qdhcp-{network.id}" in lab.ssh(host, "ip netns").stdout


def test_bindings_are_those_of_the_linuxbridge_driver(lab: Lab) -> None:
    ports = [port for port in lab.cloud().network.ports() if port.device_owner != "network:floatingip"]
    assert {port.binding_vif_type for port in ports} == {"bridge"}
    assert {port.binding_vif_details["bound_drivers"]["0"] for port in ports} == {"linuxbridge"}
    tenant = lab.cloud().network.find_network("web", ignore_missing=False)
    assert (tenant.provider_network_type, tenant.mtu) == ("vxlan", 1450)


def test_hypervisors_run_three_instances_each(lab: Lab) -> None:
    for host in ("compute1", "compute2"):
        running = lab.ssh(host, "sudo", "virsh", "list", "--state-running", "--name").stdout.split()
        assert len(running) == 3, f"{host}: {running}"


@ALL
def test_icmp_from_the_dhcp_namespace(lab: Lab, name: str) -> None:
    instance = BY_NAME[name]
    for host in ("infra1", "infra3"):
        passed, output = ping(lab, host, lab.namespace_of(instance.network), instance.address)
        assert passed, output


@ALL
def test_ssh_with_password_from_the_dhcp_namespace(lab: Lab, name: str) -> None:
    with Guest(lab, BY_NAME[name]) as guest:
        code, output = guest.run("hostname; uptime; id -un")
    assert code == 0
    lines = output.splitlines()
    assert lines[0] == name
    assert "load average" in lines[1]
    assert lines[2] == "cirros"


def test_ssh_with_key(lab: Lab) -> None:
    with Guest(lab, BY_NAME["vm-app1"], key=True) as guest:
        assert guest.run("hostname") == (0, "vm-app1\n")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("vm-db2", "vm-db1"),
        ("vm-web1", "vm-web2"),
        ("vm-web1", "vm-app1"),
        ("vm-web2", "vm-app1"),
        ("vm-web2", "vm-app2"),
    ],
)
def test_icmp_between_guests(lab: Lab, source: str, target: str) -> None:
    with Guest(lab, BY_NAME[source]) as guest:
        code, output = guest.run(f"ping -c2 -W3 {BY_NAME[target].address}")
    assert code == 0, output
    assert ", 0% packet loss" in output


def test_each_end_of_a_tunnel_knows_the_others(lab: Lab) -> None:
    addresses = {each.name: each.tunnel_address for each in blueprint.HOSTS if each.has_tunnel}
    ends: dict[str, dict[str, set[str]]] = {}
    for host in addresses:
        for link in json.loads(lab.ssh(host, "ip", "-json", "link", "show", "type", "vxlan").stdout or "[]"):
            table = json.loads(lab.ssh(host, "sudo", "bridge", "-json", "fdb", "show", "dev", link["ifname"]).stdout)
            floods = {row["dst"] for row in table if row["mac"] == "00:00:00:00:00:00"}
            ends.setdefault(link["ifname"], {})[host] = floods
    assert len(ends) >= len(blueprint.TENANT_NETWORKS)
    for name, knows in ends.items():
        for host, known in knows.items():
            assert {addresses[each] for each in knows if each != host} <= known, f"{name} on {host}"


def test_icmp_from_a_guest_to_a_floating_ip(lab: Lab) -> None:
    with Guest(lab, BY_NAME["vm-web1"]) as guest:
        code, output = guest.run(f"ping -c2 -W3 {BY_NAME['vm-db1'].floating_ip}")
    assert code == 0, output


@pytest.mark.parametrize("instance", WITH_FLOATING_IP, ids=lambda each: each.name)
def test_floating_ip_from_outside(lab: Lab, instance: blueprint.Instance) -> None:
    assert instance.floating_ip is not None
    passed, output = ping(lab, "edge", None, instance.floating_ip)
    assert passed, output
    banner = lab.ssh("edge", f"timeout 10 bash -c 'exec 3<>/dev/tcp/{instance.floating_ip}/22; head -n1 <&3'")
    assert banner.stdout.startswith("SSH-2.0-"), banner


@pytest.mark.parametrize(("name", "router"), [("vm-web2", "rtr-web"), ("vm-db2", "rtr-db")])
def test_instances_without_floating_ip_reach_the_world_through_snat(lab: Lab, name: str, router: str) -> None:
    gateway = lab.cloud().network.find_router(router, ignore_missing=False).external_gateway_info
    with Guest(lab, BY_NAME[name]) as guest:
        _code, output = guest.run(rf"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 {lab.site['outside']['target']} 80")
    assert output.splitlines()[-1] == gateway["external_fixed_ips"][0]["ip_address"]


@ALL
def test_the_closed_port_listens_and_is_closed(lab: Lab, name: str) -> None:
    instance = BY_NAME[name]
    with Guest(lab, instance) as guest:
        code, output = guest.run(rf"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 127.0.0.1 {blueprint.CLOSED_PORT}")
        assert code == 0
        assert output.splitlines()[-1] == name, "the port does not listen in the guest, so that nothing is shown"
    namespace = lab.namespace_of(instance.network)
    connect = f"timeout 5 bash -c 'exec 3<>/dev/tcp/{instance.address}/%d'"
    opened = lab.ssh("infra1", f"sudo ip netns exec {namespace} {connect % 22}")
    closed = lab.ssh("infra1", f"sudo ip netns exec {namespace} {connect % blueprint.CLOSED_PORT}")
    assert opened.returncode == 0, opened
    assert closed.returncode == 124, f"not dropped: {closed}"


@ALL
def test_console_log_tells_lease_and_metadata(lab: Lab, name: str) -> None:
    cloud = lab.cloud("demo")
    server = cloud.compute.find_server(name, ignore_missing=False)
    log = cloud.compute.get_server_console_output(server)["output"]
    assert f"udhcpc: lease of {BY_NAME[name].address} obtained" in log
    assert "checking http://169.254.169.254/2009-04-04/instance-id" in log
    assert "/20 tries: up " in log
    assert "iid=i-" in log


def test_metadata_answers_from_inside(lab: Lab) -> None:
    request = r"printf 'GET /2009-04-04/meta-data/local-ipv4 HTTP/1.0\r\n\r\n' | nc -w 5 169.254.169.254 80"
    for name in ("vm-web2", "vm-db2"):
        with Guest(lab, BY_NAME[name]) as guest:
            _code, output = guest.run(request)
        assert output.startswith("HTTP/1.1 200"), output
        assert output.splitlines()[-1] == BY_NAME[name].address


def test_mtu_and_routes_come_from_the_lease(lab: Lab) -> None:
    with Guest(lab, BY_NAME["vm-web1"]) as guest:
        _code, output = guest.run("cat /run/lease; cat /sys/class/net/eth0/mtu; ip route")
        passed, _output = guest.run("ping -c1 -W3 -s 1422 10.5.0.162")
    assert "mtu=1450" in output
    assert "\n1450\n" in output
    assert "169.254.169.254/32 via 10.5.0." in output.replace("169.254.169.254 via", "169.254.169.254/32 via")
    assert "default via 10.5.0.1" in output
    assert passed == 0


def test_guests_boot_within_twenty_seconds(lab: Lab) -> None:
    cloud = lab.cloud("demo")
    for server in cloud.compute.servers():
        log = cloud.compute.get_server_console_output(server)["output"]
        assert f"lab-guest: {server.name} up " in log


def test_security_groups_are_iptables_with_ipset(lab: Lab) -> None:
    rules = lab.ssh("compute1", "sudo", "iptables-save").stdout
    assert rules.count("-j neutron-linuxbri-i") >= 3
    assert lab.ssh("compute1", "sudo", "ipset", "list", "-name").stdout.strip()


@pytest.mark.parametrize("host", [each.name for each in blueprint.HOSTS])
def test_hosts_are_reached_by_name_with_a_key_and_have_their_own_systemd(lab: Lab, host: str) -> None:
    result = lab.ssh(
        host, "hostname; sudo id -un; ps -o comm= -p 1; systemctl is-system-running; systemctl --failed --plain"
    )
    lines = result.stdout.splitlines()
    assert lines[:4] == [host, "root", "systemd", "running"], result


def test_hosts_have_namespaces_of_their_own(lab: Lab) -> None:
    seen: dict[str, set[str]] = {}
    for host in blueprint.HOSTS:
        links = lab.ssh(
            host.name, "sudo readlink /proc/1/ns/net /proc/1/ns/mnt /proc/1/ns/pid /proc/1/ns/uts"
        ).stdout.split()
        assert len(links) == 4
        seen[host.name] = set(links)
    for one, other in itertools.combinations(seen, 2):
        assert not seen[one] & seen[other], f"{one} shares a namespace with {other}"


def test_hosts_do_not_lead_to_the_internet(lab: Lab) -> None:
    for host in blueprint.HOSTS:
        assert "default" not in lab.ssh(host.name, "ip", "route").stdout, host.name


def test_the_database_login_can_read_neutron_and_make_a_scratch_schema(lab: Lab) -> None:
    login = Path(lab.site["database"]["defaults_file"]).read_text(encoding="utf-8")
    statements = "SELECT COUNT(*) FROM ports; CREATE DATABASE ovnshift_scratch; DROP DATABASE ovnshift_scratch;"
    command = f"mariadb --defaults-file=/dev/stdin -N -e '{statements}'"
    result = lab.ssh("infra1", command, stdin=login)
    assert int(result.stdout) > 20, result


def test_status_finds_nothing_wrong(lab: Lab) -> None:
    result = lab.command("status", "--json")
    state = json.loads(result.stdout)
    assert result.returncode == 0
    assert state["wrong"] == []
    assert len(state["hosts"]) == 6
    assert len(state["agents"]) == 14
    assert {agent["state"] for agent in state["agents"]} == {"alive"}
    assert len(state["instances"]) == 6


def test_the_probe_for_kvm_tells_a_guest_that_boots_from_one_that_does_not(lab: Lab, tmp_path: Path) -> None:
    """On a machine without KVM, or with one that does not work, the lab has to find that out, and it can."""
    record = store.require_record()
    guests_image = guest.ensure(record.image)
    assert guest.boots_under("tcg", record.image, guests_image)
    broken = shutil.copytree(guests_image, tmp_path / "guest")
    (broken / "initrd").write_bytes(b"rubbish")
    assert not guest.boots_under("tcg", record.image, broken)
    assert ("KVM" if record.kvm else "TCG") in lab.command("status").stdout
