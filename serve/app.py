"""The routes of the HTTP API, version 1, over a service that holds a bundle, the outbox and the way to the store."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from graph.errors import IsthmusError
from graph.keys import AccountKey, ItemKey, Pseudonyms, UserKey
from graph.preference import event_weights
from graph.records import Event
from graph.tombstones import Tombstones
from serve.api import (
    MAX_LIMIT,
    EventIn,
    EventsAnswer,
    EventsRequest,
    PastEvent,
    PlatformName,
    ProblemBody,
    RecommendationAnswer,
    RecommendationRequest,
    SimilarAnswer,
)
from serve.docs_page import docs_page
from serve.edge import Edge, answer_with_problems, read_json
from serve.errors import PROBLEM_JSON, Problem, invalid
from serve.live import Live, Past
from serve.metrics import TEXT, Metrics
from serve.outbox import Outbox
from serve.recommender import Recommendations, Recommender, Signal

STORE_TIMEOUT_S: Final = 2.0
"""How long an answer waits for the store before it goes on without it."""

_Body = TypeVar("_Body", bound=BaseModel)
_T = TypeVar("_T")


@dataclass
class Service:
    """What the routes use."""

    live: Live
    outbox: Outbox
    pseudonyms: Pseudonyms
    metrics: Metrics
    recommender: Recommender = field(init=False)
    """Setting it swaps the bundle: a request ends with the one it began with."""
    store_pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16, "store"))
    """For questions to the store, which may hang."""
    disk_pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "disk"))
    """For the outbox. Ranking stays on the event loop."""

    @cached_property
    def tombstones(self) -> Tombstones:
        """Who was erased on this machine; the store knows of all, and takes nothing of theirs from the outbox."""
        return Tombstones(self.outbox.path.parent)

    @property
    def is_ready(self) -> bool:
        """Whether there is a bundle to answer from."""
        return hasattr(self, "recommender")

    async def past(self, person: UserKey | AccountKey) -> Past:
        """What a person did."""
        if self.live.store_rests:
            return self.live.of(person)
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                return await _in(self.store_pool, lambda: self.live.of(person))
        except TimeoutError:
            late = TimeoutError(f"no answer from the store within {STORE_TIMEOUT_S} s")
            return self.live.without_store(person, late)

    async def keep(self, raw: Sequence[Any]) -> dict[str, Any]:
        """Check events, put the good ones on disk and say what became of each."""
        return await _in(self.disk_pool, lambda: _keep(self, raw))

    async def outbox_counts(self) -> tuple[int, int]:
        """Events on their way, and refused ones."""
        return await _in(self.disk_pool, self.outbox.counts)

    def close(self) -> None:
        """Give back the threads; what they hold is the owner's."""
        self.store_pool.shutdown(wait=False, cancel_futures=True)
        self.disk_pool.shutdown()


def _in(pool: ThreadPoolExecutor, work: Callable[[], _T]) -> asyncio.Future[_T]:
    return asyncio.get_running_loop().run_in_executor(pool, work)


class _ListParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    target_platforms: list[PlatformName] | None = Field(None, min_length=1, max_length=100)


class _RecommendationParameters(_ListParameters):
    explain: bool = True


def create_app(service: Service, *, shows_request_id: bool = True) -> FastAPI:
    """The application over `service`, whose owner closes it; see `Edge` for `shows_request_id`."""
    app = FastAPI(
        title="Isthmus",
        version="1",
        description="What should this person see here, now, and why.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Edge, metrics=service.metrics, shows_request_id=shows_request_id)
    answer_with_problems(app)
    app.add_exception_handler(RequestValidationError, _bad_parameters)

    @app.post(
        "/v1/recommendations",
        responses=_answers(RecommendationAnswer, 408, 413, 415, 422, 503),
        openapi_extra=_body(RecommendationRequest),
    )
    async def recommend(request: Request) -> Response:
        """Items for a person: known by user_id or account_id, or told by events; anybody is answered."""
        asked = _parse(RecommendationRequest, await read_json(request))
        recommender = service.recommender
        if asked.events is not None:
            signals, degraded = _signals_of_request(recommender, asked.events), False
        else:
            past = await service.past(_person(asked, service.pseudonyms))
            signals, degraded = _signals(past), past.degraded
        found = recommender.recommend(
            signals,
            limit=asked.limit,
            platforms=_known_platforms(recommender, asked.target_platforms, "/target_platforms"),
            exclude=asked.exclude_item_ids,
            explain=asked.explain,
        )
        return _recommendations(service, recommender, found, degraded)

    @app.get("/v1/users/{user_id}/recommendations", responses=_answers(RecommendationAnswer, 404, 422, 503))
    async def recommend_to_user(user_id: str, asked: Annotated[_RecommendationParameters, Query()]) -> Response:
        """Items for a person known by user_id, the short form."""
        user = _in_path(UserKey.parse, user_id)
        recommender = service.recommender
        past = await service.past(user)
        platforms = _known_platforms(recommender, asked.target_platforms, "?target_platforms")
        found = recommender.recommend(_signals(past), limit=asked.limit, platforms=platforms, explain=asked.explain)
        return _recommendations(service, recommender, found, past.degraded)

    @app.get("/v1/items/{item_id}/similar", responses=_answers(SimilarAnswer, 404, 422, 503))
    async def similar(item_id: str, asked: Annotated[_ListParameters, Query()]) -> Response:
        """Items like one item, over all platforms or some."""
        item = _in_path(ItemKey.parse, item_id)
        recommender = service.recommender
        platforms = _known_platforms(recommender, asked.target_platforms, "?target_platforms")
        if not recommender.knows(item):
            raise Problem(404, "unknown-item", f"the bundle {recommender.version} has no item {item}")
        found = recommender.similar(item, limit=asked.limit, platforms=platforms)
        return _json({"model_version": recommender.version, "items": found.items})

    @app.post(
        "/v1/events",
        status_code=202,
        responses=_answers(EventsAnswer, 408, 413, 415, 422, 503, good=202),
        openapi_extra=_body(EventsRequest),
    )
    async def keep(request: Request) -> Response:
        """Keep events. They are on disk when this answers, and the same person's next answer has changed."""
        asked = _parse(EventsRequest, await read_json(request))
        return _json(await service.keep(asked.events), 202)

    @app.get("/livez", responses=_answers(None))
    async def livez() -> Response:
        """The process runs."""
        return _json({"status": "alive"})

    @app.get("/readyz", responses=_answers(None, 503))
    async def readyz() -> Response:
        """A bundle is loaded and the outbox can be read; whether the store answers is told, but not needed."""
        await service.outbox_counts()
        store = "up" if service.live.store_is_up else "down"
        return _json({"status": "ready", "model_version": service.recommender.version, "store": store})

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        pending, refused = await service.outbox_counts()
        page = service.metrics.page(
            version=service.recommender.version,
            pending=pending,
            refused=refused,
            store_up=service.live.store_is_up,
        )
        return Response(page, media_type=TEXT)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()))

    _describe_bodies(app)
    return app


