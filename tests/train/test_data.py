"""Training data: windows worked by hand, and that nothing of validation or test reaches what training sees."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graph.errors import SnapshotError
from graph.interactions import Interactions
from graph.snapshot import Snapshot
from graph.split import Split
from graph.vocabulary import Vocabulary
from tests.planted_training import write_word_vectors
from train.data import Windows, item_side, split_by, whitened, whole

HOUR = 3600
FILMS, BOOKS = 0, 1


def events(*people: Sequence[tuple[int, int]]) -> Interactions:
    """People's (item, hour); even items are films, odd ones books."""
    flat = [(user, item, hour) for user, steps in enumerate(people) for item, hour in steps]
    user, item, hour = (np.array([step[column] for step in flat], np.int64) for column in range(3))
    return Interactions(
        user=user,
        item=item,
        type=item % 2,
        at=hour * HOUR,
        value=np.full(len(flat), np.nan, np.float32),
        weight=np.ones(len(flat), np.float32),
        users=Vocabulary(f"user:{number}" for number in range(len(people))),
        items=Vocabulary(f"item:{number}" for number in range(10)),
        event_types=("RATED", "READ"),
        platforms=("films", "books"),
        item_platform=np.arange(10) % 2,
    )


def batch_of(training: Interactions, length: int):
    windows = Windows(training, length)
    return next(windows.batches(100, np.arange(len(windows)), np.random.default_rng(0)))


def test_the_next_item_on_each_platform_follows_every_event() -> None:
    batch = batch_of(events([(0, 0), (1, 1), (3, 2), (2, 5)]), length=10)
    assert batch.events.item.tolist() == [[0, 1, 3, 2]]
    assert batch.events.event_type.tolist() == [[0, 1, 1, 0]]
    assert batch.events.gap.tolist() == [[0, 1, 1, 2]]
    assert batch.target[FILMS].tolist() == [[2, 2, 2, -1]]
    assert batch.target[BOOKS].tolist() == [[1, 3, -1, -1]]
    assert batch.immediate[FILMS].tolist() == [[False, False, True, False]]
    assert batch.immediate[BOOKS].tolist() == [[True, True, False, False]]
    assert batch.first.tolist() == [[0], [1]]


def test_a_long_history_is_cut_into_windows_whose_targets_reach_into_the_next() -> None:
    batch = batch_of(events([(0, 0), (2, 1), (4, 2), (1, 3), (6, 4)]), length=2)
    # The shortest window first.
    assert batch.events.item.tolist() == [[6, 0], [0, 2], [4, 1]]
    assert batch.events.length.tolist() == [1, 2, 2]
    assert batch.target[FILMS].tolist() == [[-1, -1], [2, 4], [6, 6]]
    assert batch.target[BOOKS].tolist() == [[-1, -1], [1, 1], [1, -1]]
    # The first event of a window that goes on knows how long ago the event before was.
    assert batch.events.gap.tolist() == [[1, 0], [0, 1], [1, 1]]


def test_first_items_are_asked_for_in_a_persons_first_window_alone() -> None:
    batch = batch_of(events([(1, 0), (3, 1), (4, 2)], [(8, 0)]), length=2)
    # Windows, the shortest first: person 0 goes on, person 1 begins, person 0 begins.
    assert batch.first[FILMS].tolist() == [-1, 8, 4]
    assert batch.first[BOOKS].tolist() == [-1, -1, 1]


def test_one_persons_events_are_never_another_ones_targets() -> None:
    batch = batch_of(events([(0, 0)], [(2, 1), (1, 2)]), length=5)
    assert batch.target[:, 0].tolist() == [[-1, -1], [-1, -1]]
    assert batch.target[BOOKS, 1].tolist() == [1, -1]


