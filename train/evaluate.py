"""Evaluation: how well a scorer ranks what people did next, over the whole catalogue or a sample, by cohort."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories, Interactions, join
from models.retrieval import top_k
from models.scorer import Scorer
from train.metrics import (
    PerQuery,
    coverage_at_k,
    diversity_at_k,
    f1_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    novelty_at_k,
    recall_at_k,
    reciprocal_rank,
    share_beaten,
)

HISTORY_LENGTHS: Final = ((0, 0), (1, 4), (5, 9), (10, 19), (20, None))

AT_K: Final = ("recall", "ndcg", "hr", "f1", "coverage", "diversity", "novelty")
"""Metrics with a cut-off. Coverage, diversity and novelty say what is shown, not how well, and are left out where the
ranking is of a sample; diversity also where no item vectors are given. Beside these there are mrr and auc."""


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
    item_vectors: NDArray[np.float32] | None = None
    """[N, T] of the items' texts: how different the items of a list are; None does not ask."""

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


@dataclass(frozen=True, eq=False)
class Values:
    """The figures behind the means of all Q queries."""

    user: NDArray[np.int64]
    """[Q] row of the person."""
    metrics: Mapping[str, NDArray[np.float32]]
    """[Q] by name; coverage has none, it belongs to all lists together."""


@dataclass(frozen=True)
class Report:
    """What an evaluation found."""

    task: str
    scorer: str
    rows: Sequence[Row]
    seconds: float
    """How long scoring and ranking took."""
    values: Values = field(compare=False, repr=False)
    """Query by query, to compare models on the same questions."""

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
        said = {name: getattr(self, name) for name in ("task", "scorer", "seconds")}
        return json.dumps({**said, "rows": [asdict(row) for row in self.rows]}, sort_keys=True)


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
    measured = {codes: _measure(queries, codes, task) for codes in (_ANY, (_WARM,), (_COLD,))}
    rows = [
        row for cohort, asked, codes in _cohorts(queries, task) for row in _rows(measured[codes], cohort, asked, task)
    ]
    everyone = measured[_ANY]
    values = Values(queries.user, {name: value.astype(np.float32) for name, value in everyone.metrics.items()})
    return Report(task.name, scorer.name, rows, time.perf_counter() - started, values)


_NO_TARGET, _WARM, _COLD = 0, 1, 2
_ANY: Final[tuple[int, ...]] = (_WARM, _COLD)


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
    beaten: PerQuery
    """[Q, 3] share of the other candidates that the targets of each code are scored above, summed over them."""
    items: NDArray[np.int32]
    """[Q, K] rows of the items at the first places, -1 behind the last; none in a sample."""


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
    shuffled = ties.permutation(items)
    part = np.ix_(asked, shuffled)
    scores, offered = people.scores[part], people.offered[part]
    places, _ = top_k(scores, max(task.ks), offered)
    rows = np.where(places < 0, -1, shuffled[places])
    return _queries(people.user[asked], platform, people.codes[part], places, scores, offered, rows)


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
    return _queries(people.user[asked], platform, codes, places, scores, rows >= 0, rows[:, :0])


def _untouched(
    touched: NDArray[np.bool_], items: NDArray[np.int64], size: int, seed: Sequence[int]
) -> NDArray[np.int64]:
    """So many of the items that a person never touched, at random; all of them where there are not so many."""
    enough = min(len(items), size + int(np.count_nonzero(touched)))
    drawn = items[np.random.default_rng(seed).choice(len(items), enough, replace=False)]
    return drawn[~touched[drawn]][:size]


def _queries(
    users: NDArray[np.int64],
    platform: int,
    codes: NDArray[np.int8],
    places: NDArray[np.int64],
    scores: NDArray[np.float32],
    offered: NDArray[np.bool_],
    items: NDArray[np.int64],
) -> _Queries:
    """Queries from the codes and scores [Q, C] of what competed and the places [Q, D] it was put in, -1 for none."""
    ordered = np.take_along_axis(codes, np.maximum(places, 0), axis=1)
    query, column = np.nonzero(codes)
    others = np.where(offered & (codes == _NO_TARGET), scores, np.float32(np.nan))
    beaten = np.zeros((len(users), 3))
    np.add.at(beaten, (query, codes[query, column]), share_beaten(scores[query, column], query, others))
    return _Queries(
        users,
        np.full(len(users), platform),
        np.where(places < 0, np.int8(_NO_TARGET), ordered),
        np.stack([np.count_nonzero(codes == code, axis=1) for code in (_NO_TARGET, _WARM, _COLD)], axis=1),
        beaten,
        items.astype(np.int32),
    )


