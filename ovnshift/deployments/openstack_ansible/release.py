"""Which release of OpenStack-Ansible a deploy host has, and what differs between those that are supported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovnshift.errors import OvnshiftError

# bootstrap-ansible.sh writes the version into the first; openstack_hosts puts the second on hosts that it prepares.
WRAPPER = Path("/usr/local/bin/openstack-ansible")
DISTRIB = Path("/etc/openstack-release")
# The branch of Neutron that a checkout deploys: in Zed the one, later the other.
PINS = (
    Path("playbooks/defaults/repo_packages/openstack_services.yml"),
    Path("inventory/group_vars/neutron_all/source_git.yml"),
)
_COMPUTE = ("neutron_sriov_nic_agent", "neutron_ovn_controller", "nova_compute")


@dataclass(frozen=True)
class Release:
    """A release of OpenStack-Ansible.

    Attributes:
        series: of OpenStack ("2024.2").
        major: of OpenStack-Ansible's version; OpenStack-Ansible 26 deploys Zed.
        compute_holds: what its ``nova_compute_container`` has (inventory/env.d/nova.yml), without the agents of LinuxBridge and
            Open vSwitch; only in Zed are hypervisors OVN's gateways by themselves.
    """

    series: str
    major: int
    compute_holds: tuple[str, ...] = _COMPUTE

    def __str__(self) -> str:
        return f"{self.series} (OpenStack-Ansible {self.major})"


SUPPORTED = (
    Release("zed", 26, (*_COMPUTE[:2], "neutron_ovn_gateway", _COMPUTE[2])),
    Release("2023.1", 27),
    Release("2023.2", 28),
    Release("2024.1", 29),
    Release("2024.2", 30),
)


class ReleaseError(OvnshiftError):
    """It is not known which release this is, or it is none that is supported."""


def detect(checkout: Path, *, wrapper: Path = WRAPPER, distrib: Path = DISTRIB) -> Release:
    """The release that this machine deploys with.

    Args:
        checkout: OpenStack-Ansible's own ("/opt/openstack-ansible").
        wrapper: the ``openstack-ansible`` command.
        distrib: the file that says which release a host has.

    Raises:
        ReleaseError: nothing says it, two say different ones, or it is not supported.
    """
    found: list[tuple[Path, Release]] = []
    for path, pattern in (
        (wrapper, r'(?m)^export OSA_VERSION="?(\d+)\.'),
        (distrib, r'(?m)^DISTRIB_RELEASE="?(\d+)\.\d+\.'),
    ):
        if version := re.search(pattern, _text(path)):
            found.append((path, _by_major(path, int(version[1]))))
    for path in (checkout / pin for pin in PINS):
        text = _text(path)
        for key in ("neutron_git_track_branch", "neutron_git_install_branch"):
            branch = re.search(rf"(?m)^{key}: *[\"']?(?:stable/|unmaintained/)?(zed|20\d\d\.\d)\b", text)
            if branch:
                found.append((path, _by_series(path, branch[1])))
                break
    if not found:
        places = ", ".join(map(str, (wrapper, distrib, *(checkout / pin for pin in PINS))))
        raise ReleaseError(
            str(checkout),
            f"does not say which release of OpenStack-Ansible this machine deploys; looked in {places}",
            "see deployment.checkout in the site file, and whether this is the deploy host",
        )
    if len({release for _, release in found}) > 1:
        said = ", ".join(f"{path} says {release.series}" for path, release in found)
        raise ReleaseError(
            str(checkout),
            f"is not of one release: {said}",
            "finish the upgrade (scripts/bootstrap-ansible.sh), and run this again",
        )
    return found[0][1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise ReleaseError(
            str(path), f"could not be read: {error.strerror}", "run this as the user who deploys"
        ) from error


def _by_major(path: Path, major: int) -> Release:
    return _supported(path, f"OpenStack-Ansible {major}", [each for each in SUPPORTED if each.major == major])


def _by_series(path: Path, series: str) -> Release:
    return _supported(path, series, [each for each in SUPPORTED if each.series == series])


def _supported(path: Path, what: str, fitting: Sequence[Release]) -> Release:
    if not fitting:
        raise ReleaseError(
            str(path),
            f"is of {what}; supported are {', '.join(map(str, SUPPORTED))}",
            "LinuxBridge has to be left before 2025.1; upgrade to a release that is supported, or edit the files by hand",
        )
    return fitting[0]
