"""``status``: hosts, services, agents, instances, addresses; and what is not as it should be, with an exit code to match."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from lab import blueprint, cloud, conditions, host, machine, store
from lab.errors import LabError

EXIT_WRONG = 1


@dataclass
class State:
    """What the lab looks like now. ``wrong`` holds sentences; an empty one means that all is well."""

    lab: str = "none"
    checkout: str = ""
    mechanism: str = ""
    provider_networks: str = ""
    virtualization: str = ""
    hosts: list[dict[str, str]] = field(default_factory=list)
    agents: list[dict[str, str]] = field(default_factory=list)
    routers: list[dict[str, str]] = field(default_factory=list)
    instances: list[dict[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def look() -> State:
    """Look at everything; what can't be looked at is listed as wrong and stops nothing else."""
    state = State()
    record = store.load_record()
    if record is None:
        state.wrong.append("there is no lab on this machine: python -m lab up")
        return state
    state.lab = "complete" if record.complete else "half built: python -m lab up"
    if not record.complete:
        state.wrong.append("the lab is half built: python -m lab up")
    state.checkout = str(record.checkout)
    state.mechanism = str(record.mechanism)
    state.provider_networks = "VLAN 100 and 200" if record.vlan else "flat (this kernel has no 802.1Q)"
    state.virtualization = "KVM" if record.kvm else "TCG"
    if not machine.lab_is_reachable(record.addresses):
        state.wrong.append(f"the lab's interface {blueprint.LAB_VETH} is not there: python -m lab up")
    for each in blueprint.HOSTS:
        _look_at_host(state, record, each)
    if state.wrong:
        return state
    try:
        _look_at_cloud(state, record)
    except LabError as error:
        state.wrong.append(str(error).splitlines()[0])
    return state


def _look_at_host(state: State, record: store.Record, each: blueprint.Host) -> None:
    row = {
        "name": each.name,
        "address": record.addresses.of(each),
        "tunnel": each.tunnel_address if each.has_tunnel else "",
        "roles": ", ".join(sorted(each.roles)),
        "state": "stopped",
        "services": "",
    }
    state.hosts.append(row)
    if host.leader(each) is None:
        state.wrong.append(f"host {each.name} is not running: python -m lab up")
        return
    row["state"] = "running"
    wanted = conditions.wanted_units(each, record.mechanism)
    bad = [f"{unit.removesuffix('.service')} {now}" for unit, now in wanted.items() if now != "active"]
    row["services"] = f"{len(wanted) - len(bad)} of {len(wanted)} active"
    state.wrong += [f"on {each.name}: {text}" for text in bad]


def _look_at_cloud(state: State, record: store.Record) -> None:
    secrets = store.load_secrets(record)
    admin = cloud.connect(record, secrets)
    demo = cloud.connect(record, secrets, project=blueprint.PROJECT)
    for agent in sorted(admin.network.agents(), key=lambda agent: (agent.agent_type, agent.host)):
        alive = "alive" if agent.is_alive else "dead"
        state.agents.append({"type": agent.agent_type, "host": agent.host, "state": alive})
        if not agent.is_alive:
            state.wrong.append(f"{agent.agent_type} on {agent.host} is dead")
    state.wrong += [f"{name} does not run nova-compute" for name in cloud.missing_computes(admin)]
    contents = record.contents
    ovn = cloud.runs_ovn(admin)
    for router in contents.routers if not ovn else ():
        active = cloud.active_agents(admin, router.name)
        state.routers.append({"name": router.name, "active on": ", ".join(active)})
    for server in sorted(demo.compute.servers(), key=lambda server: server.name):
        addresses = [entry["addr"] for entries in server.addresses.values() for entry in entries]
        state.instances.append(
            {
                "name": server.name,
                "state": server.status,
                "addresses": ", ".join(addresses),
                "hypervisor": server.compute_host or "",
            }
        )
    try:
        state.wrong += cloud.instances_not_active(demo, contents)
    except LabError as error:
        state.wrong.append(error.what)
    # With OVN there are neither HA routers nor DHCP namespaces to look from.
    if not ovn:
        inactive = conditions.without_one_active(cloud.routers_without_master(admin, contents))
        state.wrong += [f"no single active agent: {each}" for each in inactive]
        state.wrong += conditions.guests_without_ssh(demo, contents)


def show(*, as_json: bool) -> int:
    """Print the state. Returns 0 when all is well, else 1."""
    state = look()
    if as_json:
        print(json.dumps(asdict(state), indent=2))
    else:
        _print(state)
    return EXIT_WRONG if state.wrong else 0


def _print(state: State) -> None:
    console = Console(highlight=False)
    console.print(f"lab: {state.lab}", markup=False)
    if state.checkout:
        console.print(f"built by: {state.checkout}; ports are plugged by {state.mechanism}", markup=False)
        console.print(f"provider networks: {state.provider_networks}; guests run under {state.virtualization}")
    for title, rows in (
        ("Hosts", state.hosts),
        ("Agents", state.agents),
        ("Routers", state.routers),
        ("Instances", state.instances),
    ):
        if rows:
            table = Table(title=title, title_justify="left")
            for column in rows[0]:
                table.add_column(column)
            for row in rows:
                table.add_row(*row.values())
            console.print(table)
    for text in state.wrong:
        console.print(f"wrong: {text}", markup=False)
    if not state.wrong:
        console.print("Everything is as it should be.")
