"""Routes of the models: which bundles there are, which of them answer, and how that is changed without a stop."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel

from models.bundle import BundleError
from serve.api import ActiveModels, ModelsAnswer, ModelsRequest, RetrainingAnswer
from serve.edge import read_json
from serve.errors import Problem
from serve.follow import Follower
from serve.registry import Choice, Plan, PlanChangedError, Registry, RegistryError
from serve.routes.jobs import instant, told
from serve.routes.wire import answers, body, parse, send
from serve.service import Service, in_pool

BODIES: Final[Sequence[type[BaseModel]]] = [ModelsRequest]
"""What the routes read, for OpenAPI."""


def add(app: FastAPI, service: Service) -> None:
    """Let `app` answer them from `service`."""

    @app.get("/v1/models", responses=answers(ModelsAnswer, 503))
    async def models() -> Response:
        """Which bundles there are, the newest first, and which of them answer. Its ETag is for If-Match."""
        registry = _follower(service).registry
        plan, found = await in_pool(service.disk_pool, lambda: (registry.plan(), registry.manifests()))
        listed = [_described(manifest, manifest["version"] in plan.versions) for manifest in found]
        return _tagged({"active": _active(plan), "models": listed}, plan)

    @app.put(
        "/v1/models/active",
        responses=answers(ActiveModels, 404, 408, 412, 413, 415, 422, 503),
        openapi_extra=body(ModelsRequest),
    )
    async def activate(request: Request) -> Response:
        """Answer from other bundles: one, or several variants by shares of the people, and a shadow shown to nobody.

        No request is lost: each ends with the bundle it began with. The other replicas follow within about a
        second; every answer names its bundle. With If-Match, only if the plan is still the one of that ETag.
        """
        follower = _follower(service)
        asked = parse(ModelsRequest, await read_json(request))
        expected = request.headers.get("if-match")
        if expected is not None:
            expected = expected.strip().removeprefix("W/").strip('"')
        plan = await in_pool(service.disk_pool, lambda: _choose(follower, asked, expected))
        return _tagged(_active(plan), plan)

    @app.get("/v1/retraining", responses=answers(RetrainingAnswer, 503))
    async def retraining() -> Response:
        """Whether the bundle in use should be trained again, and why. POST /v1/jobs {"kind": "retrain"} does it."""
        return send(await in_pool(service.disk_pool, lambda: _retraining(service)))


def _retraining(service: Service) -> dict[str, Any]:
    measured, proposal = service.proposal()
    last, thresholds = service.jobs.newest("retrain"), service.thresholds
    figures: dict[str, Any] = {
        "model_version": None,
        "measured_at": None,
        "trained_on_events": None,
        "new_events": None,
        "new_share": None,
        "drift": None,
        "drift_events": 0,
    }
    if measured is not None:
        figures = {
            "model_version": measured.version,
            "measured_at": instant(datetime.fromtimestamp(measured.at, UTC)),
            "trained_on_events": measured.trained_on,
            "new_events": measured.new,
            "new_share": measured.share,
            "drift": measured.drift or None,
            "drift_events": measured.sampled,
        }
    return {
        "proposed": proposal.proposed,
        "why": proposal.why,
        "mode": service.retrain,
        **figures,
        "thresholds": {
            "new_events": thresholds.events,
            "new_share": thresholds.share,
            "drift": thresholds.drift,
            "cool_down_s": thresholds.cool_down_s,
        },
        "last_job": None if last is None else told(last),
    }


def _choose(follower: Follower, asked: ModelsRequest, if_match: str | None) -> Plan:
    registry = follower.registry
    plan = _plan(registry, asked)
    try:
        follower.choose(plan, if_match=if_match)
    except PlanChangedError as error:
        raise Problem(412, "plan-changed", str(error)) from None
    except BundleError as error:
        raise Problem(422, "damaged-bundle", f"{error}. The bundles in use go on") from None
    return plan


def _plan(registry: Registry, asked: ModelsRequest) -> Plan:
    try:
        if asked.version is not None:
            choices: tuple[Choice, ...] = (Choice.of(registry.path(asked.version)),)
        else:
            choices = tuple(Choice.of(registry.path(one.version), one.name, one.share) for one in asked.variants or ())
        shadow = None if asked.shadow is None else Choice.of(registry.path(asked.shadow), "shadow")
    except BundleError as error:
        raise Problem(404, "unknown-model", str(error)) from None
    try:
        return Plan(choices, shadow, chosen=True)
    except RegistryError as error:
        raise Problem(422, "invalid-request", str(error), errors=[("/variants", str(error))]) from None


def _follower(service: Service) -> Follower:
    assert service.follower is not None  # noqa: S101 - a replica has one
    return service.follower


def _active(plan: Plan) -> dict[str, Any]:
    return {
        "variants": [{"name": one.name, "version": one.version, "share": one.share} for one in plan.variants],
        "shadow": None if plan.shadow is None else plan.shadow.version,
        "chosen": plan.chosen,
    }


def _described(manifest: dict[str, Any], active: bool) -> dict[str, Any]:
    return {
        "version": manifest["version"],
        "active": active,
        "written_at": datetime.fromtimestamp(manifest["written_at"], UTC).isoformat(timespec="seconds"),
        "snapshot": manifest.get("snapshot"),
        "num_items": manifest["num_items"],
        "platforms": manifest["platforms"],
        "validation": manifest.get("validation"),
    }


def _tagged(answer: dict[str, Any], plan: Plan) -> Response:
    response = send(answer)
    response.headers["ETag"] = f'"{plan.tag}"'
    return response
