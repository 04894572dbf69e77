"""The client over the real application, and against servers that fail."""

import asyncio
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from isthmus_client import AsyncIsthmus, Event, Isthmus, Problem, Unreachable
from serve.access import Guard
from serve.app import create_app
from serve.keys import Keyring, make
from serve.service import Service
from tests.planted import person, taste_of

ROOT = Path(__file__).parents[2]
SPACE_0 = person("space-0")
EVENT: Event = {
    "event_id": "e-1",
    "type": "RATED",
    "account_id": "films:alice@mail.example",
    "item_id": "films:crime-0",
    "occurred_at": datetime(2026, 5, 1, 12, tzinfo=UTC),
    "value": 5,
}


@pytest.fixture
def isthmus(client: TestClient) -> Isthmus:
    return Isthmus("http://testserver", http=client)


def test_answers_are_typed(isthmus: Isthmus):
    found = isthmus.recommend(user_id=SPACE_0.user, limit=3)
    assert len(found.items) == 3
    assert not found.degraded
    for item in found.items:
        assert taste_of(item.item_id) == "space"
        assert item.base is not None
        assert item.paths is not None
        assert item.base + sum(path.contribution for path in item.paths) == pytest.approx(item.score, abs=1e-4)
        assert any(path.event is not None and path.event.at.tzinfo is not None for path in item.paths)
    assert (
        isthmus.recommend(events=[{"item_id": "films:crime-1", "type": "RATED"}], explain=False).items[0].paths is None
    )
    assert taste_of(isthmus.similar("films:crime-0", limit=2, target_platforms=["music"]).items[0].item_id) == "crime"
    assert isthmus.ready().store == "up"


def test_a_refusal_says_where_the_mistake_is(isthmus: Isthmus):
    with pytest.raises(Problem, match=r"422 invalid-request: one mistake in the body; /limit: .*100.* \(request "):
        isthmus.recommend(user_id=SPACE_0.user, limit=1000)


def test_events_are_kept_once_and_refusals_are_told(isthmus: Isthmus):
    kept = isthmus.send([EVENT, EVENT, {**EVENT, "event_id": "e-2", "item_id": "films:unheard-of"}])
    assert (kept.accepted, kept.duplicates) == (1, 1)
    assert [(one.index, one.kind) for one in kept.rejected] == [(2, "unknown-item")]


def test_a_history_comes_page_by_page(isthmus: Isthmus):
    first = isthmus.history(SPACE_0.user, limit=2)
    assert first.next_cursor is not None
    second = isthmus.history(SPACE_0.user, limit=2, cursor=first.next_cursor)
    times = [event.occurred_at for event in (*first.events, *second.events)]
    assert times == sorted(times, reverse=True)
    assert len({event.event_id for event in (*first.events, *second.events)}) == 4


def test_a_problem_is_an_exception_with_all_that_was_told(isthmus: Isthmus):
    with pytest.raises(Problem, match=r"404 unknown-item: .* films:unheard-of") as caught:
        isthmus.similar("films:unheard-of")
    assert caught.value.request_id in str(caught.value)
    with pytest.raises(Problem) as caught:
        isthmus.recommend(user_id="user:a", limit=1000)
    assert caught.value.status == 422
    assert [error["pointer"] for error in caught.value.errors] == ["/limit"]


def test_a_key_is_sent_and_never_shown(service: Service):
    text, key = make("few", ["read"], 0)
    service.guard = Guard(Keyring([key.line()]))
    with TestClient(create_app(service)) as client:
        with pytest.raises(Problem, match="401 no-key"):
            Isthmus("http://testserver", http=client).ready()
        known = Isthmus("http://testserver", key=text, http=client)
        assert known.ready().store == "up"
        with pytest.raises(Problem, match="403 out-of-scope") as caught:
            known.send([EVENT])
        assert text not in repr(known) + str(caught.value)


