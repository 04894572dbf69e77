import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from fastapi.testclient import TestClient

from graph.keys import lone_user, tombstone
from graph.store import Store
from graph.tombstones import Tombstones
from serve.api import MAX_BODY_BYTES
from serve.app import create_app
from serve.drain import drain
from serve.recommender import Recommender
from serve.scenarios import read_scenarios
from serve.service import Service
from tests.planted import person, taste_of
from tests.serve.conftest import PSEUDONYMS
from tests.serve.taste import taste_recommender

SPACE_0 = person("space-0")
SPACE_0_DID = {*(item for platform in SPACE_0.platforms for item in SPACE_0.walked(platform)), "books:crime-0"}


def sent(id: str, **fields) -> dict:
    event = {
        "event_id": id,
        "type": "RATED",
        "account_id": "films:alice@mail.example",
        "item_id": "films:crime-0",
        "occurred_at": "2026-05-01T12:00:00+02:00",
        "value": 5,
    }
    return {name: value for name, value in (event | fields).items() if value is not None}


def assert_problem(response, status: int, kind: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:isthmus:problem:{kind}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == response.request.url.path
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


def test_a_known_person_is_recommended_their_taste_with_reasons(client: TestClient, service: Service):
    response = client.post("/v1/recommendations", json={"user_id": SPACE_0.user, "limit": 5})
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"recommendation_id", "model_version", "variant", "degraded", "items", "next_cursor"}
    assert (answer["model_version"], answer["variant"], answer["degraded"]) == (
        service.recommender.version,
        "default",
        False,
    )
    assert len(answer["recommendation_id"]) == 32
    assert {taste_of(item["item_id"]) for item in answer["items"]} == {"space"}
    walked = {item for platform in SPACE_0.platforms for item in SPACE_0.walked(platform)}
    assert not walked & {item["item_id"] for item in answer["items"]}
    for item in answer["items"]:
        assert item["source"] == "model"
        total = item["base"] + sum(path["contribution"] for path in item["paths"])
        assert total == pytest.approx(item["score"], abs=1e-4)


def test_a_person_never_seen_is_told_by_events(client: TestClient):
    events = [
        {"item_id": "books:garden-1", "type": "PURCHASED"},
        {"item_id": "films:garden-2", "type": "RATED", "value": 4},
    ]
    answer = client.post(
        "/v1/recommendations", json={"events": events, "target_platforms": ["music"], "limit": 3}
    ).json()
    assert [item["platform"] for item in answer["items"]] == ["music"] * 3
    assert {taste_of(item["item_id"]) for item in answer["items"]} == {"garden"}


def test_events_in_a_request_count_in_the_order_they_happened(client: TestClient):
    older = {"item_id": "films:crime-1", "type": "RATED", "occurred_at": "2024-01-01T00:00:00Z"}
    newer = {"item_id": "films:garden-1", "type": "RATED", "occurred_at": "2024-01-02T00:00:00Z"}
    answer = client.post("/v1/recommendations", json={"events": [newer, older], "limit": 1}).json()
    assert taste_of(answer["items"][0]["item_id"]) == "garden"


@pytest.mark.parametrize(
    "who",
    [
        {"user_id": "user:nobody"},
        {"account_id": "films:nobody"},
        {"events": [{"item_id": "films:new", "type": "RATED"}]},
    ],
)
def test_an_unknown_person_gets_the_fallback(client: TestClient, who: dict):
    response = client.post("/v1/recommendations", json=who)
    assert response.status_code == 200
    assert len(response.json()["items"]) == 20
    assert {item["source"] for item in response.json()["items"]} == {"fallback"}


def test_an_event_sent_changes_the_same_persons_next_answer_before_and_after_it_is_drained(
    client: TestClient, service: Service, planted_store: Store
):
    who = {"account_id": "films:alice@mail.example", "limit": 5}
    before = client.post("/v1/recommendations", json=who).json()["items"]
    response = client.post(
        "/v1/events", json={"events": [sent("e-1", recommendation_id="r1", context={"device": "tv"})]}
    )
    assert response.status_code == 202
    assert response.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    after = client.post("/v1/recommendations", json=who).json()["items"]
    assert after != before
    assert {taste_of(item["item_id"]) for item in after} == {"crime"}
    assert drain(service.outbox, planted_store) == 1
    assert client.post("/v1/recommendations", json=who).json()["items"] == after
    account = PSEUDONYMS.account("films", "alice@mail.example")
    (event,) = planted_store.history(lone_user(account))
    assert event.context == {"device": "tv", "recommendation_id": "r1"}
    assert event.at.isoformat() == "2026-05-01T10:00:00+00:00"
    assert (event.value, event.weight) == (5.0, 1.0)


