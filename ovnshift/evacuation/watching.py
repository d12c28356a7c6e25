"""The outage of each router, measured from both sides while it moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ovnshift.cloud.topology import OWNER_ROUTER_GATEWAY, Router, Topology
from ovnshift.connectivity.cells import Endpoint
from ovnshift.connectivity.outage import Outage, Place, Watched
from ovnshift.site import Site

# Seconds between two echo requests to one address, and how long an answer may take. A move takes a few seconds.
INTERVAL = 0.05
TIMEOUT = 0.5


def places(
    topology: Topology, site: Site, routers: Iterable[str], avoid: Sequence[str]
) -> dict[Watched, tuple[Place, ...]]:
    """What there is to watch of routers, and from where.

    Their inner addresses from a DHCP agent's namespace on the same network, their outer ones and their floating IPs' from the
    host outside: traffic that a router forwards comes from one side and goes to the other.

    Args:
        topology: the cloud before anything moves.
        site: its site file.
        routers: their ids.
        avoid: hosts to watch from only where there is no other, since the routers are there.

    Returns:
        The places of each address; none for what can't be seen from anywhere.
    """
    found: dict[Watched, tuple[Place, ...]] = {}
    outside = (Place(host=site.outside.host),) if site.outside.host is not None else ()
    for router in (topology.router[id_] for id_ in routers if id_ in topology.router):
        for port in topology.ports_of_router.get(router.id, ()):
            of_gateway = port.device_owner == OWNER_ROUTER_GATEWAY
            for address in port.addresses:
                watched = Watched(target=endpoint(router), address=address)
                found[watched] = outside if of_gateway else _inside(topology, site, port.network_id, avoid)
        for each in topology.floating_ips:
            if each.router_id == router.id and each.port_id is not None:
                end = Endpoint(kind="floating IP", id=each.id, name=each.address)
                found[Watched(target=end, address=each.address)] = outside
    return found


def endpoint(router: Router) -> Endpoint:
    """A router as something that is watched."""
    return Endpoint(kind="router", id=router.id, name=router.name)


def _inside(topology: Topology, site: Site, network_id: str, avoid: Sequence[str]) -> tuple[Place, ...]:
    hosts = [host for host in topology.dhcp_ports.get(network_id, ()) if host in site.hosts]
    best = sorted(hosts, key=lambda host: (host in avoid, host))
    return tuple(Place(host=host, namespace=f"qdhcp-{network_id}") for host in best[:1])


def by_router(topology: Topology, outages: Sequence[Outage], routers: Iterable[str]) -> Mapping[str, list[Outage]]:
    """The outages of routers and of their floating IPs, by router."""
    floating = {each.id: each.router_id for each in topology.floating_ips}
    found: dict[str, list[Outage]] = {id_: [] for id_ in routers}
    for outage in outages:
        owner = outage.target.id if outage.target.kind == "router" else floating.get(outage.target.id)
        if owner in found:
            found[owner].append(outage)
    return found


def said(outage: Outage) -> str:
    """An outage in milliseconds, with how much shorter it may have been."""
    length = f"{outage.seconds * 1000:,.0f} ms"
    if outage.back_at is None:
        return f"{outage.address}: silent for {length}, until nobody looked any more"
    return f"{outage.address}: {length}, at most {outage.error_seconds * 1000:,.0f} ms less"
