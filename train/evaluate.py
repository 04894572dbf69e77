"""Evaluation: how well a scorer ranks what people did next, over the whole catalogue or a sample, by cohort."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories, Interactions, join
from models.retrieval import top_k
from models.scorer import Scorer
from train.metrics import hit_rate_at_k, ndcg_at_k, recall_at_k, reciprocal_rank

HISTORY_LENGTHS = ((0, 0), (1, 4), (5, 9), (10, 19), (20, None))


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked: given these histories, put these targets first."""

    name: str
    histories: Interactions
    """What the scorer is told of each person, and what is not offered to them again."""
    targets: Interactions
    """What they did next; only events of positive weight count."""
    within_platform: bool = True
    """A query is a person on one platform, ranked over its items; else a person, ranked over all items."""
    sampled: int | None = None
    """Rank each target against so many items of its platform that the person never touched; None ranks against all."""
    seed: int = 0
    """Draws the sample and breaks ties."""
    ks: tuple[int, ...] = (5, 10, 20)
    """Cut-offs."""
    withheld: Interactions | None = None
    """Events that the scorer is not told of and whose items are not offered either, such as the validation part."""
    training: Interactions | None = None
    """What the scorer was fitted on: items without an event in it are cold. None means the histories."""
    candidates: NDArray[np.bool_] | None = None
    """[N] the only items that are ranked, such as cold ones among themselves; None ranks all."""

    def __post_init__(self) -> None:
        parts = [part for part in (self.targets, self.withheld, self.training) if part is not None]
        if any(part.users is not self.histories.users or part.items is not self.histories.items for part in parts):
            raise ValueError(
                f"task {self.name}: its parts count rows over different vocabularies: use parts of one whole"
            )
        if not self.ks or min(self.ks) < 1:
            raise ValueError(f"task {self.name}: ks is {self.ks}: give cut-offs of at least 1, such as (10, 20)")
        if self.sampled is not None and self.sampled < max(self.ks):
            raise ValueError(
                f"task {self.name}: {self.sampled} sampled items are fewer than the cut-off {max(self.ks)}"
            )


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a report: the mean of a metric over the queries of a cohort."""

    cohort: str
    metric: str
    value: float
    num_queries: int


@dataclass(frozen=True)
class Report:
    """What an evaluation found."""

    task: str
    scorer: str
    rows: Sequence[Row]
    seconds: float
    """How long scoring and ranking took."""

    def value(self, metric: str, cohort: str = "all") -> float:
        """One figure; KeyError says which there are."""
        for row in self.rows:
            if (row.metric, row.cohort) == (metric, cohort):
                return row.value
        raise KeyError(f"no {metric} for {cohort}; there are {sorted({(row.metric, row.cohort) for row in self.rows})}")

    def table(self, metrics: Sequence[str] | None = None) -> str:
        """Cohorts as lines, metrics as columns, as text."""
        columns = list(metrics or dict.fromkeys(row.metric for row in self.rows))
        width = max(len(row.cohort) for row in self.rows)
        lines = [f"{self.scorer} on {self.task} ({self.seconds:.1f} s)"]
        lines.append(" ".join([" " * width, "queries".rjust(8), *(column.rjust(10) for column in columns)]))
        for cohort in dict.fromkeys(row.cohort for row in self.rows):
            found = {row.metric: row for row in self.rows if row.cohort == cohort}
            figures = [f"{found[column].value:10.4f}" for column in columns]
            queries = next(iter(found.values())).num_queries
            lines.append(" ".join([cohort.ljust(width), f"{queries:8d}", *figures]))
        return "\n".join(lines)

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)


def evaluate(scorer: Scorer, task: Task, batch: int = 256) -> Report:
    """Rank the items for each query of the task and measure where its targets came.

    Raises: ValueError if no target is of positive weight, or if the scorer gives NaN or another shape.
    """
    started = time.perf_counter()
    rank = _rank_all if task.sampled is None else _rank_sample
    ties = np.random.default_rng(task.seed)
    parts = [
        rank(people, platform, items, task, ties)
        for people in _score_people(scorer, task, batch)
        for platform, items in _catalogues(task)
        if people.codes[:, items].any()
    ]
    if not parts:
        raise ValueError(f"task {task.name} has no target of positive weight among the items that are ranked")
    queries = _Queries(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(_Queries)))
    rows = [
        row for cohort, asked, codes in _cohorts(queries, task) for row in _measure(queries, cohort, asked, codes, task)
    ]
    return Report(task.name, scorer.name, rows, time.perf_counter() - started)


_NO_TARGET, _WARM, _COLD = 0, 1, 2


@dataclass(frozen=True, eq=False)
class _People:
    """A batch of B people who have targets."""

    user: NDArray[np.int64]
    """[B]"""
    scores: NDArray[np.float32]
    """[B, N]"""
    codes: NDArray[np.int8]
    """[B, N] what each item is to them: no target, a warm or a cold one."""
    touched: NDArray[np.bool_]
    """[B, N] in their history, withheld, or among their targets, wanted or not."""
    offered: NDArray[np.bool_]
    """[B, N] a target, or neither in their history nor withheld."""


@dataclass(frozen=True, eq=False)
class _Queries:
    """Q rankings."""

    user: NDArray[np.int64]
    """[Q]"""
    platform: NDArray[np.int64]
    """[Q], -1 for all platforms at once."""
    codes: NDArray[np.int8]
    """[Q, D] of the item at each place, best first."""
    num_targets: NDArray[np.int64]
    """[Q, 3] of each code."""


def _score_people(scorer: Scorer, task: Task, batch: int) -> Iterator[_People]:
    num_items = len(task.targets.items)
    wanted = task.targets.where(task.targets.weight > 0)
    past = task.histories if task.withheld is None else join(task.histories, task.withheld)
    training = task.histories if task.training is None else task.training
    code = np.where(np.bincount(training.item, minlength=num_items) > 0, _WARM, _COLD).astype(np.int8)
    people = np.unique(wanted.user)
    for start in range(0, len(people), batch):
        users = people[start : start + batch]
        histories = task.histories.histories(users)
        scores = scorer.score(histories)
        if scores.shape != (len(users), num_items) or np.isnan(scores).any():
            raise ValueError(
                f"{scorer.name} gave scores {scores.shape} or NaN: expected {(len(users), num_items)} numbers"
            )
        seen = _touched(past.histories(users), num_items)
        target = _touched(wanted.histories(users), num_items)
        yield _People(
            users,
            scores,
            np.where(target, code, np.int8(_NO_TARGET)),
            seen | _touched(task.targets.histories(users), num_items),
            ~seen | target,
        )


def _touched(histories: Histories, num_items: int) -> NDArray[np.bool_]:
    touched = np.zeros((len(histories), num_items), dtype=np.bool_)
    touched[np.repeat(np.arange(len(histories)), np.diff(histories.offsets)), histories.item] = True
    return touched


def _catalogues(task: Task) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The items that compete with each other."""
    platform = task.targets.item_platform
    ranked = np.ones(len(platform), dtype=np.bool_) if task.candidates is None else task.candidates
    if not task.within_platform:
        yield -1, np.flatnonzero(ranked)
        return
    for number in range(len(task.targets.platforms)):
        yield number, np.flatnonzero(ranked & (platform == number))


