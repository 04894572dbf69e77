"""Routes for whoever runs the server: liveness, readiness and metrics."""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from serve import retraining
from serve.api import FeedbackAnswer
from serve.feedback import Total, prometheus
from serve.metrics import TEXT
from serve.routes.wire import answers, send
from serve.service import Service, in_pool


def add(app: FastAPI, service: Service) -> None:
    """Let `app` answer them from `service`."""

    @app.get("/livez", responses=answers(None))
    async def livez() -> Response:
        """The process runs."""
        return send({"status": "alive"})

    @app.get("/readyz", responses=answers(None, 503))
    async def readyz() -> Response:
        """A bundle is loaded and the outbox can be read; whether the store answers is told, but not needed."""
        await service.outbox_counts()
        store = "up" if service.live.store_is_up else "down"
        return send({"status": "ready", "model_version": service.recommender.version, "store": store})

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        pending, refused = await service.outbox_counts()
        page = service.metrics.page(
            variants=((one.name, one.recommender.version, one.share) for one in service.variants.variants),
            pending=pending,
            refused=refused,
            store_up=service.live.store_is_up,
        )
        totals = await in_pool(service.disk_pool, service.feedback.totals)
        proposal = await in_pool(service.disk_pool, service.proposal)
        return Response(page + prometheus(totals) + retraining.prometheus(*proposal), media_type=TEXT)

    @app.get("/v1/metrics/feedback", responses=answers(FeedbackAnswer, 503))
    async def feedback() -> Response:
        """What became of the lists that were answered, by variant and model."""
        totals = await in_pool(service.disk_pool, service.feedback.totals)
        return send({"variants": [_told(total) for total in totals]})


def _told(total: Total) -> dict[str, Any]:
    return {
        "variant": total.variant,
        "model_version": total.model,
        "recommendations": total.lists,
        "items": total.items,
        "clicked": total.clicked,
        "click_through_rate": _share(total.clicked, total.lists),
        "converted": total.converted,
        "conversion_rate": _share(total.converted, total.lists),
        "ratings": total.ratings,
        "mean_rating": _share(total.rating_sum, total.ratings),
        "survey_answers": total.surveys,
        "mean_survey_answer": _share(total.survey_sum, total.surveys),
    }


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
