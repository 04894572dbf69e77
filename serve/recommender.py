"""The heart of serving: a bundle, what a person did, and a request become ranked items with reasons. Pure."""

from collections.abc import Iterable, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graph.interactions import Histories
from graph.preference import event_weights
from graph.records import Event
from graph.schema import DEFAULT_EVENT_WEIGHTS
from serve import filters
from serve.api import MAX_LIST
from serve.cursors import Rest
from serve.errors import ServeError
from serve.scenarios import PLAIN, Scenario, Scenarios, check_scenarios
from serve.sentences import reason, reason_of_similar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.bundle import Bundle
    from models.explain import Explanation
    from models.ranker import Ranked, Ranker
    from serve.catalogue import Change

_KEPT_MASKS: Final = 64
"""Filters whose items are remembered, and how many bytes they may take together."""
_KEPT_BYTES: Final = 64 << 20

HAD_FROM: Final = 0.5
"""Weight of an event from which on an item counts as had on the way to another."""
MAX_PATHS: Final = 8
"""Paths shown for one item; the smaller ones beyond are summed up in one more."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What ranking needs to know of one event."""

    item: str
    type: str
    at: datetime
    weight: float
    value: float | None = None


def signals_of(events: Sequence[Event]) -> list[Signal]:
    """What ranking reads of events, oldest first, of one person."""
    weighed = zip(events, event_weights(events), strict=True)
    return [Signal(event.item, event.type, event.at, weight, event.value) for event, weight in weighed]


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Items as the answer shows them, best first, and where they came from."""

    items: list[dict[str, Any]]
    source: str
    """model, fallback or similar"""
    rest: Rest
    """What comes after these items in the same list."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What may be returned at all."""

    platforms: Sequence[str] | None
    exclude: "NDArray[np.int64]"
    allowed: "NDArray[np.bool_] | None"

    def admits(self, row: int, names: Sequence[str], item_platform: "NDArray[np.int64]") -> bool:
        """Whether an item may be returned."""
        return (
            (self.platforms is None or names[item_platform[row]] in self.platforms)
            and (self.allowed is None or bool(self.allowed[row]))
            and row not in self.exclude
        )


@dataclass(frozen=True, slots=True)
class _Rules:
    """A scenario's business rules over the rows of a bundle; places count from 0."""

    lift: "NDArray[np.float32] | None"
    buried: "NDArray[np.bool_] | None"
    pins: Mapping[int, int]


