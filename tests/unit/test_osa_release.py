from __future__ import annotations

from pathlib import Path

import pytest

from ovnshift.deployments.openstack_ansible.release import PINS, SUPPORTED, ReleaseError, detect
from tests.unit.osa.deploy_host import PIN


def machine(
    root: Path, *, wrapper: str | None = None, distrib: str | None = None, pin: str | None = None, where: int = 1
) -> dict[str, Path]:
    """A machine on which only what is given says which release it has."""
    places = {
        "checkout": root / "checkout",
        "wrapper": root / "openstack-ansible",
        "distrib": root / "openstack-release",
    }
    if wrapper is not None:
        places["wrapper"].write_text(f'export PATH="x"\nexport OSA_VERSION="{wrapper}"\n', encoding="utf-8")
    if distrib is not None:
        places["distrib"].write_text(f'DISTRIB_ID="OSA"\nDISTRIB_RELEASE="{distrib}"\n', encoding="utf-8")
    if pin is not None:
        path = places["checkout"] / PINS[where]
        path.parent.mkdir(parents=True)
        path.write_text(pin, encoding="utf-8")
    return places


@pytest.mark.parametrize(
    ("wrapper", "series"),
    [("26.0.1", "zed"), ("27.5.2", "2023.1"), ("28.3.0.dev12", "2023.2"), ("29.2.4", "2024.1"), ("30.1.5", "2024.2")],
)
def test_a_version_names_its_series(tmp_path: Path, wrapper: str, series: str) -> None:
    assert detect(**machine(tmp_path, wrapper=wrapper)).series == series


def test_each_source_is_enough(tmp_path: Path) -> None:
    for number, given in enumerate(({"wrapper": "30.1.0"}, {"distrib": "30.0.0"}, {"pin": PIN.format("2024.2")})):
        root = tmp_path / str(number)
        root.mkdir()
        assert detect(**machine(root, **given)) is SUPPORTED[-1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pin", "series"),
    [
        ("neutron_git_install_branch: zed-eom\nneutron_git_track_branch: unmaintained/zed\n", "zed"),
        ("neutron_git_install_branch: 2023.1-eom\nneutron_git_track_branch: None\n", "2023.1"),
        ("neutron_git_install_branch: df7e29d3124c\nneutron_git_track_branch: stable/2024.2\n", "2024.2"),
    ],
)
@pytest.mark.parametrize("where", [0, 1])
def test_a_checkout_says_it_in_either_place(tmp_path: Path, pin: str, series: str, where: int) -> None:
    assert detect(**machine(tmp_path, pin=pin, where=where)).series == series


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"wrapper": "25.2.0"}, r"is of OpenStack-Ansible 25; supported are zed"),
        ({"distrib": "31.0.0"}, r"is of OpenStack-Ansible 31; supported"),
        ({"pin": PIN.format("2025.1")}, r"source_git.yml: is of 2025\.1; supported"),
        ({"wrapper": "29.0.1", "pin": PIN.format("2024.2")}, r"is not of one release: .*says 2024\.1.*says 2024\.2"),
        ({"wrapper": "CURRENT_OSA_VERSION"}, "does not say which release"),
        ({}, "does not say which release"),
    ],
)
def test_another_release_or_none_is_refused(tmp_path: Path, given: dict[str, str], says: str) -> None:
    with pytest.raises(ReleaseError, match=says) as caught:
        detect(**machine(tmp_path, **given))  # type: ignore[arg-type]
    assert caught.value.next_step
