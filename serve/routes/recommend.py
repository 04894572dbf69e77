"""Routes of what a person should see: recommendations and similar items."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from graph.keys import AccountKey, ItemKey, Pseudonyms, UserKey
from graph.preference import event_weights
from serve import filters
from serve.api import (
    MAX_LIMIT,
    Context,
    Filter,
    PastEvent,
    PlatformName,
    RecommendationAnswer,
    RecommendationRequest,
    SimilarAnswer,
)
from serve.edge import read_json
from serve.errors import Problem
from serve.live import Past
from serve.recommender import Recommendations, Recommender, Signal
from serve.routes.wire import account_key, answers, body, in_path, parse, send, session_key, unknown_type
from serve.service import Service

BODIES: Final[Sequence[type[BaseModel]]] = [RecommendationRequest]
"""What the routes read, for OpenAPI."""


class _ListParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    target_platforms: list[PlatformName] | None = Field(None, min_length=1, max_length=100)
    filter: Filter | None = None


class _RecommendationParameters(_ListParameters):
    explain: bool = True


def add(app: FastAPI, service: Service) -> None:
    """Let `app` answer them from `service`."""

    @app.post(
        "/v1/recommendations",
        responses=answers(RecommendationAnswer, 408, 413, 415, 422, 503),
        openapi_extra=body(RecommendationRequest),
    )
    async def recommend(request: Request) -> Response:
        """Items for a person: known by user_id, account_id or session_id, or told by events; anybody is answered."""
        asked = parse(RecommendationRequest, await read_json(request))
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
            allowed=_allowed(recommender, asked.filter, "/filter", asked.context),
            explain=asked.explain,
        )
        return _recommendations(service, recommender, found, degraded)

    @app.get("/v1/users/{user_id}/recommendations", responses=answers(RecommendationAnswer, 404, 422, 503))
    async def recommend_to_user(user_id: str, asked: Annotated[_RecommendationParameters, Query()]) -> Response:
        """Items for a person known by user_id, the short form."""
        user = in_path(UserKey.parse, user_id)
        recommender = service.recommender
        past = await service.past(user)
        platforms = _known_platforms(recommender, asked.target_platforms, "?target_platforms")
        found = recommender.recommend(
            _signals(past),
            limit=asked.limit,
            platforms=platforms,
            allowed=_allowed(recommender, asked.filter, "?filter"),
            explain=asked.explain,
        )
        return _recommendations(service, recommender, found, past.degraded)

    @app.get("/v1/items/{item_id}/similar", responses=answers(SimilarAnswer, 404, 422, 503))
    async def similar(item_id: str, asked: Annotated[_ListParameters, Query()]) -> Response:
        """Items like one item, over all platforms or some."""
        item = in_path(ItemKey.parse, item_id)
        recommender = service.recommender
        platforms = _known_platforms(recommender, asked.target_platforms, "?target_platforms")
        if not recommender.knows(item):
            raise Problem(404, "unknown-item", f"the bundle {recommender.version} has no item {item}")
        allowed = _allowed(recommender, asked.filter, "?filter")
        found = recommender.similar(item, limit=asked.limit, platforms=platforms, allowed=allowed)
        return send({"model_version": recommender.version, "items": found.items})


def _person(asked: RecommendationRequest, pseudonyms: Pseudonyms) -> UserKey | AccountKey:
    if asked.user_id is not None:
        return UserKey.parse(asked.user_id)
    if asked.session_id is not None:
        return session_key(asked.session_id, pseudonyms)
    assert asked.account_id is not None  # noqa: S101
    return account_key(asked.account_id, pseudonyms)


def _signals(past: Past) -> list[Signal]:
    weighed = zip(past.events, event_weights(past.events), strict=True)
    return [Signal(event.item, event.type, event.at, weight) for event, weight in weighed]


def _signals_of_request(recommender: Recommender, events: Sequence[PastEvent]) -> list[Signal]:
    now = datetime.now(UTC)
    unknown = [
        (f"/events/{index}/type", unknown_type(recommender, event.type))
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


def _known_platforms(recommender: Recommender, asked: list[str] | None, pointer: str) -> list[str] | None:
    known = recommender.bundle.platforms
    for index, platform in enumerate(asked or ()):
        if platform not in known:
            detail = f"the bundle {recommender.version} has no platform {platform}: use {', '.join(known)}"
            where = pointer if pointer.startswith("?") else f"{pointer}/{index}"
            raise Problem(422, "unknown-platform", detail, errors=[(where, detail)])
    return asked


def _allowed(
    recommender: Recommender, filter: str | None, pointer: str, context: Context | None = None
) -> NDArray[np.bool_] | None:
    if filter is None:
        return None
    try:
        return recommender.allowed(filters.parse(filter), context)
    except filters.FilterError as error:
        raise Problem(422, "invalid-filter", str(error), errors=[(pointer, str(error), error.position)]) from None


def _recommendations(service: Service, recommender: Recommender, found: Recommendations, degraded: bool) -> Response:
    service.metrics.recommendations.labels(found.source, str(degraded).lower()).inc()
    return send(
        {
            "recommendation_id": uuid.uuid4().hex,
            "model_version": recommender.version,
            "variant": "default",
            "degraded": degraded,
            "items": found.items,
        }
    )
