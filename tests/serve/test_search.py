"""Search by meaning and similar people: over ASGI, with a text model that knows words and the planted store."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from graph.keys import AccountKey, ItemKey, lone_user, tombstone
from graph.records import Item
from graph.tombstones import Tombstones
from models.text import TextError
from serve.app import create_app
from serve.catalogue import Change
from serve.search import Search
from serve.service import Service
from tests.planted import TASTES, person, taste_of
from tests.serve.test_app import assert_problem

SPACE_0 = person("space-0")


class Words:
    """A vector of which tastes a text names; says so often as it is asked."""

    name, dim = "words", len(TASTES)

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts):
        self.asked += texts
        found = np.array([[taste in text for taste in TASTES] for text in texts], np.float32)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
def searching(service: Service, words: Words, tmp_path: Path) -> Iterator[TestClient]:
    keys = [key for key in service.base.bundle.items.keys if key != "films:space-1"]
    vectors = pa.array(list(words.encode([taste_of(key) for key in keys])), pa.list_(pa.float32(), words.dim))
    words.asked.clear()
    file = tmp_path / "vectors" / "words" / "Item.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"key": pa.array(keys), "vector": vectors}), file)
    service.base.bundle.manifest["text_model"] = "words"
    service.search = Search(tmp_path / "vectors", lambda name: words)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client
    service.base.bundle.manifest.pop("text_model")


def found(client: TestClient, **params) -> list[str]:
    response = client.get("/v1/search", params=params)
    assert response.status_code == 200, response.text
    assert {item["source"] for item in response.json()["items"]} <= {"search"}
    return [item["item_id"] for item in response.json()["items"]]


def test_what_reads_like_what_is_looked_for_comes_first(searching: TestClient, words: Words):
    whole = found(searching, q="stories of space", limit=100)
    assert {taste_of(item) for item in whole[:23]} == {"space"}
    assert "films:space-1" not in whole, "it has no text"
    assert len(whole) == 71
    assert set(found(searching, q="stories of space", target_platforms="films", filter="number < 4")[:3]) == {
        "films:space-0",
        "films:space-2",
        "films:space-3",
    }
    assert words.asked == ["stories of space"]


def test_an_item_that_was_put_is_found_by_its_stand_ins_and_a_deleted_one_is_not(
    searching: TestClient, service: Service
):
    new = Item(ItemKey("films", "new"))
    grown = service.base.grown([Change(1, new.key, new, {"films:crime-0": 0.9, "films:space-0": 0.1}, None)])
    service.shelf.of = lambda base: grown.without({"films:crime-1"})
    films = found(searching, q="crime", target_platforms="films", limit=100)
    assert set(films[:8]) == {f"films:crime-{n}" for n in range(8) if n != 1} | {"films:new"}
    assert "films:crime-1" not in films


def test_without_a_model_that_can_be_used_search_alone_is_503(searching: TestClient, service: Service):
    def hidden(name: str):
        raise TextError("/a/path is no folder")

    service.search = Search(service.search._vectors, hidden)
    problem = assert_problem(searching.get("/v1/search?q=space"), 503, "search-unavailable")
    assert "/a/path" not in str(problem)
    service.base.bundle.manifest["text_model"] = "others"
    assert_problem(searching.get("/v1/search?q=space"), 503, "search-unavailable")
    service.search = None
    response = searching.get("/v1/search?q=space")
    assert_problem(response, 503, "search-unavailable")
    assert response.headers["retry-after"]
    assert searching.get("/v1/items/films:space-0/similar").status_code == 200


def test_a_model_that_is_slow_holds_up_nobody_and_is_there_for_who_comes_back(
    searching: TestClient, service: Service, words: Words, monkeypatch
):
    def slow(name: str) -> Words:
        time.sleep(0.4)
        return words

    monkeypatch.setattr("serve.search.TIMEOUT_S", 0.1)
    service.search = Search(service.search._vectors, slow)
    assert_problem(searching.get("/v1/search?q=space"), 503, "search-busy")
    time.sleep(0.5)
    assert taste_of(found(searching, q="space")[0]) == "space"


@pytest.mark.parametrize("params", [{}, {"q": ""}, {"q": "x" * 1001}, {"q": "x", "limit": 0}])
def test_a_search_for_nothing_or_too_much_is_422(searching: TestClient, params: dict):
    assert_problem(searching.get("/v1/search", params=params), 422, "invalid-query")


def test_people_alike_are_of_one_taste_and_told_by_pseudonyms_alone(client: TestClient, service: Service):
    answer = client.get(f"/v1/users/{SPACE_0.user}/similar", params={"limit": 8}).json()
    assert answer.keys() == {"model_version", "users"}
    users = answer["users"]
    known = {str(person(f"space-{n}").user) for n in range(1, 12)} | {str(person("space-newcomer").user)}
    known.add(str(lone_user(AccountKey("music", "stray"))))
    assert {one["user_id"] for one in users} <= known
    assert len(users) == 8
    similarities = [one["similarity"] for one in users]
    assert similarities == sorted(similarities, reverse=True)
    assert all(one.keys() == {"user_id", "similarity", "shared_items"} and one["shared_items"] > 0 for one in users)
    gone = users[0]["user_id"]
    Tombstones(service.outbox.path.parent).add([tombstone(gone.partition(":")[2])])
    again = client.get(f"/v1/users/{SPACE_0.user}/similar", params={"limit": 8}).json()["users"]
    assert gone not in {one["user_id"] for one in again}
    assert_problem(client.get("/v1/users/user:nobody/similar"), 404, "unknown-user")


def test_people_cannot_be_asked_for_while_the_store_is_down(client: TestClient, service: Service):
    service.live._gate._first_rest_s = 60.0
    service.live.rest(TimeoutError("down"))
    assert_problem(client.get(f"/v1/users/{SPACE_0.user}/similar"), 503, "store-unavailable")