def test_every_event_is_an_input_once_and_the_very_next_once_whatever_the_batches() -> None:
    random = np.random.default_rng(0)
    people = [[(int(item), n) for n, item in enumerate(random.integers(0, 10, size))] for size in (1, 7, 23, 0, 12)]
    training = events(*people)
    windows = Windows(training, 4)
    inputs, nexts = [], []
    for batch in windows.batches(2, random.permutation(len(windows)), random):
        inside = torch.arange(batch.events.item.shape[1]) < batch.events.length[:, None]
        inputs += batch.events.item[inside].tolist()
        nexts += batch.target[batch.immediate].tolist()
        assert (batch.target[:, ~inside] == -1).all()
    assert sorted(inputs) == sorted(training.item)
    begins = training.offsets[:-1][np.diff(training.offsets) > 0]
    assert sorted(nexts) == sorted(np.delete(training.item, begins))


@pytest.mark.parametrize("size", [1, 3, 16, 1000])
def test_batches_hold_about_as_many_events_and_there_are_as_many_of_them_whatever_the_lengths(size: int) -> None:
    random = np.random.default_rng(0)
    lengths = [*random.integers(1, 6, 300), *[40] * 20]
    training = events(
        *([(int(item), n) for n, item in enumerate(random.integers(0, 10, length))] for length in lengths)
    )
    windows = Windows(training, 50)
    batches = [batch.events for batch in windows.batches(size, random.permutation(len(windows)), random)]
    assert len(batches) == -(-len(windows) // size)
    assert all(len(batch.length) for batch in batches)
    assert sorted(int(length) for batch in batches for length in batch.length) == sorted(lengths)
    if size == 16:
        counts = [int(batch.length.sum()) for batch in batches]
        assert max(counts) < 2 * sum(counts) / len(counts)
        assert sum(counts) > 0.7 * sum(batch.item.numel() for batch in batches)


def test_shuffling_keeps_each_persons_events_and_forgets_their_times_and_depends_on_the_generator_alone() -> None:
    training = events([(n % 10, 3 * n) for n in range(9)], [(1, 0), (3, 4)])

    def shuffled(windows: Windows, seed: int) -> torch.Tensor:
        windows.shuffle(np.random.default_rng(seed))
        batch = next(windows.batches(10, np.arange(len(windows)), np.random.default_rng(0)))
        assert not batch.events.gap.any()
        assert sorted(batch.events.item[-1].tolist()) == list(range(9))
        assert (batch.events.event_type[-1] == batch.events.item[-1] % 2).all()
        return batch.events.item

    used = Windows(training, 20)
    shuffled(used, 1)
    assert torch.equal(shuffled(used, 2), shuffled(Windows(training, 20), 2))
    assert not torch.equal(shuffled(used, 2), shuffled(used, 3))


def test_a_split_holds_wanted_events_alone(planted_snapshot: Snapshot) -> None:
    interactions = planted_snapshot.interactions()
    for name in ("leave_one_out", "random_per_user", "temporal"):
        split = split_by(name, interactions, seed=0)
        together = whole(split)
        assert len(together) == np.count_nonzero(interactions.weight > 0) < len(interactions)
        assert (together.weight > 0).all()
        assert together.items is interactions.items


def seen_by_training(snapshot: Snapshot, split: Split, vectors: Path) -> list[np.ndarray]:
    """Everything of a split that reaches a training step."""
    side = item_side(snapshot, split.train, vectors)
    windows = Windows(split.train, 7)
    found = [side.text.numpy(), side.warm.numpy()]
    found += [part.numpy() for name in sorted(side.graph) for hop in side.graph[name] for part in hop.forward]
    for batch in windows.batches(8, np.arange(len(windows)), np.random.default_rng(0)):
        found += [getattr(batch.events, name).numpy() for name in ("item", "event_type", "gap", "length")]
        found += [batch.target.numpy(), batch.immediate.numpy(), batch.first.numpy()]
    return found


@pytest.mark.parametrize("name", ["leave_one_out", "random_per_user", "temporal"])
def test_changing_what_is_held_out_changes_nothing_that_training_sees(
    planted_snapshot: Snapshot, tmp_path: Path, name
) -> None:
    vectors = write_word_vectors(planted_snapshot, tmp_path)
    interactions = planted_snapshot.interactions()
    wanted = interactions.where(interactions.weight > 0)
    split = split_by(name, interactions, seed=4)
    held_out = np.zeros(len(wanted), bool)
    for part in (split.validation, split.test):
        held_out |= np.isin(
            wanted.user * 10**12 + wanted.at * 100 + wanted.item, part.user * 10**12 + part.at * 100 + part.item
        )
    assert held_out.sum() >= 60
    other = replace(
        wanted,
        item=np.where(held_out, (wanted.item + 11) % len(wanted.items), wanted.item),
        type=np.where(held_out, (wanted.type + 1) % len(wanted.event_types), wanted.type),
    )
    changed = split_by(name, other, seed=4)
    assert not np.array_equal(changed.validation.item, split.validation.item)
    assert not np.array_equal(changed.test.item, split.test.item)
    before, after = (seen_by_training(planted_snapshot, part, vectors) for part in (split, changed))
    assert len(before) == len(after)
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


def test_leak_detection_would_see_a_training_event_that_changed(planted_snapshot: Snapshot, tmp_path: Path) -> None:
    vectors = write_word_vectors(planted_snapshot, tmp_path)
    split = split_by("leave_one_out", planted_snapshot.interactions(), seed=0)
    item = split.train.item.copy()
    item[5] = (item[5] + 11) % len(split.train.items)
    changed = replace(split, train=replace(split.train, item=item))
    before, after = (seen_by_training(planted_snapshot, part, vectors) for part in (split, changed))
    assert not all(np.array_equal(one, two) for one, two in zip(before, after, strict=False))


def test_texts_are_whitened_and_an_item_without_one_is_zero(planted_snapshot: Snapshot, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    vectors = write_word_vectors(planted_snapshot, tmp_path)
    table = pq.read_table(vectors / "Item.parquet")
    pq.write_table(table.slice(1), vectors / "Item.parquet")
    training = planted_snapshot.interactions()
    text = item_side(planted_snapshot, training, vectors).text.numpy()
    missing = training.items.row(table["key"][0].as_py())
    assert not text[missing].any()
    rest = np.delete(text, missing, axis=0)
    assert rest.mean(axis=0) == pytest.approx(0, abs=1e-5)


def test_whitening_gives_every_direction_variance_one_and_correlates_none() -> None:
    random = np.random.default_rng(0)
    turned = np.linalg.qr(random.normal(size=(6, 6)))[0]
    mixed = random.normal(size=(20_000, 6)) * [9, 3, 2, 2, 1, 0] @ turned + 5
    found = whitened(mixed.astype(np.float32))
    variances = np.linalg.eigvalsh(np.cov(found.T))
    assert variances[1:] == pytest.approx(1, abs=0.05)
    assert variances[0] == pytest.approx(0, abs=1e-3)  # the direction that had none gets none
    few = whitened(random.normal(size=(5, 6)).astype(np.float32))
    assert np.abs(few).max() < 5  # shrunk: noise of few vectors is not blown up
    again = whitened(found)
    assert np.abs(again - found).max() < 0.1  # what is white stays where it is


def test_only_items_with_training_events_are_warm(planted_snapshot: Snapshot, tmp_path: Path) -> None:
    everything = planted_snapshot.interactions()
    training = everything.where(everything.item % 5 != 0)
    side = item_side(planted_snapshot, training, write_word_vectors(planted_snapshot, tmp_path))
    assert np.flatnonzero(side.warm.numpy()).tolist() == np.unique(training.item).tolist()
    assert len(np.unique(training.item)) < len(np.unique(everything.item))


def test_vectors_that_are_missing_are_asked_for(planted_snapshot: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="isthmus embed"):
        item_side(planted_snapshot, planted_snapshot.interactions(), tmp_path)
