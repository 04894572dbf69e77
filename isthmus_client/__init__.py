"""A client of the HTTP API of Isthmus, version 1: typed, sync (`Isthmus`) and async (`AsyncIsthmus`), on httpx alone.

from isthmus_client import Isthmus

with Isthmus("http://127.0.0.1:8000", key=os.environ["ISTHMUS_KEY"]) as isthmus:
    for item in isthmus.recommend(account_id="shop:4711", limit=5).items:
        print(item.title, item.score, [path.event.title for path in item.paths or () if path.event])
"""

from isthmus_client.answers import (
    HistoryEvent,
    Item,
    Kept,
    Page,
    Path,
    PathEvent,
    Readiness,
    Recommendations,
    Rejected,
    Similar,
)
from isthmus_client.client import AsyncIsthmus, Event, Isthmus, PastEvent, Person, RecommendationOptions
from isthmus_client.errors import ClientError, Problem, Unreachable

__all__ = [
    "AsyncIsthmus",
    "ClientError",
    "Event",
    "HistoryEvent",
    "Isthmus",
    "Item",
    "Kept",
    "Page",
    "PastEvent",
    "Path",
    "PathEvent",
    "Person",
    "Problem",
    "Readiness",
    "RecommendationOptions",
    "Recommendations",
    "Rejected",
    "Similar",
    "Unreachable",
]
