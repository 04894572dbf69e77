"""Answers as frozen records. A field that a newer server adds is left out, so an older client goes on working."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class PathEvent:
    """An event of the person that spoke for or against an item."""

    item_id: str
    title: str
    type: str
    at: datetime

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        return cls(body["item_id"], body["title"], body["type"], datetime.fromisoformat(body["at"]))


@dataclass(frozen=True, slots=True)
class Path:
    """A part of a score and where it came from; `event` is None in the one path that sums up the smaller rest."""

    event: PathEvent | None
    relation: str
    via: str | None
    contribution: float

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        event = body["event"]
        return cls(event and PathEvent.read(event), body["relation"], body["via"], body["contribution"])


@dataclass(frozen=True, slots=True)
class Item:
    """An item with its score: `base` and the contributions of `paths` add up to it (None where not asked for)."""

    item_id: str
    platform: str
    title: str
    score: float
    source: str
    """model, fallback or similar"""
    base: float | None
    paths: Sequence[Path] | None

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        paths = body.get("paths")
        return cls(
            body["item_id"],
            body["platform"],
            body["title"],
            body["score"],
            body["source"],
            body.get("base"),
            None if paths is None else tuple(map(Path.read, paths)),
        )


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Items, best first. `degraded` says that the store did not answer and the newest events alone were used."""

    recommendation_id: str
    """Give it with the events that follow from this list."""
    model_version: str
    variant: str
    degraded: bool
    items: Sequence[Item]
    next_cursor: str | None

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        return cls(
            body["recommendation_id"],
            body["model_version"],
            body["variant"],
            body["degraded"],
            tuple(map(Item.read, body["items"])),
            body.get("next_cursor"),
        )


@dataclass(frozen=True, slots=True)
class Similar:
    """Items like one item, best first."""

    model_version: str
    items: Sequence[Item]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        return cls(body["model_version"], tuple(map(Item.read, body["items"])))


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that is not kept, and why."""

    index: int
    kind: str
    """Such as unknown-item; store-unavailable is worth sending again."""
    detail: str

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        problem = body["problem"]
        return cls(body["index"], problem["type"].rpartition(":")[2], problem["detail"])


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of events; the accepted ones are on the server's disk."""

    accepted: int
    duplicates: int
    rejected: Sequence[Rejected]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        return cls(body["accepted"], body["duplicates"], tuple(map(Rejected.read, body["rejected"])))


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One thing that a person did; `account` is a pseudonym."""

    event_id: str
    type: str
    account: str
    item_id: str
    occurred_at: datetime
    value: float | None
    context: Mapping[str, Any]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        at = datetime.fromisoformat(body["occurred_at"])
        return cls(body["event_id"], body["type"], body["account"], body["item_id"], at, body["value"], body["context"])


@dataclass(frozen=True, slots=True)
class Page:
    """A page of what a person did, newest first; `next_cursor` is None on the last."""

    degraded: bool
    events: Sequence[HistoryEvent]
    next_cursor: str | None

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        return cls(body["degraded"], tuple(map(HistoryEvent.read, body["events"])), body["next_cursor"])


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the server answers, and from what."""

    model_version: str
    store: str
    """up or down; answers go on without it"""

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        return cls(body["model_version"], body["store"])
