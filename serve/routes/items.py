"""Routes of items: put, shown, deleted. A change is on the disk when it is answered, and counts from then on."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel

from graph.keys import ItemKey
from graph.records import Item
from serve.api import ItemAnswer, ItemIn
from serve.edge import read_json
from serve.errors import Problem
from serve.routes.wire import answers, body, in_path, parse, send
from serve.service import Service, in_pool

BODIES: Final[Sequence[type[BaseModel]]] = [ItemIn]
"""What the routes read, for OpenAPI."""


def add(app: FastAPI, service: Service) -> None:
    """Let `app` answer them from `service`."""

    @app.put(
        "/v1/items/{item_id}",
        responses=answers(ItemAnswer, 408, 413, 415, 422, 503) | answers(ItemAnswer, good=201),
        openapi_extra=body(ItemIn),
    )
    async def put(item_id: str, request: Request) -> Response:
        """Keep an item. It is recommended as soon as its text has been read, which takes a second or two."""
        key = in_path(ItemKey.parse, item_id)
        said = parse(ItemIn, await read_json(request))
        item = Item(key, said.title, said.text, said.url, said.created_at, dict(said.attributes))
        before, degraded = await _find(service, key)
        await in_pool(service.disk_pool, lambda: service.outbox.catalogue.put(item))
        answer = _told(service, _joined(before, item), degraded)
        return send(answer) if before is not None else send(answer, 201)

    @app.get("/v1/items/{item_id}", responses=answers(ItemAnswer, 404, 422, 503))
    async def get(item_id: str) -> Response:
        """An item as it is now."""
        key = in_path(ItemKey.parse, item_id)
        item, degraded = await _find(service, key)
        if item is None:
            raise _unknown(key)
        return send(_told(service, item, degraded))

    @app.delete("/v1/items/{item_id}", status_code=204, responses=answers(None, 404, 422, 503, good=204))
    async def delete(item_id: str) -> Response:
        """Remove an item, with what people did with it. From now on no list has it; putting it again brings it back."""
        key = in_path(ItemKey.parse, item_id)
        item, degraded = await _find(service, key)
        if item is None and not degraded:
            raise _unknown(key)
        await in_pool(service.disk_pool, lambda: service.outbox.catalogue.delete(key))
        return Response(status_code=204)


async def _find(service: Service, key: ItemKey) -> tuple[Item | None, bool]:
    """An item as store, catalogue and bundle know it, and whether the store was missing."""
    change = (await in_pool(service.disk_pool, lambda: service.outbox.catalogue.find([key]))).get(key)
    if change is not None and change.item is None:
        return None, False
    stored = await service.ask(lambda store: list(store.items([key])))
    item = stored[0] if stored else None
    if item is None and stored is None:
        bundle = service.base.bundle
        row = bundle.items.get(key)
        if row is not None:
            title = bundle.titles[row]
            item = Item(key, title=None if title == key else title, url=bundle.urls[row])
    if change is not None and change.item is not None:
        item = _joined(item, change.item)
    return item, stored is None


def _joined(before: Item | None, said: Item) -> Item:
    """What is known of an item after something more was said of it; as the stores join it."""
    if before is None:
        return said
    return replace(
        before,
        title=said.title or before.title,
        text=said.text or before.text,
        url=said.url or before.url,
        created_at=said.created_at or before.created_at,
        attributes={**before.attributes, **said.attributes},
    )


def _told(service: Service, item: Item, degraded: bool) -> dict[str, Any]:
    created_at = item.created_at
    return {
        "item_id": item.key,
        "platform": item.key.platform,
        "title": item.title,
        "text": item.text,
        "url": item.url,
        "created_at": None if created_at is None else created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "attributes": dict(item.attributes),
        "recommended": service.recommender.knows(item.key),
        "degraded": degraded,
    }


def _unknown(key: ItemKey) -> Problem:
    return Problem(404, "unknown-item", f"there is no item {key}: put it first")
