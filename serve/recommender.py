"""The heart of serving: a bundle, what a person did, and a request become ranked items with reasons. Pure."""

from collections.abc import Iterable, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graph.interactions import Histories
from graph.schema import DEFAULT_EVENT_WEIGHTS
from serve import filters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.bundle import Bundle
    from models.explain import Explanation
    from models.ranker import Ranked, Ranker
    from serve.catalogue import Change

_KEPT_MASKS: Final = 64
"""Filters whose items are remembered, and how many bytes they may take together."""
_KEPT_BYTES: Final = 64 << 20

MAX_PATHS: Final = 8
"""Paths shown for one item; the smaller ones beyond are summed up in one more."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What ranking needs to know of one event."""

    item: str
    type: str
    at: datetime
    weight: float


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Items as the answer shows them, best first, and where they came from."""

    items: list[dict[str, Any]]
    source: str
    """model, fallback or similar"""


class Recommender:
    """One bundle's answers. Safe to use from many threads."""

    def __init__(self, bundle: "Bundle", ranker: "Ranker") -> None:
        self.bundle = bundle
        self._ranker = ranker
        weights: Mapping[str, float] = bundle.manifest.get("event_weights", {})
        self.event_weights: Mapping[str, float] = {
            **dict.fromkeys(bundle.event_types, 1.0),
            **DEFAULT_EVENT_WEIGHTS,
            **weights,
        }
        """Every type an event may have, and its weight."""
        self._deleted: Set[str] = frozenset()
        self._shown: NDArray[np.bool_] | None = None
        self._types = {type: self._nearest(type) for type in self.event_weights}
        kept = max(1, min(_KEPT_MASKS, _KEPT_BYTES // max(1, len(bundle.items))))
        self._mask = lru_cache(maxsize=kept)(lambda tree: filters.mask(tree, bundle.attributes))

    @property
    def version(self) -> str:
        """The bundle's."""
        version: str = self.bundle.version
        return version

    def knows(self, item: str) -> bool:
        """Whether the bundle has this item, and it was not deleted."""
        return item in self.bundle.items and item not in self._deleted

    def grown(self, changes: Iterable["Change"]) -> "Recommender":
        """The same over the bundle and the items of these changes that it does not have."""
        from models.grown import Newcomer, grow

        put = [Newcomer(change.item, change.stand_ins) for change in changes if change.item and change.stand_ins]
        bundle = grow(self.bundle, put)
        return self if bundle is self.bundle else Recommender(bundle, self._ranker.grown(bundle))

    def without(self, deleted: Set[str]) -> "Recommender":
        """The same, showing none of these items."""
        rows = [row for row in map(self.bundle.items.get, deleted) if row is not None]
        recommender = copy(self)
        recommender._deleted, recommender._shown = deleted, None
        if rows:
            recommender._shown = np.ones(len(self.bundle.items), dtype=np.bool_)
            recommender._shown[rows] = False
        return recommender

    def _visible(self, allowed: "NDArray[np.bool_] | None") -> "NDArray[np.bool_] | None":
        """[N] what may be shown of what is allowed; None where that is everything."""
        return allowed if self._shown is None else self._shown if allowed is None else allowed & self._shown

    def allowed(self, tree: filters.Tree, context: filters.Context | None = None) -> "NDArray[np.bool_]":
        """[N] the items that pass a filter, read-only; raises FilterError where it asks for what items do not have."""
        filters.check(tree, self.bundle.attributes)
        return self._mask(filters.within(tree, context or {}))

    def weigh(self, type: str, value: float | None) -> float:
        """How much such an event says that the person wants the item; KeyError for an unknown type."""
        weight = self.event_weights[type]
        if type == "RATED" and value is not None and value < self.bundle.manifest.get("rated_positive_from", 3.0):
            return -weight
        return weight

    def recommend(
        self,
        signals: Iterable[Signal],
        *,
        limit: int,
        platforms: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        allowed: "NDArray[np.bool_] | None" = None,
        explain: bool = True,
    ) -> Recommendations:
        """The best items for a person who did this, oldest first; none that they had or that are excluded.

        Args:
            allowed: [N] from `allowed`: which items may be returned; None allows all.
        """
        known = [signal for signal in signals if signal.item in self.bundle.items]
        history = self._history(known)
        masked = [row for row in map(self.bundle.items.get, exclude) if row is not None]
        rows = np.union1d(history.item, np.array(masked, dtype=np.int64))
        ranked = self._ranker.rank(history, platforms=platforms, exclude=rows, k=limit, allowed=self._visible(allowed))
        source = "model" if known else "fallback"
        explanations = self._ranker.explain(history, ranked.rows, MAX_PATHS) if explain and len(ranked.rows) else None
        return Recommendations(self._items(ranked, source, explanations, known), source)

    def similar(
        self,
        item: str,
        *,
        limit: int,
        platforms: Sequence[str] | None = None,
        allowed: "NDArray[np.bool_] | None" = None,
    ) -> Recommendations:
        """The items most like this one; KeyError if the bundle does not have it."""
        ranked = self._ranker.similar(
            self.bundle.items.row(item), platforms=platforms, k=limit, allowed=self._visible(allowed)
        )
        return Recommendations(self._items(ranked, "similar", None, ()), "similar")

    def _history(self, signals: Sequence[Signal]) -> Histories:
        return Histories(
            np.array([0, len(signals)], dtype=np.int64),
            self.bundle.items.rows(signal.item for signal in signals),
            np.array([self._type(signal.type) for signal in signals], dtype=np.int64),
            np.array([int(signal.at.timestamp()) for signal in signals], dtype=np.int64),
            np.array([signal.weight for signal in signals], dtype=np.float32),
        )

    def _type(self, type: str) -> int:
        position = self._types.get(type)
        return self._nearest(type) if position is None else position

    def _nearest(self, type: str) -> int:
        """A type that the bundle never saw is read as the one it saw whose weight is nearest."""
        types = list(self.bundle.event_types)
        if type in types:
            return types.index(type)
        weight = self.event_weights.get(type, 1.0)
        return min(range(len(types)), key=lambda position: abs(self.event_weights[types[position]] - weight))

    def _items(
        self, ranked: "Ranked", source: str, explanations: "Sequence[Explanation] | None", signals: Sequence[Signal]
    ) -> list[dict[str, Any]]:
        bundle = self.bundle
        items: list[dict[str, Any]] = []
        for position, (row, score) in enumerate(zip(ranked.rows.tolist(), ranked.scores.tolist(), strict=True)):
            explanation = None if explanations is None else explanations[position]
            items.append(
                {
                    "item_id": bundle.items.keys[row],
                    "platform": bundle.platforms[bundle.item_platform[row]],
                    "title": bundle.titles[row],
                    "score": score,
                    "source": source,
                    "base": None if explanation is None else float(explanation.base),
                    "paths": None if explanation is None else self._paths(explanation, signals),
                }
            )
        return items

    def _paths(self, explanation: "Explanation", signals: Sequence[Signal]) -> list[dict[str, Any]]:
        paths: list[dict[str, Any]] = [
            {
                "event": self._event(signals[path.event]),
                "relation": path.relation,
                "via": path.via,
                "contribution": float(path.contribution),
            }
            for path in explanation.paths
        ]
        if explanation.others:
            paths.append({"event": None, "relation": "OTHERS", "via": None, "contribution": explanation.others})
        return paths

    def _event(self, signal: Signal) -> dict[str, Any]:
        return {
            "item_id": signal.item,
            "title": self.bundle.titles[self.bundle.items.row(signal.item)],
            "type": signal.type,
            "at": signal.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
