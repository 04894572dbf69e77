"""Routes of what persons did: events are checked one by one and kept before they are acknowledged."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from graph.keys import AccountKey, ItemKey
from graph.records import Event
from serve.api import EventIn, EventsAnswer, EventsRequest
from serve.edge import read_json
from serve.errors import Problem, invalid
from serve.recommender import Recommender
from serve.routes.wire import account_key, answers, body, parse, send, unknown_type
from serve.service import Service, in_pool

BODIES: Final[Sequence[type[BaseModel]]] = [EventsRequest, EventIn]
"""What the routes read, for OpenAPI."""


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
    missing = service.live.missing(sorted(strange)) if strange else set()
    accounts = {index: account_key(event.account_id, service.pseudonyms) for index, event in events.items()}
    erased = service.tombstones.erased(set(accounts.values()))
    kept: list[Event] = []
    for index, event in events.items():
        if accounts[index] in erased:
            problems[index] = Problem(410, "erased-account", "this account was erased: its events are not kept")
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
    accepted = sum(service.outbox.accept(kept))
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
