"""From the APIs to a :class:`Topology`: read only, page by page."""

from __future__ import annotations

import concurrent.futures
import datetime
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import keystoneauth1.exceptions
import keystoneauth1.session
import openstack.exceptions
import requests.exceptions
import tenacity
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from ovnshift import names
from ovnshift.cloud import topology
from ovnshift.cloud.topology import Topology
from ovnshift.errors import OvnshiftError
from ovnshift.site import Site

PAGE = 500
# neutron_lib.api.definitions.l3_agent_scheduler
SCHEDULER = "l3_agent_scheduler"
METERING = "metering"
QOS = "qos"
API_SECONDS = 60
ATTEMPTS = 4

Found = TypeVar("Found")
_API_ERRORS = (
    openstack.exceptions.SDKException,
    keystoneauth1.exceptions.ClientException,
    requests.exceptions.RequestException,
)


class CloudError(OvnshiftError):
    """An API can't be used."""


class SteadySession(keystoneauth1.session.Session):
    """A session whose requests wait for nobody.

    keystoneauth's limit of requests a second compares wall-clock times even where there is no limit: after the clock was set
    back, each would wait until it is as late as before (``FairSemaphore._wait_for_execution`` in its _fair_semaphore.py).
    """

    def request(self, url: str, method: str, *rest: Any, **more: Any) -> Any:
        """As keystoneauth's, without its limit."""
        more["rate_semaphore"] = nullcontext()
        return super().request(url, method, *rest, **more)


def connect(site: Site) -> Connection:
    """Log in to the cloud of a site.

    Raises:
        CloudError: there is no such entry in clouds.yaml, the login is refused, or Keystone does not answer.
        OvnshiftError: the site's addresses can't be reached from this machine (:meth:`Site.check_way`).
    """
    site.check_way()
    name = site.cloud.name
    files = [str(site.cloud.clouds_file)] if site.cloud.clouds_file else None
    try:
        config = OpenStackConfig(config_files=files, load_envvars=False, session_constructor=SteadySession)
        region = config.get_one(name, region_name=site.cloud.region, api_timeout=API_SECONDS)
        connection = Connection(config=region)
    except (openstack.exceptions.ConfigException, keystoneauth1.exceptions.ClientException) as error:
        raise CloudError(
            f"cloud {name}", f"clouds.yaml: {error}", "see cloud.name and cloud.clouds_file in the site file"
        ) from error
    # Connection.authorize would wrap a refused login into an error that can't be told from others.
    retried(f"cloud {name}", "log in", connection.session.get_token)
    return connection


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, openstack.exceptions.HttpException):
        # 401: a token expired while several threads used it. keystoneauth renews it for the first that notices only
        # (BaseIdentityPlugin.invalidate says no to the others), and the others are told 401.
        return error.status_code in {401, 409, 429, 500, 502, 503, 504}
    return _is_away(error) or isinstance(
        error, keystoneauth1.exceptions.HttpServerError | keystoneauth1.exceptions.RetriableConnectionFailure
    )


def _is_away(error: BaseException | None) -> bool:
    """Whether nobody answers, or only something in front of the API does: worth more time than an API that refuses."""
    if isinstance(error, openstack.exceptions.HttpException) and error.status_code is not None:
        return error.status_code in {502, 503, 504}
    return isinstance(
        error,
        keystoneauth1.exceptions.ConnectFailure
        | keystoneauth1.exceptions.BadGateway
        | keystoneauth1.exceptions.ServiceUnavailable
        | keystoneauth1.exceptions.GatewayTimeout
        | requests.exceptions.ConnectionError
        | requests.exceptions.Timeout,
    )


@dataclass
class Patience:
    """How long an API that is away is asked again. A window that has begun has more to lose by ending than by waiting.

    Attributes:
        seconds: for each question; 0: only the usual tries.
        tell: is told what is waited for.
    """

    seconds: float = 0.0
    tell: Callable[[str], None] = field(default=lambda _: None)


PATIENCE = Patience()
_impatient: ContextVar[bool] = ContextVar("impatient", default=False)
retries: list[str] = []