def _rank_all(
    people: _People, platform: int, items: NDArray[np.int64], task: Task, ties: np.random.Generator
) -> _Queries:
    asked = np.flatnonzero(people.codes[:, items].any(axis=1))
    # Equal scores come in the order of the columns: a random order breaks ties at random.
    part = np.ix_(asked, ties.permutation(items))
    places, _ = top_k(people.scores[part], max(task.ks), people.offered[part])
    return _queries(people.user[asked], platform, people.codes[part], places)


def _rank_sample(
    people: _People, platform: int, items: NDArray[np.int64], task: Task, ties: np.random.Generator
) -> _Queries:
    asked, column = np.nonzero(people.codes[:, items])
    target = items[column]
    size = task.sampled or 0
    rows = np.full((len(asked), size + 1), -1)
    rows[:, 0] = target
    for query, (person, row) in enumerate(zip(asked, target, strict=True)):
        others = _untouched(people.touched[person], items, size, [task.seed, people.user[person], row])
        rows[query, 1 : 1 + len(others)] = others
    rows = ties.permuted(rows, axis=1)
    scores = people.scores[asked[:, None], rows]
    codes = np.where(rows == target[:, None], people.codes[asked[:, None], rows], np.int8(_NO_TARGET))
    places, _ = top_k(scores, size + 1, rows >= 0)
    return _queries(people.user[asked], platform, codes, places)


