"""The HTTP application, version 1: the edge around the routes, which live in serve.routes by topic."""

from inspect import signature
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.routing import Route, request_response

from serve.access import guard_routes
from serve.docs_page import docs_page
from serve.edge import Edge, answer_with_problems
from serve.errors import Problem
from serve.idempotency import remember_routes
from serve.routes import events, items, jobs, models, operations, people, recommend
from serve.routes.wire import describe
from serve.service import Service

_TOPICS: Final = (recommend, events, items, people, jobs, models, operations)


def create_app(service: Service, *, shows_request_id: bool = True) -> FastAPI:
    """The application over `service`, whose owner closes it; see `Edge` for `shows_request_id`."""
    app = FastAPI(
        title="Isthmus",
        version="1",
        description="What should this person see here, now, and why.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Edge, metrics=service.metrics, guard=service.guard, shows_request_id=shows_request_id)
    answer_with_problems(app)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    for topic in _TOPICS:
        topic.add(app, service)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()))

    describe(app, [*recommend.BODIES, *events.BODIES, *items.BODIES, *jobs.BODIES, *models.BODIES])
    _shorten_routes(app)
    remember_routes(app, service)
    guard_routes(app)
    return app


def _shorten_routes(app: FastAPI) -> None:
    """Call what asks FastAPI for nothing but the request without its search for parameters."""
    for route in app.routes:
        if isinstance(route, Route) and list(signature(route.endpoint).parameters) == ["request"]:
            route.app = request_response(route.endpoint)


def _bad_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [("?" + str(one["loc"][1]), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
    detail = f"the query does not fit: {errors[0][0][1:]}: {errors[0][1]}"
    return Problem(422, "invalid-query", detail, errors=errors).response(request.url.path, request.state.request_id)
