"""``up`` and ``reset``, step by step."""

from __future__ import annotations

import concurrent.futures
import time
from pathlib import Path

from keystoneauth1.exceptions import ClientException
from openstack.connection import Connection
from openstack.exceptions import SDKException

from lab import (
    blueprint,
    cloud,
    conditions,
    fabric,
    guest,
    host,
    image,
    kept,
    machine,
    paths,
    processes,
    rootfs,
    site,
    store,
    teardown,
)
from lab import layout as layouts
from lab.errors import LabError
from lab.progress import Progress

SERVICES_SECONDS = 420


def up(
    progress: Progress,
    *,
    management: str | None = None,
    mechanism: blueprint.Mechanism | None = None,
    layout: blueprint.Layout | None = None,
    rebuild: bool = False,
) -> None:
    """Bring the lab up: build what is missing, start what is not running, wait until it works.

    Args:
        progress: reports the steps.
        management: the management network; the one that the lab has, or 198.18.0.0/24, unless told.
        mechanism: what plugs ports; that of the lab that is here, or LinuxBridge, unless told.
        layout: whose cloud it looks like; what the lab that is here does, or packages, unless told.
        rebuild: build the cloud anew even if its state is kept from an earlier lab.

    Raises:
        LabError: the machine can't carry it, or something did not come up; the message says what to do.
    """
    begin = time.monotonic()
    record = store.load_record()
    if record is not None and record.checkout != paths.PROJECT_ROOT:
        raise LabError(
            f"a lab that {record.checkout} built is on this machine",
            "python -m lab down removes it; then run this again",
        )
    if record is not None and management not in (None, record.management):
        raise LabError(
            f"the lab that is here has its management network at {record.management}, not {management}",
            "python -m lab down, then run this again",
        )
    if record is not None and mechanism not in (None, record.mechanism):
        raise LabError(
            f"the lab that is here is one with {record.mechanism}, not {mechanism}",
            "python -m lab down, then run this again",
        )
    if record is not None and layout not in (None, record.layout, blueprint.Layout.OPENSTACK_ANSIBLE):
        raise LabError(
            f"the lab that is here is laid out as {record.layout} does it, not as {layout}",
            "python -m lab down, then run this again",
        )
    _check_layout(layout, mechanism or (record.mechanism if record else blueprint.Mechanism.LINUXBRIDGE))
    if record is not None and rebuild:
        raise LabError("a lab is here, so that it can't be rebuilt", "python -m lab down, then run this again")
    addresses = blueprint.Addresses(management or (record.management if record else blueprint.DEFAULT_MANAGEMENT))
    if record is None and (left := teardown.traces()):
        progress.say(f"      left over from an earlier lab: {', '.join(left)}")
        teardown.remove_everything(progress)
    kernel = machine.check(addresses, image_is_cached=image.is_cached(), place=paths.STATE, cache=paths.cache())
    hosts_image = image.ensure(progress)
    guests_image = guest.ensure(hosts_image)
    if record is None:
        mechanism = mechanism or blueprint.Mechanism.LINUXBRIDGE
        record = _new_record(progress, addresses, mechanism, kernel, hosts_image, guests_image, rebuild=rebuild)
    elif record.image != hosts_image:
        raise LabError("the lab that is here was made from another image", "python -m lab down, then run this again")
    if layout is not None:
        record.layout = layout
        record.save()
    _bring_up(progress, record, store.ensure_identity(record), guests_image)
    if not record.complete:
        with progress.step("state kept for reset"):
            kept.keep(record.kept)
        record.complete = True
        record.save()
    _lay_out(progress, record)
    _say_ready(progress, record, begin, "up")


def _check_layout(layout: blueprint.Layout | None, mechanism: blueprint.Mechanism) -> None:
    if layout is blueprint.Layout.OPENSTACK_ANSIBLE and mechanism is not blueprint.Mechanism.LINUXBRIDGE:
        raise LabError(
            f"--layout {layout} is for a cloud with {blueprint.Mechanism.LINUXBRIDGE}, not with {mechanism}",
            "leave out one of the two",
        )


def _new_record(
    progress: Progress,
    addresses: blueprint.Addresses,
    mechanism: blueprint.Mechanism,
    kernel: machine.Kernel,
    hosts_image: Path,
    guests_image: Path,
    *,
    rebuild: bool,
) -> store.Record:
    kvm = False
    if kernel.kvm_device:
        with progress.step("see whether a guest boots under KVM") as step:
            kvm = guest.boots_under("kvm", hosts_image, guests_image)
            step.note = "it does" if kvm else "it does not: QEMU's TCG is used"
    management = str(addresses.network)
    place = kept.directory(
        hosts_image, guests_image, management=management, vlan=kernel.vlan, kvm=kvm, mechanism=mechanism
    )
    if rebuild:
        kept.discard(place)
    record = store.Record(
        checkout=paths.PROJECT_ROOT,
        image=hosts_image,
        kept=place,
        management=management,
        vlan=kernel.vlan,
        kvm=kvm,
        mechanism=mechanism,
        complete=kept.exists(place),
    )
    record.save()
    return record