def test_the_raw_account_is_written_nowhere(client: TestClient, service: Service, planted_store: Store, caplog):
    client.post("/v1/events", json={"events": [sent("e-1")]})
    client.post("/v1/recommendations", json={"account_id": "films:alice@mail.example"})
    drain(service.outbox, planted_store)
    folder = service.outbox.path.parent
    for path in folder.iterdir():
        if path.is_file():
            assert b"alice" not in path.read_bytes(), path
    assert "alice" not in caplog.text


def test_the_short_form_for_a_user_equals_the_long_one(client: TestClient):
    long = client.post(
        "/v1/recommendations", json={"user_id": SPACE_0.user, "limit": 3, "target_platforms": ["films", "music"]}
    )
    short = client.get(
        f"/v1/users/{SPACE_0.user}/recommendations", params={"limit": 3, "target_platforms": ["films", "music"]}
    )
    assert short.json()["items"] == long.json()["items"]
    assert len(short.json()["items"]) == 3


def test_the_way_to_an_item_goes_over_what_it_requires_and_leaves_out_what_was_had(client: TestClient):
    fields = {"goal_item_id": "films:crime-4"}
    had = [{"item_id": "films:crime-1", "type": "RATED", "value": 5}, {"item_id": "films:crime-3", "type": "VIEWED"}]
    answer = client.post("/v1/paths", json=fields | {"events": had}).json()
    assert [step["item_id"] for step in answer["steps"]] == ["films:crime-2", "films:crime-3", "films:crime-4"]
    assert [step["requires"] for step in answer["steps"]] == [["films:crime-1"], ["films:crime-2"], ["films:crime-3"]]
    assert answer["known_item_ids"] == ["films:crime-1"]
    assert (answer["degraded"], answer["goal_item_id"]) == (False, "films:crime-4")
    whole = client.post("/v1/paths", json=fields | {"user_id": "user:nobody"}).json()
    assert [step["item_id"] for step in whole["steps"]] == [f"films:crime-{n}" for n in range(5)]
    done = client.post("/v1/paths", json={"goal_item_id": "films:crime-1", "events": had}).json()
    assert (done["steps"], done["known_item_ids"]) == ([], ["films:crime-1"])


def test_where_there_is_no_way_it_says_why(client: TestClient):
    who = {"user_id": "user:nobody"}
    problem = assert_problem(client.post("/v1/paths", json=who | {"goal_item_id": "books:crime-3"}), 409, "no-path")
    assert problem["detail"] == (
        "there is no way to books:crime-3: books:crime-0 requires books:crime-1 requires books:crime-0"
    )
    assert_problem(client.post("/v1/paths", json=who | {"goal_item_id": "films:none"}), 404, "unknown-item")
    assert_problem(client.post("/v1/paths", json={"goal_item_id": "films:crime-1"}), 422, "invalid-request")


def test_similar_items(client: TestClient, service: Service):
    response = client.get("/v1/items/films:crime-0/similar", params={"limit": 4, "target_platforms": "books"})
    answer = response.json()
    assert answer["model_version"] == service.recommender.version
    assert [(item["platform"], taste_of(item["item_id"]), item["source"]) for item in answer["items"]] == [
        ("books", "crime", "similar")
    ] * 4


