from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import Mount, Route

from serve.access import NEEDED, OPEN, Guard, guard_routes
from serve.app import create_app
from serve.errors import ServeError
from serve.keys import SCOPES, Keyring, make
from serve.quota import Quota
from serve.service import Service
from tests.serve.test_app import assert_problem

LIMIT = 6
KEYS = {scope: make(scope, [scope], 0) for scope in SCOPES}
FEW, FEW_KEY = make("few", SCOPES, LIMIT)


@pytest.fixture
def guarded(service: Service, tmp_path: Path) -> Iterator[TestClient]:
    keyring = Keyring([*(key.line() for _, key in KEYS.values()), FEW_KEY.line()])
    service.guard = Guard(keyring, Quota(tmp_path / "quota"))
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def asked(client: TestClient) -> list[tuple[str, str, str]]:
    """Method, path as declared and a path to ask, of every route that the application has."""
    routes = [route for route in client.app.routes if isinstance(route, Route)]  # type: ignore[attr-defined]
    found = [
        (method, route.path, "/".join("films:a" if "{" in part else part for part in route.path.split("/")))
        for route in routes
        for method in sorted(route.methods or ())
    ]
    assert len(found) > 8
    return found


def test_every_route_but_liveness_answers_401_without_a_key(guarded: TestClient):
    for headers in ({}, bearer("isthmus_guessed"), {"Authorization": "Basic Zm9v"}):
        for method, path, example in asked(guarded):
            response = guarded.request(method, example, headers=headers)
            if path in OPEN:
                assert response.status_code == 200
                continue
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert_problem(response, 401, "no-key")
    assert {"/livez"} == OPEN


def test_what_is_not_there_is_not_told_without_a_key(guarded: TestClient):
    assert_problem(guarded.get("/v1/nothing"), 401, "no-key")
    assert_problem(guarded.delete("/v1/recommendations"), 401, "no-key")
    assert_problem(guarded.get("/v1/nothing", headers=bearer(KEYS["read"][0])), 404, "not-found")


def test_a_key_without_the_scope_of_a_route_gets_403_and_one_with_it_does_not(guarded: TestClient):
    refused = 0
    for method, path, example in asked(guarded):
        needed = NEEDED.get(f"{'GET' if method == 'HEAD' else method} {path}")
        for scope, (text, _) in KEYS.items():
            response = guarded.request(method, example, headers=bearer(text))
            if path in OPEN or scope == needed:
                assert response.status_code not in (401, 403), (method, path, scope)
            else:
                assert response.status_code == 403, (method, path, scope)
                refused += 1
                if method != "HEAD":
                    problem = assert_problem(response, 403, "out-of-scope")
                    assert problem["detail"] == f"this needs the scope {needed}, which the key {scope} does not have"
    assert refused == 2 * (len(asked(guarded)) - len(OPEN))


def test_a_refused_request_has_done_nothing(guarded: TestClient, service: Service):
    event = {"event_id": "e", "type": "RATED", "account_id": "films:a", "item_id": "films:crime-0"}
    body = {"events": [event | {"occurred_at": "2026-05-01T12:00:00Z"}]}
    for headers in ({}, bearer(KEYS["read"][0])):
        assert guarded.post("/v1/events", json=body, headers=headers).status_code in (401, 403)
    assert service.outbox.counts() == (0, 0)
    assert guarded.post("/v1/events", json=body, headers=bearer(KEYS["write"][0])).json()["accepted"] == 1


def test_one_request_more_than_the_limit_gets_429_and_other_keys_do_not(guarded: TestClient):
    statuses = [guarded.get("/readyz", headers=bearer(FEW)).status_code for _ in range(LIMIT)]
    assert statuses == [200] * LIMIT
    response = guarded.get("/readyz", headers=bearer(FEW))
    problem = assert_problem(response, 429, "rate-limit")
    assert problem["detail"].startswith(f"the key few may ask {LIMIT} times a minute")
    assert 0 < int(response.headers["retry-after"]) <= 60
    assert guarded.get("/readyz", headers=bearer(KEYS["read"][0])).status_code == 200
    assert guarded.get("/livez").status_code == 200


def test_no_key_is_in_a_log_an_error_or_the_metrics(guarded: TestClient, caplog):
    caplog.set_level("DEBUG")
    said = [guarded.get(path, headers=bearer(FEW)).text for path in ("/v1/nothing", "/readyz", "/metrics")]
    said += [guarded.get("/metrics", headers=bearer(KEYS["read"][0])).text, caplog.text]
    for text in said:
        assert FEW not in text
        assert FEW_KEY.digest.hex() not in text


def test_a_server_without_keys_answers_everybody_who_reaches_it(client: TestClient):
    assert client.get("/readyz").status_code == 200
    assert client.get("/readyz", headers=bearer("isthmus_any")).status_code == 200


def test_openapi_tells_the_scope_of_every_operation(client: TestClient):
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path in OPEN:
                assert "security" not in operation
                continue
            assert operation["security"] == [{"key": []}]
            assert operation["x-scope"] == NEEDED[f"{method.upper()} {path}"]
            assert {"401", "403", "429"} <= operation["responses"].keys()


def test_every_scope_that_is_listed_is_that_of_a_route(client: TestClient):
    there = {f"{method} {path}" for method, path, _ in asked(client)}
    assert not NEEDED.keys() - there


def test_a_route_without_a_scope_does_not_start():
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/v1/forgotten")
    async def forgotten() -> None: ...

    with pytest.raises(ServeError, match=r"GET /v1/forgotten has no scope: say in serve\.access\.NEEDED"):
        guard_routes(app)


def test_a_part_of_the_application_that_hides_its_routes_does_not_start():
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.routes.append(Mount("/hidden", app=FastAPI()))
    with pytest.raises(ServeError, match="no scope can be asked for it"):
        guard_routes(app)
