"""Plans: the way to an item over what it requires, each step after all that it needs.

PlanError    what an item requires comes back to itself
"""

import heapq
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graph.errors import IsthmusError


class PlanError(IsthmusError):
    """There is no order: the items of `circle` require each other."""

    def __init__(self, circle: Sequence[int]) -> None:
        super().__init__("what it requires requires itself")
        self.circle = circle


@dataclass(frozen=True)
class Requires:
    """Which items an item requires: those of row r are targets[starts[r] : starts[r + 1]]."""

    starts: NDArray[np.int64]
    targets: NDArray[np.int64]

    def of(self, row: int) -> list[int]:
        """The rows that a row requires; none of a row beyond the last."""
        if row + 1 >= len(self.starts):
            return []
        found: list[int] = self.targets[self.starts[row] : self.starts[row + 1]].tolist()
        return found


def needed(requires: Requires, goal: int, had: Container[int]) -> tuple[dict[int, list[int]], list[int]]:
    """All that a goal requires over any number of steps, the goal included, but nothing behind what is had.

    Returns: each row that is still to do and what of these it waits for; and the rows that are had already.
    """
    if goal in had:
        return {}, [goal]
    waits: dict[int, list[int]] = {}
    known: set[int] = set()
    ahead = [goal]
    while ahead:
        row = ahead.pop()
        if row in waits:
            continue
        targets = requires.of(row)
        known |= {target for target in targets if target in had}
        waits[row] = [target for target in targets if target not in had]
        ahead += waits[row]
    return waits, sorted(known)


def order(waits: dict[int, list[int]], scores: dict[int, float]) -> list[int]:
    """The rows, each after those it waits for and, of those that can come next, the best first (Kahn 1962).

    Raises: PlanError with a circle where there is no such order.
    """
    left = {row: set(of) for row, of in waits.items()}
    behind: dict[int, list[int]] = {}
    for row, of in waits.items():
        for target in of:
            behind.setdefault(target, []).append(row)
    ready = [(-scores[row], row) for row, of in left.items() if not of]
    heapq.heapify(ready)
    done: list[int] = []
    while ready:
        _, row = heapq.heappop(ready)
        done.append(row)
        for next_row in behind.get(row, ()):
            left[next_row].discard(row)
            if not left[next_row]:
                heapq.heappush(ready, (-scores[next_row], next_row))
    if len(done) < len(waits):
        raise PlanError(_circle(left, set(waits) - set(done)))
    return done


def _circle(left: dict[int, set[int]], rows: set[int]) -> list[int]:
    seen: list[int] = []
    row = min(rows)
    while row not in seen:
        seen.append(row)
        row = min(left[row] & rows)
    return [*seen[seen.index(row) :], row]