def test_a_filter_fills_the_list_with_items_that_pass_it(client: TestClient):
    fields = {"user_id": SPACE_0.user, "limit": 9, "filter": '"garden" in category and number >= 5'}
    items = client.post("/v1/recommendations", json=fields).json()["items"]
    assert sorted(item["item_id"] for item in items) == sorted(
        f"{platform}:garden-{number}" for platform in ("books", "films", "music") for number in (5, 6, 7)
    )
    short = client.get(f"/v1/users/{SPACE_0.user}/recommendations", params={"limit": 9, "filter": fields["filter"]})
    assert short.json()["items"] == items
    similar = client.get("/v1/items/films:space-0/similar", params={"filter": fields["filter"]}).json()["items"]
    assert {item["item_id"] for item in similar} == {item["item_id"] for item in items}
    on_tv = fields | {"filter": 'context.device == "tv" and number == 7', "context": {"device": "tv"}}
    assert len(client.post("/v1/recommendations", json=on_tv).json()["items"]) == 9
    assert not client.post("/v1/recommendations", json=on_tv | {"context": {}}).json()["items"]


def pages(ask, limit: int) -> list[list[str]]:
    """All pages of a list, as item ids."""
    found, cursor = [], None
    while True:
        answer = ask({"limit": limit} | ({"cursor": cursor} if cursor else {})).json()
        found.append([item["item_id"] for item in answer["items"]])
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


def test_pages_are_of_one_list_whatever_happens_meanwhile_but_what_is_seen_leaves_it(
    client: TestClient, service: Service
):
    who = {"account_id": "films:alice@mail.example", "filter": 'platform == "films"'}
    at_once = client.post("/v1/recommendations", json=who | {"limit": 24}).json()
    assert at_once["next_cursor"] is None
    whole = [item["item_id"] for item in at_once["items"]]
    assert len(whole) == 24
    assert pages(lambda page: client.post("/v1/recommendations", json=who | page), 10) == [
        whole[:10],
        whole[10:20],
        whole[20:],
    ]
    first = client.post("/v1/recommendations", json=who | {"limit": 10}).json()
    client.post("/v1/events", json={"events": [sent("e-1", item_id=whole[12], type="PURCHASED", value=None)]})
    rest = client.post("/v1/recommendations", json=who | {"limit": 20, "cursor": first["next_cursor"]}).json()
    assert [item["item_id"] for item in rest["items"]] == [item for item in whole[10:] if item != whole[12]]
    for item in rest["items"]:
        total = item["base"] + sum(path["contribution"] for path in item["paths"])
        assert total == pytest.approx(item["score"], abs=1e-4)


def test_the_short_form_has_pages_too_and_a_cursor_is_for_its_request_and_model(client: TestClient, service: Service):
    url = f"/v1/users/{SPACE_0.user}/recommendations"
    found = pages(lambda page: client.get(url, params=page), 30)
    items = [item for page in found for item in page]
    assert len(set(items)) == len(items) == 72 - len({*SPACE_0_DID})
    cursor = client.get(url, params={"limit": 30}).json()["next_cursor"]
    for changed in ({"filter": "even"}, {"target_platforms": "films"}, {"diversity": 0.5}):
        response = client.get(url, params={"cursor": cursor, **changed})
        assert assert_problem(response, 422, "invalid-cursor")["errors"][0]["pointer"] == "?cursor"
    assert client.get(url, params={"limit": 7, "explain": False, "cursor": cursor}).status_code == 200
    service.recommender = taste_recommender()
    assert_problem(client.get(url, params={"cursor": cursor}), 410, "cursor-expired")


def test_a_request_names_a_scenario_or_has_the_default_one(client: TestClient, service: Service):
    rules = {"kids": {"filter": "even"}, "default": {"filter": "number == 1"}}
    known = service.recommender
    service.recommender = Recommender(known.bundle, known._ranker, read_scenarios(rules))
    url = "/v1/users/user:a/recommendations"

    def numbers(**params) -> set[str]:
        return {item["item_id"][-1] for item in client.get(url, params={"limit": 100, **params}).json()["items"]}

    assert numbers() == {"1"}
    assert numbers(scenario="kids") == {"0", "2", "4", "6"}
    problem = assert_problem(client.get(url, params={"scenario": "adults"}), 422, "unknown-scenario")
    assert problem["errors"] == [{"pointer": "?scenario", "detail": "there is no scenario adults: use kids, default"}]