def reset(progress: Progress) -> None:
    """Bring the cloud back to the state right after ``up``, whatever was done to it.

    Raises:
        LabError: there is no lab, or it never was complete.
    """
    begin = time.monotonic()
    record = store.require_record()
    if not record.complete or not kept.exists(record.kept):
        raise LabError("the lab was never complete, so there is no state to come back to", "python -m lab up")
    secrets = store.ensure_identity(record)
    with progress.step("hosts stopped, what they wrote thrown away"):
        host.stop(blueprint.HOSTS, orderly=False)
        for each in blueprint.HOSTS:
            host.unmount(each)
            host.forget_changes(each)
    _bring_up(progress, record, secrets, guest.ensure(record.image), anew=True)
    _lay_out(progress, record)
    _say_ready(progress, record, begin, "reset")


def _lay_out(progress: Progress, record: store.Record) -> None:
    # After the state was kept: both layouts come back to the same one.
    if record.layout is blueprint.Layout.OPENSTACK_ANSIBLE:
        with progress.step(f"laid out as {record.layout} does it"), concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(layouts.lay_out, [each for each in blueprint.HOSTS if each.has_tunnel]))


def _bring_up(
    progress: Progress, record: store.Record, secrets: store.Secrets, guests_image: Path, *, anew: bool = False
) -> None:
    site.write(record, secrets, anew=anew)
    _start(progress, record, secrets)
    try:
        _wait(progress, record, secrets, guests_image)
    except (SDKException, ClientException) as error:
        raise LabError(
            f"an API of the lab did not do its work: {error}",
            "python -m lab status shows what is wrong; python -m lab up goes on from here",
        ) from error


def _start(progress: Progress, record: store.Record, secrets: store.Secrets) -> None:
    with progress.step("fabric"):
        fabric.ensure(record.addresses)
    stopped = [each for each in blueprint.HOSTS if host.supervisor(each) is None]
    with progress.step("disks of the hosts") as step:
        plan = rootfs.Plan(record, secrets)
        for each in stopped:
            processes.kill_members(each.name)  # of a host that has lost its supervisor
            host.mount(each, record.image, record.kept if record.complete else None)
            if not record.complete:
                rootfs.furnish(each, host.root(each), plan)
        step.note = f"{len(stopped)} of {len(blueprint.HOSTS)} to be started"
    with progress.step("hosts boot") as step:
        for each in stopped:
            host.start(each, vlan=record.vlan, kvm=record.kvm)
        host.wait_until_booted(blueprint.HOSTS, step.waiting_for)


def _wait(progress: Progress, record: store.Record, secrets: store.Secrets, guests_image: Path) -> None:
    if not record.complete:
        conditions.let_instances_start()  # there are none yet
    conditions.wait(
        progress,
        "services active",
        # nova-compute, which starts instances, is held back until there is a network for them.
        lambda: [
            unit
            for each in blueprint.HOSTS
            for unit in conditions.units_not_active(each, record.mechanism, but=["nova-compute.service"])
        ],
        seconds=SERVICES_SECONDS,
        next_step="python -m lab status, python -m lab logs HOST UNIT; then python -m lab up",
    )
    with progress.step("log in"), concurrent.futures.ThreadPoolExecutor() as pool:
        projects = ("admin", blueprint.PROJECT)
        admin, demo = pool.map(lambda project: cloud.connect(record, secrets, project=project), projects)
    if not record.complete:
        _build(progress, record, admin, demo, guests_image)
    conditions.until_the_cloud_works(progress, record, admin, demo)


def _build(progress: Progress, record: store.Record, admin: Connection, demo: Connection, guests_image: Path) -> None:
    next_step = "python -m lab logs infra1 neutron-server; then python -m lab up"
    # A router or network that is made while its agents are not there yet is scheduled to none of them.
    conditions.wait(
        progress,
        "agents registered",
        lambda: cloud.missing_agents(admin, record.mechanism),
        seconds=240,
        next_step=next_step,
    )
    identity = store.identity_of(record)
    with progress.step("images, networks, routers, security group"):
        cloud.furnish(admin, demo, record, guests_image, store.keys(identity).with_suffix(".pub"))
    conditions.wait(
        progress, "hypervisors registered", lambda: cloud.missing_computes(admin), seconds=180, next_step=next_step
    )
    with progress.step("instances and floating IPs"), concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [pool.submit(cloud.instance, demo, each) for each in record.contents.instances]
        for job in jobs:
            job.result()


def _say_ready(progress: Progress, record: store.Record, begin: float, what: str) -> None:
    progress.say(f"\nThe lab is up ({what} took {time.monotonic() - begin:.0f} s).")
    progress.say(f"  site file   {site.SITE_FILE}")
    progress.say(f"  clouds.yaml {site.CLOUDS} (cloud {site.CLOUD_NAME})")
    progress.say(f"  SSH         ssh -F {site.SSH_CONFIG} {blueprint.CONTROL.name}")
    if record.layout is blueprint.Layout.OPENSTACK_ANSIBLE:
        progress.say(f"  deploy host {layouts.DIRECTORY}, {layouts.PROGRAMS}/openstack-ansible")
    progress.say(f"  provider networks are {'VLAN 100 and 200' if record.vlan else 'flat: this kernel has no 802.1Q'}")
