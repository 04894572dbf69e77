"""Items over HTTP: put a moment ago and recommended, deleted and never served again."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from graph.keys import ItemKey
from graph.store import Store
from serve.app import create_app
from serve.drain import drain
from serve.errors import ServeError
from serve.outbox import Outbox
from serve.recommender import Recommender
from serve.service import Service
from serve.shelf import Reader, Texts, named_model
from tests.planted import TASTES, item_of, taste_of
from tests.serve.test_app import assert_problem, sent

NEW = "films:new-1"


class Tastes:
    """A text model that reads a taste's name, and nothing else."""

    name = "tastes"
    dim = len(TASTES)

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Sequence[str]):
        self.read += texts
        return np.array([[float(taste in text) for taste in TASTES] for text in texts], dtype=np.float32)


@pytest.fixture
def model() -> Tastes:
    return Tastes()


@pytest.fixture
def reader(service: Service, model: Tastes, tmp_path: Path) -> Reader:
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys = service.base.bundle.items.keys
    vectors = pa.array(list(model.encode([taste_of(key) for key in keys])), pa.list_(pa.float32(), model.dim))
    model.read.clear()
    file = tmp_path / "vectors" / "None" / "Item.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"key": pa.array(keys), "vector": vectors}), file)
    texts = Texts(tmp_path / "vectors", lambda name: model, lambda: service.base)
    return Reader(service.outbox.catalogue, service.shelf, tmp_path / "reader.lease", texts)


def listed(client: TestClient, **who) -> list[str]:
    who = who or {"events": [{"item_id": "films:crime-0", "type": "RATED"}]}
    answer = client.post("/v1/recommendations", json=who | {"limit": 100, "target_platforms": ["films"]}).json()
    return [item["item_id"] for item in answer["items"]]


def test_an_item_put_a_moment_ago_is_recommended_to_who_wants_its_like(client: TestClient, reader: Reader):
    answer = client.put(f"/v1/items/{NEW}", json={"title": "A crime story", "attributes": {"number": 9}})
    assert answer.status_code == 201
    assert answer.json()["recommended"] is False
    assert NEW not in listed(client)
    reader.step()
    assert client.get(f"/v1/items/{NEW}").json()["recommended"] is True
    best = [item for item in listed(client) if taste_of(item) == "crime"]
    found = listed(client)
    assert NEW in found[: len(best) + 1]
    assert found.index(NEW) < found.index("films:garden-1")
    answer = client.post(
        "/v1/recommendations",
        json={"events": [{"item_id": "films:crime-0", "type": "RATED"}], "filter": "number > 8", "limit": 3},
    ).json()
    (item,) = answer["items"]
    assert (item["item_id"], item["title"], item["platform"]) == (NEW, "A crime story", "films")
    assert item["base"] + sum(path["contribution"] for path in item["paths"]) == pytest.approx(item["score"], abs=1e-4)


def test_a_page_holds_new_items_by_key_wherever_they_stand_and_leaves_deleted_ones_out(
    client: TestClient, reader: Reader, service: Service
):
    for key in (NEW, "films:newer"):
        client.put(f"/v1/items/{key}", json={"title": "A crime story"})
    reader.step()
    who = {"events": [{"item_id": "films:garden-0", "type": "RATED"}], "target_platforms": ["films"]}
    whole = [item["item_id"] for item in client.post("/v1/recommendations", json=who | {"limit": 100}).json()["items"]]
    cursor = client.post("/v1/recommendations", json=who | {"limit": 1}).json()["next_cursor"]
    gone = next(item for item in whole[1:] if item not in (NEW, "films:newer"))
    client.delete(f"/v1/items/{gone}")
    client.put("/v1/items/films:a", json={"title": "A space story"})
    reader.step()
    base = service.base
    changes = [change for change in service.outbox.catalogue.since(0) if change.item]
    for order in (changes, changes[::-1]):
        service.recommender = base
        other = base.grown(order).without({gone})
        service.shelf.of = lambda _base, other=other: other
        page = client.post("/v1/recommendations", json=who | {"limit": 100, "cursor": cursor}).json()
        assert [item["item_id"] for item in page["items"]] == [item for item in whole[1:] if item != gone]


