"""Comparison: every model on one test, the baselines fitted on what the flagship was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from graph.interactions import join
from graph.split import Split
from models.baselines.ease import EASE
from models.baselines.item_knn import ItemKNN
from models.baselines.popularity import Popularity
from models.scorer import Scorer
from train.evaluate import Report, Task, evaluate
from train.loop import METRIC, validation_task
from train.release import Trained

DECAYS: Final = (1.0, 0.9, 0.8, 0.7)
"""What an event may lose for each later one; each baseline takes what is best for it on validation."""

NEIGHBOURHOODS: Final = ((100, 10.0), (400, 0.0))
"""Neighbours an item keeps, and the shrinkage of their cosines."""


def held_out_task(split: Split, *, sampled: int | None = None, ks: Sequence[int] = (10,)) -> Task:
    """Rank the test events given all that came before them, validation included."""
    histories = join(split.train, split.validation)
    return Task("test", histories, split.test, sampled=sampled, ks=tuple(ks), training=split.train)


def next_task(split: Split, *, ks: Sequence[int] = (10,)) -> Task:
    """Rank what each person did next, one target each: on a platform where they are new if they came to one."""
    histories, test = join(split.train, split.validation), split.test
    number = len(test.platforms)
    known = np.isin(test.user * number + test.platform, histories.user * number + histories.platform)
    last = np.full(len(test.users), np.iinfo(np.int64).min)
    np.maximum.at(last, histories.user, histories.at)
    later = np.flatnonzero(test.at >= last[test.user])
    order = later[np.lexsort((later, known[later], test.user[later]))]
    first = order[np.unique(test.user[order], return_index=True)[1]]
    mask = np.zeros(len(test), np.bool_)
    mask[first] = True
    return Task("next", histories, test.where(mask), ks=tuple(ks), training=split.train)


def compare(trained: Trained, task: Task) -> Iterator[Report]:
    """Popularity, ItemKNN, EASE and the flagship, one report each, as each is done."""
    split = trained.prepared.split
    yield evaluate(Popularity.fit(split.train), task)
    knns = [ItemKNN.fit(split.train, neighbours=kept, shrinkage=shrinkage) for kept, shrinkage in NEIGHBOURHOODS]
    yield evaluate(_best(split, [replace(knn, decay=decay) for knn in knns for decay in DECAYS]), task)
    ease = EASE.fit(split.train)
    yield evaluate(_best(split, [replace(ease, decay=decay) for decay in DECAYS]), task)
    yield evaluate(trained.flagship, task)


def table(reports: Sequence[Report], metrics: Sequence[str], cohort: str = "all") -> str:
    """Models as lines, metrics as columns, for one cohort; models that were asked nothing in it are left out."""
    figures = {report.scorer: {row.metric: row for row in report.rows if row.cohort == cohort} for report in reports}
    queries = max((row.num_queries for found in figures.values() for row in found.values()), default=0)
    width = max(12, len(cohort), *(len(name) for name in figures))
    lines = [" ".join([cohort.ljust(width), *(metric.rjust(10) for metric in metrics), f"{queries:9,d} queries"])]
    for name, found in figures.items():
        if found:
            lines.append(" ".join([name.ljust(width), *(f"{found[metric].value:10.4f}" for metric in metrics)]))
    return "\n".join(lines)


def _best(split: Split, models: Sequence[Scorer]) -> Scorer:
    task = validation_task(split)
    return max(models, key=lambda model: evaluate(model, task).value(METRIC))
