from __future__ import annotations

from pathlib import Path

import pytest

from ovnshift.cloud.topology import AGENT_DHCP, AGENT_L3, OWNER_DHCP, Topology
from ovnshift.migration.hosting import dhcp_ports, networks_served, routers_served, usual_count
from ovnshift.report.result import NotReady
from tests.unit.clouds import Seed, id_of
from tests.unit.test_guard import window

INFRAS = ("infra1", "infra2", "infra3")


class Served(Seed):
    """The seed's cloud: two DHCP agents a tenant network, an L3 agent on each infra host, a plain router on infra2."""

    def __init__(self) -> None:
        super().__init__()
        for network, last in ((self.web, 2), (self.app, 3), (self.db, 4)):
            subnet = next(each for each in self.subnets if each.network_id == network.id)
            for host in ("infra1", "infra2"):
                address = f"{subnet.cidr.rsplit('.', 1)[0]}.{last + int(host[-1])}"
                self.port(network, [address], device_owner=OWNER_DHCP, device_id=f"dhcp-{host}-{network.id}", host=host)
        for host in INFRAS:
            self.agent(AGENT_L3, host)
        self.plain = self.router("rtr-plain").model_copy(update={"ha": False})
        self.routers[-1] = self.plain

    def topology(self) -> Topology:
        hosted = {id_of(AGENT_L3, "infra2"): (self.plain.id,)}
        return super().topology().model_copy(update={"routers_of_agents": hosted})


def test_networks_go_back_to_the_hosts_that_they_had(tmp_path: Path) -> None:
    cloud = Served()
    before = cloud.topology()
    steps = networks_served(window(tmp_path, before), before)
    assert {step.key for step in steps} == {f"dhcp/{each.id}" for each in (cloud.web, cloud.app, cloud.db)}
    planned = [line for step in steps for line in step.plan()]
    assert len(planned) == 6
    assert all("<agent of infra1>" in line or "<agent of infra2>" in line for line in planned)
    assert sorted(before.dhcp_ports[cloud.web.id]) == ["infra1", "infra2"]
    assert usual_count(before) == 2


def test_dhcp_ports_are_made_at_the_addresses_that_they_had(tmp_path: Path) -> None:
    cloud = Served()
    steps = {step.key: step for step in dhcp_ports(window(tmp_path, cloud.topology()))}
    assert set(steps) == {f"dhcp ports/{each.id}" for each in (cloud.web, cloud.app, cloud.db)}
    lines = steps[f"dhcp ports/{cloud.web.id}"].plan()
    assert [line.rsplit(" --host ", 1)[1] for line in lines] == [
        "infra1 --fixed-ip ip-address=10.5.0.3",
        "infra2 --fixed-ip ip-address=10.5.0.4",
    ]


def test_a_network_that_was_deleted_is_left_alone(tmp_path: Path) -> None:
    cloud = Served()
    before = cloud.topology()
    now = before.model_copy(update={"networks": tuple(each for each in before.networks if each.id != cloud.db.id)})
    keys = {step.key for step in networks_served(window(tmp_path, before), now)}
    assert f"dhcp/{cloud.db.id}" not in keys
    assert f"dhcp/{cloud.web.id}" in keys


def test_a_network_that_came_since_gets_as_many_as_others_have(tmp_path: Path) -> None:
    before = Served().topology()
    cloud = Served()
    fresh = cloud.network("fresh", "10.99.0.0/24")
    without = cloud.network("without", "10.98.0.0/24", dhcp=False)
    steps = {step.key: step for step in networks_served(window(tmp_path, before), cloud.topology())}
    assert f"dhcp/{without.id}" not in steps
    lines = steps[f"dhcp/{fresh.id}"].plan()
    # infra3 has none yet; of the other two, which have the same, the first.
    assert ["infra3" in lines[0], "infra1" in lines[1], len(lines)] == [True, True, 2]


def test_plain_routers_go_back_to_the_host_that_they_had(tmp_path: Path) -> None:
    cloud = Served()
    before = cloud.topology()
    (step,) = routers_served(window(tmp_path, before), before)
    assert step.key == f"agent/{cloud.plain.id}"
    assert "<agent of infra2>" in step.plan()[0]


def test_a_router_whose_agent_is_dead_goes_to_the_least_loaded(tmp_path: Path) -> None:
    cloud = Served()
    before = cloud.topology()
    cloud.agents = [
        each.model_copy(update={"alive": each.host != "infra2"}) if each.name == AGENT_L3 else each
        for each in cloud.agents
    ]
    (step,) = routers_served(window(tmp_path, before), cloud.topology())
    assert "<agent of infra1>" in step.plan()[0]


def test_routers_that_came_since_are_spread(tmp_path: Path) -> None:
    before = Served().topology()
    cloud = Served()
    cloud.routers += [cloud.router(name).model_copy(update={"ha": False}) for name in ("new-a", "new-b")]
    cloud.routers = [each for each in cloud.routers if not (each.ha and each.name.startswith("new"))]
    steps = routers_served(window(tmp_path, before), cloud.topology())
    hosts = {step.title.rsplit(" ", 1)[-1] for step in steps if "rtr-plain" not in step.title}
    assert hosts == {"infra1", "infra3"}


def test_without_an_l3_agent_it_says_so(tmp_path: Path) -> None:
    cloud = Served()
    before = cloud.topology()
    cloud.agents = [each for each in cloud.agents if each.name == AGENT_DHCP]
    with pytest.raises(NotReady, match="no L3 agent is alive"):
        routers_served(window(tmp_path, before), cloud.topology())
