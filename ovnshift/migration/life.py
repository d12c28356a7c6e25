"""Life goes on: a fresh network, router, instance and floating IP, made, reached, rebooted hard and deleted."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import Any

import openstack.exceptions

from ovnshift.cloud import CloudError, Topology
from ovnshift.cloud.topology import Instance, Network
from ovnshift.connectivity.measure import sweep_from
from ovnshift.migration.window import Window, ask, wait_until
from ovnshift.report.result import Finding, NotReady

NAME = "ovnshift-life-goes-on"
# Of the first /24 in here that no subnet has.
ROOM = ipaddress.ip_network("10.213.0.0/16")


class FreshObjects:
    """Objects that live as long as this check; left-overs of a run that was killed are found by their name and removed first.

    Args:
        window: the cloud, after the migration.
        topology: how it is now.
    """

    def __init__(self, window: Window, topology: Topology) -> None:
        self._window = window
        self._topology = topology
        self.network: Any = None
        self.router: Any = None
        self.server: Any = None
        self.address: str | None = None
        self._group_id = ""

    # Making

    def make_network(self) -> str:
        """A network, a subnet, a router with a gateway, and a security group that lets ping and SSH in.

        Raises:
            NotReady: there is no external network, or nothing is where it should be.
            CloudError: Neutron refuses.
        """
        api = self._window.network
        external = self._external()
        taken = [ipaddress.ip_network(subnet.cidr) for subnet in self._topology.subnets]
        cidr = next(
            each
            for each in ROOM.subnets(new_prefix=24)
            if not any(each.overlaps(other) for other in taken if other.version == 4)
        )
        self.network = ask("Neutron", "make a network", lambda: api.create_network(name=NAME))
        subnet = ask(
            "Neutron",
            "make a subnet",
            lambda: api.create_subnet(name=NAME, network_id=self.network.id, ip_version=4, cidr=str(cidr)),
        )
        self.router = ask(
            "Neutron",
            "make a router",
            lambda: api.create_router(name=NAME, external_gateway_info={"network_id": external.id}),
        )
        ask("Neutron", "join router and subnet", lambda: api.add_interface_to_router(self.router, subnet_id=subnet.id))
        group = ask("Neutron", "make a security group", lambda: api.create_security_group(name=NAME))
        rules: tuple[dict[str, Any], ...] = (
            {"protocol": "icmp"},
            {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
        )
        for rule in rules:
            ask("Neutron", "make a rule", functools.partial(self._make_rule, group.id, rule))
        self._group_id = group.id
        made = ask("Neutron", "the network", lambda: api.get_network(self.network.id))
        if made.provider_network_type != "geneve":
            raise NotReady(
                Finding(f"a new network is {made.provider_network_type}, not geneve", (), "tenant_network_types?")
            )
        used = {
            segment.segmentation_id
            for network in self._topology.networks
            if network.tunnelled
            for segment in network.segments
        }
        if made.provider_segmentation_id in used:
            raise NotReady(
                Finding(
                    f"a new network got key {made.provider_segmentation_id}, which another has",
                    (),
                    "see ml2_geneve_allocations",
                )
            )
        return (
            f"{cidr} as Geneve {made.provider_segmentation_id} with MTU {made.mtu}, behind a router to {external.label}"
        )

    def _make_rule(self, group_id: str, rule: dict[str, Any]) -> None:
        values = {"security_group_id": group_id, "direction": "ingress", "ethertype": "IPv4", **rule}
        self._window.network.create_security_group_rule(**values)

    def _external(self) -> Network:
        """The external network that routers of this cloud use; it has room for one more."""
        used = [router.external_network_id for router in self._topology.routers if router.external_network_id]
        chosen = next((network for network in self._topology.networks if network.id in used), None)
        if chosen is None:
            raise NotReady(
                Finding("no router has a gateway, so that there is no external network to try", (), "name one")
            )
        return chosen

    def boot(self) -> str:
        """An instance of an image and a flavour that others here have; ACTIVE, its port up.

        Raises:
            NotReady: it does not get there.
        """
        pattern = self._pattern()
        flavor = ask("Nova", "the flavour", lambda: self._window.compute.get_server(pattern.id)).flavor
        found = ask("Nova", "flavours", lambda: list(self._window.compute.flavors(is_public=None)))
        flavor_id = next(each.id for each in found if each.name in {flavor.get("original_name"), flavor.name})
        self.server = ask(
            "Nova",
            "make an instance",
            lambda: self._window.compute.create_server(
                name=NAME,
                image_id=pattern.image_id,
                flavor_id=flavor_id,
                networks=[{"uuid": self.network.id}],
                security_groups=[{"name": self._group_id}],
            ),
        )
        self._until_active("it is ACTIVE")
        port = self._port()
        return f"ACTIVE on {self._now().compute_host}, {port.fixed_ips[0]['ip_address']}"

    def _pattern(self) -> Instance:
        found = next((each for each in self._topology.instances if each.active and each.image_id), None)
        if found is None:
            raise NotReady(
                Finding("no instance runs from an image, so that there is no image and flavour to try", (), "")
            )
        return found

    def _now(self) -> Any:
        return ask("Nova", "the instance", self._window.compute.get_server, self.server.id)

    def _port(self) -> Any:
        (port,) = ask("Neutron", "its port", lambda: list(self._window.network.ports(device_id=self.server.id)))
        return port

    def _until_active(self, what: str) -> None:
        def missing() -> str | None:
            server = self._now()
            if server.status == "ERROR":
                raise NotReady(
                    Finding(
                        f"Nova says ERROR: {(server.fault or {}).get('message', 'no reason')}", (), "nova-compute's log"
                    )
                )
            if server.status != "ACTIVE" or server.task_state:
                return f"Nova says {server.status}, {server.task_state or 'nothing under way'}"
            port = self._port()
            return None if port.status == "ACTIVE" else f"its port is {port.status}"

        wait_until(
            what,
            self._window.site.limits.start_seconds,
            missing,
            remedy="see nova-compute's log on its host",
            every=2.0,
        )

    def give_floating_ip(self) -> str:
        """A floating IP for it.

        Raises:
            CloudError: Neutron refuses.
        """
        external, port = self._external(), self._port()
        made = ask(
            "Neutron",
            "make a floating IP",
            lambda: self._window.network.create_ip(floating_network_id=external.id, port_id=port.id, description=NAME),
        )
        self.address = str(made.floating_ip_address)
        return self.address

    # Reaching

    def reach(self) -> str:
        """Ping and SSH's banner: at its floating IP from outside, at its own address from its hypervisor's metadata namespace.

        Raises:
            NotReady: it does not answer.
        """
        port = self._port()
        fixed = str(port.fixed_ips[0]["ip_address"])
        places: list[tuple[str, str | None, str]] = [(self._now().compute_host, f"ovnmeta-{self.network.id}", fixed)]
        if self._window.site.outside.host is not None and self.address is not None:
            places.append((self._window.site.outside.host, None, self.address))
        for host, namespace, address in places:
            wait_until(
                f"{address} answers {namespace or 'outside'} on {host}",
                self._window.site.limits.start_seconds,
                functools.partial(self._silent, host, namespace, address),
                remedy="see its console log, and ovn-trace from its port",
                every=2.0,
            )
        return "answers ping and SSH at " + " and ".join(address for _, _, address in places)

    def _silent(self, host: str, namespace: str | None, address: str) -> str | None:
        limits = self._window.site.limits
        probes: list[tuple[str, str | None, str, str, int | None]] = [
            ("ping", namespace, "icmp", address, None),
            ("SSH", namespace, "banner", address, 22),
        ]
        answers = sweep_from(
            self._window.fleet[host],
            probes,
            count=1,
            seconds=limits.probe_seconds,
            banner_seconds=limits.banner_seconds,
        )
        if error := next((answer["vantage_error"] for answer in answers.values() if "vantage_error" in answer), None):
            return str(error)
        if not answers["ping"].get("received"):
            return "no answer to ping"
        return (
            None if "banner" in answers["SSH"] else f"SSH: {answers['SSH'].get('error', answers['SSH'].get('state'))}"
        )

    def reboot_hard(self) -> str:
        """A hard reboot plugs its port anew.

        Raises:
            NotReady: it does not come back.
        """
        ask("Nova", "reboot it", lambda: self._window.compute.reboot_server(self.server.id, "HARD"))
        self._until_active("it is back after a hard reboot")
        return f"rebooted hard; {self.reach()}"

    # Ending

    def remove(self) -> list[str]:
        """Delete all of it, and whatever else bears the name.

        Returns:
            What was deleted.

        Raises:
            NotReady: something stays.
            CloudError: an API refuses.
        """
        api, gone = self._window.network, []
        for server in ask(
            "Nova", "instances", lambda: list(self._window.compute.servers(all_projects=True, name=NAME))
        ):
            if server.name == NAME:
                ask("Nova", "delete the instance", self._window.compute.delete_server, server.id)
                wait_until(
                    "the instance is gone",
                    self._window.site.limits.stop_seconds,
                    functools.partial(self._still, server.id),
                    remedy="openstack server show",
                )
                gone.append("instance")
        for ip in self._named(api.ips(), "description"):
            ask("Neutron", "delete the floating IP", api.delete_ip, ip.id)
            gone.append("floating IP")
        for router in self._named(api.routers(name=NAME), "name"):
            for port in ask("Neutron", "its ports", functools.partial(self._ports_of, router.id)):
                if port.device_owner == "network:router_interface":
                    part = functools.partial(api.remove_interface_from_router, router, port_id=port.id)
                    ask("Neutron", "part router and subnet", part)
            ask("Neutron", "delete the router", api.delete_router, router.id)
            gone.append("router")
        for network in self._named(api.networks(name=NAME), "name"):
            ask("Neutron", "delete the network", api.delete_network, network.id)
            gone.append("network")
        for group in self._named(api.security_groups(name=NAME), "name"):
            ask("Neutron", "delete the security group", api.delete_security_group, group.id)
            gone.append("security group")
        return gone

    def _ports_of(self, device_id: str) -> list[Any]:
        return list(self._window.network.ports(device_id=device_id))

    def _named(self, listed: Iterable[Any], attribute: str) -> list[Any]:
        try:
            return [each for each in listed if getattr(each, attribute) == NAME]
        except openstack.exceptions.SDKException as error:
            raise CloudError(
                "Neutron", f"can't list what bears the name {NAME}: {error}", "see neutron-server"
            ) from error

    def _still(self, server_id: str) -> str | None:
        server = ask("Nova", "the instance", lambda: self._window.compute.find_server(server_id, ignore_missing=True))
        return None if server is None else f"Nova says {server.status}, {server.task_state}"
