"""The seed's cloud inside the lab: images, networks, routers, security group, instances, floating IPs.

Every function makes what is missing and leaves what is there, so that an interrupted ``up`` is finished by the next one.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import openstack
from keystoneauth1.exceptions import ConnectFailure, HttpError
from openstack.connection import Connection
from openstack.exceptions import SDKException, raise_from_response
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from lab import blueprint, machine, store
from lab.errors import LabError
from lab.guest import COMMAND_LINE

T = TypeVar("T")
API_SECONDS = 120
_KERNEL, _RAMDISK = f"{blueprint.IMAGE}-kernel", f"{blueprint.IMAGE}-ramdisk"


def connect(record: store.Record, secrets: store.Secrets, *, project: str = "admin") -> Connection:
    """Log in to the lab's cloud as its administrator.

    Raises:
        LabError: the lab's interface is not there (then nothing is sent), or Keystone does not answer within two minutes.
    """
    machine.require_reachable(record.addresses)
    connection = openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_url=f"http://{record.addresses.control}:5000",
        username="admin",
        password=secrets.admin,
        project_name=project,
        user_domain_name="Default",
        project_domain_name="Default",
        region_name="RegionOne",
        identity_api_version="3",
        api_timeout=API_SECONDS,
    )
    retrying(connection.authorize, "Keystone")
    return connection


def retrying(action: Callable[[], T], what: str, seconds: float = API_SECONDS) -> T:
    """Call an API until it answers; services that have just started refuse connections or answer 503 for a while.

    Raises:
        LabError: it did not answer within ``seconds``.
    """
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type((ConnectFailure, HttpError, SDKException)),
            stop=stop_after_delay(seconds),
            wait=wait_fixed(1),
            reraise=True,
        ):
            with attempt:
                return action()
    except (ConnectFailure, HttpError, SDKException) as error:
        raise LabError(
            f"{what} did not answer within {seconds:.0f} s",
            "python -m lab status, python -m lab logs infra1",
            str(error),
        ) from error
    raise AssertionError("tenacity returned without a result")


def furnish(admin: Connection, demo: Connection, record: store.Record, guest: Path, keypair: Path) -> None:
    """Make everything that needs no hypervisor: images, flavor, key, networks, routers, security group.

    Args:
        admin: a connection to the project admin.
        demo: a connection to the project that owns the cloud's objects.
        record: says whether provider networks are VLANs.
        guest: the guests' image, a directory with ``vmlinux``, ``initrd`` and ``disk``.
        keypair: the public key that guests let in.
    """
    retrying(lambda: list(demo.network.agents()), "Neutron")
    _images(admin, guest)
    retrying(lambda: list(admin.compute.flavors()), "Nova")
    if admin.compute.find_flavor(blueprint.FLAVOR) is None:
        admin.compute.create_flavor(name=blueprint.FLAVOR, ram=blueprint.GUEST_MEMORY, vcpus=1, disk=0)
    if demo.compute.find_keypair(blueprint.KEYPAIR) is None:
        demo.compute.create_keypair(name=blueprint.KEYPAIR, public_key=keypair.read_text(encoding="utf-8").strip())
    _security_group(demo)
    # At once, since Neutron mostly waits for its agents while it makes one.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_provider_network, demo, each, vlan=record.vlan) for each in blueprint.PROVIDER_NETWORKS]
        jobs += [pool.submit(_tenant_network, demo, each) for each in blueprint.TENANT_NETWORKS]
        for job in jobs:
            job.result()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for job in [pool.submit(_router, admin, demo, router) for router in record.contents.routers]:
            job.result()


def _images(admin: Connection, guest: Path) -> None:
    retrying(lambda: list(admin.image.images()), "Glance")
    properties: dict[str, Any] = {}
    # Kernel and initramfs as raw images too: Glance's inspector has taken a kernel for a partition table.
    for name, file in ((_KERNEL, "vmlinux"), (_RAMDISK, "initrd"), (blueprint.IMAGE, "disk")):
        image = admin.image.find_image(name)
        if image is not None and image.status != "active":
            admin.image.delete_image(image.id)  # an upload that was interrupted
            image = None
        if image is None:
            image = admin.image.create_image(
                name=name,
                filename=str(guest / file),
                disk_format="raw",
                container_format="bare",
                visibility="public",
                allow_duplicates=True,
                wait=True,
                **properties,
            )
        if name == _KERNEL:
            properties["kernel_id"] = image.id
        elif name == _RAMDISK:
            properties["ramdisk_id"] = image.id
            properties["os_command_line"] = COMMAND_LINE


def _provider_network(demo: Connection, network: blueprint.ProviderNetwork, *, vlan: bool) -> None:
    if demo.network.find_network(network.name) is None:
        provider: dict[str, Any] = (
            {
                "provider_network_type": "vlan",
                "provider_physical_network": "vlan",
                "provider_segmentation_id": network.vlan,
            }
            if vlan
            else {"provider_network_type": "flat", "provider_physical_network": network.name}
        )
        demo.network.create_network(name=network.name, is_router_external=True, **provider)
    start, end = network.pool
    _subnet(
        demo, network.name, network.cidr, gateway_ip=network.gateway, allocation_pools=[{"start": start, "end": end}]
    )


def _tenant_network(demo: Connection, network: blueprint.TenantNetwork) -> None:
    if demo.network.find_network(network.name) is None:
        demo.network.create_network(name=network.name)
    _subnet(demo, network.name, network.cidr)


def _subnet(demo: Connection, network_name: str, cidr: str, **more: Any) -> None:
    if demo.network.find_subnet(network_name) is None:
        network = demo.network.find_network(network_name, ignore_missing=False)
        demo.network.create_subnet(
            name=network_name, network_id=network.id, ip_version=4, cidr=cidr, is_dhcp_enabled=True, **more
        )


def _security_group(demo: Connection) -> None:
    group = demo.network.find_security_group(blueprint.SECURITY_GROUP)
    if group is None:
        group = demo.network.create_security_group(
            name=blueprint.SECURITY_GROUP, description="ICMP and SSH in, nothing else"
        )
    wanted: list[dict[str, Any]] = [
        {"protocol": "icmp", "remote_ip_prefix": "0.0.0.0/0"},
        {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "0.0.0.0/0"},
        # Lets nothing in that the first does not; the group's members become an ipset, as in any cloud of some size.
        {"protocol": "icmp", "remote_group_id": group.id},
    ]
    present = {
        (rule.protocol, rule.remote_group_id)
        for rule in demo.network.security_group_rules(security_group_id=group.id, direction="ingress")
    }
    for rule in wanted:
        if (rule["protocol"], rule.get("remote_group_id")) not in present:
            demo.network.create_security_group_rule(
                security_group_id=group.id,
                direction="ingress",
                ether_type="IPv4",
                **rule,
            )


def _router(admin: Connection, demo: Connection, router: blueprint.Router) -> None:
    found = demo.network.find_router(router.name)
    if found is None:
        found = demo.network.create_router(name=router.name, is_ha=router.ha, is_distributed=router.distributed)
    if router.host is not None:
        # Before it has a gateway or an interface, with which Neutron would choose a host for it.
        _put_on(admin, found.id, router.host)
    if router.gateway is not None and found.external_gateway_info is None:
        external = demo.network.find_network(router.gateway, ignore_missing=False)
        demo.network.update_router(found, external_gateway_info={"network_id": external.id})
    attached = {
        address["subnet_id"]
        for port in demo.network.ports(device_id=found.id)
        if port.device_owner in ("network:ha_router_replicated_interface", "network:router_interface")
        for address in port.fixed_ips
    }
    for name in router.networks:
        subnet = demo.network.find_subnet(name, ignore_missing=False)
        if subnet.id not in attached:
            demo.network.add_interface_to_router(found, subnet_id=subnet.id)  # type: ignore[call-arg]  # wrong stub of openstacksdk


def _put_on(admin: Connection, router_id: str, host: str) -> None:
    there = [agent.host for agent in admin.network.routers_hosting_l3_agents(router_id)]
    if not there:
        (agent,) = admin.network.agents(agent_type="L3 agent", host=host)
        answer = admin.network.post(f"/agents/{agent.id}/l3-routers", json={"router_id": router_id})
        raise_from_response(answer)


def instance(demo: Connection, wanted: blueprint.Instance) -> None:
    """Make an instance that is missing, with its port, at its address, on its hypervisor, with its floating IP."""
    port = demo.network.find_port(f"{wanted.name}-port")
    if port is None:
        group = demo.network.find_security_group(blueprint.SECURITY_GROUP, ignore_missing=False)
        network = demo.network.find_network(wanted.network, ignore_missing=False)
        port = demo.network.create_port(
            name=f"{wanted.name}-port",
            network_id=network.id,
            fixed_ips=[{"ip_address": wanted.address}],
            security_groups=[group.id],
        )
    server = demo.compute.find_server(wanted.name)
    if server is not None and server.status == "ERROR":
        demo.compute.delete_server(server)
        demo.compute.wait_for_delete(server, wait=60)
        server = None
    if server is None:
        # With the hypervisor named, Nova's scheduler still checks it, unlike with an availability zone of zone:host.
        demo.compute.create_server(
            name=wanted.name,
            image_id=demo.image.find_image(blueprint.IMAGE, ignore_missing=False).id,
            flavor_id=demo.compute.find_flavor(blueprint.FLAVOR, ignore_missing=False).id,
            key_name=blueprint.KEYPAIR,
            networks=[{"port": port.id}],
            host=wanted.hypervisor,
        )
    if wanted.floating_ip is not None and not any(
        address.floating_ip_address == wanted.floating_ip for address in demo.network.ips()
    ):
        external = demo.network.find_network(blueprint.FLOATING_NETWORK, ignore_missing=False)
        demo.network.create_ip(floating_network_id=external.id, floating_ip_address=wanted.floating_ip, port_id=port.id)


# What is being waited for. Each function returns the things that are not yet as they should be: none means done.

_PLUGGING_AGENT = {
    blueprint.Mechanism.LINUXBRIDGE: "Linux bridge agent",
    blueprint.Mechanism.OPENVSWITCH: "Open vSwitch agent",
}
_NEUTRON_AGENTS: dict[str, Sequence[blueprint.Role]] = {
    "L3 agent": (blueprint.Role.NETWORK,),
    "DHCP agent": (blueprint.Role.NETWORK,),
    "Metadata agent": (blueprint.Role.NETWORK,),
}


def expected_agents(mechanism: blueprint.Mechanism) -> set[tuple[str, str]]:
    """(agent type, host) of every Neutron agent that the lab starts."""
    return {(_PLUGGING_AGENT[mechanism], host.name) for host in blueprint.HOSTS if host.has_tunnel} | {
        (kind, host.name)
        for kind, roles in _NEUTRON_AGENTS.items()
        for host in blueprint.HOSTS
        if host.roles.intersection(roles)
    }


def runs_ovn(admin: Connection) -> bool:
    """Whether Neutron knows agents of OVN: then the services have been turned to it."""
    return any(agent.agent_type.startswith("OVN ") for agent in admin.network.agents())


def missing_agents(admin: Connection, mechanism: blueprint.Mechanism) -> list[str]:
    """Neutron agents that are not alive."""
    alive = {(agent.agent_type, agent.host) for agent in admin.network.agents() if agent.is_alive}
    return [f"{kind} on {host}" for kind, host in sorted(expected_agents(mechanism) - alive)]


def missing_computes(admin: Connection) -> list[str]:
    """Hypervisors that Nova does not know or that are not up."""
    up = {service.host for service in admin.compute.services(binary="nova-compute") if service.state == "up"}
    mapped = {hypervisor.name for hypervisor in admin.compute.hypervisors()}
    return [host.name for host in blueprint.with_role(blueprint.Role.COMPUTE) if host.name not in up & mapped]


def routers_without_master(admin: Connection, contents: blueprint.Contents) -> dict[str, list[str]]:
    """Routers that do not have exactly one agent that forwards for them, by name, with the hosts that do."""
    missing = {}
    for router in contents.routers:
        if router.distributed:
            continue
        active = active_agents(admin, router.name)
        if len(active) != 1:
            missing[router.name] = active
    return missing


def active_agents(admin: Connection, router_name: str) -> list[str]:
    """The hosts whose L3 agent has a router; of an HA router, the one that says that it is the active one."""
    router = admin.network.find_router(router_name, ignore_missing=False)
    agents = admin.network.routers_hosting_l3_agents(router)
    return sorted(agent.host for agent in agents if not router.is_ha or agent.ha_state == "active")


def instances_not_active(demo: Connection, contents: blueprint.Contents) -> list[str]:
    """Instances that are not ACTIVE, or whose port is not.

    Raises:
        LabError: one went into ERROR; waiting would not help.
    """
    servers = {server.name: server for server in demo.compute.servers()}
    ports = {port.device_id: port.status for port in demo.network.ports() if port.device_owner.startswith("compute:")}
    waiting = []
    for instance in contents.instances:
        server = servers.get(instance.name)
        if server is None:
            waiting.append(f"{instance.name} (missing)")
        elif server.status == "ERROR":
            raise LabError(
                f"instance {instance.name} on {instance.hypervisor} is in ERROR",
                f"python -m lab logs {instance.hypervisor} nova-compute, then python -m lab up",
                str((server.fault or {}).get("message", "")),
            )
        elif server.status != "ACTIVE":
            waiting.append(f"{instance.name} ({server.status})")
        elif ports.get(server.id) != "ACTIVE":
            waiting.append(f"{instance.name} (port {ports.get(server.id)})")
    return waiting
