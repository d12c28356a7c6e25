"""Waiting for things to become as they should be: bounded, and always saying what is missing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from keystoneauth1.exceptions import ConnectFailure, HttpError
from openstack.connection import Connection
from openstack.exceptions import SDKException

from lab import blueprint, cloud, host, store
from lab.errors import LabError
from lab.progress import Progress

# Every look costs the hosts processor time that what is waited for would need.
INTERVAL = 2.0
# How long an agent has to say by itself that its router is the active one.
ELECTION_SECONDS = 45.0

_BANNER_PROGRAM = """
import json, socket, sys
answers = {}
for address in json.load(sys.stdin):
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            answers[address] = connection.recv(64).decode("ascii", "replace").strip()
    except OSError as error:
        answers[address] = str(error)
print(json.dumps(answers))
"""


def wait(
    progress: Progress, title: str, missing: Callable[[], Sequence[str]], *, seconds: float, next_step: str
) -> None:
    """Wait until nothing is missing.

    Args:
        progress: reports the step.
        title: what is waited for.
        missing: says what is missing now; an API that does not answer is something that is missing.
        seconds: the bound.
        next_step: what to do when it stays missing.

    Raises:
        LabError: something was still missing after ``seconds``.
    """
    with progress.step(title) as step:
        deadline = time.monotonic() + seconds
        while left := _ask(missing):
            step.waiting_for(", ".join(left))
            if time.monotonic() > deadline:
                raise LabError(f"{title}: still missing after {seconds:.0f} s: {', '.join(left)}", next_step)
            time.sleep(INTERVAL)


def _ask(missing: Callable[[], Sequence[str]]) -> Sequence[str]:
    try:
        return missing()
    except (ConnectFailure, HttpError, SDKException) as error:
        return [f"an answer of the API ({error})"]


def units_not_active(of: blueprint.Host, mechanism: blueprint.Mechanism, *, but: Collection[str] = ()) -> list[str]:
    """Units of a host that it was given, that are enabled, and that are not active.

    A unit that was disabled since is no longer wanted: a migration retires agents. Nor is one that is listed in ``but``.

    Raises:
        LabError: one has failed for good; waiting would not help.
    """
    waiting = []
    for unit, state in wanted_units(of, mechanism).items():
        if state == "failed":
            journal = host.ask(of, "journalctl", "--no-pager", "--output=cat", "--lines=30", f"--unit={unit}").stdout
            raise LabError(f"on {of.name}: {unit} has failed", f"python -m lab logs {of.name} {unit}", journal)
        if state != "active" and unit not in but:
            waiting.append(f"{unit.removesuffix('.service')} on {of.name}")
    return waiting


def wanted_units(of: blueprint.Host, mechanism: blueprint.Mechanism) -> dict[str, str]:
    """The units that a host was given and that nobody has disabled, each with its state (systemd's ActiveState)."""
    units = blueprint.units_of(of, mechanism)
    shown = host.ask(of, "systemctl", "show", "--property=UnitFileState,ActiveState", *units).stdout
    found = {}
    for unit, block in zip(units, shown.split("\n\n"), strict=True):
        properties = dict(line.split("=", 1) for line in block.strip().splitlines())
        if properties["UnitFileState"] != "disabled":
            found[unit] = properties["ActiveState"]
    return found


def guests_without_ssh(demo: Connection, contents: blueprint.Contents) -> list[str]:
    """Instances whose SSH server does not answer from the DHCP namespace of their network, as the seed reaches them."""
    networks = {network.name: network.id for network in demo.network.networks()}
    waiting = []
    for name in dict.fromkeys(instance.network for instance in contents.instances):
        members = [instance for instance in contents.instances if instance.network == name]
        answers = banners(f"qdhcp-{networks[name]}", [instance.address for instance in members])
        waiting += [
            f"SSH of {instance.name} ({answers.get(instance.address, 'no namespace')})"
            for instance in members
            if not answers.get(instance.address, "").startswith("SSH-2.0-")
        ]
    return waiting


# The namespaces come through standard input. After a restart the L3 agent takes the process with the number in an old PID
# file for its own if the router's ID is in that process' arguments, and sends it its signals
# (neutron/agent/linux/external_process.py, ExternalProcess.active).
_ROUTERS_PROGRAM = """
while read -r namespace; do
    [ -e "/run/netns/$namespace" ] || continue
    ip -n "$namespace" -o -4 address | awk -v where="$namespace" '{ sub("/.*", "", $4); print where, $4 }'
    [ -z "$(ss -N "$namespace" -Hltn sport = :9697)" ] || echo "$namespace metadata"
done
"""


def routers_not_forwarding(demo: Connection, contents: blueprint.Contents) -> list[str]:
    """Routers whose gateway addresses are on no network node, or whose metadata proxy does not listen there.

    What Neutron's API says of an HA router outlives the agent that said it; this is what the nodes really have.
    """
    namespaces = {router.name: f"qrouter-{router.id}" for router in demo.network.routers()}
    wanted = [router for router in contents.routers if not router.distributed]
    missing = {router.name for router in wanted}
    asked = "".join(f"{namespace}\n" for namespace in namespaces.values())
    for node in blueprint.with_role(blueprint.Role.NETWORK):
        there = set(host.execute(node, "sh", "-c", _ROUTERS_PROGRAM, stdin=asked).splitlines())
        for router in wanted:
            serving = {"metadata", *(blueprint.gateway_of(name) for name in router.networks)}
            if {f"{namespaces.get(router.name)} {each}" for each in serving} <= there:
                missing.discard(router.name)
    return [f"{name} on a network node" for name in sorted(missing)]


class ActiveAgents:
    """Routers without exactly one active agent; those that stay so are built anew, by being disabled and enabled.

    An agent learns of what keepalived does from a process that looks for its first state in one thread and for changes in
    another: with both at once it may be told of them the wrong way round (``handle_initial_state`` and ``read_queue`` in
    neutron/agent/l3/keepalived_state_change.py). It believes that for ever, and says so to Neutron.
    """

    def __init__(self, admin: Connection, contents: blueprint.Contents) -> None:
        self._admin = admin
        self._contents = contents
        self._patient_until = time.monotonic() + ELECTION_SECONDS

    def missing(self) -> list[str]:
        """A line for each such router, and for each that is being built anew."""
        disabled = disabled_routers(self._admin, self._contents)
        for id_ in disabled.values():
            if not hosts_of_router(id_):
                self._admin.network.update_router(id_, is_admin_state_up=True)
                self._patient_until = time.monotonic() + ELECTION_SECONDS
        missing = cloud.routers_without_master(self._admin, self._contents)
        if missing and not disabled and time.monotonic() > self._patient_until:
            for name in missing:
                router = self._admin.network.find_router(name, ignore_missing=False)
                self._admin.network.update_router(router.id, is_admin_state_up=False)
        return without_one_active(missing) + [f"{name} (is built anew)" for name in disabled]


def without_one_active(routers: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each of :func:`lab.cloud.routers_without_master`."""
    return [f"{name} (active on {', '.join(active) or 'no agent'})" for name, active in routers.items()]


def disabled_routers(admin: Connection, contents: blueprint.Contents) -> dict[str, str]:
    """The lab's routers that are disabled: their ids by their names."""
    names = {router.name for router in contents.routers}
    return {
        router.name: router.id
        for router in admin.network.routers()
        if router.name in names and not router.is_admin_state_up
    }


def hosts_of_router(id_: str) -> list[str]:
    """The network nodes that have a router's namespace."""
    return [
        node.name
        for node in blueprint.with_role(blueprint.Role.NETWORK)
        if host.ask(node, "test", "-e", f"/run/netns/qrouter-{id_}").returncode == 0
    ]


def banners(namespace: str, addresses: Sequence[str], on: blueprint.Host = blueprint.CONTROL) -> dict[str, str]:
    """What SSH servers answer when they are called from a network namespace of a host; or the error instead."""
    command = ("ip", "netns", "exec", namespace, "python3", "-c", _BANNER_PROGRAM)
    result = host.ask(on, *command, stdin=json.dumps(list(addresses)), timeout=60)
    if result.returncode != 0:
        return {}
    answers: dict[str, str] = json.loads(result.stdout)
    return answers


def let_instances_start() -> None:
    """Tell the hypervisors that the network is coming; until then, or for a bounded time, they hold nova-compute back."""
    for each in blueprint.with_role(blueprint.Role.COMPUTE):
        host.execute(each, "install", "-D", "/dev/null", "/run/lab/network-is-ready")


def until_the_cloud_works(progress: Progress, record: store.Record, admin: Connection, demo: Connection) -> None:
    """Wait for everything that makes the lab a cloud that works.

    Of a lab whose services were turned to OVN only the hypervisors are waited for: what else should work there, depends on how
    far its migration has come.
    """
    look = "python -m lab status shows what is wrong; then python -m lab up"

    def until(title: str, missing: Callable[[], Sequence[str]]) -> None:
        wait(progress, title, missing, seconds=300, next_step=look)

    contents = record.contents
    ovn = cloud.runs_ovn(admin)
    if not ovn:
        until("Neutron agents alive", lambda: cloud.missing_agents(admin, record.mechanism))
    # Nova takes as long to start as the agents, which are well under way now, to build the networks.
    let_instances_start()
    if not ovn:
        # Of an `up` that was ended while it built one anew.
        for id_ in disabled_routers(admin, contents).values():
            admin.network.update_router(id_, is_admin_state_up=True)
        until("routers forward", lambda: routers_not_forwarding(demo, contents))
    until("hypervisors up", lambda: cloud.missing_computes(admin))
    if not ovn:
        until("instances and their ports ACTIVE", lambda: cloud.instances_not_active(demo, contents))
        until("routers have an active agent", ActiveAgents(admin, contents).missing)
        until("guests answer SSH", lambda: guests_without_ssh(demo, contents))
