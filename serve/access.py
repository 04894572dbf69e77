"""Who may ask what: the scope that each route needs, and the guard that asks every request for a key with it."""

import math
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import PROBLEM_JSON, Problem, ServeError
from serve.keys import Key, Keyring
from serve.keys import Scope as Right
from serve.quota import Quota

OPEN: Final = frozenset({"/livez"})
"""The one path that answers without a key: whether the process runs."""

NEEDED: Final[Mapping[str, Right]] = {
    "GET /readyz": "read",
    "GET /v1/models": "read",
    "PUT /v1/models/active": "admin",
    "GET /v1/retraining": "read",
    "GET /metrics": "read",
    "GET /docs": "read",
    "GET /openapi.json": "read",
    "POST /v1/recommendations": "read",
    "GET /v1/users/{user_id}/recommendations": "read",
    "GET /v1/users/{user_id}/events": "read",
    "GET /v1/users/{user_id}/similar": "read",
    "GET /v1/items/{item_id}/similar": "read",
    "GET /v1/search": "read",
    "POST /v1/paths": "read",
    "POST /v1/events": "write",
    "GET /v1/metrics/feedback": "read",
    "GET /v1/users/{user_id}": "read",
    "PUT /v1/users/{user_id}": "write",
    "DELETE /v1/users/{user_id}": "admin",
    "PUT /v1/users/{user_id}/accounts/{account_id}": "write",
    "DELETE /v1/users/{user_id}/accounts/{account_id}": "write",
    "POST /v1/jobs": "admin",
    "GET /v1/jobs/{job_id}": "read",
    "GET /v1/jobs/{job_id}/rejects": "read",
    "GET /v1/items/{item_id}": "read",
    "PUT /v1/items/{item_id}": "write",
    "DELETE /v1/items/{item_id}": "write",
}
"""The scope that each route needs. The server does not start with a route that is not here."""


class Guard:
    """Asks each request for its key and counts it; without keys everybody on this machine may do everything."""

    def __init__(self, keyring: Keyring | None = None, quota: Quota | None = None) -> None:
        self._keyring = Keyring() if keyring is None else keyring
        self._quota = quota

    def check(self, scope: Scope) -> None:
        """Raise Problem (401, 429) for a request that may not go on; else its key is in the request's state."""
        if scope["path"] in OPEN or not self._keyring.are_needed():
            return
        key = self._keyring.find(dict(scope["headers"]).get(b"authorization", b""))
        if key is None:
            raise Problem(
                401,
                "no-key",
                "this needs a key that is valid here: send it as Authorization: Bearer isthmus_…",
                headers={"WWW-Authenticate": 'Bearer realm="isthmus"'},
            )
        wait_s = None if self._quota is None else self._quota.take(key)
        if wait_s is not None:
            raise Problem(
                429,
                "rate-limit",
                f"the key {key.name} may ask {key.per_minute} times a minute: go on after Retry-After",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )
        scope.setdefault("state", {})["key"] = key

    def close(self) -> None:
        """Give back what it counts in."""
        if self._quota is not None:
            self._quota.close()


def guard_routes(app: FastAPI) -> None:
    """Let every route of `app` ask for the scope that it needs; ServeError for one that says none."""
    for route in app.routes:
        if not isinstance(route, Route):
            raise ServeError(f"{route} is no route with a path and methods of its own: no scope can be asked for it")
        if route.path not in OPEN:
            route.app = _guarded(route.app, _rights(route))

    _describe(app)


def _rights(route: Route) -> dict[str, Right]:
    rights: dict[str, Right] = {}
    for method in sorted(route.methods or ()):
        needed = NEEDED.get(f"{'GET' if method == 'HEAD' else method} {route.path}")
        if needed is None:
            raise ServeError(f"{method} {route.path} has no scope: say in serve.access.NEEDED which one it needs")
        rights[method] = needed
    return rights


def _guarded(app: ASGIApp, rights: Mapping[str, Right]) -> ASGIApp:
    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        state: Mapping[str, Any] = scope.get("state", {})
        key: Key | None = state.get("key")
        needed = rights[scope["method"]]
        if key is not None and needed not in key.scopes:
            raise Problem(403, "out-of-scope", f"this needs the scope {needed}, which the key {key.name} does not have")
        await app(scope, receive, send)

    return guarded


_MEANINGS: Final[Mapping[str, str]] = {
    "401": "There is no valid key, and this server asks for one.",
    "403": "The key does not have the scope that this needs.",
    "429": "The key has asked as often as it may this minute; Retry-After says when to go on.",
    "503": "Not now; Retry-After says when.",
}


def _describe(app: FastAPI) -> None:
    """Let OpenAPI say which scope each operation needs, and what any of them answers besides its own."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        problem = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                for status, meaning in _MEANINGS.items():
                    if path not in OPEN or status == "503":
                        operation["responses"].setdefault(status, {"description": meaning, "content": problem})
                if path not in OPEN:
                    operation["security"] = [{"key": []}]
                    operation["x-scope"] = NEEDED[f"{method.upper()} {path}"]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
