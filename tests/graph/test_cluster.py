"""A Ray that does not come up is tried once more; what it left behind is ended, and nothing else."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from graph.cluster import start_ray
from graph.errors import ClusterError


class Ray:
    """Stands for `ray.init` on a machine that is too busy: it starts a process, and fails some times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.given: list[dict[str, Any]] = []
        self.started: list[subprocess.Popen[bytes]] = []

    def init(self, **given: Any) -> None:
        self.given.append(given)
        if len(self.given) <= self.failures:
            self.started.append(subprocess.Popen(["sleep", "60"]))
            raise Exception("The current node timed out during startup.")


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that was there before."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_second_try_may_succeed_and_ends_what_the_first_one_left(other, monkeypatch: pytest.MonkeyPatch):
    busy = Ray(failures=1)
    monkeypatch.setattr(ray, "init", busy.init)
    assert start_ray(log_to_driver=True)
    assert [given["address"] for given in busy.given] == ["local", "local"]
    assert all(given["_node_ip_address"] == "127.0.0.1" and given["log_to_driver"] for given in busy.given)
    assert busy.started[0].wait(10) == -9
    assert other.poll() is None


def test_after_the_second_it_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    busy = Ray(failures=2)
    monkeypatch.setattr(ray, "init", busy.init)
    with pytest.raises(ClusterError, match=r"Ray does not start on this machine \(.*timed out.*\): give"):
        start_ray()
    assert [process.wait(10) for process in busy.started] == [-9, -9]


def test_a_cluster_that_is_not_there_is_named_and_not_replaced_by_one_of_our_own(monkeypatch: pytest.MonkeyPatch):
    busy = Ray(failures=9)
    monkeypatch.setattr(ray, "init", busy.init)
    with pytest.raises(ClusterError, match=r"the Ray at 127\.0\.0\.1:1 cannot be joined"):
        start_ray("127.0.0.1:1")
    assert [given["address"] for given in busy.given] == ["127.0.0.1:1"]
    assert "_node_ip_address" not in busy.given[0]
    busy.started[0].kill()
    busy.started[0].wait()
