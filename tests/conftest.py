"""Fixtures of every room: the planted graph (tests/planted.py) in a store, a snapshot of it, both stores."""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from graph.cluster import start_ray
from graph.snapshot import Snapshot, write_snapshot
from graph.store import Store, open_store
from tests.neo4j_server import Neo4jForTests, empty, neo4j_for_tests
from tests.planted import plant

if TYPE_CHECKING:
    from tests.planted_training import PlantedRun

# A machine that is busy with something else is no reason to fail.
settings.register_profile("isthmus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("isthmus")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `device` runs on the CPU and, where there is a CUDA device, once more there.

    Without one it has a single case: nothing is skipped. Trainings of the tests go to such a device by themselves.
    """
    if "device" in metafunc.fixturenames:
        import torch

        names = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        metafunc.parametrize("device", [torch.device(name) for name in names], ids=names)


RAY, NEO4J = "a Ray", "a Neo4j"
NEEDS: Final = {
    **dict.fromkeys(("test_demo.py", "test_road.py", "test_serve_http.py", "test_embed.py", "test_run.py"), RAY),
    **dict.fromkeys(("test_tune.py", "test_parallel.py"), RAY),
    **dict.fromkeys(("test_store.py", "test_neo4j_store.py", "test_store_url.py", "test_cypher.py"), NEO4J),
    **dict.fromkeys(("test_notebook.py", "test_snapshot.py", "test_retried.py", "test_every_road.py"), NEO4J),
    **dict.fromkeys(("test_bulk.py",), NEO4J),
}
"""Files whose tests start a server that is dear."""


class Servers(LoadScopeScheduling):  # type: ignore[misc]
    """Where two processes share the tests (`make test`), one has all of Ray, one all of Neo4j; files stay together."""

    def _split_scope(self, nodeid: str) -> str:
        name = nodeid.partition("::")[0].rpartition("/")[2]
        return NEEDS.get(name, name)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Servers:
    """xdist's own groups are names of tests, which pytest 9.2 does not let it change."""
    return Servers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    first = {RAY: 0, NEO4J: 1}
    items.sort(key=lambda item: first.get(NEEDS.get(item.path.name, ""), 2))


@pytest.fixture
def planted_store(tmp_path: Path) -> Iterator[Store]:
    """An embedded store of its own that holds the planted graph."""
    with open_store(f"sqlite:///{tmp_path / 'planted.db'}") as store:
        plant(store)
        yield store


@pytest.fixture(scope="session")
def planted_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """The planted graph, uncut; shared by all tests, so read it only."""
    folder = tmp_path_factory.mktemp("planted")
    with open_store(f"sqlite:///{folder / 'planted.db'}") as store:
        plant(store)
        return write_snapshot(store, folder / "snapshots")


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jForTests]:
    """A real Neo4j, started once for all tests and ended after them."""
    with neo4j_for_tests(tmp_path_factory.mktemp("neo4j")) as server:
        yield server


@pytest.fixture(scope="session")
def neo4j_uri(neo4j_server: Neo4jForTests) -> str:
    """The URL of a real Neo4j as `open_store` takes it; what is in it is up to the tests."""
    return neo4j_server.url


@pytest.fixture(params=["sqlite", "neo4j"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'graph.db'}"
    url: str = request.getfixturevalue("neo4j_uri")
    empty(url)
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store, of each kind in turn."""
    with open_store(store_url) as opened:
        opened.ensure_schema()
        yield opened


@pytest.fixture(scope="session")
def planted_run(planted_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> "PlantedRun":
    """A training run on the planted graph, in this process; shared by all tests, so read it only."""
    from tests.planted_training import train_planted

    return train_planted(planted_snapshot, tmp_path_factory.mktemp("planted-run"))


@pytest.fixture(scope="session")
def planted_bundle(planted_run: "PlantedRun", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle that was trained on the planted graph; shared by all tests, so read it only."""
    from train.release import release

    return release(planted_run.inputs, planted_run.config, planted_run.result, tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A real Ray of this process's own, started once for all tests and ended after them."""
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as short:
        # Sockets live below RAY_TMPDIR and their paths may have 107 characters.
        environment.setenv("RAY_TMPDIR", short)
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        # Ray's workers run at niceness 15 unless told: beside anything else a start takes minutes.
        environment.setenv("RAY_worker_niceness", "0")
        with warnings.catch_warnings(action="ignore"):
            import ray

            start_ray()
        yield
        ray.shutdown()
