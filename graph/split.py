"""Splits: events parted into training, validation and test over one vocabulary, so that their rows agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor

import numpy as np
from numpy.typing import NDArray

from graph.errors import SplitError
from graph.interactions import Interactions


@dataclass(frozen=True)
class Split:
    """Three disjoint parts that add up to the whole, each in the whole's order."""

    train: Interactions
    validation: Interactions
    test: Interactions


def leave_one_out(interactions: Interactions) -> Split:
    """Each person's last event over all platforms is test, the one before it validation, the rest training.

    A person's validation and test events are never earlier than their training. People with fewer than three events
    are training only.

    Raises: SplitError if nobody has three events.
    """
    count, position = _positions(interactions)
    left = count - position
    held_out = count >= 3
    if not held_out.any():
        raise SplitError(
            f"none of {len(interactions.users)} people has 3 of the {len(interactions)} events, one for each part: "
            "ingest longer histories or split by time"
        )
    return _parts(interactions, np.where(held_out & (left <= 2), 3 - left, 0))


def random_per_user(interactions: Interactions, ratios: Sequence[float] = (0.8, 0.1, 0.1), *, seed: int) -> Split:
    """Each person's events parted at random by training, validation and test ratios: RecBole's "RS" grouped by user.

    The counts follow RecBole 1.2 (`Dataset._calcu_split_ids`): ratios are rounded down in favour of training, then a
    part that would get less than one event gets one while training keeps more than one. Order plays no part: training
    may hold events later than the test's, so this is for comparison with published figures, not for claims about the
    future.

    Raises: SplitError if the ratios are not three numbers of at least 0 with training above 0, or there are no events.
    """
    shares = np.asarray(ratios, np.float64)
    if shares.shape != (3,) or not np.isfinite(shares).all() or shares.min() < 0 or shares[0] == 0:
        raise SplitError(f"ratios are {tuple(ratios)}: give training, validation and test, such as (0.8, 0.1, 0.1)")
    if not len(interactions):
        raise SplitError("there are no events to split: ingest some, or ask for other event types")
    shares = shares / shares.sum()
    order = np.lexsort((np.random.default_rng(seed).random(len(interactions)), interactions.user))
    position = np.empty(len(interactions), np.int64)
    count, position[order] = _positions(interactions)

    validation, test = (np.floor(share * count).astype(np.int64) for share in shares[1:])
    training = count - validation - test
    for part, share in ((test, shares[2]), (validation, shares[1])):
        short = (training > 1) & (share * count > 0) & (share * count < 1)
        part += short
        training -= short
    return _parts(interactions, (position >= training).astype(np.int64) + (position >= training + validation))


def newcomers(interactions: Interactions, *, seed: int, share: float = 0.1) -> Split:
    """Leave-one-out, but a share of people arrives on each platform halfway through what they did elsewhere.

    The first half of a newcomer's events on the other platforms is training; all that came later is test, and all that
    they did on the platform they are new on. They are drawn from those with five events or more on every platform,
    others on each.

    Raises: SplitError if the share is not above 0 and below one platform's part of all, or draws nobody.
    """
    platforms = range(len(interactions.platforms))
    if not 0 < share * len(platforms) < 1:
        raise SplitError(f"share is {share} on each of {len(platforms)} platforms: give more than 0, together below 1")
    counts = np.zeros((len(interactions.users), len(platforms)), np.int64)
    np.add.at(counts, (interactions.user, interactions.platform), 1)
    known = np.flatnonzero((counts >= 5).all(axis=1))
    size = int(len(known) * share)
    if not size:
        raise SplitError(
            f"{len(known)} people have 5 events on each of {len(platforms)} platforms, a share of {share} is nobody: "
            "ingest longer histories or give a larger share"
        )
    drawn = np.random.default_rng(seed).permutation(known)
    count, position = _positions(interactions)
    left = count - position
    at_home = ~np.isin(interactions.user, drawn[: size * len(platforms)])
    part = np.where(at_home & (count >= 3) & (left <= 2), 3 - left, 0)
    for platform in platforms:
        arriving = np.isin(interactions.user, drawn[platform * size : (platform + 1) * size])
        elsewhere = arriving & (interactions.platform != platform)
        count, position = _positions(interactions.where(elsewhere))
        late = np.zeros(len(interactions), np.bool_)
        late[elsewhere] = position >= (count + 1) // 2
        part[arriving & (late | ~elsewhere)] = 2
    return _parts(interactions, part)


