"""Fixtures of every room: the planted graph (tests/planted.py) in an embedded store, and a snapshot of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from graph.snapshot import Snapshot, write_snapshot
from graph.store import Store, open_store
from tests.planted import plant

if TYPE_CHECKING:
    from tests.planted_training import PlantedRun

# A machine that is busy with something else is no reason to fail.
settings.register_profile("isthmus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("isthmus")


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
def planted_run(planted_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> "PlantedRun":
    """A training run on the planted graph, in this process; shared by all tests, so read it only."""
    from tests.planted_training import train_planted

    return train_planted(planted_snapshot, tmp_path_factory.mktemp("planted-run"))


@pytest.fixture(scope="session")
def planted_bundle(planted_run: "PlantedRun", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle that was trained on the planted graph; shared by all tests, so read it only."""
    from train.release import release

    return release(planted_run.inputs, planted_run.config, planted_run.result, tmp_path_factory.mktemp("bundles"))