def test_what_was_done_with_a_new_item_counts_and_it_has_similar_ones(client: TestClient, reader: Reader):
    client.put(f"/v1/items/{NEW}", json={"title": "A crime story"})
    assert client.post("/v1/events", json={"events": [sent("n-1", item_id=NEW)]}).json()["accepted"] == 1
    reader.step()
    found = listed(client, account_id="films:alice@mail.example")
    assert NEW not in found
    similar = client.get(f"/v1/items/{NEW}/similar", params={"limit": 7, "target_platforms": "books"}).json()["items"]
    assert {taste_of(item["item_id"]) for item in similar} == {"crime"}
    similar = client.get("/v1/items/books:crime-0/similar", params={"limit": 100}).json()["items"]
    assert NEW in {item["item_id"] for item in similar}


def test_a_text_is_read_once_and_again_when_it_is_another(client: TestClient, reader: Reader, model: Tastes):
    client.put(f"/v1/items/{NEW}", json={"title": "A crime story"})
    reader.step()
    client.put(f"/v1/items/{NEW}", json={"title": "A crime story", "url": "https://films.example/1"})
    reader.step()
    assert model.read == ["A crime story"]
    client.put(f"/v1/items/{NEW}", json={"title": "A crime story", "text": "in a garden"})
    reader.step()
    assert model.read == ["A crime story", "A crime story. in a garden"]


@pytest.mark.parametrize("read", [False, True])
def test_a_deleted_item_is_never_served_again_not_even_by_another_replica(
    client: TestClient, service: Service, recommender: Recommender, read: bool, reader: Reader
):
    with Outbox(service.outbox.path) as same:
        other = Service(service.live, same, service.pseudonyms, service.metrics)
        other.recommender = recommender
        with TestClient(create_app(other)) as second:
            item = "films:crime-1"
            if read:
                client.put(f"/v1/items/{NEW}", json={"title": "A crime story"})
                reader.step()
                other.shelf.refresh()
                item = NEW
                assert NEW in listed(second)
            assert item in listed(client)
            assert client.delete(f"/v1/items/{item}").status_code == 204
            for each in (client, second):
                assert item not in listed(each)
                assert_problem(each.get(f"/v1/items/{item}/similar"), 404, "unknown-item")
                assert_problem(each.get(f"/v1/items/{item}"), 404, "unknown-item")
                assert item not in {
                    one["item_id"] for one in each.get("/v1/items/films:crime-0/similar?limit=100").json()["items"]
                }
            rejected = client.post("/v1/events", json={"events": [sent("d-1", item_id=item)]}).json()["rejected"]
            assert rejected[0]["problem"]["detail"] == f"{item} was deleted: put the item again first"
            assert_problem(client.delete(f"/v1/items/{item}"), 404, "unknown-item")
            client.put(f"/v1/items/{item}", json={"title": "A crime story"})
            reader.step()
            other.shelf.refresh()
            assert item in listed(second)
        other.close()


def test_items_reach_the_store_and_leave_it_with_their_events(
    client: TestClient, service: Service, planted_store: Store
):
    client.put(
        f"/v1/items/{NEW}",
        json={"title": "New", "text": "Of crime", "created_at": "2026-05-01T00:00:00Z", "attributes": {"year": 2026}},
    )
    assert drain(service.outbox, planted_store) == 0
    (item,) = planted_store.items([ItemKey.parse(NEW)])
    assert (item.title, item.text, item.attributes) == ("New", "Of crime", {"year": 2026})
    assert item.created_at.isoformat() == "2026-05-01T00:00:00+00:00"
    client.put(f"/v1/items/{NEW}", json={"attributes": {"price": 2.5}})
    assert client.get(f"/v1/items/{NEW}").json()["attributes"] == {"year": 2026, "price": 2.5}
    client.post("/v1/events", json={"events": [sent("n-1", item_id=NEW), sent("n-2")]})
    client.delete(f"/v1/items/{NEW}")
    assert service.outbox.catalogue.undrained() != []
    drain(service.outbox, planted_store)
    assert planted_store.items([ItemKey.parse(NEW)]) == []
    assert [event.event_id for event in planted_store.events("RATED", ["n-1", "n-2"])] == ["n-2"]
    assert service.outbox.catalogue.undrained() == []
    planted = item_of("films", "crime", 0)
    assert planted_store.delete_items([planted]) == 1
    assert planted_store.events("RATED", ["n-2"]) == []


