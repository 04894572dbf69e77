"""Fixtures of every room: the planted graph (tests/planted.py) in an embedded store, and a snapshot of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from graph.snapshot import Snapshot, write_snapshot
from graph.store import Store, open_store
from tests.planted import plant

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