def _person(asked: RecommendationRequest, pseudonyms: Pseudonyms) -> UserKey | AccountKey:
    if asked.user_id is not None:
        return UserKey.parse(asked.user_id)
    assert asked.account_id is not None  # noqa: S101
    return _account(asked.account_id, pseudonyms)


def _account(raw: str, pseudonyms: Pseudonyms) -> AccountKey:
    platform, _, id = raw.partition(":")
    return pseudonyms.account(platform, id)


def _signals(past: Past) -> list[Signal]:
    weighed = zip(past.events, event_weights(past.events), strict=True)
    return [Signal(event.item, event.type, event.at, weight) for event, weight in weighed]


def _signals_of_request(recommender: Recommender, events: Sequence[PastEvent]) -> list[Signal]:
    now = datetime.now(UTC)
    unknown = [
        (f"/events/{index}/type", _unknown_type(recommender, event.type))
        for index, event in enumerate(events)
        if event.type not in recommender.event_weights
    ]
    if unknown:
        raise Problem(422, "unknown-event-type", unknown[0][1], errors=unknown[:20])
    signals = [
        Signal(event.item_id, event.type, event.occurred_at or now, recommender.weigh(event.type, event.value))
        for event in events
    ]
    return sorted(signals, key=lambda signal: signal.at)


def _unknown_type(recommender: Recommender, type: str) -> str:
    return f"{type} is not an event type here: use one of {', '.join(sorted(recommender.event_weights))}"


def _known_platforms(recommender: Recommender, asked: list[str] | None, pointer: str) -> list[str] | None:
    known = recommender.bundle.platforms
    for index, platform in enumerate(asked or ()):
        if platform not in known:
            detail = f"the bundle {recommender.version} has no platform {platform}: use {', '.join(known)}"
            where = pointer if pointer.startswith("?") else f"{pointer}/{index}"
            raise Problem(422, "unknown-platform", detail, errors=[(where, detail)])
    return asked


def _recommendations(service: Service, recommender: Recommender, found: Recommendations, degraded: bool) -> Response:
    service.metrics.recommendations.labels(found.source, str(degraded).lower()).inc()
    return _json(
        {
            "recommendation_id": uuid.uuid4().hex,
            "model_version": recommender.version,
            "variant": "default",
            "degraded": degraded,
            "items": found.items,
        }
    )


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
            detail = _unknown_type(recommender, event.type)
            problems[index] = Problem(422, "unknown-event-type", detail, errors=[(f"/events/{index}/type", detail)])
    strange = {ItemKey.parse(event.item_id) for event in events.values() if not recommender.knows(event.item_id)}
    missing = service.live.missing(sorted(strange)) if strange else set()
    accounts = {index: _account(event.account_id, service.pseudonyms) for index, event in events.items()}
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


def _parse(model: type[_Body], body: bytes) -> _Body:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


def _in_path(parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except IsthmusError as error:
        raise Problem(422, "invalid-id", str(error)) from None


def _json(answer: object, status: int = 200) -> Response:
    return Response(orjson.dumps(answer), status, media_type="application/json")


def _bad_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [("?" + str(one["loc"][1]), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
    detail = f"the query does not fit: {errors[0][0][1:]}: {errors[0][1]}"
    return Problem(422, "invalid-query", detail, errors=errors).response(request.url.path, request.state.request_id)


_MEANINGS: Final = {
    404: "There is no such thing.",
    408: "The body came too slowly.",
    413: "The body is larger than 1 MiB.",
    415: "The body is not JSON.",
    422: "The request does not fit; errors point to where.",
    503: "Not now; Retry-After says when.",
}


def _answers(model: type[BaseModel] | None, *problems: int, good: int = 200) -> dict[int | str, dict[str, Any]]:
    answers: dict[int | str, dict[str, Any]] = {good: {} if model is None else {"model": model}}
    schema = {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
    for status in problems:
        answers[status] = {"description": _MEANINGS[status], "content": {PROBLEM_JSON: schema}}
    return answers


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


def _describe_bodies(app: FastAPI) -> None:
    """Bodies are read without FastAPI's help (a quarter of a millisecond less), so their schemas are added here."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            models: list[type[BaseModel]] = [RecommendationRequest, EventsRequest, EventIn, ProblemBody]
            _, extra = models_json_schema(
                [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
            )
            document["components"]["schemas"] |= extra["$defs"]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
