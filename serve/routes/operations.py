"""Routes for whoever runs the server: liveness, readiness and metrics."""

from fastapi import FastAPI
from fastapi.responses import Response

from serve.metrics import TEXT
from serve.routes.wire import answers, send
from serve.service import Service


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
            version=service.recommender.version,
            pending=pending,
            refused=refused,
            store_up=service.live.store_is_up,
        )
        return Response(page, media_type=TEXT)