def test_the_same_asynchronously(service: Service):
    async def ask() -> None:
        transport = httpx.ASGITransport(create_app(service))
        async with AsyncIsthmus(
            "http://test", http=httpx.AsyncClient(transport=transport, base_url="http://test")
        ) as isthmus:
            assert (await isthmus.send([EVENT])).accepted == 1
            lists = await asyncio.gather(
                *(isthmus.recommend(account_id="films:alice@mail.example", limit=2) for _ in range(5))
            )
            assert {taste_of(one.items[0].item_id) for one in lists} == {"crime"}
            assert (await isthmus.similar("films:crime-0", limit=1)).items
            assert (await isthmus.history(SPACE_0.user, limit=1)).events
            assert (await isthmus.request("GET", "/livez")) == {"status": "alive"}
            with pytest.raises(Problem, match="404 not-found"):
                await isthmus.request("GET", "/v1/nothing")

    asyncio.run(ask())


class Failing:
    """Answers with these in turn, and remembers what was asked."""

    def __init__(self, *answers: httpx.Response | type[httpx.TransportError]) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.Response):
            return answer
        raise answer("broken", request=request)


ALIVE = httpx.Response(200, json={"status": "ready", "model_version": "v", "store": "up"})
LATER = {"type": "urn:isthmus:problem:overloaded", "status": 503, "detail": "come back"}


def over(failing: Failing) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(failing), base_url="http://user:geheim@there")


SOON = httpx.Response(503, json=LATER, headers={"Retry-After": "0"})


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.RemoteProtocolError, SOON])
def test_what_fails_once_is_sent_once_more(failure):
    failing = Failing(failure, ALIVE)
    assert Isthmus("http://there", http=over(failing)).ready().model_version == "v"
    assert len(failing.asked) == 2


def test_what_fails_twice_is_told():
    with pytest.raises(Unreachable, match=r"no answer from http://there/readyz: ConnectError") as caught:
        Isthmus("http://there", http=over(Failing(httpx.ConnectError, httpx.ConnectError))).ready()
    assert "geheim" not in str(caught.value)
    refused = Failing(httpx.Response(503, json=LATER), httpx.Response(503, json=LATER, headers={"Retry-After": "7"}))
    with pytest.raises(Problem, match="503 overloaded: come back") as told:
        Isthmus("http://there", http=over(refused)).ready()
    assert told.value.retry_after_s == 7


@pytest.mark.parametrize(("status", "wait"), [(429, "1"), (503, "60"), (422, "0"), (500, "0")])
def test_other_failures_are_not_tried_again(status: int, wait: str):
    failing = Failing(httpx.Response(status, text="<html>", headers={"Retry-After": wait}))
    with pytest.raises(Problem, match=f"{status} blank: the server gave no reason") as caught:
        Isthmus("http://there", http=over(failing)).ready()
    assert caught.value.retry_after_s == float(wait)


def test_a_write_that_is_sent_again_has_the_same_idempotency_key():
    failing = Failing(httpx.ReadTimeout, httpx.Response(202, json={"accepted": 1, "duplicates": 0, "rejected": []}))
    assert Isthmus("http://there", http=over(failing)).send([EVENT]).accepted == 1
    first, second = (request.headers["idempotency-key"] for request in failing.asked)
    assert first == second
    assert len(first) == 32
    assert b"2026-05-01T12:00:00+00:00" in failing.asked[0].content


def test_the_client_needs_httpx_and_nothing_of_the_server():
    declared = tomllib.loads((ROOT / "isthmus_client" / "pyproject.toml").read_text())
    assert [one.partition(">")[0] for one in declared["project"]["dependencies"]] == ["httpx"]
    program = (
        "import sys, isthmus_client; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    of_httpx = {"httpx", "httpcore", "anyio", "certifi", "h11", "h2", "idna", "sniffio", "typing_extensions"}
    ours = {name for name in loaded.stdout.split() if not name.startswith("_")} - of_httpx
    assert "isthmus_client" in ours
    assert not ours & {"graph", "models", "serve", "train", "ingest", "pydantic", "fastapi", "numpy", "torch", "ray"}


def test_the_wheel_of_the_client_holds_its_files():
    declared = tomllib.loads((ROOT / "isthmus_client" / "pyproject.toml").read_text())
    included = set(declared["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    there = {path.name for path in (ROOT / "isthmus_client").iterdir() if path.suffix in {".py", ".typed"}}
    assert included == there
