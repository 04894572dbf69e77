"""Training data: a snapshot, a split and the text vectors, as what a training step eats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graph.errors import SplitError
from graph.hetero import hetero_data
from graph.interactions import Interactions, join
from graph.snapshot import Snapshot
from graph.split import Split, hide_items, leave_one_out, newcomers, newest, random_per_user, temporal
from graph.vectors import read_vectors
from models.encoder import Encoder, EncoderConfig, EventBatch, Relations, gap_buckets
from models.explain import Knowledge
from models.relations import item_relations, shared_entities

FORM: Final = 5
"""What training makes of the same inputs and how a run names them; raised when either changes, so that no earlier
program's run is taken up."""
_SORTED_AT_ONCE: Final = 16
"""Batches whose windows are sorted by length together: more would leave less padding and less chance."""

SplitName = Literal[
    "leave_one_out",
    "random_per_user",
    "newcomers",
    "temporal",
    "leave_one_out_cold_items",
    "random_per_user_cold_items",
]
"""The last two are the first two with a tenth of the items hidden from training, see `graph.split.hide_items`."""


def split_by(
    name: SplitName,
    interactions: Interactions,
    seed: int,
    only: str | None = None,
    instants: tuple[datetime, datetime] | None = None,
) -> Split:
    """Split by the name of a protocol; only wanted events are held out and trained on, dislikes stay out of all parts.

    Args:
        only: keep of each part the events of this platform alone, after the split; None keeps all.
        instants: where validation and test begin in a temporal split; None takes those of `graph.split.newest`.
    Raises: SplitError.
    """
    wanted = interactions.where(interactions.weight > 0)
    if name == "newcomers":
        split = newcomers(wanted, seed=seed)
    elif name.startswith("leave_one_out"):
        split = leave_one_out(wanted)
    elif name == "temporal":
        split = temporal(wanted, *(instants or newest(wanted)))
    else:
        split = random_per_user(wanted, seed=seed)
    if name.endswith("_cold_items"):
        split = hide_items(split, seed=seed)
    if only is None:
        return split
    if only not in wanted.platforms:
        raise SplitError(f"{only!r} is none of the platforms {', '.join(wanted.platforms)}: name one of them")
    number = wanted.platforms.index(only)
    parts = (split.train, split.validation, split.test)
    return Split(*(part.where(part.platform == number) for part in parts))


@dataclass(frozen=True, eq=False)
class ItemSide:
    """What is known of the items: their texts and the graph around them, from the events handed in and no others."""

    text: Tensor
    """[N, T] text vectors, centred and whitened over the items that have one; 0 for the others.

    Vectors of other kinds, of images or sound, are further columns, made alike."""
    warm: Tensor
    """[N] 1 where an item has an event, else 0."""
    graph: Relations
    knowledge: Knowledge


def item_side(snapshot: Snapshot, training: Interactions, vectors: Path, others: Sequence[Path] = ()) -> ItemSide:
    """Read text vectors and build the relations.

    Args:
        training: the part of the snapshot's interactions that may be seen.
        vectors: the folder of one text model's vectors.
        others: the folders of vectors of other kinds.
    Raises: SnapshotError if the vectors are missing.
    """
    parts = [_features(folder / "Item.parquet", training.items.keys) for folder in (vectors, *others)]
    text = np.concatenate(parts, axis=1) if others else parts[0]
    data = hetero_data(snapshot, training)
    warm = np.bincount(training.item, minlength=len(training.items)) > 0
    return ItemSide(
        torch.from_numpy(text),
        torch.from_numpy(warm.astype(np.float32)),
        item_relations(data, training),
        shared_entities(data),
    )


def _features(file: Path, keys: Sequence[str]) -> NDArray[np.float32]:
    """[N, T] the vectors of a file whitened, 0 for the items that have none."""
    stored, present = read_vectors(file, keys)
    features = np.zeros_like(stored)
    if present.any():
        features[present] = whitened(stored[present])
    return features


