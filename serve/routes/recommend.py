"""Routes of what a person should see: recommendations, similar items and people, search."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from graph.keys import AccountKey, ItemKey, Pseudonyms, UserKey
from models.plan import PlanError
from serve.api import (
    MAX_LIMIT,
    MAX_SIMILAR_PEOPLE,
    Cursor,
    Diversity,
    Filter,
    PastEvent,
    PathAnswer,
    PathRequest,
    PlatformName,
    RecommendationAnswer,
    RecommendationRequest,
    ScenarioName,
    SimilarAnswer,
    SimilarPeopleAnswer,
    Who,
)
from serve.edge import read_json
from serve.errors import Problem
from serve.people import similar_people
from serve.recommender import Recommender, Signal, signals_of
from serve.routes.wire import (
    account_key,
    allowed_by,
    answers,
    body,
    in_path,
    named_scenario,
    parse,
    send,
    session_key,
    unknown_type,
)
from serve.service import Service
from serve.variants import Variant, Variants

BODIES: Final[Sequence[type[BaseModel]]] = [RecommendationRequest, PathRequest]
"""What the routes read, for OpenAPI."""


class _ListParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    target_platforms: list[PlatformName] | None = Field(None, min_length=1, max_length=100)
    filter: Filter | None = None


class _RecommendationParameters(_ListParameters):
    scenario: ScenarioName | None = None
    diversity: Diversity | None = None
    explain: bool = True
    cursor: Cursor | None = None


class _PeopleParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=MAX_SIMILAR_PEOPLE)


class _SearchParameters(_ListParameters):
    q: str = Field(min_length=1, max_length=1000, description="What is looked for.", examples=["a film about the sea"])


def add(app: FastAPI, service: Service) -> None:
    """Let `app` answer them from `service`."""

    @app.post(
        "/v1/recommendations",
        responses=answers(RecommendationAnswer, 408, 410, 413, 415, 422, 503),
        openapi_extra=body(RecommendationRequest),
    )
    async def recommend(request: Request) -> Response:
        """Items for a person: known by user_id, account_id or session_id, or told by events; anybody is answered."""
        asked = parse(RecommendationRequest, await read_json(request))
        return await _answer(service, asked, "/")

    @app.get("/v1/users/{user_id}/recommendations", responses=answers(RecommendationAnswer, 404, 410, 422, 503))
    async def recommend_to_user(user_id: str, asked: Annotated[_RecommendationParameters, Query()]) -> Response:
        """Items for a person known by user_id, the short form."""
        user = in_path(UserKey.parse, user_id)
        return await _answer(service, RecommendationRequest(user_id=user, **asked.model_dump()), "?")

    @app.get("/v1/items/{item_id}/similar", responses=answers(SimilarAnswer, 404, 422, 503))
    async def similar(item_id: str, asked: Annotated[_ListParameters, Query()]) -> Response:
        """Items like one item, over all platforms or some."""
        item = in_path(ItemKey.parse, item_id)
        recommender = service.recommender
        platforms = _known_platforms(recommender, asked.target_platforms, "?target_platforms")
        if not recommender.knows(item):
            raise Problem(404, "unknown-item", f"the bundle {recommender.version} has no item {item}")
        allowed = allowed_by(recommender, asked.filter, "?filter")
        found = recommender.similar(item, limit=asked.limit, platforms=platforms, allowed=allowed)
        return send({"model_version": recommender.version, "items": found.items})

    @app.get("/v1/search", responses=answers(SimilarAnswer, 422, 503))
    async def search(asked: Annotated[_SearchParameters, Query()]) -> Response:
        """Items by meaning, over all platforms or some, in any language that the text model knows."""
        recommender = service.recommender
        platforms = _known_platforms(recommender, asked.target_platforms, "?target_platforms")
        allowed = allowed_by(recommender, asked.filter, "?filter")
        if service.search is None:
            raise Problem(503, "search-unavailable", "this server has no text model", headers={"Retry-After": "60"})
        cosines = await service.search.cosines(recommender.bundle, asked.q)
        items = recommender.search(cosines, limit=asked.limit, platforms=platforms, allowed=allowed)
        return send({"model_version": recommender.version, "items": items})

    @app.get("/v1/users/{user_id}/similar", responses=answers(SimilarPeopleAnswer, 404, 422, 503))
    async def people(user_id: str, asked: Annotated[_PeopleParameters, Query()]) -> Response:
        """People who want what this person wants, by their pseudonyms alone."""
        user = in_path(UserKey.parse, user_id)
        recommender = service.recommender
        past = await service.past(user)
        found = await service.ask(lambda store: similar_people(store, recommender, user, past.events, asked.limit))
        if found is None:
            raise Problem(503, "store-unavailable", "the store cannot be asked now", headers={"Retry-After": "5"})
        if not past.events:
            raise Problem(404, "unknown-user", f"nothing is known of {user}")
        return send(
            {
                "model_version": recommender.version,
                "users": [
                    {"user_id": str(one.user), "similarity": one.similarity, "shared_items": one.shared_items}
                    for one in found
                    if not service.is_erased(one.user)
                ],
            }
        )

    @app.post(
        "/v1/paths",
        responses=answers(PathAnswer, 404, 408, 409, 413, 415, 422, 503),
        openapi_extra=body(PathRequest),
    )
    async def path(request: Request) -> Response:
        """The items to go through to reach one, each after what it requires, without what the person has had."""
        asked = parse(PathRequest, await read_json(request))
        _, recommender, signals, degraded = await _told(service, service.variants, asked)
        goal = asked.goal_item_id
        if not recommender.knows(goal):
            detail = f"the bundle {recommender.version} has no item {goal}"
            raise Problem(404, "unknown-item", detail, errors=[("/goal_item_id", detail)])
        try:
            steps, known = recommender.plan(signals, goal)
        except PlanError as error:
            circle = " requires ".join(recommender.bundle.items.keys[row] for row in error.circle[:10])
            raise Problem(409, "no-path", f"there is no way to {goal}: {circle}") from None
        return send(
            {
                "model_version": recommender.version,
                "degraded": degraded,
                "goal_item_id": goal,
                "known_item_ids": known,
                "steps": steps,
            }
        )


async def _told(service: Service, variants: Variants, who: Who) -> tuple[Variant, Recommender, list[Signal], bool]:
    """The variant that answers a person, its bundle as it is now, what they did, and whether the store is missing."""
    if who.events is not None:
        variant = variants.of(None)
        recommender = service.shelf.of(variant.recommender)
        return variant, recommender, _signals_of_request(recommender, who.events), False
    past = await service.past(_person(who, service.pseudonyms))
    variant = variants.of(past.user)
    return variant, service.shelf.of(variant.recommender), signals_of(past.events), past.degraded


async def _answer(service: Service, asked: RecommendationRequest, at: str) -> Response:
    """What is said of a request whose fields stand at `at`: / in the body or ? in the query."""
    variants = service.variants
    variant, recommender, signals, degraded = await _told(service, variants, asked)
    scenario = named_scenario(recommender, asked.scenario, f"{at}scenario")
    digest, expires = b"", None
    if asked.cursor is not None:
        digest = _digest(service, asked)
        rest, expires = service.cursors.read(asked.cursor, recommender.version, digest, f"{at}cursor")
        found = recommender.go_on(
            rest,
            signals,
            limit=asked.limit,
            exclude=asked.exclude_item_ids,
            scenario=scenario,
            context=asked.context,
            explain=asked.explain,
        )
    else:
        found = recommender.recommend(
            signals,
            limit=asked.limit,
            platforms=_known_platforms(recommender, asked.target_platforms, f"{at}target_platforms"),
            exclude=asked.exclude_item_ids,
            allowed=allowed_by(recommender, asked.filter, f"{at}filter", asked.context),
            diversity=asked.diversity,
            scenario=scenario,
            context=asked.context,
            explain=asked.explain,
        )
        service.shadow.compare(variants.shadow, signals, found, asked.limit, asked.target_platforms)
    service.metrics.recommendations.labels(found.source, str(degraded).lower()).inc()
    cursor = None
    if len(found.rest):
        cursor = service.cursors.write(recommender.version, digest or _digest(service, asked), found.rest, expires)
    id = uuid.uuid4().hex
    service.feedback.shown(id, variant.name, recommender.version, len(found.items))
    return send(
        {
            "recommendation_id": id,
            "model_version": recommender.version,
            "variant": variant.name,
            "degraded": degraded,
            "items": found.items,
            "next_cursor": cursor,
        }
    )


def _digest(service: Service, asked: RecommendationRequest) -> bytes:
    """Of what has to be the same from page to page."""
    return service.cursors.digest(asked.model_dump_json(exclude={"limit", "explain", "cursor"}).encode())


def _person(asked: Who, pseudonyms: Pseudonyms) -> UserKey | AccountKey:
    if asked.user_id is not None:
        return UserKey.parse(asked.user_id)
    if asked.session_id is not None:
        return session_key(asked.session_id, pseudonyms)
    assert asked.account_id is not None  # noqa: S101
    return account_key(asked.account_id, pseudonyms)


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
        Signal(
            event.item_id, event.type, event.occurred_at or now, recommender.weigh(event.type, event.value), event.value
        )
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
