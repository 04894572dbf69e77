"""An endpoint of embeddings, asked for real: what it is sent, and every way it can refuse."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

from models.endpoint import ATTEMPTS, BATCH, KEYS, MAX_CHARACTERS, BudgetError, EndpointError, EndpointModel
from models.text import TextEncoder, open_model, vectors_name
from tests.embedding_server import KEY, WIDTH, EmbeddingServer, direction, embedding_server

BUSY = (503, {}, "")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    for variable in KEYS:
        monkeypatch.delenv(variable, raising=False)
    with embedding_server() as server:
        yield server


def model_at(server: EmbeddingServer, **options: Any) -> tuple[EndpointModel, list[float]]:
    """A model that does not wait, and what it would have waited."""
    waits: list[float] = []
    return EndpointModel(f"openai:tiny@{server.url}", sleep=waits.append, **options), waits


def test_texts_become_unit_vectors_in_their_order_whatever_the_order_of_the_answer(server: EmbeddingServer) -> None:
    model, _ = model_at(server)
    texts = ["A comet", "玫瑰园", "A rocket"]
    np.testing.assert_allclose(model.encode(texts), [direction(text) for text in texts], rtol=1e-5)
    assert server.requests == [{"model": "tiny", "input": texts, "encoding_format": "float"}]
    assert server.keys == [None]
    assert (model.dim, model.tokens) == (WIDTH, 1 + 2 + 2)  # of 7, 9 and 8 bytes


def test_no_text_is_no_vector_of_the_same_width(server: EmbeddingServer) -> None:
    assert model_at(server)[0].encode([]).shape == (0, WIDTH)


def test_it_is_opened_by_its_name_like_any_other_and_nothing_is_sent_before_a_text_is(server: EmbeddingServer) -> None:
    model: TextEncoder = open_model(f"openai:tiny@{server.url}")
    assert server.requests == []
    assert model.encode(["A comet"]).shape == (1, WIDTH)


def test_many_and_long_texts_go_in_several_requests_cut_off(server: EmbeddingServer) -> None:
    many = [f"film {number}" for number in range(BATCH + 1)]
    long = ["彗" * (MAX_CHARACTERS + 50)] * 40  # of 3,004 bytes each, 33 of which go into 100,000
    model, _ = model_at(server)
    assert model.encode(many + long).shape == (len(many) + len(long), WIDTH)
    assert [len(request["input"]) for request in server.requests] == [BATCH, 1 + 33, 7]
    assert server.requests[2]["input"] == ["彗" * MAX_CHARACTERS] * 7


@pytest.mark.parametrize("variable", KEYS)
def test_the_key_comes_from_the_environment(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, KEY)
    model_at(server)[0].encode(["A comet"])
    assert server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    "refusal",
    [
        (401, {}, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}})),
        (400, {}, json.dumps({"error": f"I do not like {KEY}"})),
        (422, {}, json.dumps({"detail": "." * 290 + KEY})),
        (400, {}, json.dumps({"message": "A comet: that is no text"})),
        (429, {"retry-after": "9999"}, json.dumps(f"{KEY} is too fast")),
        (429, {}, json.dumps({"error": {"code": "insufficient_quota", "message": f"{KEY} has paid for nothing"}})),
    ],
)
def test_a_refusal_for_good_is_one_sentence_at_once_without_the_key_and_the_texts(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, refusal: Any
) -> None:
    monkeypatch.setenv(KEYS[0], KEY)
    server.refusals = [refusal]
    model, waits = model_at(server)
    with pytest.raises(EndpointError, match=rf"^tiny at {server.url} .*\*\*\*") as raised:
        model.encode(["A comet"])
    assert not any(secret in str(raised.value) + repr(model) for secret in (KEY, KEY[:6], "A comet"))
    assert (len(server.requests), waits) == (1, [])


@pytest.mark.parametrize("body", ["A comet", '{"detail": [{"input": "A comet"}]}', '{"error": {"param": "A comet"}}'])
def test_of_a_refusal_that_is_no_sentence_nothing_is_quoted(server: EmbeddingServer, body: str) -> None:
    server.refusals = [(400, {}, body)]
    with pytest.raises(EndpointError, match=f"^tiny at {server.url} refused: 400 Bad Request$"):
        model_at(server)[0].encode(["A comet"])


def test_a_proxy_of_the_environment_is_not_asked_for_what_is_on_this_machine(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert model_at(server)[0].encode(["A comet"]).shape == (1, WIDTH)


def test_what_is_refused_for_the_moment_is_tried_again_after_longer_and_longer(server: EmbeddingServer) -> None:
    server.refusals = [BUSY, (429, {}, ""), (500, {}, "")]
    model, waits = model_at(server)
    np.testing.assert_allclose(model.encode(["A comet"])[0], direction("A comet"), rtol=1e-5)
    assert len(server.requests) == 4
    assert all(least <= wait <= 1.5 * least for least, wait in zip((0.5, 1, 2), waits, strict=True))


def test_retry_after_is_kept_in_seconds_and_as_a_date(server: EmbeddingServer) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    server.refusals = [(429, {"retry-after": "17"}, ""), (503, {"retry-after": later}, "")]
    model, waits = model_at(server)
    model.encode(["A comet"])
    assert waits[0] == 17
    assert 35 < waits[1] <= 40


def test_an_endpoint_that_stays_busy_is_given_up(server: EmbeddingServer) -> None:
    server.refusals = [BUSY] * (ATTEMPTS + 1)
    model, waits = model_at(server)
    with pytest.raises(EndpointError, match=f"did not answer in {ATTEMPTS} attempts, at last 503 Service Unavailable"):
        model.encode(["A comet"])
    assert (len(server.requests), len(waits)) == (ATTEMPTS, ATTEMPTS - 1)


def test_an_address_where_nobody_listens_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS[0], raising=False)
    monkeypatch.delenv(KEYS[1], raising=False)
    model = EndpointModel("openai:tiny@http://127.0.0.1:1/v1", sleep=lambda _: None)
    with pytest.raises(EndpointError, match="did not answer in 6 attempts, at last ConnectError"):
        model.encode(["A comet"])


def test_a_wrong_path_says_what_to_check(server: EmbeddingServer) -> None:
    with pytest.raises(EndpointError, match="404 no such path; check the model's name and the base URL"):
        EndpointModel(f"openai:tiny@{server.url}/v2").encode(["A comet"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<html>", "something else than embeddings"),
        ('{"data": [{"index": 0}]}', "something else than embeddings"),
        ("[]", "something else than embeddings"),
        ('{"data": []}', "0 vectors for 1 texts"),
        ('{"data": [{"index": 0, "embedding": [0, 0]}]}', "no direction"),
        ('{"data": [{"index": 0, "embedding": [NaN, 1]}]}', "no direction"),
    ],
)
def test_an_answer_that_holds_no_vectors_is_one_sentence(server: EmbeddingServer, body: str, said: str) -> None:
    server.refusals = [(200, {}, body)]
    with pytest.raises(EndpointError, match=said):
        model_at(server)[0].encode(["A comet"])


def test_a_budget_is_never_exceeded_and_what_came_before_its_end_is_there(server: EmbeddingServer) -> None:
    # A text of 16 bytes may take 20 tokens and takes 4: while 20 are left, another one goes.
    texts = [f"a film, number {number % 10}" for number in range(30)]
    model, _ = model_at(server, budget=100)
    got = []
    with pytest.raises(BudgetError, match=r"has used 84 of 100 tokens, and the next text of 20 bytes may take more"):
        got += [vector for batch in model.batches(texts) for vector in batch]
    sent = sum(len(request["input"]) for request in server.requests)
    assert (sent, model.tokens) == (21, 84)


def test_where_the_endpoint_does_not_count_a_byte_counts_as_a_token(server: EmbeddingServer) -> None:
    server.counts = False
    model, _ = model_at(server, budget=60)
    with pytest.raises(BudgetError, match="has used 60 of 60 tokens"):
        model.encode(["a film, number 1"] * 4)  # 16 bytes and 4 for where it begins and ends
    assert sum(len(request["input"]) for request in server.requests) == 3


@pytest.mark.parametrize(
    "name",
    [
        "openai:",
        "openai:tiny@host/v1",
        "openai:tiny@ftp://host/v1",
        "openai:https://host/v1",
        f"openai:tiny@https://me:{KEY}@host/v1",
        f"openai:tiny@https://host/v1?key={KEY}",
        "openai:tiny@https://",
        "openai:a b",
    ],
)
def test_a_name_that_is_no_address_is_refused_without_being_asked_or_shown(name: str) -> None:
    with pytest.raises(EndpointError) as raised:
        open_model(name)
    assert KEY not in str(raised.value)


def test_a_key_does_not_cross_a_network_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS[0], KEY)
    with pytest.raises(EndpointError, match=r"http://192.0.2.1/v1 is not encrypted") as raised:
        open_model("openai:tiny@http://192.0.2.1/v1")
    assert KEY not in str(raised.value)
    open_model("openai:tiny@https://192.0.2.1/v1")


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}é"])
def test_a_key_that_no_header_takes_is_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(KEYS[0], key)
    with pytest.raises(EndpointError, match="has characters that no header takes") as raised:
        open_model("openai:tiny")
    assert KEY not in str(raised.value)


def test_one_name_at_two_endpoints_files_its_vectors_apart() -> None:
    assert vectors_name("openai:text-embedding-3-small") == "openai--text-embedding-3-small"
    assert vectors_name("openai:tiny@https://api.openai.com/v1/") == "openai--tiny"
    first, second = (vectors_name(f"openai:BAAI/bge-m3@https://{host}/v1") for host in ("one.example", "two.example"))
    assert first.startswith("openai--BAAI--bge-m3-")
    assert first != second