def test_a_known_item_keeps_its_place_and_is_200(client: TestClient):
    before = listed(client)
    answer = client.put("/v1/items/films:crime-1", json={"attributes": {"price": 3}})
    assert answer.status_code == 200
    assert answer.json()["title"] == "The detective's last case"
    assert answer.json()["recommended"] is True
    assert listed(client) == before


def test_an_item_without_text_or_of_a_platform_unknown_to_the_bundle_is_kept_but_not_recommended(
    client: TestClient, reader: Reader, model: Tastes
):
    for key, fields in ((NEW, {}), ("radio:1", {"title": "A crime story"})):
        assert client.put(f"/v1/items/{key}", json=fields).status_code == 201
        reader.step()
        assert client.get(f"/v1/items/{key}").json()["recommended"] is False
    assert model.read == []


def test_texts_that_cannot_be_read_are_said_and_stay(service: Service, tmp_path: Path, client: TestClient):
    client.put(f"/v1/items/{NEW}", json={"title": "A crime story"})
    texts = Texts(tmp_path / "none", lambda name: Tastes(), lambda: service.base)
    with pytest.raises(ServeError, match="are not recommended before the next training"):
        Reader(service.outbox.catalogue, service.shelf, tmp_path / "reader.lease", texts).step()
    assert len(service.outbox.catalogue.unread()) == 1


def test_the_thread_brings_items_in_by_itself(client: TestClient, reader: Reader):
    reader.start()
    client.put(f"/v1/items/{NEW}", json={"title": "A crime story"})
    deadline = time.monotonic() + 30
    while NEW not in listed(client):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reader.stop()


def test_a_swapped_bundle_has_what_was_put_from_its_first_answer(
    client: TestClient, service: Service, reader: Reader, tmp_path: Path
):
    from models.bundle import Bundle
    from models.ranker import Ranker
    from tests.serve.tiny import write_tiny_bundle

    client.put(f"/v1/items/{NEW}", json={"title": "A crime story"})
    client.delete("/v1/items/films:crime-1")
    reader.step()
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "bundles", 7))
    service.recommender = Recommender(bundle, Ranker(bundle))
    assert service.recommender.version == bundle.version
    found = listed(client)
    assert NEW in found
    assert "films:crime-1" not in found


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [({"title": ""}, "/title"), ({"price": 3}, "/price"), ({"attributes": {"a": {}}}, "/attributes/a/str")],
)
def test_a_bad_item_is_422(client: TestClient, fields: dict, pointer: str):
    problem = assert_problem(client.put(f"/v1/items/{NEW}", json=fields), 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == pointer
    assert_problem(client.put("/v1/items/nonsense", json={}), 422, "invalid-id")


def test_a_text_model_is_opened_by_the_name_that_its_vectors_have(tmp_path: Path):
    from models.text import vectors_name

    assert named_model("intfloat--multilingual-e5-small", None) == "intfloat/multilingual-e5-small"
    assert named_model(vectors_name(str(tmp_path)), str(tmp_path)) == str(tmp_path)


def test_changes_are_seen_once_each(service: Service):
    catalogue = service.outbox.catalogue
    catalogue.delete(ItemKey.parse(NEW))
    first = catalogue.newest()
    catalogue.delete(ItemKey.parse("films:new-2"))
    assert [(change.key, change.item) for change in catalogue.since(first)] == [("films:new-2", None)]