def whitened(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """[M, T] vectors, centred, every direction of variance 1 and none correlated; those without any variance are 0.

    A language model's vectors share a few directions that say little about what people want; whitening gives the many
    others their say (Zhang et al., "Are ID embeddings necessary? Whitening pre-trained text embeddings for effective
    sequential recommendation", ICDE 2024). The covariance is Ledoit and Wolf's (2004), shrunk where vectors are few. Of
    all whitenings this is the one that turns the vectors least (ZCA), so a few items more hardly move the others.
    """
    from sklearn.covariance import ledoit_wolf

    centred = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(ledoit_wolf(centred, assume_centered=True)[0])
    scale = np.where(values > 1e-12, 1 / np.sqrt(np.maximum(values, 1e-12)), 0)
    return np.asarray(centred @ (axes * scale) @ axes.T, dtype=np.float32)


def new_encoder(items: ItemSide, training: Interactions, config: EncoderConfig) -> Encoder:
    """An untrained encoder that fits these items and events."""
    return Encoder(
        items.text,
        items.warm,
        torch.from_numpy(training.item_platform),
        list(items.graph),
        num_event_types=max(1, len(training.event_types)),
        num_platforms=len(training.platforms),
        config=config,
    )


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """B windows of people's events and what came next on each platform after every event."""

    events: EventBatch
    target: Tensor
    """[P, B, L] row of the next item on each platform after each event, -1 where there is none."""
    immediate: Tensor
    """[P, B, L] true where it is the very next event of the person."""
    first: Tensor
    """[P, B] row of a person's first item on each platform, -1 where there is none or the window is not their first."""

    def to(self, device: torch.device) -> "TrainingBatch":
        return TrainingBatch(
            self.events.to(device), self.target.to(device), self.immediate.to(device), self.first.to(device)
        )


class Windows:
    """People's events cut into windows of at most `length`: every event is an input once, and once the very next."""

    def __init__(self, training: Interactions, length: int) -> None:
        self._training, self._length = training, length
        self._cut(training)

    def shuffle(self, random: np.random.Generator) -> None:
        """Put the events of every person in a random order, and cut again: for data whose order says little."""
        events = self._training
        order = np.lexsort((random.random(len(events)), events.user))
        shuffled = replace(events, item=events.item[order], type=events.type[order], at=np.zeros_like(events.at))
        self._cut(shuffled)

    def _cut(self, training: Interactions) -> None:
        length = self._length
        self._events = training
        starts = [
            np.arange(start, end, length)
            for start, end in zip(training.offsets[:-1], training.offsets[1:], strict=True)
        ]
        self._starts = np.concatenate([np.zeros(0, np.int64), *starts])
        self._ends = np.minimum(self._starts + length, training.offsets[training.user[self._starts] + 1])
        self._begins = self._starts == training.offsets[training.user[self._starts]]
        self._gaps = gap_buckets(training.at, training.offsets[training.user])
        self._next = [_next_on(training, platform) for platform in range(len(training.platforms))]

    def __len__(self) -> int:
        return len(self._starts)

    def batches(self, size: int, order: NDArray[np.int64], random: np.random.Generator) -> Iterator[TrainingBatch]:
        """Batches of `size` windows on average and about as many events each, ceil(len(order) / size) in all.

        Windows of like length go together, a few long ones or many short ones: little is padding, and a step learns
        from as many events as the next.

        Args:
            order: the windows to take; those that stand far apart are never in one batch.
            random: decides which batch comes first.
        """
        batches = []
        for start in range(0, len(order), _SORTED_AT_ONCE * size):
            batches += self._alike(order[start : start + _SORTED_AT_ONCE * size], size)
        for number in random.permutation(len(batches)):
            yield self._batch(batches[number])

    def _alike(self, windows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
        """Cut windows into ceil(len / size) parts of about as many events, none empty: workers wait for each other."""
        lengths = (self._ends - self._starts)[windows]
        order = np.argsort(lengths, kind="stable")
        events = lengths[order].cumsum()
        parts = -(-len(windows) // size)
        number = np.arange(1, parts)
        cuts = np.searchsorted(events, events[-1] * number / parts, side="right")
        cuts = np.maximum.accumulate(np.maximum(cuts, number) - number) + number
        return np.split(windows[order], np.minimum(cuts, len(windows) - parts + number))

    def _batch(self, windows: NDArray[np.int64]) -> TrainingBatch:
        starts, lengths = self._starts[windows], (self._ends - self._starts)[windows]
        steps = np.arange(int(lengths.max()))
        inside = steps < lengths[:, None]
        index = np.where(inside, starts[:, None] + steps, 0)
        events = self._events
        columns = (events.item, events.type, self._gaps)
        item, event_type, gap = (torch.from_numpy(np.where(inside, column[index], 0)) for column in columns)
        following = np.stack([np.where(inside, nxt[index], -1) for nxt in self._next])
        target = np.where(following >= 0, events.item[following], -1)
        begins = self._begins[windows]
        first = np.stack([_first(events, nxt, starts, begins, number) for number, nxt in enumerate(self._next)])
        return TrainingBatch(
            EventBatch(item, event_type, gap, torch.from_numpy(lengths)),
            torch.from_numpy(target),
            torch.from_numpy(following == index + 1),
            torch.from_numpy(first),
        )


def _next_on(events: Interactions, platform: int) -> NDArray[np.int64]:
    """[E] position of the same person's next event on a platform, -1 where there is none."""
    places = np.flatnonzero(events.platform == platform)
    found = np.append(places, len(events))[np.searchsorted(places, np.arange(len(events)), side="right")]
    same = np.append(events.user, -1)[found] == events.user
    return np.where(same, found, -1)


def _first(
    events: Interactions,
    following: NDArray[np.int64],
    starts: NDArray[np.int64],
    begins: NDArray[np.bool_],
    number: int,
) -> NDArray[np.int64]:
    place = np.where(events.platform[starts] == number, starts, following[starts])
    return np.where(begins & (place >= 0), events.item[place], -1)


def whole(split: Split) -> Interactions:
    """All parts of a split as one again, for a last fit before release."""
    return join(join(split.train, split.validation), split.test)