def hide_items(split: Split, *, seed: int, share: float = 0.1) -> Split:
    """The same split, but training knows no event of some items: they are cold, as new items are.

    The items are drawn from those that training knows. Their events in validation and test stay what is asked for, so
    these items are wanted there as often as before. What training loses is in no part.

    Raises: SplitError if the share draws no item or all.
    """
    known = np.unique(split.train.item)
    size = int(len(known) * share)
    if not 0 < size < len(known):
        raise SplitError(
            f"a share of {share} of {len(known)} items hides {size}: give a share that leaves some of each"
        )
    hidden = np.random.default_rng(seed).choice(known, size, replace=False)
    return Split(split.train.where(~np.isin(split.train.item, hidden)), split.validation, split.test)


def temporal(interactions: Interactions, validation_from: datetime, test_from: datetime) -> Split:
    """Training before `validation_from`, validation before `test_from`, test from there on, for everybody alike.

    Events are known to the second, so a boundary counts from the beginning of its second: nothing at or after
    `validation_from` is in training.

    Raises: SplitError if an instant is not aware, they are out of order, or a part is empty.
    """
    for instant in (validation_from, test_from):
        if instant.tzinfo is None:
            raise SplitError(
                f"{instant.isoformat()} has no time zone: give an aware instant, such as 2024-01-31T00:00Z"
            )
    if validation_from >= test_from:
        raise SplitError(
            f"validation from {validation_from.isoformat()} is not before test from {test_from.isoformat()}: "
            "give two instants in order"
        )
    boundaries = np.array([floor(validation_from.timestamp()), floor(test_from.timestamp())])
    part = np.searchsorted(boundaries, interactions.at, side="right")
    sizes = np.bincount(part, minlength=3)
    if not sizes.all():
        span = "there are none"
        if len(interactions):
            first, last = (
                datetime.fromtimestamp(int(at), UTC) for at in (interactions.at.min(), interactions.at.max())
            )
            span = f"they reach from {first.isoformat()} to {last.isoformat()}"
        raise SplitError(
            f"training, validation and test would have {sizes[0]}, {sizes[1]} and {sizes[2]} events: "
            f"choose instants that part them ({span})"
        )
    return _parts(interactions, part)


def newest(interactions: Interactions, share: float = 0.1) -> tuple[datetime, datetime]:
    """The instants for `temporal` by which the newest share of all events is test, and as many before are validation.

    Events of one second stay together, in the later part, which may then be larger.

    Raises: SplitError if the share leaves nothing to training, or the events are at too few instants.
    """
    if not 0 < share < 0.5:
        raise SplitError(f"share is {share} for each of test and validation: give more than 0 and less than 0.5")
    at, held = np.sort(interactions.at), round(share * len(interactions))
    oldest, validation_from, test_from = (int(at[-places]) if held else 0 for places in (len(at), 2 * held, held))
    if not oldest < validation_from < test_from:
        raise SplitError(
            f"{len(at)} events at {len(np.unique(at))} instants cannot be parted by time into training and "
            f"{share:.0%} each of validation and test: give the two instants yourself (training.validation_from and "
            "test_from), or choose another split where times are not known"
        )
    return datetime.fromtimestamp(validation_from, UTC), datetime.fromtimestamp(test_from, UTC)


def _positions(interactions: Interactions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[E] how many events the person of each event has, and which of them this is, from 0."""
    count = np.diff(interactions.offsets)[interactions.user]
    return count, np.arange(len(interactions)) - interactions.offsets[interactions.user]


def _parts(interactions: Interactions, part: NDArray[np.int64]) -> Split:
    return Split(*(interactions.where(part == number) for number in range(3)))