def _untouched(
    touched: NDArray[np.bool_], items: NDArray[np.int64], size: int, seed: Sequence[int]
) -> NDArray[np.int64]:
    """So many of the items that a person never touched, at random; all of them where there are not so many."""
    enough = min(len(items), size + int(np.count_nonzero(touched)))
    drawn = items[np.random.default_rng(seed).choice(len(items), enough, replace=False)]
    return drawn[~touched[drawn]][:size]


def _queries(users: NDArray[np.int64], platform: int, codes: NDArray[np.int8], places: NDArray[np.int64]) -> _Queries:
    """Queries from the codes [Q, C] of what competed and the places [Q, D] that it was put in, -1 for none."""
    ordered = np.take_along_axis(codes, np.maximum(places, 0), axis=1)
    return _Queries(
        users,
        np.full(len(users), platform),
        np.where(places < 0, np.int8(_NO_TARGET), ordered),
        np.stack([np.count_nonzero(codes == code, axis=1) for code in (_NO_TARGET, _WARM, _COLD)], axis=1),
    )


def _cohorts(queries: _Queries, task: Task) -> Iterator[tuple[str, NDArray[np.bool_], Sequence[int]]]:
    """Each cohort: its name, its queries [Q], the codes of targets that count in it."""
    everyone = np.ones(len(queries.user), dtype=np.bool_)
    yield "all", everyone, (_WARM, _COLD)
    if task.within_platform:
        for number, name in enumerate(task.targets.platforms):
            yield f"platform:{name}", queries.platform == number, (_WARM, _COLD)
    yield "warm items", everyone, (_WARM,)
    yield "cold items", everyone, (_COLD,)
    lengths = np.diff(task.histories.offsets)[queries.user]
    for least, most in HISTORY_LENGTHS:
        name = f"history {least}+" if most is None else f"history {least}-{most}" if most else "no history"
        yield name, (lengths >= least) & (lengths <= (lengths.max() if most is None else most)), (_WARM, _COLD)
    if task.within_platform and len(task.targets.platforms) > 1:
        pairs = task.histories.user * len(task.targets.platforms) + task.histories.platform
        known = np.isin(queries.user * len(task.targets.platforms) + queries.platform, pairs)
        yield "known on the platform", known, (_WARM, _COLD)
        yield "new on the platform", ~known, (_WARM, _COLD)


def _measure(
    queries: _Queries, cohort: str, asked: NDArray[np.bool_], codes: Sequence[int], task: Task
) -> Iterator[Row]:
    num_targets = queries.num_targets[:, list(codes)].sum(axis=1)
    asked = asked & (num_targets > 0)
    if not asked.any():
        return
    hits, num_targets = np.isin(queries.codes[asked], codes), num_targets[asked]
    figures = {f"recall@{k}": recall_at_k(hits, num_targets, k) for k in task.ks}
    figures |= {f"ndcg@{k}": ndcg_at_k(hits, num_targets, k) for k in task.ks}
    figures |= {f"hr@{k}": hit_rate_at_k(hits, k) for k in task.ks}
    figures["mrr" if task.sampled else f"mrr@{max(task.ks)}"] = reciprocal_rank(hits)
    for metric, values in figures.items():
        yield Row(cohort, metric, float(values.mean()), len(values))
