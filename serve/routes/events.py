"""Routes of what persons did: events, checked one by one and kept before they are acknowledged, and histories."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC
from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graph.keys import AccountKey, ItemKey, UserKey
from graph.records import Event
from serve.api import MAX_LIMIT, EventIn, EventsAnswer, EventsRequest, HistoryAnswer, PlatformName
from serve.edge import read_json
from serve.errors import Problem, invalid
from serve.outbox import Login
from serve.recommender import Recommender
from serve.routes.wire import account_key, answers, body, in_path, parse, send, session_key, unknown_type
from serve.service import Service, in_pool

BODIES: Final[Sequence[type[BaseModel]]] = [EventsRequest, EventIn]
"""What the routes read, for OpenAPI."""


class _HistoryParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    platform: PlatformName | None = None
    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, max_length=1024, description="next_cursor of the page before.")


def add(app: FastAPI, service: Service) -> None:
    """Let `app` answer them from `service`."""

    @app.post(
        "/v1/events",
        status_code=202,
        responses=answers(EventsAnswer, 408, 413, 415, 422, 503, good=202),
        openapi_extra=body(EventsRequest),
    )
    async def keep(request: Request) -> Response:
        """Keep events. They are on disk when this answers, and the same person's next answer has changed."""
        asked = parse(EventsRequest, await read_json(request))
        return send(await in_pool(service.disk_pool, lambda: _keep(service, asked.events)), 202)

    @app.get("/v1/users/{user_id}/events", responses=answers(HistoryAnswer, 404, 422, 503))
    async def history(user_id: str, asked: Annotated[_HistoryParameters, Query()]) -> Response:
        """The newest 5,000 things that a person did over all platforms or on one, newest first, page by page."""
        past = await service.past(in_path(UserKey.parse, user_id))
        before = None if asked.cursor is None else _read_cursor(asked.cursor)
        events = [
            event
            for event in reversed(past.events)
            if asked.platform in {None, event.item.platform} and (before is None or _place(event) < before)
        ]
        page = events[: asked.limit]
        more = len(events) > len(page)
        return send(
            {
                "degraded": past.degraded,
                "events": [_told(event) for event in page],
                "next_cursor": _cursor(page[-1]) if more else None,
            }
        )


def _place(event: Event) -> tuple[float, int, str]:
    """Where an event stands in its person's history; as serve.live orders it."""
    return event.at.timestamp(), -1 if event.sequence is None else event.sequence, event.event_id


def _cursor(event: Event) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(_place(event))).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[float, int, str]:
    try:
        at, sequence, id = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
        return float(at), int(sequence), str(id)
    except (binascii.Error, ValueError, TypeError):
        detail = f"{text[:40]!r} is no cursor: give the next_cursor of the page before, as it came"
        raise Problem(422, "invalid-query", detail, errors=[("?cursor", detail)]) from None


def _told(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": event.type,
        "account": event.account,
        "item_id": event.item,
        "occurred_at": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "value": event.value,
        "context": dict(event.context),
    }


def _keep(service: Service, raw: Sequence[Any]) -> dict[str, Any]:
    recommender = service.recommender
    problems: dict[int, Problem] = {}
    events: dict[int, EventIn] = {}
    for index, fields in enumerate(raw):
        try:
            event = EventIn.model_validate(fields)
        except ValidationError as error:
            problems[index] = invalid(error, f"/events/{index}")
            continue
        if event.type in recommender.event_weights:
            events[index] = event
        else:
            detail = unknown_type(recommender, event.type)
            problems[index] = Problem(422, "unknown-event-type", detail, errors=[(f"/events/{index}/type", detail)])
    strange = {ItemKey.parse(event.item_id) for event in events.values() if not recommender.knows(event.item_id)}
    put = service.outbox.catalogue.find(strange) if strange else {}
    deleted = {key for key, change in put.items() if change.item is None}
    strange -= put.keys()
    missing = service.live.missing(sorted(strange)) if strange else set()
    sessions = {
        index: session_key(event.session_id, service.pseudonyms)
        for index, event in events.items()
        if event.session_id is not None
    }
    accounts = {
        index: sessions[index] if event.account_id is None else account_key(event.account_id, service.pseudonyms)
        for index, event in events.items()
    }
    erased = service.tombstones.erased({*accounts.values(), *sessions.values()})
    kept: list[Event] = []
    logins: list[Login] = []
    for index, event in events.items():
        if erased & {accounts[index], sessions.get(index)}:
            problems[index] = Problem(410, "erased-account", "this account was erased: its events are not kept")
        elif event.item_id in deleted:
            detail = f"{event.item_id} was deleted: put the item again first"
            problems[index] = Problem(404, "unknown-item", detail, errors=[(f"/events/{index}/item_id", detail)])
        elif missing is None and event.item_id in strange:
            problems[index] = Problem(
                503,
                "store-unavailable",
                f"the store cannot be asked whether {event.item_id} exists: send it again later",
            )
        elif missing and event.item_id in missing:
            detail = f"{event.item_id} is neither in the bundle nor in the store: add the item first"
            problems[index] = Problem(404, "unknown-item", detail, errors=[(f"/events/{index}/item_id", detail)])
        else:
            kept.append(_record(event, recommender, accounts[index]))
            if index in sessions and sessions[index] != accounts[index]:
                logins.append(Login(sessions[index], accounts[index], event.occurred_at))
    fresh = service.outbox.accept(kept, logins)
    service.feedback.heard(event for event, new in zip(kept, fresh, strict=True) if new)
    accepted = sum(fresh)
    answer = {
        "accepted": accepted,
        "duplicates": len(kept) - accepted,
        "rejected": [{"index": index, "problem": problems[index].body()} for index in sorted(problems)],
    }
    for result, count in (("accepted", accepted), ("duplicate", len(kept) - accepted), ("rejected", len(problems))):
        service.metrics.events.labels(result).inc(count)
    return answer


def _record(event: EventIn, recommender: Recommender, account: AccountKey) -> Event:
    context = dict(event.context)
    if event.recommendation_id is not None:
        context["recommendation_id"] = event.recommendation_id
    return Event(
        event_id=event.event_id,
        type=event.type,
        account=account,
        item=ItemKey.parse(event.item_id),
        at=event.occurred_at,
        weight=recommender.weigh(event.type, event.value),
        value=event.value,
        context=context,
    )
