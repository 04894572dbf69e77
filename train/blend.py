"""The blend: what the sparse part is worth beside the dense part, chosen on validation events alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories, Interactions
from graph.split import Split
from models.baselines.matrix import query_matrix
from models.flagship import Flagship
from models.leads_to import CLOSE, NEXT, PLAIN, LeadsTo, Linear
from train.evaluate import Task, evaluate
from train.loop import METRIC, VALIDATED, validation_task

DECAYS: Final[Sequence[float]] = (1.0, 0.9, 0.8, 0.7, 0.6)
"""What an event may lose for each later one."""
SHARES: Final[Sequence[float]] = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Spread of the sparse scores over the spread of the dense ones."""
RIDGES: Final[Sequence[float]] = (100.0, 1000.0)
"""Tried beside that of PLAIN where solving again costs seconds."""
COLD_PRICE: Final = 0.01
"""Share of validation NDCG@10 that may be lost by showing items without events."""
COLD_DENSE: Final = 1 / 3
"""Length of the vector of an item without events beside what the network gives it: what leads to items that read alike
places such items better than their texts by themselves (docs/decisions/0030)."""
_COLD_PARTS: Final[Sequence[float]] = (1.0, 0.5, 0.25, 0.1)
"""Of how often people wanted one."""
_QUICK: Final = 5000
"""People or items, whichever are fewer, up to which a linear model is solved in seconds."""
_FINALISTS: Final = 4
"""Shares whose best mixture more people judge."""
_LIST: Final = 10
_CELLS: Final = 30_000_000
"""Scores kept in memory at once decide how many people the choice looks at, at most a thousand."""


@dataclass(frozen=True)
class Blend:
    """A choice, and what it brought on validation."""

    decay: float
    scale: float
    linear: Linear
    """How the sparse part is fitted."""
    value: float
    """Validation NDCG@10 of the chosen people with the sparse part."""
    dense_value: float
    """The same without it."""
    sparse_value: float
    """The best of the sparse part alone."""
    cold: tuple[float, ...] = ()
    """What a wanted event, as faded, adds to the score of an item without events in training, for each platform: as
    much as brings such items into lists of ten as often as people wanted one on validation, or less, so that at most
    COLD_PRICE is lost. Somebody without events gets what others want, and none of these."""

    def applied(self, flagship: Flagship, leads_to: LeadsTo, warm: NDArray[np.float32]) -> Flagship:
        """The flagship with a sparse part that was fitted as `linear` says, items without events shortened.

        Args:
            flagship: as the network gives it.
            warm: [N] 0 where an item had no event in training.
        """
        cold = np.asarray(self.cold, dtype=np.float32)[flagship.item_platform] if self.cold else np.float32(0)
        sparse = replace(leads_to.with_query(self.decay, self.scale), lift=np.where(warm > 0, np.float32(0), cold))
        return replace(_shortened(flagship, warm), leads_to=sparse)


