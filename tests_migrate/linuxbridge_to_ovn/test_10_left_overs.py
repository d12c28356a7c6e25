"""10 Agents and left-overs: what only the old driver had goes from Neutron, and OVN is compared with it object by object."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.migration.agents import FORGET, CleanHost, DeleteDhcpPorts, DeleteHaNetworks, ForgetAgents
from ovnshift.migration.limits import WriteLimits, limited
from ovnshift.migration.sync import AGAIN, RepairNorthbound, StructureFits
from ovnshift.migration.window import Window


def test_old_agents_are_deleted(run: Run, window: Window) -> None:
    """The old agents, dead by now, are deleted; only OVN's are left, all alive."""
    run(ForgetAgents(window))


def test_dhcp_ports_are_deleted(run: Run, window: Window) -> None:
    """The DHCP agents' ports are deleted: nobody answers at their addresses."""
    run(DeleteDhcpPorts(window))


def test_ha_networks_are_gone(run: Run, window: Window) -> None:
    """No HA network is left."""
    run(DeleteHaNetworks(window))


def test_hosts_are_still_clean(run: Run, window: Window) -> None:
    """Hosts are clean still: a nova-compute that the deployer restarts makes the old driver's bridges anew."""
    run(
        [CleanHost(window, host, chapter=FORGET, settled_by="11 start instances/") for host in window.agent_hosts],
        what="of the hosts",
        parallel=16,
    )


def test_the_northbound_database_is_clean(run: Run, window: Window) -> None:
    """The sync finds nothing to do after all that."""
    run(RepairNorthbound(window, chapter=AGAIN, key="repair again"))


def test_limits_are_in_ovn(run: Run, window: Window) -> None:
    """What QoS policies limit is limited by OVN: ports, and floating IPs and gateways too, which the sync leaves out."""
    run([WriteLimits(window, chapter=AGAIN)] if limited(window.before) else [], what="of the QoS policies")


def test_ovn_has_what_neutron_has(run: Run, window: Window) -> None:
    """Each network, port, router, NAT entry, security group, rule and DHCP option is in OVN by its id, and nothing else is."""
    run(StructureFits(window, chapter=AGAIN, key="structure"))
