"""Plans: every step after what it needs, nothing that is had, and a circle named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.plan import PlanError, Requires, needed, order


def requires_of(edges: dict[int, list[int]], size: int = 10) -> Requires:
    lines = [edges.get(row, []) for row in range(size)]
    return Requires(np.cumsum([0, *map(len, lines)]), np.array([row for line in lines for row in line], dtype=np.int64))


# 5 needs 3 and 4, 3 needs 1, 4 needs 1 and 2.
COURSE = requires_of({5: [3, 4], 3: [1], 4: [1, 2]})


def planned(requires: Requires, goal: int, had=(), scores=None) -> tuple[list[int], list[int]]:
    waits, known = needed(requires, goal, set(had))
    return order(waits, scores or {row: float(row) for row in range(20)}), known


def test_of_what_can_come_next_the_best_comes_first():
    assert planned(COURSE, 5) == ([2, 1, 4, 3, 5], [])
    assert planned(COURSE, 5, scores={1: 9, 2: 1, 3: 5, 4: 0, 5: 0}) == ([1, 3, 2, 4, 5], [])


def test_what_is_had_is_left_out_with_all_behind_it():
    assert planned(COURSE, 5, had=[4]) == ([1, 3, 5], [4])
    assert planned(COURSE, 5, had=[1]) == ([3, 2, 4, 5], [1])
    assert planned(COURSE, 5, had=[5]) == ([], [5])
    assert planned(COURSE, 7) == ([7], [])
    assert planned(COURSE, 15) == ([15], []), "an item that came after the bundle"


def test_a_circle_is_named():
    with pytest.raises(PlanError) as caught:
        planned(requires_of({5: [3], 3: [2], 2: [4], 4: [3]}), 5)
    assert caught.value.circle == [2, 4, 3, 2]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25), st.sets(st.integers(0, 8)))
def test_every_step_comes_after_what_it_needs(pairs, had):
    edges: dict[int, list[int]] = {}
    for high, low in {(max(pair), min(pair)) for pair in pairs if pair[0] != pair[1]}:
        edges.setdefault(high, []).append(low)
    requires = requires_of(edges)
    steps, _ = planned(requires, 9, had)
    assert steps[-1] == 9
    assert len(set(steps)) == len(steps)
    assert not set(steps) & had
    for place, step in enumerate(steps):
        assert set(requires.of(step)) <= set(steps[:place]) | had
