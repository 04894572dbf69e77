"""Judging: whether a model trained anew is not worse than the bundle that answers, on events that neither knew.

Both are told the same histories and asked for the same events, which are held out and later than all that the bundle
was made of. The new model is asked as it would be released, from all events but these.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories, Interactions, join
from graph.split import Split
from models.bundle import Bundle
from models.scorer import Scorer
from train.evaluate import Task, evaluate
from train.leaderboard import bootstrap
from train.loop import METRIC, Inputs, LoopConfig, TrainingError
from train.release import Trained, knowing
from train.run import TrainingResult

MARGIN: Final = 0.01
"""What may be lost, as a share of the figure of the bundle that answers."""
PEOPLE: Final = 30
"""Who have to be asked at least: intervals of a few people are too short, that of one has no length at all."""


@dataclass(frozen=True)
class Verdict:
    """What a comparison found."""

    against: str
    """The version of the bundle that answered."""
    people: int
    old: float
    """NDCG@10 of that bundle."""
    new: float
    low: float
    """95 % of resamples of the people put new - old between low and high."""
    high: float

    @property
    def is_not_worse(self) -> bool:
        return is_not_worse(self.old, self.low, self.people)

    def said(self) -> dict[str, Any]:
        """For a manifest."""
        return {**asdict(self), "metric": METRIC, "margin": MARGIN, "not_worse": self.is_not_worse}

    def __str__(self) -> str:
        return (
            f"NDCG@10 {self.new:.4f}, that of {self.against} {self.old:.4f} on what {self.people:,} people did since; "
            f"the difference is in [{self.low:+.4f}, {self.high:+.4f}] (95 %)"
        )


def is_not_worse(old: float, low: float, people: int) -> bool:
    """The rule: enough people were asked, and the interval of the difference does not reach below -MARGIN * old.

    This is how trials show that something is not inferior: against a margin named beforehand, with the end of an
    interval and not with the lack of a significant difference, which few people would be enough for (Piaggio et al.,
    "Reporting of noninferiority and equivalence randomized trials", JAMA 308, 2012).

    Args:
        old: the figure of what answers now.
        low: the lower end of the 95 % interval of new - old.
    """
    return people >= PEOPLE and low >= -MARGIN * old


def parted_since(split: Split, since: datetime) -> tuple[Interactions, Interactions]:
    """What both models may know, and the held-out events later than an instant, which they are asked for.

    Raises: TrainingError where there are none: nothing could be judged.
    """
    later = split.test.at > since.timestamp()
    if not later.any():
        raise TrainingError(
            f"nothing is held out for testing that was done after {since.isoformat()}, when the bundle in use was "
            "made: retrain when people have done more"
        )
    return join(join(split.train, split.validation), split.test.where(~later)), split.test.where(later)


def made_until(bundle: Bundle) -> datetime:
    """When the last event was that a bundle was made of. Raises: TrainingError if it does not say."""
    said = bundle.manifest.get("events")
    if said is None:
        raise TrainingError(
            f"the bundle {bundle.version} does not say until when it knows what happened: it is of an earlier Isthmus, "
            "so train once with isthmus train and activate that"
        )
    return datetime.fromisoformat(said["newest"])


def judge(trained: Trained, inputs: Inputs, config: LoopConfig, result: TrainingResult, old: Bundle) -> Verdict:
    """Ask both for what people did since the old bundle was made.

    Raises: TrainingError if nothing can be judged.
    """
    known, asked = parted_since(trained.prepared.split, made_until(old))
    new, *_ = knowing(trained, inputs, config, result.checkpoint, known)
    return compared(new, Elsewhere(old, known), Task("newest", known, asked, ks=(10,)), old.version)


def compared(new: Scorer, old: Scorer, task: Task, version: str) -> Verdict:
    """Both on a task, with the paired bootstrap of the people."""
    reports = [evaluate(scorer, task) for scorer in (old, new)]
    values = np.stack([report.values.metrics[METRIC] for report in reports], axis=1).astype(np.float64)
    people = reports[0].values.user
    resampled = bootstrap(values, people)
    low, high = np.percentile(resampled[:, 1] - resampled[:, 0], (2.5, 97.5))
    before, after = values.mean(axis=0)
    return Verdict(version, len(np.unique(people)), float(before), float(after), float(low), float(high))


class Elsewhere:
    """A bundle as a scorer over another snapshot's rows.

    Events about items or of types that it does not know are no part of the histories that it is told, and items that
    it does not know come last: what people would be shown by it.
    """

    def __init__(self, bundle: Bundle, events: Interactions) -> None:
        """
        Args:
            events: of the snapshot whose rows are asked for.
        """
        self.name = bundle.version
        self._flagship = bundle.flagship
        self._item = _rows(events.items.keys, {key: row for row, key in enumerate(bundle.items.keys)})
        self._type = _rows(events.event_types, {name: place for place, name in enumerate(bundle.event_types)})

    def score(self, histories: Histories) -> NDArray[np.float32]:
        """[B, N]; see models.scorer."""
        known = histories.where((self._item[histories.item] >= 0) & (self._type[histories.type] >= 0))
        known = replace(known, item=self._item[known.item], type=self._type[known.type])
        scores = np.full((len(histories), len(self._item)), np.finfo(np.float32).min, np.float32)
        there = np.flatnonzero(self._item >= 0)
        scores[:, there] = self._flagship.score(known)[:, self._item[there]]
        return scores


def _rows(names: Any, rows: Mapping[str, int]) -> NDArray[np.int64]:
    return np.array([rows.get(name, -1) for name in names], np.int64)
