from __future__ import annotations

import openstack.exceptions
import pytest
import requests.exceptions

from ovnshift import cloud
from ovnshift.cloud import PATIENCE, CloudError
from ovnshift.cloud.discovery import ATTEMPTS


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A window that has patience; what it tells. Nothing is slept for."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    said: list[str] = []
    monkeypatch.setattr(PATIENCE, "seconds", 1000.0)
    monkeypatch.setattr(PATIENCE, "tell", said.append)
    return said


class Api:
    """Fails as often as it is told to, and then answers."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.times = times
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error
        return "here"


AWAY = requests.exceptions.ConnectionError("connection refused")


def test_an_api_that_is_away_is_waited_for_and_that_is_said(said: list[str]) -> None:
    api = Api(AWAY, 3 * ATTEMPTS)
    assert cloud.retried("Neutron", "routers", api) == "here"
    assert api.asked == 3 * ATTEMPTS + 1
    assert len(said) == 1
    assert "Neutron: routers: does not answer" in said[0]
    assert "connection refused" in said[0]


def test_whoever_asks_again_by_itself_is_told_soon(said: list[str]) -> None:
    api = Api(AWAY, 3 * ATTEMPTS)
    with cloud.impatient(), pytest.raises(CloudError, match=rf"failed \({ATTEMPTS} times\)"):
        cloud.retried("Neutron", "routers", api)
    assert api.asked == ATTEMPTS
    assert said == []


def test_patience_ends(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PATIENCE, "seconds", 0.0)
    api = Api(AWAY, 3 * ATTEMPTS)
    with pytest.raises(CloudError):
        cloud.retried("Neutron", "routers", api)
    assert api.asked == ATTEMPTS
    assert said == []


@pytest.mark.parametrize(("status", "asked"), [(403, 1), (409, ATTEMPTS), (500, ATTEMPTS), (503, 2 * ATTEMPTS + 1)])
def test_only_one_that_is_away_is_waited_for(said: list[str], status: int, asked: int) -> None:
    api = Api(openstack.exceptions.HttpException(message="no", http_status=status), 2 * ATTEMPTS)
    if status == 503:
        assert cloud.retried("Nova", "servers", api) == "here"
    else:
        with pytest.raises(CloudError):
            cloud.retried("Nova", "servers", api)
    assert api.asked == asked
    assert bool(said) == (status == 503)