@contextmanager
def impatient() -> Iterator[None]:
    """For whoever asks again by itself: an API that is away is an answer too."""
    token = _impatient.set(True)
    try:
        yield
    finally:
        _impatient.reset(token)


class _Noted:
    """Writes down each try that failed, and tells once that somebody is waited for."""

    def __init__(self, place: str, what: str, patience: float) -> None:
        self._subject = f"{place}: {what}"
        self._patience = patience

    def over(self, state: tenacity.RetryCallState) -> bool:
        """Whether no further try is made."""
        if state.attempt_number < ATTEMPTS:
            return False
        error = state.outcome.exception() if state.outcome else None
        return not _is_away(error) or (state.seconds_since_start or 0.0) >= self._patience

    def __call__(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        retries.append(f"{self._subject}: try {state.attempt_number}: {error}")
        if state.attempt_number == ATTEMPTS:
            PATIENCE.tell(f"{self._subject}: does not answer; tried again for {self._patience:.0f} s: {error}")


def retried(place: str, what: str, ask: Callable[[], Found]) -> Found:
    """Ask an API; errors of transport, and those that are known to pass, are tried again a few times.

    Args:
        place: for messages.
        what: is asked for.
        ask: does it.

    Raises:
        CloudError: it refused, or failed each time.
    """
    patience = 0.0 if _impatient.get() else PATIENCE.seconds
    noted = _Noted(place, what, patience)
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=noted.over,
        wait=tenacity.wait_exponential(multiplier=0.5, max=8),
        before_sleep=noted,
        reraise=True,
    )
    try:
        return attempts(ask)
    except keystoneauth1.exceptions.Unauthorized as error:
        raise CloudError(
            place, f"the login is refused: {error}", "see the login in clouds.yaml; a password may have changed"
        ) from error
    except keystoneauth1.exceptions.EndpointNotFound as error:
        raise CloudError(
            place, f"{what}: {error}", "openstack catalog list; see cloud.region in the site file"
        ) from error
    except (*_API_ERRORS, AttributeError) as error:
        # An API that answers with something that is no JSON ends in an AttributeError deep in openstacksdk.
        tried = f" ({attempts.statistics['attempt_number']} times)" if _may_pass(error) else ""
        raise CloudError(
            place, f"{what} failed{tried}: {error}", "see whether the API answers: openstack endpoint list"
        ) from error