class Recommender:
    """One bundle's answers. Safe to use from many threads."""

    def __init__(self, bundle: "Bundle", ranker: "Ranker", scenarios: Scenarios | None = None) -> None:
        """Raises: ServeError if a scenario asks for what the bundle's items do not have."""
        self.bundle = bundle
        self.scenarios = scenarios or {}
        """By name."""
        if scenarios:
            check_scenarios(scenarios, bundle.platforms, bundle.attributes)
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
        return self if bundle is self.bundle else Recommender(bundle, self._ranker.grown(bundle), self.scenarios)

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

    def known(self, platforms: list[str]) -> list[str]:
        """These platforms. Raises: ServeError for one that the bundle does not have."""
        for platform in platforms:
            if platform not in self.bundle.platforms:
                raise ServeError(
                    f"the bundle {self.version} has no platform {platform}: use {', '.join(self.bundle.platforms)}"
                )
        return platforms

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
        diversity: float | None = None,
        scenario: Scenario = PLAIN,
        context: filters.Context | None = None,
        explain: bool = True,
    ) -> Recommendations:
        """The best items for a person who did this, oldest first; none that they had or that are excluded.

        Args:
            allowed: [N] from `allowed`: which items may be returned; None allows all.
            diversity: as models.rerank has it; None leaves it to the scenario.
            scenario: what else is wished of the list.
            context: what its filters may ask of the moment.
        """
        known, history = self._read(signals)
        context = context or {}
        if scenario.filter is not None:
            own = self.allowed(filters.parse(scenario.filter), context)
            allowed = own if allowed is None else allowed & own
        allowed = self._visible(allowed)
        wish = _Wish(platforms or scenario.target_platforms, self._unwanted(history, exclude), allowed)
        spread = scenario.diversity if diversity is None else diversity
        if spread or scenario.has_rules:
            rows, scores = self._reranked(history, wish, spread, scenario, context)
        else:
            ranked = self._ranker.rank(
                history, platforms=wish.platforms, exclude=wish.exclude, k=MAX_LIST, allowed=allowed
            )
            rows, scores = ranked.rows, ranked.scores
        items = self._page(rows[:limit], scores[:limit], history, known, scenario, context, explain)
        return Recommendations(items, "model" if known else "fallback", self._rest(rows[limit:]))

    def go_on(
        self,
        rest: Rest,
        signals: Iterable[Signal],
        *,
        limit: int,
        exclude: Sequence[str] = (),
        scenario: Scenario = PLAIN,
        context: filters.Context | None = None,
        explain: bool = True,
    ) -> Recommendations:
        """The next page of a list, without what is seen, excluded or deleted by now; scores are today's."""
        known, history = self._read(signals)
        rows = self._rows(rest)
        rows = rows[~np.isin(rows, self._unwanted(history, exclude))]
        if self._shown is not None:
            rows = rows[self._shown[rows]]
        page = rows[:limit]
        scores = self._ranker.scores(history, page)
        items = self._page(page, scores, history, known, scenario, context or {}, explain)
        return Recommendations(items, "model" if known else "fallback", self._rest(rows[limit:]))

    def similar(
        self,
        item: str,
        *,
        limit: int,
        platforms: Sequence[str] | None = None,
        allowed: "NDArray[np.bool_] | None" = None,
    ) -> Recommendations:
        """The items most like this one; KeyError if the bundle does not have it."""
        row = self.bundle.items.row(item)
        ranked = self._ranker.similar(row, platforms=platforms, k=limit, allowed=self._visible(allowed))
        items = self._items(ranked.rows, ranked.scores, "similar", None, ())
        for each in items:
            each["reason"] = reason_of_similar(self.bundle.titles[row])
        return Recommendations(items, "similar", self._rest(ranked.rows[limit:]))

    def search(
        self,
        cosines: "NDArray[np.float32]",
        *,
        limit: int,
        platforms: Sequence[str] | None = None,
        allowed: "NDArray[np.bool_] | None" = None,
    ) -> list[dict[str, Any]]:
        """The items with the largest of these [N]; -inf for those that are none."""
        ranked = self._ranker.nearest(cosines, platforms=platforms, k=limit, allowed=self._visible(allowed))
        return self._items(ranked.rows, ranked.scores, "search", None, ())

    def plan(self, signals: Iterable[Signal], goal: str) -> tuple[list[dict[str, Any]], list[str]]:
        """The steps to an item that the bundle has, and the keys of what is required and was had.

        What a person wanted they have had; what they disliked or only looked at they have not.
        Raises: PlanError where there is no way.
        """
        from models.plan import needed, order

        known, history = self._read(signals)
        keys, requires = self.bundle.items.keys, self.bundle.requires
        had = set(history.item[[signal.weight >= HAD_FROM for signal in known]].tolist())
        waits, before = needed(requires, self.bundle.items.row(goal), had)
        rows = np.array(list(waits), dtype=np.int64)
        scores = self._ranker.scores(history, rows) if len(rows) else np.zeros(0, np.float32)
        score_of = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        steps = [
            {
                "item_id": keys[row],
                "platform": self.bundle.platforms[self.bundle.item_platform[row]],
                "title": self.bundle.titles[row],
                "score": score_of[row],
                "requires": [keys[target] for target in requires.of(row)],
            }
            for row in order(waits, score_of)
        ]
        return steps, [keys[row] for row in before]

    def taste(self, signals: Iterable[Signal]) -> "NDArray[np.float32] | None":
        """A unit vector of what these events ask for, the same length for everybody; None where nothing was wanted."""
        known, history = self._read(signal for signal in signals if signal.weight > 0)
        taste = self._ranker.taste(history) if known else np.zeros(1, np.float32)
        length = float(np.linalg.norm(taste))
        return taste / np.float32(length) if length else None

    def _rest(self, rows: "NDArray[np.int64]") -> Rest:
        """Rows of the bundle's own items are the same wherever it is open; of what was put later, keys are."""
        later = rows >= int(self.bundle.manifest.get("num_items", len(self.bundle.items)))
        return Rest(np.where(later, -1, rows), [self.bundle.items.keys[row] for row in rows[later].tolist()])

    def _rows(self, rest: Rest) -> "NDArray[np.int64]":
        rows = rest.rows.copy()
        known = (self.bundle.items.get(key) for key in rest.later)
        rows[rows < 0] = [-1 if row is None else row for row in known]
        return rows[rows >= 0]

    def _unwanted(self, history: Histories, exclude: Sequence[str]) -> "NDArray[np.int64]":
        masked = [row for row in map(self.bundle.items.get, exclude) if row is not None]
        return np.concatenate([history.item, np.array(masked, dtype=np.int64)])

    def _reranked(
        self, history: Histories, wish: "_Wish", diversity: float, scenario: Scenario, context: filters.Context
    ) -> "tuple[NDArray[np.int64], NDArray[np.float32]]":
        """The whole list by the rules of a scenario: rows and the model's scores, in the order to show."""
        from models.rerank import Share, rerank

        names = self.bundle.platforms
        rules = self._rules(scenario, context)
        k = 2 * MAX_LIST if diversity else MAX_LIST

        def rank(k: int, allowed: "NDArray[np.bool_] | None") -> "Ranked":
            return self._ranker.rank(
                history,
                platforms=wish.platforms,
                exclude=wish.exclude,
                k=k,
                allowed=allowed,
                lift=rules.lift,
                each_platform=bool(scenario.quotas),
            )

        if rules.buried is None:
            parts = [rank(k, wish.allowed)]
        else:
            allowed = np.ones(len(self.bundle.items), np.bool_) if wish.allowed is None else wish.allowed
            parts = [rank(k, allowed & ~rules.buried)]
            if len(parts[0].rows) < MAX_LIST or scenario.quotas:
                parts.append(rank(MAX_LIST, allowed & rules.buried))
        rows = np.concatenate([part.rows for part in parts])
        scores, merits = (
            np.concatenate([getattr(part, name) for part in parts]).astype(np.float32) for name in ("scores", "merits")
        )
        pins = {place: row for place, row in rules.pins.items() if wish.admits(row, names, self.bundle.item_platform)}
        missing = np.setdiff1d(np.array(list(pins.values()), dtype=np.int64), rows)
        if len(missing):
            more = self._ranker.scores(history, missing)
            rows = np.concatenate([rows, missing])
            scores, merits = np.concatenate([scores, more]), np.concatenate([merits, more])
        order = rerank(
            merits,
            self._ranker.vectors(rows),
            MAX_LIST,
            diversity=diversity,
            groups=self.bundle.item_platform[rows],
            shares={names.index(name): Share(quota.at_least, quota.at_most) for name, quota in scenario.quotas.items()},
            buried=None if rules.buried is None else rules.buried[rows],
            pins={place: int(np.flatnonzero(rows == row)[0]) for place, row in pins.items()},
        )
        return rows[order], scores[order]

    def _rules(self, scenario: Scenario, context: filters.Context) -> "_Rules":
        lift = buried = None
        for boost in scenario.boost:
            mask = self.allowed(filters.parse(boost.filter), context)
            lift = np.float32(boost.by) * mask + (0 if lift is None else lift)
        for text in scenario.bury:
            mask = self.allowed(filters.parse(text), context)
            buried = mask if buried is None else buried | mask
        known = ((pin.position - 1, self.bundle.items.get(pin.item_id)) for pin in scenario.pin)
        return _Rules(lift, buried, {place: row for place, row in known if row is not None})

    def _page(
        self,
        rows: "NDArray[np.int64]",
        scores: "NDArray[np.float32]",
        history: Histories,
        known: Sequence[Signal],
        scenario: Scenario,
        context: filters.Context,
        explain: bool,
    ) -> list[dict[str, Any]]:
        explanations = self._ranker.explain(history, rows, MAX_PATHS) if explain and len(rows) else None
        items = self._items(rows, scores, "model" if known else "fallback", explanations, known)
        if scenario.has_rules:
            self._name_rules(items, rows, self._rules(scenario, context))
        return items

    def _name_rules(self, items: list[dict[str, Any]], rows: "NDArray[np.int64]", rules: "_Rules") -> None:
        pinned = set(rules.pins.values())
        for item, row in zip(items, rows.tolist(), strict=True):
            if row in pinned:
                item["rules"].append("pinned")
            if rules.lift is not None and rules.lift[row]:
                item["rules"].append("boosted" if rules.lift[row] > 0 else "lowered")
            if rules.buried is not None and rules.buried[row]:
                item["rules"].append("buried")

    def _read(self, signals: Iterable[Signal]) -> tuple[Sequence[Signal], Histories]:
        """The signals about items of the bundle, and the same as ranking reads them."""
        row_of, type_of = self.bundle.items.get, self._type
        found = [(signal, row) for signal in signals if (row := row_of(signal.item)) is not None]
        known = [signal for signal, _ in found]
        return known, Histories(
            np.array([0, len(known)], dtype=np.int64),
            np.array([row for _, row in found], dtype=np.int64),
            np.array([type_of(signal.type) for signal in known], dtype=np.int64),
            np.array([int(signal.at.timestamp()) for signal in known], dtype=np.int64),
            np.array([signal.weight for signal in known], dtype=np.float32),
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
        self,
        rows: "NDArray[np.int64]",
        scores: "NDArray[np.float32]",
        source: str,
        explanations: "Sequence[Explanation] | None",
        signals: Sequence[Signal],
    ) -> list[dict[str, Any]]:
        bundle = self.bundle
        items: list[dict[str, Any]] = []
        events: dict[int, dict[str, Any]] = {}
        platforms = bundle.item_platform[rows].tolist()
        for position, (row, number, score) in enumerate(zip(rows.tolist(), platforms, scores.tolist(), strict=True)):
            explanation = None if explanations is None else explanations[position]
            platform = bundle.platforms[number]
            paths = None if explanation is None else self._paths(explanation, signals, events)
            items.append(
                {
                    "item_id": bundle.items.keys[row],
                    "platform": platform,
                    "title": bundle.titles[row],
                    "score": score,
                    "source": source,
                    "rules": [],
                    "reason": None if paths is None else reason(platform, paths),
                    "base": None if explanation is None else explanation.base,
                    "paths": paths,
                }
            )
        return items

    def _paths(
        self, explanation: "Explanation", signals: Sequence[Signal], events: dict[int, dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The paths as the answer shows them; `events` are those that it has shown already."""
        for path in explanation.paths:
            if path.event not in events:
                events[path.event] = self._event(signals[path.event])
        paths: list[dict[str, Any]] = [
            {
                "event": events[path.event],
                "relation": path.relation,
                "via": path.via,
                "contribution": path.contribution,
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
            "value": signal.value,
            "at": signal.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