def _cohorts(queries: _Queries, task: Task) -> Iterator[tuple[str, NDArray[np.bool_], tuple[int, ...]]]:
    """Each cohort: its name, its queries [Q], the codes of targets that count in it."""
    everyone = np.ones(len(queries.user), dtype=np.bool_)
    yield "all", everyone, _ANY
    if task.within_platform:
        for number, name in enumerate(task.targets.platforms):
            yield f"platform:{name}", queries.platform == number, _ANY
    yield "warm items", everyone, (_WARM,)
    yield "cold items", everyone, (_COLD,)
    lengths = np.diff(task.histories.offsets)[queries.user]
    for least, most in HISTORY_LENGTHS:
        name = f"history {least}+" if most is None else f"history {least}-{most}" if most else "no history"
        yield name, (lengths >= least) & (lengths <= (lengths.max() if most is None else most)), _ANY
    number = len(task.targets.platforms)
    if number == 1:
        return
    pairs = np.unique(task.histories.user * number + task.histories.platform)
    platforms = np.bincount(pairs // number, minlength=len(task.histories.users))[queries.user]
    yield "one platform", platforms == 1, _ANY
    yield "several platforms", platforms > 1, _ANY
    if task.within_platform:
        known = np.isin(queries.user * number + queries.platform, pairs)
        yield "known on the platform", known, _ANY
        yield "new on the platform", ~known, _ANY


@dataclass(frozen=True, eq=False)
class _Measured:
    """The A queries that have targets of some codes."""

    query: NDArray[np.int64]
    """[A]"""
    platform: NDArray[np.int64]
    """[A]"""
    metrics: Mapping[str, PerQuery]
    """[A] by name."""
    items: NDArray[np.int32]
    """[A, K]"""


def _measure(queries: _Queries, codes: tuple[int, ...], task: Task) -> _Measured:
    num_targets = queries.num_targets[:, list(codes)].sum(axis=1)
    asked = np.flatnonzero(num_targets)
    hits, num_targets, items = np.isin(queries.codes[asked], codes), num_targets[asked], queries.items[asked]
    figures = {f"recall@{k}": recall_at_k(hits, num_targets, k) for k in task.ks}
    figures |= {f"ndcg@{k}": ndcg_at_k(hits, num_targets, k) for k in task.ks}
    figures |= {f"hr@{k}": hit_rate_at_k(hits, k) for k in task.ks}
    figures["mrr" if task.sampled else f"mrr@{max(task.ks)}"] = reciprocal_rank(hits)
    figures |= {f"f1@{k}": f1_at_k(hits, num_targets, k) for k in task.ks}
    figures["auc"] = queries.beaten[asked][:, list(codes)].sum(axis=1) / num_targets
    if task.sampled is None:
        training = task.histories if task.training is None else task.training
        counts = np.bincount(training.item[training.weight > 0], minlength=len(training.items))
        share = np.maximum(counts, 1) / max(counts.sum(), 1)
        figures |= {f"novelty@{k}": novelty_at_k(items, k, share) for k in task.ks}
        if task.item_vectors is not None:
            figures |= {f"diversity@{k}": diversity_at_k(items, k, task.item_vectors) for k in task.ks}
    return _Measured(asked, queries.platform[asked], figures, items)


def _rows(measured: _Measured, cohort: str, asked: NDArray[np.bool_], task: Task) -> Iterator[Row]:
    inside = asked[measured.query]
    if not inside.any():
        return
    for metric, values in measured.metrics.items():
        yield Row(cohort, metric, float(values[inside].mean()), int(np.count_nonzero(inside)))
    if task.sampled is None:
        competing = dict(_catalogues(task))
        num_items = sum(len(competing[platform]) for platform in np.unique(measured.platform[inside]).tolist())
        for k in task.ks:
            covered = coverage_at_k(measured.items[inside], k, num_items)
            yield Row(cohort, f"coverage@{k}", covered, int(np.count_nonzero(inside)))