def discover(connection: Connection, name: str, progress: Callable[[str], None] = lambda _: None) -> Topology:
    """Ask Neutron, Nova, Glance and Keystone for everything that a migration looks at.

    Args:
        connection: an administrator's.
        name: what the site file calls the cloud.
        progress: is told what is being read.

    Raises:
        CloudError: an API refused, or failed several times in a row.
    """
    place = f"cloud {name}"

    def every(what: str, ask: Callable[[], Iterable[Any]]) -> list[Any]:
        found = retried(place, what, lambda: list(ask()))
        progress(f"{len(found)} {what}")
        return found

    network: Any = connection.network
    compute: Any = connection.compute
    identity: Any = connection.identity
    questions: dict[str, Callable[[], Iterable[Any]]] = {
        "networks": lambda: network.networks(limit=PAGE),
        "subnets": lambda: network.subnets(limit=PAGE),
        "ports": lambda: network.ports(limit=PAGE),
        "routers": lambda: network.routers(limit=PAGE),
        "floating IPs": lambda: network.ips(limit=PAGE),
        "security groups": lambda: network.security_groups(limit=PAGE),
        "agents": network.agents,
        "extensions": network.extensions,
        "instances": lambda: compute.servers(details=True, all_projects=True, limit=PAGE),
        "hypervisors": lambda: compute.services(binary="nova-compute"),
        "images": lambda: connection.image.images(limit=PAGE),
        "projects": identity.projects,
    }
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        jobs = {what: pool.submit(every, what, ask) for what, ask in questions.items()}
        found = {what: job.result() for what, job in jobs.items()}
    images = {image.id: image.name or "" for image in found["images"]}
    extensions = {each.alias for each in found["extensions"]}
    # With OVN nobody can be asked for an agent's routers, while LinuxBridge's agents are still listed.
    scheduled = SCHEDULER in extensions
    metering = every("metering labels", network.metering_labels) if METERING in extensions else []
    policies = every("QoS policies", lambda: network.qos_policies(limit=PAGE)) if QOS in extensions else []
    l3_agents = [agent for agent in found["agents"] if agent.agent_type == topology.AGENT_L3 and scheduled]
    hosted = {}
    for agent in l3_agents:
        routers = every(f"routers on {agent.host}", functools.partial(network.agent_hosted_routers, agent))
        hosted[agent.id] = tuple(router.id for router in routers)
    return Topology(
        cloud=name,
        identity_endpoint=str(connection.config.auth.get("auth_url", "")),
        region=connection.config.region_name or "",
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        networks=tuple(_network(each) for each in found["networks"]),
        subnets=tuple(subnet_of(each) for each in found["subnets"]),
        ports=tuple(port_of(each) for each in found["ports"]),
        routers=tuple(_router(each) for each in found["routers"]),
        floating_ips=tuple(floating_ip_of(each) for each in found["floating IPs"]),
        security_groups=tuple(_security_group(each) for each in found["security groups"]),
        qos_policies=tuple(_qos_policy(each) for each in policies),
        instances=tuple(_instance(each, images) for each in found["instances"]),
        agents=tuple(_agent(each) for each in found["agents"]),
        hypervisors=tuple(_hypervisor(each) for each in found["hypervisors"]),
        projects=tuple(
            topology.Project(id=each.id, name=each.name, enabled=each.is_enabled) for each in found["projects"]
        ),
        extensions=tuple(sorted(extensions)),
        metering_labels=tuple(names.label(each.name or "", each.id) for each in metering),
        routers_of_agents=hosted,
        services=_endpoints(connection),
    )


def _endpoints(connection: Connection) -> dict[str, str]:
    plugin: Any = connection.session.auth
    catalog = plugin.get_access(connection.session).service_catalog.get_endpoints()
    return {kind: str(endpoints[0].get("url", "")) for kind, endpoints in sorted(catalog.items()) if endpoints}


def _network(each: Any) -> topology.Network:
    several = each.segments or [
        {
            "provider:network_type": each.provider_network_type,
            "provider:physical_network": each.provider_physical_network,
            "provider:segmentation_id": each.provider_segmentation_id,
        }
    ]
    return topology.Network(
        id=each.id,
        name=each.name or "",
        project_id=each.project_id or "",
        mtu=each.mtu or 0,
        external=bool(each.is_router_external),
        shared=bool(each.is_shared),
        port_security=each.is_port_security_enabled is not False,
        segments=tuple(
            topology.Segment(
                network_type=segment["provider:network_type"],
                physical_network=segment.get("provider:physical_network"),
                segmentation_id=segment.get("provider:segmentation_id"),
            )
            for segment in several
            if segment.get("provider:network_type")
        ),
        subnet_ids=tuple(each.subnet_ids or ()),
        availability_zones=tuple(each.availability_zone_hints or ()),
        qos_policy_id=each.qos_policy_id,
    )


def subnet_of(each: Any) -> topology.Subnet:
    """A subnet, of openstacksdk's."""
    return topology.Subnet(
        id=each.id,
        name=each.name or "",
        network_id=each.network_id,
        cidr=each.cidr,
        ip_version=each.ip_version,
        dhcp=bool(each.is_dhcp_enabled),
        gateway_ip=each.gateway_ip,
        pools=tuple((pool["start"], pool["end"]) for pool in each.allocation_pools or ()),
        dns_nameservers=tuple(each.dns_nameservers or ()),
        ipv6_address_mode=each.ipv6_address_mode,
    )


