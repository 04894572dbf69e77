"""Idempotency keys over HTTP."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from serve import idempotency
from serve.idempotency import Answers
from serve.outbox import Outbox
from serve.service import Service
from tests.planted import person
from tests.serve.test_app import assert_problem, sent

KEY = {"Idempotency-Key": "a-1"}
TRAIN = {"kind": "train"}


def jobs(service: Service) -> int:
    ((count,),) = service.jobs.read("SELECT count(*) FROM jobs")
    return count


def test_200_requests_at_once_under_one_key_are_one_write(client: TestClient, service: Service):
    service.jobs.begin(["train"])

    def ask(n: int):
        answer = client.post("/v1/jobs", json=TRAIN, headers=KEY)
        service.jobs.begin(["train"])  # so that the next one would not be the same
        return answer

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(200)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["job_id"] for answer in answers if answer.status_code == 202}) == 1
    assert {answer.headers["location"] for answer in answers if answer.status_code == 202}
    assert jobs(service) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert_problem(answer, 409, "pending")
            assert answer.headers["retry-after"] == "1"
    again = client.post("/v1/jobs", json=TRAIN, headers=KEY)
    assert again.headers["idempotency-replayed"] == "true"
    assert jobs(service) == 1


def test_another_request_under_a_key_is_refused_and_another_key_is_another_write(client: TestClient, service: Service):
    client.put("/v1/items/films:new-1", json={"title": "One"}, headers=KEY)
    for method, path, body in (
        ("PUT", "/v1/items/films:new-1", {"title": "Two"}),
        ("PUT", "/v1/items/films:new-2", {"title": "One"}),
        ("DELETE", "/v1/items/films:new-1", None),
    ):
        assert_problem(client.request(method, path, json=body, headers=KEY), 422, "idempotency-key")
    assert client.get("/v1/items/films:new-1").json()["title"] == "One"
    assert client.put("/v1/items/films:new-1", json={"title": "One"}, headers=KEY).status_code == 201
    answer = client.put("/v1/items/films:new-1", json={"title": "Two"}, headers={"Idempotency-Key": "a-2"})
    assert (answer.status_code, answer.json()["title"]) == (200, "Two")


def test_what_was_refused_can_be_sent_again_when_it_is_mended(client: TestClient, service: Service):
    assert client.post("/v1/jobs", json={"kind": "import", "mappings": ["x.yaml"]}, headers=KEY).status_code == 422
    folder = service.outbox.path.with_name("imports")
    folder.mkdir()
    (folder / "x.yaml").write_text("")
    assert client.post("/v1/jobs", json={"kind": "import", "mappings": ["x.yaml"]}, headers=KEY).status_code == 202


def test_of_persons_and_keys_nothing_is_kept(client: TestClient, service: Service):
    user = person("space-0").user
    for _ in range(2):
        answer = client.put(f"/v1/users/{user}/accounts/films:alice@mail.example", headers={"Idempotency-Key": "bob@x"})
        assert answer.json()["accounts"]
    kept = service.outbox.read("SELECT * FROM answers")
    assert len(kept) == 1
    assert not any(text in str(kept) for text in ("space-0", "alice", "bob", "account:"))


def test_a_key_whose_process_is_gone_can_be_taken_again(outbox: Outbox, monkeypatch: pytest.MonkeyPatch):
    answers = Answers(outbox)
    assert answers.begin("k", "r") is None
    with pytest.raises(Exception, match="at work"):
        answers.begin("k", "r")
    monkeypatch.setattr(idempotency, "ABANDONED_S", -1)
    assert answers.begin("k", "r") is None


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256])
def test_a_bad_key_is_refused(client: TestClient, key: str):
    answer = client.delete("/v1/items/films:new-1", headers={"Idempotency-Key": key.encode()})
    assert_problem(answer, 422, "idempotency-key")


def test_reads_do_not_heed_it_and_events_do(client: TestClient):
    for _ in range(2):
        body = {"user_id": "user:a", "limit": 1}
        assert "idempotency-replayed" not in client.post("/v1/recommendations", json=body, headers=KEY).headers
    first = client.post("/v1/events", json={"events": [sent("e-1")]}, headers=KEY).json()
    assert client.post("/v1/events", json={"events": [sent("e-1")]}, headers=KEY).json() == first
    assert first["accepted"] == 1
