"""Persons over HTTP: their accounts, linked and unlinked, and their erasure by a job."""

import os
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from graph.keys import AccountKey, UserKey, lone_user
from graph.records import Evidence
from graph.store import Store
from serve.drain import drain
from serve.jobs import LANES, Jobs, Lane, environment
from serve.service import Service
from tests.planted import person
from tests.serve.conftest import PSEUDONYMS
from tests.serve.test_app import assert_problem, sent

SPACE_0 = person("space-0")
ALICE = PSEUDONYMS.account("films", "alice@mail.example")


def accounts(client: TestClient, user: str) -> dict[str, str]:
    answer = client.get(f"/v1/users/{user}").json()
    return {account["account"]: account["evidence"] for account in answer["accounts"]}


def test_a_person_is_shown_with_their_accounts(client: TestClient):
    assert accounts(client, SPACE_0.user) == {
        SPACE_0.account(platform): "identity-table" for platform in SPACE_0.platforms
    }
    assert_problem(client.get("/v1/users/user:nobody"), 404, "unknown-user")


def test_an_account_is_linked_to_a_person_that_was_made_and_unlinked_again(
    client: TestClient, service: Service, planted_store: Store
):
    client.post("/v1/events", json={"events": [sent("a-1")]})
    drain(service.outbox, planted_store)
    assert client.put("/v1/users/user:crm-77").status_code == 201
    assert client.put("/v1/users/user:crm-77").status_code == 200
    path = "/v1/users/user:crm-77/accounts/films:alice@mail.example"
    assert client.put(path).status_code == 201
    assert client.put(path).status_code == 200
    assert accounts(client, "user:crm-77") == {ALICE: "api"}
    assert [event["event_id"] for event in client.get("/v1/users/user:crm-77/events").json()["events"]] == ["a-1"]
    problem = assert_problem(client.put(f"/v1/users/{SPACE_0.user}/accounts/{ALICE}"), 409, "linked-elsewhere")
    assert "alice" not in problem["detail"]
    assert client.delete(path).status_code == 204
    assert planted_store.user_of(ALICE) == lone_user(ALICE)
    again = client.delete(path)
    assert (again.status_code, again.json()["type"]) == (404, "urn:isthmus:problem:not-linked")
    assert "alice" not in again.text
    assert client.put(f"/v1/users/{SPACE_0.user}/accounts/{ALICE}").status_code == 201
    assert ALICE in accounts(client, SPACE_0.user)


def test_unlinking_takes_evidence_back(client: TestClient, planted_store: Store):
    stray = AccountKey("music", "stray")
    planted_store.add_evidence([Evidence(stray, AccountKey("books", "space-newcomer"), "login")])
    user = planted_store.user_of(stray)
    assert user == person("space-newcomer").user
    assert client.delete(f"/v1/users/{user}/accounts/{stray}").status_code == 204
    assert planted_store.user_of(stray) == lone_user(stray)


@pytest.mark.parametrize(
    "path", ["/v1/users/x", "/v1/users/user:a/accounts/x", "/v1/users/user:a/accounts/films:a%20b"]
)
def test_ids_in_paths_are_checked(client: TestClient, path: str):
    assert_problem(client.put(path), 422, "invalid-id")


def lane(service: Service, store: Store, name: str = "erase") -> Lane:
    var = service.outbox.path.parent
    own = {"ISTHMUS_VAR": str(var), "ISTHMUS_STORE": store.url, "ISTHMUS_PSEUDONYM_KEY": "sixteen bytes or more"}
    return Lane(service.jobs, name, environment(os.environ, own), var)


def test_a_person_is_not_served_once_deletion_is_asked_for_and_the_job_removes_them(
    client: TestClient, service: Service, planted_store: Store
):
    client.post("/v1/events", json={"events": [sent("a-1"), sent("a-2", item_id="films:crime-1")]})
    drain(service.outbox, planted_store)
    client.post("/v1/events", json={"events": [sent("a-3", item_id="films:crime-2")]})
    user = lone_user(ALICE)
    answer = client.delete(f"/v1/users/{user}")
    assert answer.status_code == 202
    job = answer.headers["location"]
    assert client.get(job).json()["state"] == "queued"
    for who in ({"user_id": user}, {"account_id": "films:alice@mail.example"}):
        found = client.post("/v1/recommendations", json=who | {"limit": 1}).json()
        assert found["items"][0]["source"] == "fallback"
    assert client.get(f"/v1/users/{user}/events").json()["events"] == []
    assert_problem(client.get(f"/v1/users/{user}"), 404, "unknown-user")
    rejected = client.post("/v1/events", json={"events": [sent("a-4")]}).json()["rejected"]
    assert rejected[0]["problem"]["status"] == 410
    assert_problem(client.put(f"/v1/users/user:new/accounts/{ALICE}"), 410, "erased-account")
    assert client.delete(f"/v1/users/{user}").headers["location"] == job
    worker = lane(service, planted_store)
    worker.do(service.jobs.begin(LANES["erase"]))
    ended = client.get(job).json()
    assert (ended["state"], ended["output"]) == ("done", None)
    assert planted_store.user_of(ALICE) is None
    assert planted_store.events("RATED", ["a-1", "a-2"]) == []
    assert service.outbox.pending() == []
    for path in service.outbox.path.parent.rglob("*"):
        assert not path.is_file() or ALICE.digest.encode() not in path.read_bytes(), path