def port_of(each: Any) -> topology.Port:
    """A port, of openstacksdk's."""
    return topology.Port(
        id=each.id,
        name=each.name or "",
        project_id=each.project_id or "",
        network_id=each.network_id,
        mac_address=each.mac_address,
        device_owner=each.device_owner or "",
        device_id=each.device_id or "",
        status=each.status,
        admin_state_up=bool(each.is_admin_state_up),
        fixed_ips=tuple(topology.FixedIp(**fixed) for fixed in each.fixed_ips or ()),
        security_group_ids=tuple(each.security_group_ids or ()),
        port_security=each.is_port_security_enabled is not False,
        allowed_address_pairs=tuple(pair["ip_address"] for pair in each.allowed_address_pairs or ()),
        host=each.binding_host_id or "",
        vif_type=each.binding_vif_type or "",
        vnic_type=each.binding_vnic_type or "normal",
        vif_details=each.binding_vif_details or {},
        profile=each.binding_profile or {},
        qos_policy_id=each.qos_policy_id,
    )


def _router(each: Any) -> topology.Router:
    gateway = each.external_gateway_info or {}
    return topology.Router(
        id=each.id,
        name=each.name or "",
        project_id=each.project_id or "",
        status=each.status,
        admin_state_up=bool(each.is_admin_state_up),
        ha=bool(each.is_ha),
        distributed=bool(each.is_distributed),
        flavor_id=each.flavor_id,
        external_network_id=gateway.get("network_id"),
        external_addresses=tuple(fixed["ip_address"] for fixed in gateway.get("external_fixed_ips", ())),
        snat=bool(gateway.get("enable_snat", True)),
        availability_zone_hints=tuple(each.availability_zone_hints or ()),
        qos_policy_id=gateway.get("qos_policy_id"),
    )


def floating_ip_of(each: Any) -> topology.FloatingIp:
    """A floating IP, of openstacksdk's."""
    return topology.FloatingIp(
        id=each.id,
        name=each.floating_ip_address,
        project_id=each.project_id or "",
        address=each.floating_ip_address,
        network_id=each.floating_network_id,
        port_id=each.port_id,
        fixed_ip=each.fixed_ip_address,
        router_id=each.router_id,
        status=each.status or "",
        port_forwardings=len(getattr(each, "port_forwardings", None) or ()),
        qos_policy_id=each.qos_policy_id,
    )


def _qos_policy(each: Any) -> topology.QosPolicy:
    return topology.QosPolicy(
        id=each.id,
        name=each.name or "",
        description=each.description or "",
        rules=tuple(rule["type"] for rule in each.rules or ()),
    )


def _security_group(each: Any) -> topology.SecurityGroup:
    return topology.SecurityGroup(
        id=each.id,
        name=each.name or "",
        project_id=each.project_id or "",
        rules=tuple(
            topology.Rule(
                id=rule["id"],
                direction=rule["direction"],
                ethertype=rule["ethertype"],
                protocol=rule.get("protocol"),
                port_min=rule.get("port_range_min"),
                port_max=rule.get("port_range_max"),
                remote_group_id=rule.get("remote_group_id"),
                remote_prefix=rule.get("remote_ip_prefix"),
                remote_address_group_id=rule.get("remote_address_group_id"),
            )
            for rule in each.security_group_rules or ()
        ),
    )


def _instance(each: Any, images: dict[str, str]) -> topology.Instance:
    image_id = (each.image or {}).get("id") if each.image else None
    return topology.Instance(
        id=each.id,
        name=each.name or "",
        project_id=each.project_id or "",
        status=each.status,
        task_state=each.task_state,
        host=each.compute_host,
        hypervisor=each.hypervisor_hostname,
        libvirt_name=each.instance_name,
        image_id=image_id,
        image=images.get(image_id or ""),
        config_drive=bool(each.has_config_drive),
    )


def _agent(each: Any) -> topology.Agent:
    return topology.Agent(
        id=each.id,
        name=each.agent_type,
        host=each.host,
        alive=bool(each.is_alive),
        admin_state_up=bool(each.is_admin_state_up),
        binary=each.binary or "",
        availability_zone=each.availability_zone,
        configurations=each.configuration or {},
    )


def _hypervisor(each: Any) -> topology.Hypervisor:
    return topology.Hypervisor(
        id=str(each.id), name=each.host, state=each.state, status=each.status, disabled_reason=each.disabled_reason
    )
