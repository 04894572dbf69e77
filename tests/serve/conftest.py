"""Fixtures of serving: a small recommender over the planted items, a service on the planted store, an HTTP client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from graph.keys import Pseudonyms
from graph.store import Store, open_store
from models.bundle import Bundle
from models.ranker import Ranker
from serve.app import create_app
from serve.live import Live, StoreGate
from serve.metrics import Metrics
from serve.outbox import Outbox
from serve.recommender import Recommender
from serve.service import Service
from tests.serve.tiny import write_tiny_bundle

PSEUDONYMS = Pseudonyms(b"sixteen bytes or more")


@pytest.fixture(scope="session")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """A real bundle's: the newest event's taste comes first."""
    bundle = Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))
    return Recommender(bundle, Ranker(bundle))


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


@pytest.fixture
def service(
    recommender: Recommender, outbox: Outbox, planted_store: Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    monkeypatch.setattr("serve.service.STORE_TIMEOUT_S", 5.0)  # this machine may be busy
    gate = StoreGate(lambda: open_store(planted_store.url))
    service = Service(Live(outbox, gate), outbox, PSEUDONYMS, Metrics())
    service.recommender = recommender
    yield service
    service.close()
    gate.close()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client
