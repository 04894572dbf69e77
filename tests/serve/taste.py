"""A recommender whose answers are known: people want what shares the taste of what they did, the newest first."""

from types import SimpleNamespace

import numpy as np

from graph.vocabulary import Vocabulary
from serve.recommender import Recommender
from tests.planted import PLATFORMS, RING, TASTES, TITLES, item_of, taste_of

KEYS = sorted(item_of(platform, taste, n) for platform in PLATFORMS for taste in TASTES for n in range(RING + 1))


class TasteRanker:
    """score = popularity + sum over events of weight * same taste / (1 + age)."""

    def __init__(self, keys=KEYS, platforms=PLATFORMS):
        self.keys, self.platforms = keys, list(platforms)
        self.platform = np.array([self.platforms.index(key.platform) for key in keys])
        self.taste = np.array([TASTES.index(taste_of(key)) for key in keys])
        self.popularity = np.linspace(0.01, 0.001, len(keys), dtype=np.float32)

    def _parts(self, history):
        same = self.taste[history.item][:, None] == self.taste[None, :]
        return (history.weight / (1 + history.ages))[:, None] * same

    def _best(self, scores, platforms, exclude, k):
        allowed = np.ones(len(self.keys), dtype=bool)
        if platforms is not None:
            allowed = np.isin(self.platform, [self.platforms.index(name) for name in platforms])
        allowed[exclude] = False
        rows = [row for row in np.argsort(-scores, kind="stable") if allowed[row]][:k]
        return SimpleNamespace(rows=np.array(rows, dtype=np.int64), scores=scores[rows].astype(np.float32))

    def rank(self, history, *, platforms, exclude, k, allowed):
        return self._best(self.popularity + self._parts(history).sum(axis=0), platforms, exclude, k)

    def explain(self, history, rows, most):
        parts = self._parts(history)
        return [self._explained(parts[:, row], float(self.popularity[row]), most) for row in rows]

    def _explained(self, parts, base, most):
        events = sorted(np.flatnonzero(parts), key=lambda event: -abs(parts[event]))
        paths = [
            SimpleNamespace(event=event, relation="SAME_TASTE", via=None, contribution=float(parts[event]))
            for event in events[:most]
        ]
        return SimpleNamespace(base=base, paths=paths, others=float(sum(parts[event] for event in events[most:])))

    def similar(self, row, *, platforms, k, allowed):
        return self._best(self.popularity + (self.taste == self.taste[row]), platforms, np.array([row]), k)


def taste_recommender(version="taste-1", event_types=("PLAYED", "PURCHASED", "RATED", "VIEWED"), manifest=None):
    ranker = TasteRanker()
    bundle = SimpleNamespace(
        version=version,
        manifest=manifest or {},
        items=Vocabulary(KEYS),
        item_platform=ranker.platform,
        platforms=ranker.platforms,
        event_types=list(event_types),
        titles=[TITLES[taste_of(key)][int(key.id.rpartition("-")[2])] for key in KEYS],
        urls=["" for _ in KEYS],
    )
    return Recommender(bundle, ranker)
