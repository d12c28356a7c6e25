from __future__ import annotations

import fnmatch
import re

import pytest

from ovnshift.deployments import packages
from ovnshift.deployments.services import DEVSTACK, OPENSTACK_ANSIBLE, PACKAGES, Services, services_of
from ovnshift.site.models import Deployment

EACH = [PACKAGES, OPENSTACK_ANSIBLE, DEVSTACK]


@pytest.mark.parametrize("services", EACH, ids=["packages", "openstack-ansible", "devstack"])
def test_every_unit_is_one_that_systemd_takes_and_stands_once(services: Services) -> None:
    named = [*services.agents, *services.api, *services.chassis, *services.switch, *services.central]
    assert all(re.fullmatch(r"(devstack@)?[a-z][a-z0-9-]*\.service", unit) for unit in named)
    assert len(named) == len(set(named))


def test_packages_are_those_that_the_window_stops() -> None:
    assert PACKAGES.agents == packages.AGENT_UNITS
    assert PACKAGES.api == packages.API_UNITS
    assert PACKAGES.chassis == packages.CHASSIS_UNITS


def test_each_kind_of_the_site_file_is_known_or_said_not_to_be() -> None:
    kinds = Deployment.model_json_schema()["properties"]["kind"]["enum"]
    assert [kind for kind in kinds if services_of(kind) is None] == ["kolla-ansible"]


@pytest.mark.parametrize(
    "name", ["infra1_neutron_server_container-a085dee8", "infra1-neutron-server-container-dacb01b6"]
)
def test_containers_of_every_release_are_recognised(name: str) -> None:
    assert any(fnmatch.fnmatch(name, pattern) for pattern in OPENSTACK_ANSIBLE.containers)
    assert not any(fnmatch.fnmatch("infra1_nova_api_container-1", pattern) for pattern in OPENSTACK_ANSIBLE.containers)
