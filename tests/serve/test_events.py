"""Events over HTTP: sessions, histories page by page, and replays."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from graph.keys import lone_user
from graph.store import Store, checksum, open_store
from serve.drain import drain
from serve.outbox import Outbox
from serve.service import Service
from tests.planted import TASTES, item_of, person, plant, taste_of
from tests.serve.conftest import PSEUDONYMS
from tests.serve.test_app import assert_problem, sent

SPACE_0 = person("space-0")
IN_SESSION = {"account_id": None, "session_id": "films:s-81f3"}


def tastes(client: TestClient, who: dict) -> set[str]:
    answer = client.post("/v1/recommendations", json=who | {"limit": 5}).json()
    return {taste_of(item["item_id"]) for item in answer["items"]} if answer["items"][0]["source"] == "model" else set()


def test_a_session_never_seen_is_served_from_its_first_click(
    client: TestClient, service: Service, planted_store: Store
):
    who = {"session_id": "films:s-81f3"}
    assert tastes(client, who) == set()
    assert client.post("/v1/events", json={"events": [sent("s-1", **IN_SESSION)]}).json()["accepted"] == 1
    assert tastes(client, who) == {"crime"}
    assert drain(service.outbox, planted_store) == 1
    assert tastes(client, who) == {"crime"}
    assert tastes(client, {"account_id": "films:s-81f3"}) == set(), "a session and an account may share a name"


def test_the_raw_session_is_written_nowhere(client: TestClient, service: Service, planted_store: Store):
    client.post("/v1/events", json={"events": [sent("s-1", **IN_SESSION), sent("s-2", session_id="films:s-81f3")]})
    drain(service.outbox, planted_store)
    for path in service.outbox.path.parent.iterdir():
        assert not path.is_file() or b"s-81f3" not in path.read_bytes(), path


@pytest.mark.parametrize("drained", [False, True])
def test_who_logs_in_brings_the_session_along_at_once(
    client: TestClient, service: Service, planted_store: Store, drained: bool
):
    client.post("/v1/events", json={"events": [sent("s-1", item_id="films:garden-0", **IN_SESSION)]})
    if drained:
        drain(service.outbox, planted_store)
    login = sent("a-1", item_id="films:crime-0", occurred_at="2026-05-01T09:00:00Z", session_id="films:s-81f3")
    client.post("/v1/events", json={"events": [login]})
    user = lone_user(PSEUDONYMS.account("films", "alice@mail.example"))
    history = [event["event_id"] for event in client.get(f"/v1/users/{user}/events").json()["events"]]
    assert history == ["s-1", "a-1"]
    drain(service.outbox, planted_store)
    whole = planted_store.user_of(PSEUDONYMS.account("films", "alice@mail.example"))
    for who in (whole, user, lone_user(PSEUDONYMS.session("films", "s-81f3"))):
        history = [event["event_id"] for event in client.get(f"/v1/users/{who}/events").json()["events"]]
        assert history == ["s-1", "a-1"]


def test_a_session_of_somebody_else_shows_nothing_to_who_logs_in_with_it(
    client: TestClient, service: Service, planted_store: Store
):
    client.post("/v1/events", json={"events": [sent("a-1", session_id="films:s-81f3")]})
    drain(service.outbox, planted_store)
    client.post("/v1/events", json={"events": [sent("b-1", account_id="films:bob", session_id="films:s-81f3")]})
    user = lone_user(PSEUDONYMS.account("films", "bob"))
    assert [event["event_id"] for event in client.get(f"/v1/users/{user}/events").json()["events"]] == ["b-1"]


def test_an_event_of_nobody_is_rejected(client: TestClient):
    answer = client.post("/v1/events", json={"events": [sent("n-1", account_id=None)]}).json()
    (rejected,) = answer["rejected"]
    assert rejected["problem"]["errors"] == [
        {"pointer": "/events/0", "detail": "say whose it is with account_id, session_id or both, not none of them"}
    ]


def test_a_history_goes_page_by_page_over_platforms_newest_first(client: TestClient, planted_store: Store):
    wanted = [event.event_id for event in reversed(planted_store.history(SPACE_0.user))]
    found, cursor = [], None
    while True:
        query = {"limit": 4} | ({} if cursor is None else {"cursor": cursor})
        page = client.get(f"/v1/users/{SPACE_0.user}/events", params=query).json()
        found += [event["event_id"] for event in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["events"]) == 4
        client.post("/v1/events", json={"events": [sent(f"n-{len(found)}", account_id="films:other")]})
    assert found == wanted
    first = client.get(f"/v1/users/{SPACE_0.user}/events", params={"limit": 1}).json()["events"][0]
    newest = planted_store.history(SPACE_0.user)[-1]
    assert first == {
        "event_id": newest.event_id,
        "type": newest.type,
        "account": newest.account,
        "item_id": newest.item,
        "occurred_at": newest.at.isoformat().replace("+00:00", "Z"),
        "value": newest.value,
        "context": dict(newest.context),
    }


def test_a_history_can_be_of_one_platform_and_of_nobody(client: TestClient):
    films = client.get(f"/v1/users/{SPACE_0.user}/events", params={"platform": "films", "limit": 100}).json()
    assert {event["item_id"].partition(":")[0] for event in films["events"]} == {"films"}
    assert films["next_cursor"] is None
    assert client.get("/v1/users/user:nobody/events").json()["events"] == []


@pytest.mark.parametrize("cursor", ["x", "e30", "!!", "WzEsMl0", "bnVsbA"])
def test_a_cursor_that_is_none_of_ours_is_refused(client: TestClient, cursor: str):
    response = client.get(f"/v1/users/{SPACE_0.user}/events", params={"cursor": cursor})
    assert assert_problem(response, 422, "invalid-query")["errors"][0]["pointer"] == "?cursor"


def test_events_sent_three_times_at_once_make_the_graph_that_they_make_once(
    client: TestClient, service: Service, planted_store: Store, tmp_path
):
    events = [
        sent(
            f"r-{n}",
            account_id=f"films:person-{n % 50}",
            item_id=str(item_of("films", TASTES[n % 3], n % 7)),
            occurred_at=f"2026-05-01T{n % 24:02}:{n % 60:02}:00Z",
        )
        for n in range(2000)
    ]
    batches = [events[start : start + 100] for start in range(0, len(events), 100)]
    with open_store(f"sqlite:///{tmp_path / 'once.db'}") as once, Outbox(tmp_path / "once" / "outbox.db") as alone:
        plant(once)
        with ThreadPoolExecutor(6) as pool:
            send = lambda batch: client.post("/v1/events", json={"events": batch}).json()  # noqa: E731
            answers = list(pool.map(send, [batch for n in range(3) for batch in batches[n * 7 :] + batches[: n * 7]]))
            assert sum(answer["accepted"] for answer in answers) == 2000
            assert sum(answer["duplicates"] for answer in answers) == 4000
        kept = [event for _, event in service.outbox.pending(5000)]
        assert len(kept) == 2000
        while drain(service.outbox, planted_store, 300):
            pass
        alone.accept(sorted(kept, key=lambda event: int(event.event_id[2:])))
        while drain(alone, once):
            pass
        assert checksum(planted_store) == checksum(once)
