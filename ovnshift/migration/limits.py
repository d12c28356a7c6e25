"""What QoS policies say of ports, floating IPs and routers' gateways, in OVN.

Neutron's sync writes the limits of ports, and of floating IPs that have a policy of their own; not those that floating IPs and
gateways have from their external network, and none of gateways (ovn_db_sync.py, ``sync_port_qos_policies`` and
``sync_fip_qos_policies``). Neutron writes all of a policy's when the policy is changed (extensions/qos.py, ``update_policy``).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from ovnshift.cloud.topology import QosPolicy, Topology
from ovnshift.migration.window import Window, ask, wait_until
from ovnshift.ovn import North, northbound
from ovnshift.steps import Step

# Rules that bridges and routers of the old agents did, and OVN does.
RULES = {"bandwidth_limit", "dscp_marking"}
PORT, FLOATING_IP, ROUTER = "neutron:port_id", "neutron:fip_id", "neutron:router_id"


@dataclass(frozen=True)
class Limited:
    """Something that a policy limits; OVN's rows about it have its id under a key of their ``external_ids``."""

    policy: QosPolicy
    key: str
    id: str
    label: str

    def __str__(self) -> str:
        return f"{self.label}: policy {self.policy.label}"


def limited(topology: Topology) -> list[Limited]:
    """What the cloud's policies limit: ports of instances, floating IPs that are in use, and gateways of routers."""
    policies = {each.id: each for each in topology.qos_policies if RULES & set(each.rules)}
    of_network = {each.id: each.qos_policy_id for each in topology.networks}
    found = [
        (port.qos_policy_id or of_network.get(port.network_id), PORT, port.id, f"port {port.label}")
        for port in topology.ports
        if port.vnic_type == "normal" and port.of_instance
    ]
    found += [
        (each.qos_policy_id or of_network.get(each.network_id), FLOATING_IP, each.id, f"floating IP {each.address}")
        for each in topology.floating_ips
        if each.router_id
    ]
    found += [
        (
            each.qos_policy_id or of_network.get(each.external_network_id),
            ROUTER,
            each.id,
            f"gateway of router {each.label}",
        )
        for each in topology.routers
        if each.external_network_id
    ]
    return [Limited(policies[id_], *what) for id_, *what in found if id_ in policies]


def missing(topology: Topology, north: North) -> list[Limited]:
    """What is limited by a policy, and not in OVN."""
    there = {(key, id_) for ids in north.limits for key, id_ in ids.items()}
    # Of ports on provider networks, from 2024.1 on.
    there |= {
        (PORT, name) for name, port in north.switch_ports.items() if any(key.startswith("qos_") for key in port.options)
    }
    return [each for each in limited(topology) if (each.key, each.id) not in there]


class WriteLimits(Step):
    """Neutron is told each policy once more of which something is missing, and writes all of it."""

    way_back = "OVN's databases go as a whole"
    settled_by = ("11 start instances/",)
    key = "limits"
    title = "write to OVN what the sync leaves out of QoS policies"

    def __init__(self, window: Window, *, chapter: str) -> None:
        self._window = window
        self.chapter = chapter

    def plan(self) -> list[str]:
        policies = {each.policy.id: each.policy.label for each in limited(self._window.before)}
        return [
            f"openstack network qos policy set {id_} --description …, as it is  # {label}, if the sync left some of it out"
            for id_, label in policies.items()
        ]

    def _missing(self) -> list[Limited]:
        return missing(self._window.discover(), northbound(self._window.site))

    def is_done(self) -> bool:
        return not self._missing()

    def do(self, found: Any) -> None:
        del found
        network = self._window.network
        for policy in {each.policy.id: each.policy for each in self._missing()}.values():
            write = functools.partial(network.update_qos_policy, policy.id, description=policy.description)
            ask("Neutron", f"QoS policy {policy.label}", write)

    def prove(self) -> list[str]:
        """By OVN's rows, by the ids of what is limited."""
        wait_until(
            "OVN limits what QoS policies limit",
            self._window.site.limits.settle_seconds,
            lambda: "; ".join(map(str, self._missing()[:5])) or None,
            remedy="see neutron-server's log; openstack network qos policy set makes it write a policy anew",
            every=2.0,
        )
        return [f"limits of {len(limited(self._window.discover()))} ports, floating IPs and gateways are in OVN"]