def test_a_filter_that_is_none_is_told_with_pointer_and_position(client: TestClient):
    wrong = "number >= 5 and colour == 'red'"
    response = client.post("/v1/recommendations", json={"user_id": "user:a", "filter": wrong})
    (error,) = assert_problem(response, 422, "invalid-filter")["errors"]
    assert (error["pointer"], error["position"]) == ("/filter", 16)
    assert error["detail"].startswith("at character 17: items have no colour")
    for path in ("/v1/users/user:a/recommendations", "/v1/items/films:space-0/similar"):
        (error,) = assert_problem(client.get(path, params={"filter": "number >"}), 422, "invalid-filter")["errors"]
        assert (error["pointer"], error["position"]) == ("?filter", 8)


def test_events_are_accepted_one_by_one(client: TestClient, service: Service):
    events = [
        sent("good"),
        sent("good"),
        sent("no-item", item_id="films:unheard-of"),
        sent("no-type", type="STOLEN"),
        sent("late", occurred_at="2999-01-01T00:00:00Z"),
        sent("naive", occurred_at="2026-05-01T12:00:00"),
        sent("extra", surprise=1),
        sent("nan", account_id="films"),
        {},
        5,
        sent("early", occurred_at="0001-01-01T00:00:00+14:00"),
        sent("nan", context={"n": float("nan")}),
    ]
    body = json.dumps({"events": events})
    response = client.post("/v1/events", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 202
    answer = response.json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    rejected = {one["index"]: one["problem"] for one in answer["rejected"]}
    assert list(rejected) == list(range(2, 12))
    assert [rejected[index]["status"] for index in rejected] == [404, *[422] * 9]
    assert rejected[2]["errors"] == [
        {
            "pointer": "/events/2/item_id",
            "detail": "films:unheard-of is neither in the bundle nor in the store: add the item first",
        }
    ]
    assert rejected[4]["errors"][0]["pointer"] == "/events/4/occurred_at"
    assert rejected[6]["errors"][0]["pointer"] == "/events/6/surprise"
    assert rejected[9]["errors"][0]["pointer"] == "/events/9"
    assert {error["pointer"] for error in rejected[8]["errors"]} >= {"/events/8/event_id", "/events/8/item_id"}
    assert [each.event_id for _, each in service.outbox.pending()] == ["good"]


def test_events_of_an_account_that_was_erased_are_refused_and_none_is_kept(client: TestClient, service: Service):
    gone = service.pseudonyms.account("films", "gone")
    Tombstones(service.outbox.path.parent).add([tombstone(gone.digest)])
    answer = client.post("/v1/events", json={"events": [sent("one"), sent("two", account_id="films:gone")]}).json()
    assert answer["accepted"] == 1
    assert [(one["index"], one["problem"]["status"]) for one in answer["rejected"]] == [(1, 410)]
    assert "gone" not in answer["rejected"][0]["problem"]["detail"]
    assert [each.event_id for _, each in service.outbox.pending()] == ["one"]


def test_an_event_about_an_item_that_only_the_store_knows_is_accepted(
    client: TestClient, service: Service, planted_store: Store
):
    from graph.keys import ItemKey
    from graph.records import Item

    planted_store.upsert_nodes([Item(ItemKey("films", "brand-new"), title="Brand new")])
    answer = client.post("/v1/events", json={"events": [sent("e-1", item_id="films:brand-new")]}).json()
    assert answer["accepted"] == 1


def bad_bodies() -> list:
    item = {"item_id": "films:crime-0", "type": "RATED"}
    return [
        pytest.param({}, "", id="nobody"),
        pytest.param({"user_id": "user:a", "account_id": "films:a"}, "", id="two persons"),
        pytest.param({"user_id": "alice"}, "/user_id", id="user id"),
        pytest.param({"account_id": "Films:alice"}, "/account_id", id="account id"),
        pytest.param({"account_id": "films:a b"}, "/account_id", id="account characters"),
        pytest.param({"account_id": "films:" + "a" * 300}, "/account_id", id="account length"),
        pytest.param({"user_id": "user:a", "limit": 0}, "/limit", id="limit 0"),
        pytest.param({"user_id": "user:a", "limit": 101}, "/limit", id="limit 101"),
        pytest.param({"user_id": "user:a", "diversity": 1.5}, "/diversity", id="diversity"),
        pytest.param({"user_id": "user:a", "scenario": "none"}, "/scenario", id="scenario"),
        pytest.param({"user_id": "user:a", "cursor": "none"}, "/cursor", id="cursor"),
        pytest.param({"user_id": "user:a", "context": {"a b": 1}}, "/context/a b/[key]", id="context"),
        pytest.param({"user_id": "user:a", "target_platforms": []}, "/target_platforms", id="no platform"),
        pytest.param(
            {"user_id": "user:a", "target_platforms": ["radio"]}, "/target_platforms/0", id="unknown platform"
        ),
        pytest.param({"user_id": "user:a", "exclude_item_ids": ["x"]}, "/exclude_item_ids/0", id="item id"),
        pytest.param({"events": []}, "/events", id="no events"),
        pytest.param({"events": [item] * 1001}, "/events", id="1001 events"),
        pytest.param({"events": [item, item | {"type": "rated"}]}, "/events/1/type", id="event type form"),
        pytest.param({"events": [item, item | {"type": "STOLEN"}]}, "/events/1/type", id="event type"),
        pytest.param({"events": [item | {"a/b~c": 1}]}, "/events/0/a~1b~0c", id="pointer is escaped"),
        pytest.param([], "", id="not an object"),
    ]


@pytest.mark.parametrize(("body", "pointer"), bad_bodies())
def test_a_bad_body_is_422_and_points_to_where(client: TestClient, body, pointer: str):
    response = client.post("/v1/recommendations", json=body)
    assert response.status_code == 422
    problem = assert_problem(response, 422, response.json()["type"].rpartition(":")[2])
    assert problem["errors"][0]["pointer"] == pointer


def test_a_body_that_is_not_json_is_422(client: TestClient):
    for body in (b"", b"{", b"\xff\xfe", b'{"user_id": "user:a",}', b"[" * 100_000):
        response = client.post("/v1/recommendations", content=body, headers={"content-type": "application/json"})
        assert_problem(response, 422, "invalid-request")


def test_bad_parameters_are_422_and_named(client: TestClient):
    for query, name in (
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("target_platforms=radio", "target_platforms"),
    ):
        response = client.get(f"/v1/users/user:a/recommendations?{query}")
        problem = assert_problem(response, 422, response.json()["type"].rpartition(":")[2])
        assert problem["errors"][0]["pointer"] == f"?{name}"


def test_ids_in_the_path_are_checked(client: TestClient):
    assert_problem(client.get("/v1/users/films:alice/recommendations"), 422, "invalid-id")
    assert_problem(client.get("/v1/items/nonsense/similar"), 422, "invalid-id")
    assert_problem(client.get("/v1/items/films:unheard-of/similar"), 404, "unknown-item")


def test_what_is_not_there_is_404(client: TestClient):
    for path in ("/", "/v2/recommendations", "/v1/models/a", "/v1/users/a/b/c"):
        assert_problem(client.get(path), 404, "not-found")


def test_another_method_is_405_and_says_which(client: TestClient):
    response = client.get("/v1/recommendations")
    assert "POST" in assert_problem(response, 405, "method-not-allowed")["detail"]
    assert response.headers["allow"] == "POST"


def test_another_content_type_is_415(client: TestClient):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = client.post("/v1/recommendations", content=b"{}", headers={"content-type": kind})
        assert_problem(response, 415, "not-json")


def test_json_with_a_charset_is_json(client: TestClient):
    response = client.post(
        "/v1/recommendations",
        content=b'{"user_id":"user:a"}',
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert response.status_code == 200


def test_a_body_beyond_1_mib_is_413_declared_or_not(client: TestClient):
    headers = {"content-type": "application/json"}
    response = client.post("/v1/events", content=b" " * (MAX_BODY_BYTES + 1), headers=headers)
    assert_problem(response, 413, "body-too-large")
    chunks = (b" " * 65536 for _ in range(17))
    assert_problem(client.post("/v1/events", content=chunks, headers=headers), 413, "body-too-large")
    just = json.dumps({"events": [sent("e-1")]}).encode()
    response = client.post("/v1/events", content=just + b" " * (MAX_BODY_BYTES - len(just)), headers=headers)
    assert response.status_code == 202


def test_a_failure_of_ours_is_500_without_its_secrets(client: TestClient, service: Service, caplog):
    identity = "alice@mail.example"

    class Broken:
        version = "broken"
        bundle = service.recommender.bundle
        scenarios: ClassVar[dict] = {}

        def recommend(self, *_args, **_fields):
            raise ZeroDivisionError(identity)

    service.recommender = Broken()  # type: ignore[assignment]
    response = client.post("/v1/recommendations", json={"user_id": "user:a"})
    problem = assert_problem(response, 500, "internal")
    assert problem["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "alice" not in response.text + caplog.text


def test_an_outbox_that_cannot_be_written_is_503_and_the_event_is_not_acknowledged(
    client: TestClient, service: Service
):
    service.outbox._writer.execute("PRAGMA query_only = ON")
    response = client.post("/v1/events", json={"events": [sent("e-1")]})
    assert_problem(response, 503, "outbox-unavailable")
    assert response.headers["retry-after"] == "5"
    service.outbox._writer.execute("PRAGMA query_only = OFF")
    assert service.outbox.is_empty()
    assert client.post("/v1/events", json={"events": [sent("e-1")]}).json()["accepted"] == 1


def test_while_the_store_is_down_answers_go_on_degraded(client: TestClient, service: Service):
    service.live._gate._first_rest_s = 60.0
    service.live._gate.rest(OSError("planned"))
    assert client.post("/v1/events", json={"events": [sent("e-1")]}).json()["accepted"] == 1
    answer = client.post("/v1/recommendations", json={"account_id": "films:alice@mail.example"}).json()
    assert answer["degraded"]
    assert taste_of(answer["items"][0]["item_id"]) == "crime"
    known = client.post("/v1/recommendations", json={"user_id": SPACE_0.user}).json()
    assert known["degraded"]
    assert known["items"][0]["source"] == "fallback"
    events = {"events": [{"item_id": "films:crime-0", "type": "RATED"}]}
    assert not client.post("/v1/recommendations", json=events).json()["degraded"]
    answer = client.post("/v1/events", json={"events": [sent("e-2", item_id="films:unheard-of")]}).json()
    assert answer["rejected"][0]["problem"]["type"] == "urn:isthmus:problem:store-unavailable"
    assert client.get("/readyz").json()["store"] == "down"


def test_a_store_that_hangs_delays_one_answer_and_is_asked_by_nobody_who_waits(
    client: TestClient, service: Service, monkeypatch
):
    monkeypatch.setattr("serve.service.STORE_TIMEOUT_S", 1.0)
    released = threading.Event()

    class Hanging:
        def user_of(self, _account):
            released.wait(30)

        def close(self) -> None: ...

    service.live._gate._store = Hanging()  # type: ignore[assignment]
    started = time.monotonic()
    for _ in range(3):
        assert client.post("/v1/recommendations", json={"account_id": "films:alice"}).json()["degraded"]
    assert 1.0 <= time.monotonic() - started < 2.0
    released.set()


def test_more_requests_than_there_are_places_are_told_to_come_back(service: Service, monkeypatch):
    monkeypatch.setattr("serve.edge.MAX_IN_FLIGHT", 2)
    release = asyncio.Event()
    past = service.past

    async def slow(person):
        await release.wait()
        return await past(person)

    service.past = slow  # type: ignore[method-assign]

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = [asyncio.create_task(client.get("/v1/users/user:a/recommendations")) for _ in range(3)]
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=5)
            release.set()
            await asyncio.gather(*asked)
            return [task.result() for task in (*done, *(set(asked) - done))]

    first, *others = asyncio.run(run())
    assert_problem(first, 503, "overloaded")
    assert first.headers["retry-after"] == "1"
    assert [response.status_code for response in others] == [200, 200]


def test_the_callers_request_id_is_used_where_it_is_well_formed(client: TestClient):
    assert client.get("/livez", headers={"x-request-id": "abc-123"}).headers["x-request-id"] == "abc-123"
    assert len(client.get("/livez", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]) == 32


def test_swapping_the_bundle_changes_the_version_of_answers(client: TestClient, service: Service):
    service.recommender = taste_recommender("taste-2")
    assert client.post("/v1/recommendations", json={"user_id": "user:a"}).json()["model_version"] == "taste-2"
    assert client.get("/readyz").json() == {"status": "ready", "model_version": "taste-2", "store": "up"}


def test_live_and_ready(client: TestClient, service: Service):
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {
        "status": "ready",
        "model_version": service.recommender.version,
        "store": "up",
    }


def test_the_metrics_page_is_small_and_counts(client: TestClient, service: Service):
    client.post("/v1/recommendations", json={"user_id": "user:a"})
    client.get("/v1/users/user:a/recommendations")
    client.get("/nowhere/alice")
    client.post("/v1/events", json={"events": [sent("e-1"), sent("e-1"), {}]})
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    page = response.text
    for line in (
        'isthmus_requests_total{route="/v1/recommendations",status="200"} 1.0',
        'isthmus_requests_total{route="/v1/users/{user_id}/recommendations",status="200"} 1.0',
        'isthmus_requests_total{route="unknown",status="404"} 1.0',
        'isthmus_recommendations_total{degraded="false",source="fallback"} 2.0',
        'isthmus_events_total{result="accepted"} 1.0',
        'isthmus_events_total{result="duplicate"} 1.0',
        'isthmus_events_total{result="rejected"} 1.0',
        f'isthmus_bundle{{variant="default",version="{service.recommender.version}"}} 1',
        "isthmus_outbox_pending 1",
        "isthmus_store_up 1",
    ):
        assert line in page.splitlines(), line
    assert "alice" not in page
    assert len(page) < 20_000


def test_openapi_describes_bodies_and_problems(client: TestClient):
    document = client.get("/openapi.json").json()
    text = json.dumps(document)
    for ref in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert ref in document["components"]["schemas"], ref
    operation = document["paths"]["/v1/recommendations"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("RecommendationRequest")
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "RecommendationAnswer"
    )
    assert "application/problem+json" in operation["responses"]["422"]["content"]
    assert document["components"]["schemas"]["RecommendationRequest"]["additionalProperties"] is False


def test_the_docs_page_needs_nothing_from_elsewhere(client: TestClient):
    response = client.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    assert "/v1/recommendations" in response.text
    assert "://" not in response.text
    assert "<script" not in response.text
    assert "src=" not in response.text


def test_what_http_acknowledged_survives_kill_9(tmp_path: Path):
    program = textwrap.dedent(
        """
        import socket, sys
        from pathlib import Path
        import uvicorn
        from graph.store import open_store
        from serve.app import create_app
        from serve.live import Live, StoreGate
        from serve.metrics import Metrics
        from serve.outbox import Outbox
        from serve.service import Service
        from tests.serve.conftest import PSEUDONYMS
        from tests.serve.taste import taste_recommender

        outbox = Outbox(Path(sys.argv[1]) / "outbox.db")
        live = Live(outbox, StoreGate(lambda: open_store(f"sqlite:///{sys.argv[1]}/graph.db")))
        service = Service(live, outbox, PSEUDONYMS, Metrics())
        service.recommender = taste_recommender()
        uvicorn.run(create_app(service), fd=int(sys.argv[2]), log_level="critical")
        """
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/events"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(listener.fileno())],
        pass_fds=[listener.fileno()],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    listener.close()
    acknowledged: set[str] = set()

    def send(worker: int) -> None:
        with httpx.Client(timeout=30) as client:
            for n in range(10_000):
                ids = [f"e-{worker}-{n}-{i}" for i in range(20)]
                try:
                    response = client.post(url, json={"events": [sent(id) for id in ids]})
                except httpx.TransportError:
                    return
                assert response.json()["accepted"] == 20
                acknowledged.update(ids)

    try:
        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(send, worker) for worker in range(4)]
            while len(acknowledged) < 600:
                assert not any(worker.done() for worker in workers)
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            for worker in workers:
                worker.result()
    finally:
        process.kill()
        process.wait()
    from serve.outbox import Outbox

    with Outbox(tmp_path / "outbox.db") as outbox:
        kept = {each.event_id for _, each in outbox.pending(10**9)}
    assert acknowledged <= kept
    assert len(kept) % 20 == 0
