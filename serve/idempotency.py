"""Idempotency keys: a write that is sent again under its key is answered again and not done again.

A key is remembered for a day, together with what was asked and answered. While the first request is at work others
under the key are told to wait (409); another request under it is refused (422). What failed or was refused is
forgotten, so that it can be tried again. Keys and requests are kept as keyed digests; of what is about persons, the
answer is not kept: such a request is done again, which changes nothing.
"""

import asyncio
import hashlib
import re
import time
from typing import Final, NamedTuple

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.database import Database
from serve.edge import read_body
from serve.errors import Problem
from serve.service import Service, in_pool

HEADER: Final = "idempotency-key"
REMEMBERED_S: Final = 24 * 3600
ABANDONED_S: Final = 60
"""A request that has not been answered for so long never will be: its process is gone."""

_KEY: Final = re.compile(r"[!-~]{1,255}")
_WRITES: Final = frozenset({"POST", "PUT", "DELETE"})
_READS: Final = frozenset({"/v1/recommendations"})
_OF_PERSONS: Final = "/v1/users/"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, at REAL NOT NULL, status INTEGER, headers TEXT, body BLOB);
CREATE INDEX IF NOT EXISTS answers_at ON answers (at)
"""


class Answer(NamedTuple):
    """What was answered; without a body where it is not kept."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


class Answers:
    """The table, in the outbox's file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.ensure(_SCHEMA)

    def begin(self, key: str, request: str) -> Answer | None:
        """Take a key for a request, or find what was answered under it. Raises: Problem (409, 422)."""
        now = time.time()
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM answers WHERE at < ? OR (key = ? AND status IS NULL AND at < ?)",
                (now - REMEMBERED_S, key, now - ABANDONED_S),
            )
            row = connection.execute(
                "SELECT request, status, headers, body FROM answers WHERE key = ?", [key]
            ).fetchone()
            if row is None:
                connection.execute("INSERT INTO answers (key, request, at) VALUES (?, ?, ?)", (key, request, now))
                return None
        before, status, headers, body = row
        if before != request:
            raise Problem(422, "idempotency-key", "another request was sent under this Idempotency-Key: give a new one")
        if status is None:
            detail = "the request under this Idempotency-Key is at work: ask again for its answer"
            raise Problem(409, "pending", detail, headers={"Retry-After": "1"})
        return Answer(status, [tuple(pair) for pair in orjson.loads(headers)], body)

    def end(self, key: str, answer: Answer | None) -> None:
        """Keep what was answered; None forgets the key."""
        with self._database.write() as connection:
            if answer is None:
                connection.execute("DELETE FROM answers WHERE key = ?", [key])
            else:
                values = (answer.status, orjson.dumps(answer.headers).decode(), answer.body, key)
                connection.execute("UPDATE answers SET status = ?, headers = ?, body = ? WHERE key = ?", values)


def remember_routes(app: FastAPI, service: Service) -> None:
    """Let every route of `app` that writes heed Idempotency-Key."""
    answers = Answers(service.outbox)
    for route in app.routes:
        if isinstance(route, Route) and _WRITES & set(route.methods or ()) and route.path not in _READS:
            route.app = _remembered(route.app, answers, service)


def _remembered(app: ASGIApp, answers: Answers, service: Service) -> ASGIApp:
    async def remembered(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        given = request.headers.get(HEADER)
        if given is None:
            await app(scope, receive, send)
            return
        if not _KEY.fullmatch(given):
            raise Problem(422, "idempotency-key", "an Idempotency-Key has 1 to 255 visible ASCII characters")
        content = await read_body(request)
        who = scope.get("state", {}).get("key")
        digest = service.pseudonyms.digest
        key = digest("idempotency-key", "" if who is None else who.name, given)
        asked = digest("request", scope["method"], scope["path"], hashlib.sha256(content).hexdigest())
        before = await in_pool(service.disk_pool, lambda: answers.begin(key, asked))
        if before is not None and before.body is not None:
            response = Response(before.body, before.status, dict(before.headers))
            response.headers["Idempotency-Replayed"] = "true"
            await response(scope, receive, send)
            return
        sent: list[Message] = []
        answer: Answer | None = None
        try:
            await app(scope, _replayed(content, receive), _collected(sent))
            answer = _answer(sent, keeps_body=not scope["path"].startswith(_OF_PERSONS))
        finally:
            if before is None:
                await asyncio.shield(in_pool(service.disk_pool, lambda: answers.end(key, answer)))
        for message in sent:
            await send(message)

    return remembered


def _answer(sent: list[Message], *, keeps_body: bool) -> Answer | None:
    start = sent[0]
    if start["status"] >= 400:
        return None
    headers = [(name.decode(), value.decode()) for name, value in start.get("headers", ())]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(start["status"], headers, body if keeps_body else None)


def _collected(sent: list[Message]) -> Send:
    async def collect(message: Message) -> None:
        sent.append(message)

    return collect


def _replayed(content: bytes, receive: Receive) -> Receive:
    """What receives the body that was read already, and then what comes."""
    chunks = [content]

    async def replay() -> Message:
        if chunks:
            return {"type": "http.request", "body": chunks.pop(), "more_body": False}
        return await receive()

    return replay
