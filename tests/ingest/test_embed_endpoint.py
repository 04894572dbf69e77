"""Embedding through an endpoint: without Ray, and what was embedded before it stopped is kept."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graph.keys import EntityKey, ItemKey
from graph.records import Entity, Item
from graph.store import Store, open_store
from graph.vectors import read_vectors
from ingest.embed import embed
from ingest.errors import IngestError
from models.endpoint import KEYS, BudgetError, EndpointError
from models.text import vectors_name
from tests.embedding_server import KEY, EmbeddingServer, direction, embedding_server

TITLES = {f"f:{number}": f"film number {number}" for number in range(10, 16)}
"""Of 14 bytes: before it is sent one counts for 18 tokens, after it for 3."""
DRAMA = "genre:Drama"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    for variable in KEYS:
        monkeypatch.delenv(variable, raising=False)
    with embedding_server() as server, pytest.MonkeyPatch.context() as without:
        without.setattr("ingest.embed._through_ray", None)
        without.setattr("models.endpoint.BATCH", 2)
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        store.ensure_schema()
        store.upsert_nodes([Item(ItemKey.parse(key), title=title) for key, title in TITLES.items()])
        store.upsert_nodes([Entity(EntityKey("genre", "Drama"), "Drama")])
        yield store


def asked(server: EmbeddingServer) -> list[str]:
    texts = [text for request in server.requests for text in request["input"]]
    server.requests.clear()
    return texts


def kept(var: Path, model: str, label: str = "Item") -> dict[str, list[float]]:
    keys = [*TITLES, DRAMA]
    vectors, present = read_vectors(var / "vectors" / vectors_name(model) / f"{label}.parquet", keys)
    return {key: vectors[row].tolist() for row, key in enumerate(keys) if present[row]}


def test_an_endpoint_embeds_once_what_is_new(store: Store, server: EmbeddingServer, tmp_path: Path) -> None:
    model = f"openai:tiny@{server.url}"
    report = embed(store, tmp_path, model)
    assert (report.embedded, report.tokens) == (7, 6 * 3 + 1)
    assert str(report).endswith("texts/s, 19 tokens")
    assert sorted(asked(server)) == sorted([*TITLES.values(), "Drama"])
    for key, vector in kept(tmp_path, model).items():
        np.testing.assert_allclose(vector, direction(TITLES[key]), rtol=1e-5)
    assert list(kept(tmp_path, model, "Genre")) == [DRAMA]
    assert embed(store, tmp_path, model).tokens is None
    store.upsert_nodes([Item(ItemKey.parse("f:12"), title="another film")])
    assert embed(store, tmp_path, model).embedded == 1
    assert asked(server) == ["another film"]


def test_what_was_embedded_before_the_budget_ended_is_kept_and_not_asked_again(
    store: Store, server: EmbeddingServer, tmp_path: Path
) -> None:
    model = f"openai:tiny@{server.url}"
    # Drama may take 9 and takes 1, a film may take 18 and takes 3: of 27, 26 are left after Drama, then 20, then 17.
    with pytest.raises(BudgetError, match=r"has used 10 of 27 tokens.*4 of 7 new texts are embedded and kept"):
        embed(store, tmp_path, model, budget=27)
    assert asked(server) == ["Drama", *list(TITLES.values())[:3]]
    assert list(kept(tmp_path, model)) == list(TITLES)[:3]
    assert list(kept(tmp_path, model, "Genre")) == [DRAMA]
    assert embed(store, tmp_path, model).embedded == 3
    assert asked(server) == list(TITLES.values())[3:]
    assert list(kept(tmp_path, model)) == list(TITLES)


def test_an_endpoint_that_refuses_midway_loses_nothing_and_shows_no_key(
    store: Store, server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS[0], KEY)
    model = f"openai:tiny@{server.url}"
    embed(store, tmp_path, model)
    store.upsert_nodes([Item(ItemKey.parse(key), title=f"{title}, changed") for key, title in TITLES.items()])
    server.refusals = [(400, {}, json.dumps({"error": {"message": f"no more for {KEY}"}}))]
    with pytest.raises(EndpointError, match="refused: 400 no more for") as raised:
        embed(store, tmp_path, model)
    assert KEY not in str(raised.value)
    assert len(kept(tmp_path, model)) == len(TITLES)  # nothing was embedded, so the files are as they were
    assert embed(store, tmp_path, model).embedded == len(TITLES)
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_what_is_kept_midway_would_survive_a_process_that_is_killed(
    store: Store, server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.embed._KEPT_AFTER", 2)
    model = f"openai:tiny@{server.url}"
    there: list[int] = []
    answer = server.answer
    path = tmp_path / "vectors" / vectors_name(model) / "Item.parquet"
    server.answer = lambda texts: (there.append(len(kept(tmp_path, model)) if path.exists() else 0), answer(texts))[1]
    embed(store, tmp_path, model)
    assert there == [0, 1, 3, 5]  # Drama goes with the first film


def test_another_width_than_before_is_another_model(store: Store, server: EmbeddingServer, tmp_path: Path) -> None:
    model = f"openai:tiny@{server.url}"
    embed(store, tmp_path, model)
    server.width = 4
    store.upsert_nodes([Item(ItemKey.parse("f:12"), title="another film")])
    with pytest.raises(IngestError, match=r"answers 4 numbers a text and its vectors of before have 8"):
        embed(store, tmp_path, model)


def test_a_budget_for_a_model_that_runs_here_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="all-MiniLM-L6-v2 runs here and uses no tokens"):
        embed(store, tmp_path, budget=5)
