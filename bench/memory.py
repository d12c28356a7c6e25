"""Memory and time of the controller with many instances: `python -m bench.memory`.

A made-up cloud of so many instances is planned, two sweeps of made-up measurements are put together, written, read and drawn,
each size in a process of its own. The alternative that it is compared with is the same with 1,000 instances.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ovnshift.cloud.topology import FixedIp, Instance, Network, Port, Project, Segment, Subnet, Topology
from ovnshift.connectivity import baseline as baselines
from ovnshift.connectivity import plan as plans
from ovnshift.connectivity.cells import Measurement, Outcome
from ovnshift.connectivity.measure import Sweep, now
from ovnshift.report import page
from ovnshift.site import Guest, Site

PER_NETWORK = 100


def cloud(instances: int) -> Topology:
    """A made-up cloud: a hundred instances a network."""
    networks, subnets, ports, servers = [], [], [], []
    for number in range(instances):
        index, place = divmod(number, PER_NETWORK)
        if place == 0:
            segment = Segment(network_type="vxlan", segmentation_id=index + 1)
            networks.append(
                Network(
                    id=f"n{index}",
                    name=f"net{index}",
                    project_id="p",
                    mtu=1450,
                    segments=(segment,),
                    subnet_ids=(f"s{index}",),
                )
            )
            cidr = f"10.{index // 250}.{index % 250}.0/24"
            subnets.append(Subnet(id=f"s{index}", network_id=f"n{index}", cidr=cidr, ip_version=4, dhcp=True))
        address = f"10.{index // 250}.{index % 250}.{place + 2}"
        servers.append(
            Instance(id=f"i{number}", name=f"vm{number}", project_id="p", status="ACTIVE", host=f"h{number % 50}")
        )
        ports.append(
            Port(
                id=f"p{number}",
                network_id=f"n{index}",
                mac_address="fa:16:3e:00:00:00",
                device_owner="compute:nova",
                device_id=f"i{number}",
                status="ACTIVE",
                fixed_ips=(FixedIp(subnet_id=f"s{index}", ip_address=address),),
            )
        )
    return Topology(
        cloud="bench",
        identity_endpoint="http://192.0.2.1:5000",
        region="R",
        taken_at=now(),
        networks=tuple(networks),
        subnets=tuple(subnets),
        ports=tuple(ports),
        instances=tuple(servers),
        projects=(Project(id="p", name="p"),),
    )


def site() -> Site:
    """A site that lets us log in to every guest."""
    return Site.model_validate(
        {
            "cloud": {"name": "bench"},
            "hosts": {"h0": "ssh://h0"},
            "groups": {"compute": ["h0"]},
            "database": {"host": "h0", "user": "u", "password_env": "X"},
            "ovn": {"northbound": "tcp:192.0.2.1:6641", "southbound": "tcp:192.0.2.1:6642"},
            "deployment": {"kind": "devstack"},
            "guests": [Guest(user="u", password="p", closed_port=80)],  # noqa: S106
        }
    )


def work(instances: int) -> dict[str, float]:
    """All that the controller does besides waiting, in this process."""
    begin = time.monotonic()
    topology = cloud(instances)
    plan = plans.make(topology, site())
    measured = {
        cell.id: Measurement(
            outcome=Outcome.PASSED,
            vantage="h0:qdhcp",
            at=now(),
            sent=2,
            received=2,
            rtt_min=1.0,
            rtt_avg=1.1,
            rtt_max=1.2,
        )
        for cell in plan.cells
    }
    sweeps = [Sweep(measurements=dict(measured)) for _ in range(2)]
    baseline = baselines.assemble(topology, plan, sweeps, begun_at=now(), ended_at=now(), without_vantage_afterwards={})
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "baseline.json")
        baselines.save(path, baseline)
        size = path.stat().st_size
        baselines.read(path, topology)
        page.matrix(baseline, {f"i{n}": f"net{n // PER_NETWORK}" for n in range(instances)})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "instances": instances,
        "cells": len(plan.cells),
        "seconds": time.monotonic() - begin,
        "peak_mib": peak / 1024,
        "file_mb": size / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", type=int, help="this size only, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        sys.stdout.write(json.dumps(work(arguments.one)) + "\n")
        return
    first: dict[str, float] | None = None
    for size in (1_000, 10_000):
        command = [sys.executable, "-m", "bench.memory", "--one", str(size)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        first = first or found
        memory, seconds = found["peak_mib"], found["seconds"]
        line = (
            f"{size:>6} instances, {found['cells']:>6} cells: at most {memory:.0f} MiB ({memory / first['peak_mib']:.1f} times), "
            f"{seconds:.1f} s ({seconds / first['seconds']:.1f} times), baseline.json {found['file_mb']:.0f} MB"
        )
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