def choose_blend(flagship: Flagship, split: Split, text: NDArray[np.float32], seed: int) -> tuple[Blend, LeadsTo]:
    """Fit the sparse part on the training part in each way, and try every decay and share on a sample of people.

    Where there are more people, the best of some shares are then judged by VALIDATED of them: what is best of eighty
    and more mixtures on a thousand people owes a part of it to chance.

    Args:
        flagship: its own sparse part is not looked at.
        text: [N, T] text vectors of the items, 0 for those without any.
    Returns: the choice, and the sparse part that it says.
    """
    num_items = len(split.train.items)
    warm = np.bincount(split.train.item, minlength=num_items).astype(np.float32)
    network, flagship = flagship, _shortened(flagship, warm)
    people = np.unique(split.validation.user[split.validation.weight > 0])
    size = max(1, min(1000, len(people), _CELLS // num_items))
    chosen = np.random.default_rng(seed).choice(people, size, replace=False)
    targets = split.validation.where(np.isin(split.validation.user, chosen))
    task = Task("blend", split.train, targets, ks=(10,), training=split.train)
    histories = split.train.histories(np.sort(chosen))
    dense = replace(flagship, leads_to=LeadsTo.empty(num_items)).score(histories)

    def value(scores: NDArray[np.float32]) -> float:
        return evaluate(_Given(scores), task, batch=size).value(METRIC)

    nothing = Blend(1.0, 0.0, PLAIN, value(dense), value(dense), 0.0)
    by_share = {0.0: (nothing, LeadsTo.empty(num_items))}
    sparse_value = 0.0
    for linear in _tried(flagship.history.ordered, split.train):
        leads_to = LeadsTo.fit(split.train, linear, text)
        for decay in DECAYS:
            sparse = leads_to.with_query(decay, 1.0).score(histories)
            sparse_value = max(sparse_value, value(sparse))
            unit = float(dense.std()) / max(float(sparse.std()), 1e-9)
            for share in SHARES:
                found = value(dense + np.float32(share * unit) * sparse)
                if share not in by_share or found > by_share[share][0].value:
                    tried = replace(nothing, decay=decay, scale=share * unit, linear=linear, value=found)
                    by_share[share] = tried, leads_to
    finalists = sorted(by_share.values(), key=lambda each: -each[0].value)
    if size < len(people):
        finalists = _judged(flagship, finalists[:_FINALISTS], validation_task(split, VALIDATED, seed))
    best, best_part = replace(finalists[0][0], sparse_value=sparse_value), finalists[0][1]
    best_part = best_part.with_query(best.decay, best.scale)
    scores = dense + best_part.score(histories)
    mass = query_matrix(histories, num_items, best.decay).sum(axis=1).astype(np.float32)
    blind = replace(network, leads_to=LeadsTo.empty(num_items))
    for part in _COLD_PARTS:
        choice = replace(best, cold=tuple(_lifts(scores.copy(), mass, part, histories, task, split)))
        lift = choice.applied(blind, LeadsTo.empty(num_items), warm).leads_to.score(histories)
        if value(scores + lift) >= (1 - COLD_PRICE) * best.value:
            return choice, best_part
    return replace(best, cold=(0.0,) * len(split.train.platforms)), best_part


def _shortened(flagship: Flagship, warm: NDArray[np.float32]) -> Flagship:
    """The flagship with shorter vectors of the items without events."""
    length = np.where(warm > 0, np.float32(1), np.float32(COLD_DENSE))[:, None]
    parts = {name: part * length for name, part in flagship.parts.items()}
    return replace(flagship, vectors=flagship.vectors * length, parts=parts)


def _judged(flagship: Flagship, finalists: Sequence[tuple[Blend, LeadsTo]], task: Task) -> list[tuple[Blend, LeadsTo]]:
    """The same, best first by what they bring on this task."""

    def value(finalist: tuple[Blend, LeadsTo]) -> float:
        blend, leads_to = finalist
        scorer = replace(flagship, leads_to=leads_to.with_query(blend.decay, blend.scale))
        return evaluate(scorer, task).value(METRIC)

    return sorted(finalists, key=value, reverse=True)


def _tried(ordered: bool, training: Interactions) -> Sequence[Linear]:
    """Ways to fit the linear model, the cheap one with several ridges where that takes seconds."""
    quick = min(len(training.users), len(training.items)) <= _QUICK
    ridges = [replace(PLAIN, ridge=ridge) for ridge in RIDGES] if quick else []
    return [PLAIN, *ridges, NEXT if ordered else CLOSE]


def _lifts(
    scores: NDArray[np.float32],
    mass: NDArray[np.float32],
    part: float,
    histories: Histories,
    task: Task,
    split: Split,
) -> Iterator[float]:
    """For each platform how much its cold items' scores need for each event; 0 where nobody wanted one on validation.

    The j-th best cold item of a person enters their list of ten as soon as it beats the (11 - j)-th best warm one. So
    the lift is a quantile of these differences, at so many parts of the share of cold items in what people wanted.

    Args:
        scores: [B, N]; what people had is set to -inf in it.
        mass: [B] wanted events of each person, as faded.
    """
    cold = np.bincount(split.train.item, minlength=scores.shape[1]) == 0
    scores[np.repeat(np.arange(len(histories)), np.diff(histories.offsets)), histories.item] = -np.inf
    people = np.unique(task.targets.user)
    for platform in range(len(split.train.platforms)):
        there = split.train.item_platform == platform
        wanted = split.validation.item[split.validation.platform == platform]
        asked = np.isin(people, task.targets.user[task.targets.platform == platform]) & (mass > 0)
        share = part * float(cold[wanted].mean()) if len(wanted) else 0.0
        if not share or not asked.any() or np.count_nonzero(there & ~cold) < _LIST:
            yield 0.0
            continue
        best_cold = _best(scores[np.ix_(asked, there & cold)])
        best_warm = _best(scores[np.ix_(asked, there & ~cold)])[:, ::-1]
        needed = np.sort(((best_warm[:, : best_cold.shape[1]] - best_cold) / mass[asked, None]).ravel())
        yield float(needed[min(len(needed) - 1, int(share * best_warm.size))])


def _best(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B, at most 10] the highest of each line, highest first."""
    return -np.sort(-scores, axis=1)[:, :_LIST]


@dataclass(frozen=True, eq=False)
class _Given:
    """Scores that are computed already, for all people of a task at once."""

    scores: NDArray[np.float32]
    name: str = "given"

    def score(self, histories: Histories) -> NDArray[np.float32]:
        if len(histories) != len(self.scores):
            raise ValueError(f"{len(histories)} people were asked for, {len(self.scores)} are scored")
        return self.scores
