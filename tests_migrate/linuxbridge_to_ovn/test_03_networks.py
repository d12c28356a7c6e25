"""3 Networks: what has to be changed through the API while the old driver can still do it."""

from __future__ import annotations

from fixtures.window import Run
from ovnshift.migration.networks import LowerMtu, MakeRouterPlain, carried_by_underlay, mtu_on_geneve
from ovnshift.migration.window import Window


def test_mtus_leave_room_for_geneve(run: Run, window: Window) -> None:
    """Tunnelled networks have an MTU that Geneve's longer header leaves of the underlay's."""
    underlay = carried_by_underlay(window)
    wanted = {
        network.id: mtu_on_geneve(window, network, underlay) for network in window.before.networks if network.tunnelled
    }
    steps = [
        LowerMtu(window, network, wanted[network.id])
        for network in window.before.networks
        if not network.is_ha_network and wanted.get(network.id, network.mtu) != network.mtu
    ]
    run(steps, what="of the networks")


def test_ha_routers_are_made_plain(run: Run, window: Window) -> None:
    """HA routers are plain ones, some at a time, each back up and forwarding before the next."""
    steps = [MakeRouterPlain(window, router) for router in window.before.routers if router.ha]
    run(steps, what="of the routers", parallel=window.site.limits.parallel_routers)
