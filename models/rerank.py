"""Reranking: a list chosen one place after another, for diversity, shares of groups, and places that are given away."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

_LAST = 10.0
"""More than any two values are apart, so that what is buried comes after all else."""


@dataclass(frozen=True)
class Share:
    """What part of a list a group may have: of the first n places at least floor and at most ceil of n times this."""

    at_least: float = 0.0
    at_most: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= self.at_most <= 1:
            raise ValueError(
                f"at_least is {self.at_least} and at_most {self.at_most}: give 0 <= at_least <= at_most <= 1"
            )


def rerank(
    relevance: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    *,
    diversity: float = 0.0,
    groups: NDArray[np.int64] | None = None,
    shares: Mapping[int, Share] | None = None,
    buried: NDArray[np.bool_] | None = None,
    pins: Mapping[int, int] | None = None,
) -> NDArray[np.int64]:
    """Choose k of M candidates, place after place: maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998).

    A place goes to the candidate with the largest (1 - diversity) * relevance - diversity * the largest cosine with one
    chosen before, relevance being scaled to [0, 1] over the candidates.

    Args:
        relevance: [M] scores.
        vectors: [M, D] what cosines are taken of.
        diversity: 0 keeps the order of relevance, 1 looks at the cosines alone.
        groups: [M] the group of each candidate, for `shares`.
        shares: of some groups; where a group has too few candidates it gets less than its share, and where only groups
            that have all they may are left the list ends.
        buried: [M] true for candidates that come after all others.
        pins: candidates by the place (from 0) that is theirs whatever else is said.
    Returns: positions of the chosen candidates, best first; fewer than k where candidates end.
    """
    spread = float(np.ptp(relevance)) if len(relevance) else 0.0
    above = relevance - relevance.min(initial=np.inf)
    value = (1 - diversity) * above / np.float32(spread or 1.0)
    if buried is not None:
        value = value - _LAST * buried
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    nearest = np.full(len(value), -1.0, dtype=np.float32)
    pinned = dict(pins or {})
    free = np.ones(len(value), dtype=np.bool_)
    free[list(pinned.values())] = False
    counts: dict[int, int] = {}
    chosen: list[int] = []
    while len(chosen) < k:
        place = len(chosen)
        if place in pinned:
            best = pinned.pop(place)
        else:
            open_to = (
                free if shares is None or groups is None else free & _admitted(groups, free, counts, shares, place)
            )
            if not open_to.any():
                break
            gain = value - diversity * nearest if diversity and chosen else value
            best = int(np.argmax(np.where(open_to, gain, -np.inf)))
        chosen.append(best)
        free[best] = False
        if groups is not None:
            counts[int(groups[best])] = counts.get(int(groups[best]), 0) + 1
        if diversity:
            np.maximum(nearest, unit @ unit[best], out=nearest)
    chosen += [pinned[place] for place in sorted(pinned)]
    return np.array(chosen[:k], dtype=np.int64)


def _admitted(
    groups: NDArray[np.int64],
    free: NDArray[np.bool_],
    counts: Mapping[int, int],
    shares: Mapping[int, Share],
    place: int,
) -> NDArray[np.bool_]:
    """Who may have a place: the groups that lack something, else all but those that have all they may."""
    left = set(groups[free].tolist())
    lacking = [
        group
        for group, share in shares.items()
        if group in left and counts.get(group, 0) < floor(round(share.at_least * (place + 1), 9))
    ]
    if lacking:
        return np.isin(groups, lacking)
    full = [
        group for group, share in shares.items() if counts.get(group, 0) >= ceil(round(share.at_most * (place + 1), 9))
    ]
    return ~np.isin(groups, full)
