"""Canaries: a mail address, a telephone number, a key and a database's password, put wherever a sender may put them."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from graph.errors import StoreUnavailableError
from graph.store import Store, open_store
from serve.access import Guard
from serve.app import create_app
from serve.drain import drain
from serve.keys import SCOPES, Keyring, make
from serve.live import Live, StoreGate
from serve.metrics import Metrics
from serve.outbox import Outbox
from serve.recommender import Recommender
from serve.service import Service
from tests.serve.conftest import PSEUDONYMS

MAIL, PHONE, PASSWORD = "canary.bird@mail.example", "+49-171-4711-0815", "geheimer-kanarienvogel"
TEXT, KEY = make("canary", SCOPES, 0)
CANARIES = (MAIL, PHONE, PASSWORD, TEXT, TEXT.removeprefix("isthmus_"))
SENDERS = (MAIL, PHONE, f"films:{MAIL}", f"films:{PHONE}", f"{MAIL}:1", f"films {MAIL}")


@pytest.fixture
def down(recommender: Recommender, tmp_path: Path) -> Iterator[Service]:
    """A service whose Neo4j is not there."""
    url = f"neo4j://neo4j:{PASSWORD}@127.0.0.1:1/neo4j"

    def unavailable() -> Store:
        raise StoreUnavailableError(f"no answer from {url}")

    with Outbox(tmp_path / "outbox.db") as outbox:
        gate = StoreGate(lambda: open_store(url))
        service = Service(Live(outbox, gate), outbox, PSEUDONYMS, Metrics())
        service.recommender = recommender
        yield service
        service.close()
        gate.close()


def said_by(service: Service) -> Iterator[tuple[str, str]]:
    """All that the server answers to requests with canaries in them, right and wrong."""
    service.guard = Guard(Keyring([KEY.line()]))
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {TEXT}"
        for number, sender in enumerate(SENDERS):
            event = {
                "event_id": f"e-{number}",
                "type": "RATED",
                "account_id": sender,
                "item_id": "films:crime-0",
                "occurred_at": "2026-05-01T12:00:00Z",
            }
            bodies = [
                ("/v1/events", {"events": [event]}),
                ("/v1/events", {"events": [event | {"item_id": sender}]}),
                ("/v1/events", {"events": [event | {"type": sender, "occurred_at": sender, "value": sender}]}),
                ("/v1/events", {"events": [event | {"session_id": sender, "account_id": "films:a"}]}),
                ("/v1/events", {"events": [event | {"mail": sender}], sender: sender}),
                *(("/v1/recommendations", {name: sender}) for name in ("user_id", "account_id", "session_id")),
                ("/v1/recommendations", {"account_id": "films:a", "target_platforms": [sender], "filter": sender}),
                ("/v1/recommendations", {"account_id": "films:a", "exclude_item_ids": [sender], "limit": sender}),
                ("/v1/recommendations", {"events": [{"item_id": sender, "type": sender}]}),
                ("/v1/recommendations", {"events": [{"item_id": "films:crime-0", "type": sender}]}),
            ]
            for path, body in bodies:
                yield f"{path} {body}", client.post(path, json=body).text
            yield (
                "no JSON",
                client.post("/v1/events", content=f"{{{sender}", headers={"content-type": "application/json"}).text,
            )
        for key in ("isthmus_wrong" + TEXT, TEXT + "x"):
            yield "a wrong key", client.get("/metrics", headers={"Authorization": f"Bearer {key}"}).text
        yield "/readyz", client.get("/readyz").text
        yield "/metrics", client.get("/metrics").text


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """What the server logged; the test's own client logs what it asks."""
    ours = [record for record in caplog.records if not record.name.startswith("httpx")]
    return "\n".join(f"{record.getMessage()} {record.exc_text or ''} {record.__dict__}" for record in ours)


def leaks(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text or json.dumps(canary)[1:-1] in text]


def test_no_canary_is_in_answers_metrics_logs_graph_or_outbox(service: Service, planted_store: Store, caplog):
    caplog.set_level(logging.DEBUG)
    for asked, said in said_by(service):
        assert not leaks(said), f"{asked} was answered with {said}"
    assert service.outbox.counts()[0] > 0
    for file in service.outbox.path.parent.iterdir():
        assert not leaks(file.read_bytes().decode("latin-1")), file
    while drain(service.outbox, planted_store):
        pass
    dump = [batch.to_pylist() for label in planted_store.labels() for batch in planted_store.read_nodes(label)]
    dump += [batch.to_pylist() for type in planted_store.event_types() for batch in planted_store.read_events(type)]
    assert "films:crime-0" in str(dump)
    assert not leaks(str(dump))
    assert not leaks(logged(caplog))


def test_a_store_that_is_down_is_logged_without_its_password(down: Service, caplog):
    caplog.set_level(logging.DEBUG)
    for asked, said in said_by(down):
        assert not leaks(said), f"{asked} was answered with {said}"
    assert "answers go on without the store" in caplog.text
    assert not leaks(logged(caplog))


def test_an_error_that_nobody_foresaw_is_logged_without_what_it_quotes(service: Service, caplog, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"cannot do this for {MAIL}")

    monkeypatch.setattr(type(service.recommender), "recommend", broken)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        response = client.post("/v1/recommendations", json={"account_id": f"films:{MAIL}"})
    assert response.status_code == 500
    assert not leaks(response.text)
    assert f"request {response.json()['request_id']} failed with RuntimeError" in caplog.text
    assert not leaks(logged(caplog))