def test_a_person_without_accounts_is_erased_too(client: TestClient, service: Service, planted_store: Store):
    client.put("/v1/users/user:crm-77")
    job = client.delete("/v1/users/user:crm-77").headers["location"]
    lane(service, planted_store).do(service.jobs.begin(LANES["erase"]))
    assert client.get(job).json()["state"] == "done"
    assert planted_store.neighbourhood(UserKey("crm-77")).nodes == ()


def test_nobody_is_deleted_who_is_not_known(client: TestClient):
    assert_problem(client.delete("/v1/users/user:nobody"), 404, "unknown-user")


def test_a_job_that_was_cut_off_begins_again_and_fails_after_three_times(tmp_path: Path):
    with Jobs(tmp_path / "jobs.db") as jobs:
        id = jobs.add("train", {}).id
        assert jobs.add("train", {}).id == id, "the same that waits is one"
        for tries in (1, 2, 3):
            assert jobs.begin(LANES["erase"]) is None
            assert jobs.begin(LANES["work"]).tries == tries
            assert jobs.find(id).state == "running"
            assert jobs.add("train", {}).id != id, "one that runs may not have seen what is new"
            jobs.requeue(LANES["erase"])
            assert jobs.find(id).state == "running"
            with jobs.write() as connection:
                connection.execute("DELETE FROM jobs WHERE id <> ?", (id,))
            jobs.requeue(LANES["work"])
        found = jobs.find(id)
        assert (found.state, found.said) == ("failed", "it was cut off 3 times")


def test_a_lane_does_what_waits_and_says_what_failed(client: TestClient, service: Service, planted_store: Store):
    var = service.outbox.path.parent
    (var / "imports").mkdir()
    (var / "imports" / "bad.yaml").write_text("platform: 5")
    assert_problem(client.post("/v1/jobs", json={"kind": "import", "mappings": ["x.yaml"]}), 422, "unknown-mapping")
    for body in ({"kind": "import"}, {"kind": "train", "mappings": ["bad.yaml"]}, {"kind": "erase"}):
        assert client.post("/v1/jobs", json=body).status_code == 422
    for name in ("../bad.yaml", "/etc/passwd", "--help.yaml", ".hidden.yaml"):
        assert client.post("/v1/jobs", json={"kind": "import", "mappings": [name]}).status_code == 422
    (var / "imports" / "radio.yaml").write_text(
        "platform: radio\nitems: {file: items.csv, id: id, title: title}\n"
        "events: {file: events.csv, account: who, item: id, type: PLAYED, at: {column: at, format: seconds}}\n"
    )
    (var / "imports" / "items.csv").write_text("id,title\n1,News\n2,Music\n")
    (var / "imports" / "events.csv").write_text("who,id,at\na,1,1700000000\nb,9,1700000000\nc,2,soon\n")
    failing = client.post("/v1/jobs", json={"kind": "import", "mappings": ["bad.yaml"]}).headers["location"]
    begun = client.post("/v1/jobs", json={"kind": "import", "mappings": ["radio.yaml"]})
    assert begun.status_code == 202
    worker = lane(service, planted_store, "work")
    worker.start()
    deadline = time.monotonic() + 60
    while (job := client.get(begun.headers["location"]).json())["state"] in {"queued", "running"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    worker.stop()
    assert job["state"] == "done", job
    failed = client.get(failing).json()
    assert failed["state"] == "failed"
    assert "bad.yaml" in failed["output"]
    assert planted_store.counts().nodes["Item"] == 72 + 2
    page = client.get(begun.headers["location"] + "/rejects", params={"limit": 1}).json()
    assert (page["total"], page["next_cursor"]) == (2, "1")
    assert (page["rejects"][0]["file"], page["rejects"][0]["line"]) == ("events.csv", 3)
    rest = client.get(begun.headers["location"] + "/rejects", params={"cursor": "1"}).json()
    assert [row["line"] for row in rest["rejects"]] == [4]
    assert rest["next_cursor"] is None
    assert_problem(client.get("/v1/jobs/none"), 404, "unknown-job")
