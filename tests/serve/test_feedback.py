"""Feedback over HTTP: what became of lists, by variant and model."""

import pytest
from fastapi.testclient import TestClient

from serve import feedback
from serve.feedback import Feedback
from serve.service import Service
from tests.serve.test_app import sent


def ask(client: TestClient, limit: int = 3) -> str:
    return client.post("/v1/recommendations", json={"user_id": "user:a", "limit": limit}).json()["recommendation_id"]


def test_lists_clicks_conversions_ratings_and_answers_are_counted_by_variant_and_model(
    client: TestClient, service: Service
):
    one, two, three = (ask(client) for _ in range(3))
    service.feedback.flush()
    ask(client, 10)
    events = [
        sent("e-1", type="VIEWED", value=None, recommendation_id=one),
        sent("e-2", type="PURCHASED", value=None, recommendation_id=one),
        sent("e-3", value=4, recommendation_id=two, context={"survey": 5}),
        sent("e-4", value=1, recommendation_id=three, context={"survey": 2}),
        sent("e-5", type="PURCHASED", value=None),
        sent("e-6", type="PURCHASED", value=None, recommendation_id="unheard-of"),
        sent("e-7", value=5, account_id="films:bob", context={"survey": True}, recommendation_id=two),
    ]
    for _ in range(2):  # the second time they are duplicates
        client.post("/v1/events", json={"events": events})
        service.feedback.flush()
    client.post("/v1/events", json={"events": [sent("e-8", type="VIEWED", value=None, recommendation_id=one)]})
    service.feedback.flush()
    (found,) = client.get("/v1/metrics/feedback").json()["variants"]
    assert found == {
        "variant": "default",
        "model_version": service.recommender.version,
        "recommendations": 4,
        "items": 3 * 3 + 10,
        "clicked": 2,
        "click_through_rate": 0.5,
        "converted": 1,
        "conversion_rate": 0.25,
        "ratings": 3,
        "mean_rating": pytest.approx(10 / 3),
        "survey_answers": 2,
        "mean_survey_answer": 3.5,
    }
    page = client.get("/metrics").text
    assert f'isthmus_feedback_total{{variant="default",model="{found["model_version"]}",what="clicked"}} 2' in page


def test_nothing_is_counted_before_anything_was_shown(client: TestClient):
    assert client.get("/v1/metrics/feedback").json() == {"variants": []}


def test_an_event_may_come_before_another_replica_has_written_its_list(service: Service, client: TestClient):
    id = ask(client)
    with Feedback(service.feedback.path) as other:
        client.post("/v1/events", json={"events": [sent("e-1", recommendation_id=id)]})
        other._heard.extend(service.feedback._heard)
        service.feedback._heard.clear()
        other.flush()
        assert other.totals() == []
        service.feedback.flush()
        other.flush()
        assert [(total.lists, total.clicked) for total in other.totals()] == [(1, 1)]
        assert other.read("SELECT * FROM outcomes") == []


def test_old_lists_and_what_never_finds_its_own_are_forgotten(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feedback, "MOST_LISTS", 2)
    monkeypatch.setattr(feedback, "PATIENCE_S", -1.0)
    with Feedback(service.outbox.path.with_name("small.db")) as small:
        for n in range(5):
            small.shown(f"l-{n}", "default", "m", 1)
        small._heard.append(("unheard-of", True, True, None, None, 0.0))
        small.flush()
        assert [id for (id,) in small.read("SELECT id FROM lists")] == ["l-3", "l-4"]
        assert small.read("SELECT * FROM outcomes") == []
        assert small.totals()[0].lists == 5


def test_no_person_and_no_item_is_kept(client: TestClient, service: Service):
    client.post("/v1/events", json={"events": [sent("secret-event", recommendation_id=ask(client))]})
    service.feedback.flush()
    content = service.feedback.path.read_bytes() + service.feedback.path.with_name("feedback.db-wal").read_bytes()
    for text in (b"alice", b"crime", b"secret-event", b"account:"):
        assert text not in content
