"""Events as columns of rows: a person's events, parts of a whole, and the whole again."""

from dataclasses import replace

import numpy as np
import pytest

from graph.interactions import Interactions, join
from graph.vocabulary import Vocabulary

USERS = Vocabulary(["user:a", "user:b", "user:c"])
ITEMS = Vocabulary(["books:1", "books:2", "films:1"])


def interactions(rows: list[tuple[int, int, int]]) -> Interactions:
    """From (user, item, at), in the order given; the weight is a tenth of the instant, so that events can be told."""
    user, item, at = (np.array([row[column] for row in rows], np.int64) for column in range(3))
    return Interactions(
        user=user,
        item=item,
        type=np.zeros(len(rows), np.int64),
        at=at,
        value=np.full(len(rows), np.nan, np.float32),
        weight=(at / 10).astype(np.float32),
        users=USERS,
        items=ITEMS,
        event_types=("RATED",),
        platforms=("books", "films"),
        item_platform=np.array([0, 0, 1]),
    )


# a did books:1, films:1, books:2; b nothing; c films:1
WHOLE = interactions([(0, 0, 10), (0, 2, 20), (0, 1, 30), (2, 2, 5)])


def test_offsets_part_the_events_by_person_and_a_person_without_events_has_none():
    assert WHOLE.offsets.tolist() == [0, 3, 3, 4]


def test_the_platform_of_an_event_is_its_items():
    assert WHOLE.platform.tolist() == [0, 1, 0, 1]


def test_histories_come_in_the_order_asked_for_and_may_be_empty_or_repeated():
    histories = WHOLE.histories(np.array([2, 1, 0, 2]))
    assert len(histories) == 4
    assert histories.offsets.tolist() == [0, 1, 1, 4, 5]
    assert histories.item.tolist() == [2, 0, 2, 1, 2]
    assert histories.at.tolist() == [5, 10, 20, 30, 5]
    assert histories.weight.tolist() == pytest.approx([0.5, 1.0, 2.0, 3.0, 0.5])
    assert histories.ages.tolist() == [0, 2, 1, 0, 0]


def test_histories_remember_whose_they_are_and_so_do_parts_of_them():
    histories = WHOLE.histories(np.array([2, 0]))
    assert histories.users is not None
    assert histories.users.tolist() == [2, 0]
    part = histories.where(histories.at < 20)
    assert part.offsets.tolist() == [0, 1, 2]
    assert part.users is histories.users


def test_histories_of_nobody_are_empty():
    histories = WHOLE.histories(np.array([], np.int64))
    assert len(histories) == 0
    assert len(histories.item) == 0


def test_a_part_keeps_the_vocabularies_and_counts_its_own_offsets():
    part = WHOLE.where(WHOLE.at >= 20)
    assert part.users is WHOLE.users
    assert part.items is WHOLE.items
    assert part.offsets.tolist() == [0, 2, 2, 2]
    assert part.item.tolist() == [2, 1]


def test_parts_join_to_the_whole():
    mask = np.array([False, True, False, True])
    joined = join(WHOLE.where(mask), WHOLE.where(~mask))
    for column in ("user", "item", "type", "at", "weight"):
        np.testing.assert_array_equal(getattr(joined, column), getattr(WHOLE, column))


def test_joining_keeps_the_order_given_where_instants_tie():
    first, second = interactions([(0, 1, 10)]), interactions([(0, 0, 10)])
    assert join(first, second).item.tolist() == [1, 0]
    assert join(second, first).item.tolist() == [0, 1]


def test_parts_of_different_wholes_do_not_join():
    other = replace(WHOLE, items=Vocabulary(ITEMS.keys))
    with pytest.raises(ValueError, match="different vocabularies"):
        join(WHOLE, other)
