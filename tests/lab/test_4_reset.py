"""``reset`` comes back to the state right after ``up``, from whatever was done to the cloud."""

from __future__ import annotations

import subprocess

from lab import blueprint, host, paths, store
from tests.lab.conftest import Lab
from tests.lab.probes import ping

# What does not change by itself: statuses and the hosts of HA routers' ports do.
STEADY = """
SELECT id, name, project_id, mtu FROM networks ORDER BY 1;
SELECT network_id, network_type, physical_network, segmentation_id FROM networksegments ORDER BY 1, 4;
SELECT id, network_id, cidr, gateway_ip FROM subnets ORDER BY 1;
SELECT id, network_id, name, mac_address, device_owner FROM ports ORDER BY 1;
SELECT port_id, vif_type, vnic_type, profile FROM ml2_port_bindings ORDER BY 1, 2;
SELECT ip_address, subnet_id, port_id FROM ipallocations ORDER BY 1, 2;
SELECT id, name, gw_port_id FROM routers ORDER BY 1;
SELECT id, floating_ip_address, fixed_port_id FROM floatingips ORDER BY 1;
SELECT id, security_group_id, direction, protocol, port_range_min, remote_ip_prefix FROM securitygrouprules ORDER BY 1;
SELECT vxlan_vni FROM ml2_vxlan_allocations WHERE allocated ORDER BY 1;
"""


def database(lab: Lab) -> list[str]:
    """Neutron's rows, as far as nothing but a person changes them."""
    result = lab.ssh("infra1", "sudo mariadb --batch --skip-column-names neutron", stdin=STEADY)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def configuration(lab: Lab, host: str) -> str:
    """A host's files below /etc and its enabled units. Nova writes the time into libvirt's files at each start."""
    find = "sudo find /etc -type f -not -path '/etc/libvirt/*' -exec sha256sum {} + | sort -k2"
    return lab.ssh(host, f"{find}; systemctl list-unit-files --state=enabled").stdout


def a_host_that_does_not_come_up_is_named(lab: Lab) -> None:
    victim = blueprint.HOSTS[2]
    host.stop([victim], orderly=False)
    (host.root(victim) / "usr/lib/systemd/systemd").write_bytes(b"\x7fELF rubbish")
    result = lab.command("up")
    assert result.returncode == 1
    assert f"host {victim.name} did not boot" in result.stdout
    assert "next: read /var/lib/ovnshift-lab/log/infra3.console" in result.stdout
    status = lab.command("status")
    assert status.returncode == 1
    assert "host infra3 is not running" in status.stdout


def test_reset_undoes_everything(lab: Lab) -> None:
    rows = database(lab)
    files = {host: configuration(lab, host) for host in ("infra1", "compute1", "edge")}
    assert len(rows) > 100

    a_host_that_does_not_come_up_is_named(lab)
    cloud = lab.cloud()
    for name in ("vm-web1", "vm-db2"):
        cloud.compute.delete_server(
            cloud.compute.find_server(name, all_projects=True, ignore_missing=False), force=True
        )
    lab.ssh("infra1", "sudo mariadb -e 'DROP DATABASE neutron'")
    lab.ssh("infra1", "sudo systemctl disable --now rabbitmq-server; sudo rm -rf /etc/neutron /var/lib/mysql/nova")
    lab.ssh(
        "infra2",
        "sudo ip -all netns delete; sudo ip link delete eth1; sudo rm -rf /usr/lib/python3/dist-packages/neutron",
    )
    lab.ssh("compute1", "sudo sh -c 'pkill -9 qemu; rm -rf /etc/nova /var/lib/nova/instances; touch /etc/stray'")
    lab.ssh("edge", "sudo ip address flush dev eth2")
    subprocess.run(["ip", "link", "delete", lab.site["cloud"]["only_through"]], check=True)
    (paths.SITE / "clouds.yaml").unlink()

    result = lab.command("reset")
    assert result.returncode == 0, result.stdout

    assert database(lab) == rows
    assert {host: configuration(lab, host) for host in files} == files
    passed, output = ping(lab, "edge", None, "192.168.100.90")
    assert passed, output
    assert lab.command("status").returncode == 0


def test_guests_keep_their_host_keys(lab: Lab) -> None:
    """A guest is the same guest after a reset: its SSH host key, on its disk, is the one it had."""
    scan = f"sudo ip netns exec {lab.namespace_of('web')} ssh-keyscan -t ed25519 10.5.0.121 2>/dev/null"
    before = lab.ssh("infra1", scan).stdout
    assert "ssh-ed25519" in before
    cloud = lab.cloud()
    server = cloud.compute.find_server("vm-web1", all_projects=True, ignore_missing=False)
    cloud.compute.stop_server(server)
    cloud.compute.wait_for_server(server, status="SHUTOFF", wait=60)
    cloud.compute.start_server(server)
    cloud.compute.wait_for_server(server, status="ACTIVE", wait=60)
    assert lab.command("up").returncode == 0
    assert lab.ssh("infra1", scan).stdout == before


def test_the_state_is_kept_in_the_cache(lab: Lab) -> None:
    """One for each kind of cloud: what an older lab kept is gone."""
    assert lab.site
    mine = store.require_record()
    kinds = [place.name.split("-")[1] for place in paths.cache().glob("cloud-*") if place.name.count(".") == 0]
    assert kinds.count(mine.mechanism.value) == 1
    assert set(kinds) <= {mechanism.value for mechanism in blueprint.Mechanism}
    assert len(kinds) == len(set(kinds))
    assert mine.kept.parent == paths.cache()
    assert mine.kept.stat().st_mode & 0o077 == 0, "others can read the cloud's passwords"
