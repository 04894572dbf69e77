"""The edge of the HTTP server: every request gets an id, a place or a 503, a check of its key,
a size limit, and an answer in one form."""

import asyncio
import logging
import re
import time
import traceback
import uuid
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access import Guard
from serve.api import MAX_BODY_BYTES
from serve.errors import OutboxError, Problem
from serve.metrics import Metrics

MAX_IN_FLIGHT: Final = 128
"""Requests one replica works on; one more is told to come back."""
BODY_TIMEOUT_S: Final = 10.0

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_LOG = logging.getLogger("isthmus.serve")


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, guard: Guard, shows_request_id: bool = True) -> None:
        """
        Args:
            shows_request_id: whether answers get an X-Request-ID from here; Ray Serve's server adds one itself.
        """
        self._app = app
        self._metrics = metrics
        self._guard = guard
        self._shows_request_id = shows_request_id
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._shows_request_id:
                    message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        self._in_flight += 1
        try:
            if self._in_flight > MAX_IN_FLIGHT:
                raise Problem(
                    503, "overloaded", "the server has as much to do as it can; try again", headers={"Retry-After": "1"}
                )
            self._guard.check(scope)
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = 499
        except Problem as refused:
            await refused.response(scope["path"], request_id)(scope, receive, send_with_id)
        except Exception as error:
            _log(error, request_id)
            if status:
                raise
            problem = Problem(500, "internal", "the server failed; its log tells more under this request_id")
            await problem.response(scope["path"], request_id)(scope, receive, send_with_id)
        finally:
            self._in_flight -= 1
            route = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - started
            self._metrics.requests.labels(route, status or 499).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            if _LOG.isEnabledFor(logging.INFO):
                key = scope["state"].get("key")
                said = {
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status or 499,
                    "ms": round(1000 * seconds, 1),
                    "key": None if key is None else key.name,
                }
                _LOG.info("request", extra=said)


def answer_with_problems(app: FastAPI) -> None:
    """Let every error that is raised in a route, or by the router, become problem+json."""

    def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101
        return error.response(request.url.path, request.state.request_id)

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        if error.status_code == 404:
            found = Problem(404, "not-found", f"there is nothing at {request.url.path}; /docs lists what there is")
        elif error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "other methods")
            found = Problem(
                405,
                "method-not-allowed",
                f"{request.method} is not for {request.url.path}: use {allowed}",
                headers=error.headers,
            )
        else:
            found = Problem(error.status_code, "http", str(error.detail), headers=error.headers)
        return problem(request, found)

    def outbox(request: Request, error: Exception) -> Response:
        _log(error, request.state.request_id)
        detail = "events cannot be kept now, none of these was; send them again later"
        return problem(request, Problem(503, "outbox-unavailable", detail, headers={"Retry-After": "5"}))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(OutboxError, outbox)


async def read_json(request: Request) -> bytes:
    """The body of a request that says it is JSON, not larger than 1 MiB and not slower than 10 s; raises Problem."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "not-json", f"the body's Content-Type is {kind or 'missing'}: send application/json")
    return await read_body(request)


async def read_body(request: Request) -> bytes:
    """The body of a request, not larger than 1 MiB and not slower than 10 s; raises Problem."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise _too_large()
                chunks.append(chunk)
    except TimeoutError:
        raise Problem(408, "slow-body", f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None
    return b"".join(chunks)


def _too_large() -> Problem:
    return Problem(
        413,
        "body-too-large",
        f"a body may have {MAX_BODY_BYTES} bytes (1 MiB): send it in parts",
        headers={"Connection": "close"},
    )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return uuid.uuid4().hex


def _log(error: Exception, request_id: str) -> None:
    """Where it failed, but not the error's own text: that may quote an identity from the request."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    said = f": {error}" if isinstance(error, OutboxError) else ""
    told = {"request_id": request_id}
    _LOG.error("request %s failed with %s%s\n%s", request_id, type(error).__name__, said, frames, extra=told)
