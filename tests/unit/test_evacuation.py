"""Which routers move where, who is meant by a name, and what a namespace lacks: by hand-made clouds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ovnshift.cloud.topology import (
    AGENT_L3,
    AGENT_OPENVSWITCH,
    OWNER_ROUTER_GATEWAY,
    OWNER_ROUTER_INTERFACE,
    Agent,
    FixedIp,
    FloatingIp,
    Network,
    Port,
    Router,
    Segment,
    Subnet,
    Topology,
)
from ovnshift.connectivity.realised import Device, HostState, RouterState, device_of, masters_on, missing
from ovnshift.errors import OvnshiftError
from ovnshift.evacuation.holding import value_of
from ovnshift.evacuation.plan import Planned, Wishes, candidates, make
from ovnshift.evacuation.source import NoSuchAgent, find_agent, hosts_of_unit, is_unit, read_status
from tests.unit import clouds

PUBLIC, INNER = "net-public", "net-inner"
HOSTS = ("juju-56ea63-os-0", "juju-56ea63-os-13", "juju-56ea63-os-14")
SOURCE = HOSTS[2]


def l3_agent(host: str, **values: Any) -> Agent:
    values = {"alive": True, "admin_state_up": True, "availability_zone": "nova", **values}
    return Agent(id=f"l3-{host}", name=AGENT_L3, host=host, binary="neutron-l3-agent", **values)


def switch_agent(host: str, mappings: dict[str, str] | None = None, *, alive: bool = True) -> Agent:
    configurations = {
        "bridge_mappings": {"physnet1": "br-ex"} if mappings is None else mappings,
        "tunnel_types": ["vxlan"],
    }
    return Agent(
        id=f"ovs-{host}",
        name=AGENT_OPENVSWITCH,
        host=host,
        alive=alive,
        admin_state_up=True,
        binary="neutron-openvswitch-agent",
        configurations=configurations,
    )


def cloud(
    routers: Sequence[Router], hosted: dict[str, list[str]], agents: Sequence[Agent] = (), ports: Sequence[Port] = ()
) -> Topology:
    """Three hosts as in the seed; agents that are given take the place of those of the same id."""
    usual = [l3_agent(host) for host in HOSTS] + [switch_agent(host) for host in HOSTS]
    return Topology(
        cloud="seed",
        identity_endpoint="http://198.51.100.5:5000/v3",
        region="RegionOne",
        taken_at="2026-01-01T00:00:00+00:00",
        networks=(
            Network(
                id=PUBLIC,
                name="public",
                project_id="p",
                mtu=1500,
                external=True,
                segments=(Segment(network_type="flat", physical_network="physnet1"),),
                subnet_ids=("sub-public",),
            ),
            Network(
                id=INNER,
                name="inner",
                project_id="p",
                mtu=1450,
                segments=(Segment(network_type="vxlan", segmentation_id=7),),
                subnet_ids=("sub-inner",),
            ),
        ),
        routers=tuple(routers),
        ports=tuple(ports) or tuple(port for router in routers for port in ports_of(router)),
        agents=tuple({agent.id: agent for agent in [*usual, *agents]}.values()),
        routers_of_agents={f"l3-{host}": tuple(ids) for host, ids in hosted.items()},
    )


def router(name: str, **values: Any) -> Router:
    return Router(
        **{
            "id": f"{name}-id",
            "name": name,
            "project_id": "p",
            "status": "ACTIVE",
            "external_network_id": PUBLIC,
            **values,
        }
    )


def ports_of(of: Router) -> list[Port]:
    common: dict[str, Any] = {"mac_address": "fa:16:3e:00:00:01", "status": "ACTIVE", "device_id": of.id}
    return [
        Port(id=f"{of.id}-in-0123456789", network_id=INNER, device_owner=OWNER_ROUTER_INTERFACE, **common),
        Port(id=f"{of.id}-gw-0123456789", network_id=PUBLIC, device_owner=OWNER_ROUTER_GATEWAY, **common),
    ]


def state(megabytes: float = 4000.0, routers: dict[str, float] | None = None) -> HostState:
    """A host with so much memory left, and with routers whose processes have so many megabytes."""
    return HostState(
        namespaces=tuple(routers or ()),
        routers={
            id_: RouterState(links={}, gateways=(), nat=(), processes=(("haproxy", int(size * 1024)),))
            for id_, size in (routers or {}).items()
        },
        available_megabytes=megabytes,
        load=0.1,
        cores=4,
    )


def plan(
    topology: Topology, wishes: Wishes | None = None, states: dict[str, HostState] | None = None, to: Sequence[str] = ()
) -> Planned:
    source = find_agent(topology, SOURCE)
    hosts = [find_agent(topology, host) for host in to]
    found = {host: state() for host in HOSTS} | (states or {})
    return make(topology, source, candidates(topology, source, hosts), found, wishes or Wishes(), reserve_megabytes=256)


def targets(planned: Planned) -> dict[str, str]:
    return {move.router_id: move.target_id.removeprefix("l3-") for move in planned.evacuation.moves}


def stays(planned: Planned) -> dict[str, tuple[str, bool]]:
    return {stay.router_id: (stay.why, stay.harmless) for stay in planned.evacuation.stays}


# Where to


def test_each_goes_where_the_fewest_are() -> None:
    four = [router(f"r{number}") for number in range(4)]
    elsewhere = router("other")
    topology = cloud([*four, elsewhere], {SOURCE: [each.id for each in four], HOSTS[0]: [elsewhere.id]})
    found = plan(topology)
    assert sorted(targets(found).values()) == [HOSTS[0], HOSTS[0], HOSTS[1], HOSTS[1]]
    assert found.after[HOSTS[0]].routers == 3
    assert found.after[HOSTS[1]].routers == 2
    assert found.after[SOURCE].routers == 0
    assert found.before[SOURCE].routers == 4


def test_load_goes_with_the_packets() -> None:
    topology = cloud([router("busy"), router("idle")], {SOURCE: ["busy-id", "idle-id"]})
    here = state(routers={"busy-id": 10.0, "idle-id": 10.0})
    routers = {
        id_: each.model_copy(update={"packets_per_second": {"busy-id": 900.0, "idle-id": 100.0}[id_]})
        for id_, each in here.routers.items()
    }
    found = plan(topology, states={SOURCE: here.model_copy(update={"routers": routers, "load": 2.0})})
    assert targets(found) == {"busy-id": HOSTS[0], "idle-id": HOSTS[1]}
    assert [round(found.after[host].load, 3) for host in HOSTS] == [1.9, 0.3, 0.0]
    assert [found.after[host].traffic for host in HOSTS] == [900.0, 100.0, 0.0]
    assert found.after[HOSTS[0]].memory == found.before[HOSTS[0]].memory - 10


def test_only_named_targets_get_some() -> None:
    topology = cloud([router("a"), router("b")], {SOURCE: ["a-id", "b-id"]})
    assert set(targets(plan(topology, to=[HOSTS[0]])).values()) == {HOSTS[0]}


def test_the_host_itself_is_no_target() -> None:
    with pytest.raises(OvnshiftError, match="is the host that is emptied"):
        plan(cloud([router("a")], {SOURCE: ["a-id"]}), to=[SOURCE])


def test_a_host_without_memory_gets_none() -> None:
    topology = cloud([router("a"), router("b")], {SOURCE: ["a-id", "b-id"]})
    sizes = {"a-id": 100.0, "b-id": 100.0}
    found = plan(topology, states={HOSTS[0]: state(400.0), HOSTS[1]: state(300.0), SOURCE: state(routers=sizes)})
    assert targets(found) == {"a-id": HOSTS[0]}
    ((why, harmless),) = stays(found).values()
    assert why.startswith("no agent can take it")
    assert f"{HOSTS[0]}: it has 300 MB of memory left, the router takes 100" in why
    assert not harmless


@pytest.mark.parametrize(
    ("agent", "values", "why"),
    [
        pytest.param(l3_agent(HOSTS[0], alive=False), {}, "its L3 agent is dead", id="dead"),
        pytest.param(l3_agent(HOSTS[0], admin_state_up=False), {}, "its L3 agent is disabled", id="disabled"),
        pytest.param(
            l3_agent(HOSTS[0], configurations={"agent_mode": "dvr"}), {}, "its L3 agent has the mode dvr", id="mode"
        ),
        pytest.param(
            l3_agent(HOSTS[0], availability_zone="east"),
            {"availability_zone_hints": ("west",)},
            "its zone is east, and the router wants west",
            id="zone",
        ),
        pytest.param(
            l3_agent(HOSTS[0], configurations={"gateway_external_network_id": "other"}),
            {},
            "serves the external network other only",
            id="one external network",
        ),
        pytest.param(
            l3_agent(HOSTS[0], configurations={"handle_internal_only_routers": False}),
            {"external_network_id": None},
            "takes no routers without a gateway",
            id="no gateway",
        ),
        pytest.param(
            switch_agent(HOSTS[0], {"physnet2": "br-other"}),
            {},
            "network public (net-publ) (physnet1) does not reach it",
            id="gateway network",
        ),
        pytest.param(switch_agent(HOSTS[0], alive=False), {}, "its Open vSwitch agent is dead", id="switch is dead"),
    ],
)
def test_an_agent_that_can_not_take_it(agent: Agent, values: dict[str, Any], why: str) -> None:
    """And the router says so, once the other one is not there either."""
    mine = router("a", **values)
    ports = ports_of(mine)[: 2 if mine.external_network_id else 1]
    other = l3_agent(HOSTS[1], availability_zone="west" if "availability_zone_hints" in values else "nova")
    topology = cloud([mine], {SOURCE: ["a-id"]}, [other, agent], ports)
    assert targets(plan(topology)) == {"a-id": HOSTS[1]}
    found = stays(plan(topology, to=[HOSTS[0]]))
    assert why in found["a-id"][0]
    assert not found["a-id"][1]


# What stays


def test_an_ha_router_stays_and_others_take_over() -> None:
    topology = cloud([router("ha", ha=True)], {host: ["ha-id"] for host in HOSTS})
    assert stays(plan(topology)) == {"ha-id": (f"it is HA: {HOSTS[0]}, {HOSTS[1]} take over", True)}


def test_an_ha_router_whose_others_are_dead_is_no_harmless_one() -> None:
    dead = l3_agent(HOSTS[0], alive=False)
    topology = cloud([router("ha", ha=True)], {SOURCE: ["ha-id"], HOSTS[0]: ["ha-id"]}, [dead])
    assert stays(plan(topology)) == {"ha-id": ("it is HA, and no other live agent has it", False)}


def test_a_distributed_router_stays() -> None:
    ((why, harmless),) = stays(plan(cloud([router("d", distributed=True)], {SOURCE: ["d-id"]}))).values()
    assert "distributed" in why
    assert not harmless


def test_what_is_excluded_or_not_asked_for_stays() -> None:
    topology = cloud([router(name) for name in "abc"], {SOURCE: ["a-id", "b-id", "c-id"]})
    found = plan(topology, Wishes(only=("a", "b-id"), exclude=("b",)))
    assert targets(found).keys() == {"a-id"}
    assert stays(found) == {"b-id": ("it was excluded", False), "c-id": ("only others were asked for", False)}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nobody", "is no router of this agent"),
        ("twin", "is the name of several routers there"),
        ("far", "is no router"),
    ],
)
def test_a_name_that_means_none_or_two_is_refused(name: str, problem: str) -> None:
    twins = [router("twin"), router("twin", id="twin-2")]
    topology = cloud([*twins, router("far")], {SOURCE: ["twin-id", "twin-2"], HOSTS[0]: ["far-id"]})
    with pytest.raises(OvnshiftError, match=problem) as caught:
        plan(topology, Wishes(exclude=(name,)))
    assert "twin (twin-id)" in caught.value.next_step


# Who is meant

STATUS: dict[str, Any] = {
    "machines": {
        "0": {
            "hostname": HOSTS[0],
            "dns-name": "10.5.1.149",
            "instance-id": "1bf707d8-3e27-473f-b597-5cfc43c50b85",
            "containers": {"0/lxd/3": {"hostname": "juju-56ea63-os-0-lxd-3", "dns-name": "10.5.1.150"}},
        },
        "13": {"dns-name": "10.5.2.17", "instance-id": HOSTS[1]},
        "14": {"hostname": SOURCE, "dns-name": "10.5.0.159"},
    },
    "applications": {
        "neutron-gateway": {
            "units": {
                "neutron-gateway/0": {"machine": "0"},
                "neutron-gateway/1": {"machine": "13"},
                "neutron-gateway/2": {"machine": "14"},
                "neutron-gateway/3": {"machine": "99"},
                "neutron-gateway/4": {"machine": "0/lxd/3"},
            }
        },
        "ntp": {"units": None},
    },
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "juju status.json"
    path.write_text(json.dumps(STATUS), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("neutron-gateway/2", SOURCE),
        ("neutron-gateway/1", HOSTS[1]),
        (SOURCE, SOURCE),
        (SOURCE.upper(), SOURCE),
        (f"{SOURCE}.maas", SOURCE),
        (f"l3-{HOSTS[0]}", HOSTS[0]),
    ],
)
def test_an_agent_is_found_by_host_id_or_unit(saved: Path, name: str, host: str) -> None:
    assert find_agent(cloud([], {}), name, saved).host == host


def test_a_unit_in_a_container_is_found() -> None:
    assert hosts_of_unit(STATUS, "neutron-gateway/4") == ["juju-56ea63-os-0-lxd-3", "10.5.1.150"]


@pytest.mark.parametrize("name", ["nowhere", "neutron-gateway/4", "juju", "'; DROP TABLE agents; --", ""])
def test_a_name_that_is_no_agents_is_refused_with_those_there_are(saved: Path, name: str) -> None:
    with pytest.raises(NoSuchAgent, match="no L3 agent is on") as caught:
        find_agent(cloud([], {}), name, saved)
    assert all(host in caught.value.next_step for host in HOSTS)


def test_a_name_of_two_agents_is_refused() -> None:
    twins = [l3_agent("gw1.east"), l3_agent("gw1.west")]
    with pytest.raises(NoSuchAgent, match="2 L3 agents are on gw1"):
        find_agent(cloud([], {}, twins), "gw1")


@pytest.mark.parametrize(
    ("unit", "problem"),
    [
        ("neutron-gateway/9", "Juju has no such unit"),
        ("nova/0", "Juju has no such unit"),
        ("neutron-gateway/3", "what its machine 99 is"),
    ],
)
def test_a_unit_that_juju_does_not_know_is_refused(unit: str, problem: str) -> None:
    with pytest.raises(OvnshiftError, match=problem):
        hosts_of_unit(STATUS, unit)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"Unit  Workload", "is no JSON"),
        (b"[]", "has no machines"),
        (b'{"machines": 1}', "has no machines"),
        (b"\xff", "can't be read"),
    ],
)
def test_a_file_that_is_no_status_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(content)
    with pytest.raises(OvnshiftError, match=problem):
        read_status(path)


def test_without_juju_a_saved_status_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OvnshiftError, match="can't be read") as caught:
        find_agent(cloud([], {}), "neutron-gateway/2")
    assert "--juju-status FILE" in caught.value.next_step


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("neutron-gateway/2", True),
        ("a/0", True),
        ("a-/0", False),
        ("a/b", False),
        ("/etc/2", False),
        ("a/1\n", False),
    ],
)
def test_what_a_unit_is_called(name: str, unit: bool) -> None:  # noqa: FBT001
    assert is_unit(name) is unit


# What a namespace lacks

ROUTER = router("a", external_addresses=("203.0.113.10",))
SUBNETS = {
    "sub-inner": Subnet(id="sub-inner", network_id=INNER, cidr="10.5.0.0/24", ip_version=4, dhcp=True),
    "sub-public": Subnet(
        id="sub-public", network_id=PUBLIC, cidr="203.0.113.0/25", ip_version=4, dhcp=False, gateway_ip="203.0.113.1"
    ),
}
INSIDE, GATEWAY = (
    port.model_copy(update={"fixed_ips": (FixedIp(subnet_id=subnet, ip_address=address),)})
    for port, subnet, address in zip(
        ports_of(ROUTER), ("sub-inner", "sub-public"), ("10.5.0.1", "203.0.113.10"), strict=True
    )
)
FLOATING = FloatingIp(
    id="f",
    project_id="p",
    address="203.0.113.90",
    network_id=PUBLIC,
    port_id="x",
    fixed_ip="10.5.0.121",
    router_id=ROUTER.id,
)


def whole() -> RouterState:
    mac = "fa:16:3e:00:00:01"
    return RouterState(
        links={
            device_of(INSIDE): Device(mac=mac, addresses=("10.5.0.1/24",)),
            device_of(GATEWAY): Device(mac=mac, addresses=("203.0.113.10/25", "203.0.113.90/32")),
        },
        gateways=("203.0.113.1",),
        nat=(
            "-A neutron-l3-agent-PREROUTING -d 203.0.113.90/32 -j DNAT --to-destination 10.5.0.121",
            "-A neutron-l3-agent-float-snat -s 10.5.0.121/32 -j SNAT --to-source 203.0.113.90 --random-fully",
            f"-A neutron-l3-agent-snat -o {device_of(GATEWAY)} -j SNAT --to-source 203.0.113.10 --random-fully",
        ),
        processes=(),
    )


def test_what_is_left_of_an_ha_router_is_seen() -> None:
    plain = whole()
    assert plain.of_ha == []
    ha = plain.model_copy(
        update={
            "links": {**plain.links, "ha-0a1b2c3d-4e": Device(mac=None, addresses=("169.254.192.3/18",))},
            "processes": (("haproxy", 900), ("keepalived", 800), ("keepalived", 700)),
        }
    )
    assert ha.of_ha == ["ha-0a1b2c3d-4e", "keepalived"]


def lacks(found: RouterState | None, of: Router = ROUTER) -> list[str]:
    return missing(of, [INSIDE, GATEWAY], [FLOATING], SUBNETS, found)


def test_devices_are_called_as_neutron_calls_them() -> None:
    assert [device_of(port) for port in (INSIDE, GATEWAY)] == ["qr-a-id-in-012", "qg-a-id-gw-012"]


def test_a_whole_router_lacks_nothing() -> None:
    assert lacks(whole()) == []


def test_a_router_without_a_namespace() -> None:
    assert lacks(None) == ["there is no namespace"]
    assert lacks(None, ROUTER.model_copy(update={"admin_state_up": False})) == []


@pytest.mark.parametrize("rule", range(3))
def test_a_rule_that_is_not_there_is_missed(rule: int) -> None:
    found = whole()
    nat = tuple(each for number, each in enumerate(found.nat) if number != rule)
    (said,) = lacks(found.model_copy(update={"nat": nat}))
    assert (
        said
        == [
            "no DNAT of 203.0.113.90 to 10.5.0.121",
            "no SNAT of 10.5.0.121 to 203.0.113.90",
            "no SNAT to 203.0.113.10",
        ][rule]
    )


def test_a_rule_to_a_longer_address_is_another_one() -> None:
    found = whole()
    nat = tuple(each.replace("--to-destination 10.5.0.121", "--to-destination 10.5.0.12") for each in found.nat)
    assert lacks(found.model_copy(update={"nat": nat})) == ["no DNAT of 203.0.113.90 to 10.5.0.121"]


def test_addresses_routes_and_devices_that_are_not_there_are_missed() -> None:
    found = whole()
    device = Device(mac="fa:16:3e:00:00:02", addresses=("203.0.113.10/25",))
    changed = found.model_copy(update={"links": {device_of(GATEWAY): device}, "gateways": ()})
    assert lacks(changed) == [
        "no qr-a-id-in-012",
        "qg-a-id-gw-012 has the MAC fa:16:3e:00:00:02, not fa:16:3e:00:00:01",
        "no default route to 203.0.113.1",
        "qg-a-id-gw-012 lacks 203.0.113.90/32",
    ]


# Whether an agent may be disabled first


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[DEFAULT]\nenable_services_on_agents_with_admin_state_down = true\n", True),
        ("[DEFAULT]\nenable_services_on_agents_with_admin_state_down=False\n", False),
        ("[agent]\nenable_services_on_agents_with_admin_state_down = true\n", None),
        ("[DEFAULT]\n#enable_services_on_agents_with_admin_state_down = true\n", None),
        ("", None),
    ],
)
def test_the_setting_is_read_as_neutron_reads_it(text: str, value: bool | None) -> None:  # noqa: FBT001
    assert value_of(text) is value


def test_the_master_is_where_the_ha_interface_has_a_second_address() -> None:
    ours = "169.254.192.7/18"
    backup = (clouds.link("ha-1", ours, "fe80::1/64"), clouds.link("qr-1", "fe80::2/64", "fe80::3/64"))
    master = (clouds.link("ha-2", ours, "169.254.0.1/24"), clouds.link("qr-1", "10.5.0.1/24"))
    plain = (clouds.link("qr-3", "10.7.0.1/24", "10.8.0.1/24"),)
    hosts = {
        "infra2": clouds.inventory("infra2", **{"qrouter-a": master, "qrouter-b": backup, "qdhcp-c": master}),
        "infra1": clouds.inventory("infra1", **{"qrouter-a": master, "qrouter-b": backup, "qrouter-d": plain}),
    }
    assert masters_on(hosts) == {"a": ["infra1", "infra2"]}
