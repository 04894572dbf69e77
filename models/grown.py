"""A bundle grown by items that came after it: each is the mean of the items it reads most like, until training sees it.

What holds for items without events in training (decision 0025) holds for those that training never saw. From an item's
stand-ins, items with events whose texts are nearest to its own, come its vector, its bias and what leads to it. Nothing
of the bundle is copied but the weights of its sparse part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix, hstack, vstack

from graph.records import Item
from graph.vocabulary import Vocabulary
from models.attributes import ItemAttributes, with_lines
from models.bundle import Bundle
from models.explain import Knowledge
from models.flagship import Flagship
from models.leads_to import ALIKE, SHARPNESS
from models.retrieval import ItemIndex

_TINY: Final = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Newcomer:
    """An item that the bundle does not have."""

    item: Item
    stand_ins: Mapping[str, float]
    """Keys of items with events, and how much of it each makes; together 1."""


def find_stand_ins(
    text: NDArray[np.float32], vectors: NDArray[np.float32], allowed: NDArray[np.bool_], keys: Sequence[str]
) -> list[dict[str, float]]:
    """The nearest items by text for each of some texts, each counting as its cosine to the fourth power.

    Args:
        text: [M, T] unit vectors.
        vectors: [N, T] unit vectors of the items, 0 for those without any.
        allowed: [N] or [M, N] which of them may stand in.
        keys: of the N items.
    Returns: by key, adding up to 1; nothing where nothing is near.
    """
    rows = np.flatnonzero(allowed & vectors.any(axis=1))
    if not len(rows):
        return [{} for _ in text]
    places, cosines = ItemIndex(vectors[rows], len(rows)).search(text, min(ALIKE, len(rows)))
    shares = np.where(places < 0, 0, np.maximum(cosines, 0)) ** SHARPNESS
    total = shares.sum(axis=1)
    return [
        {keys[rows[place]]: float(share / whole) for place, share in zip(line, weights, strict=True) if share > 0}
        if whole > 0
        else {}
        for line, weights, whole in zip(places, shares, total, strict=True)
    ]


def has_events(bundle: Bundle) -> NDArray[np.bool_]:
    """[N] whether the sparse part says what an item leads to: it had events in training."""
    return np.diff(bundle.flagship.leads_to.weights.indptr) > 0


def grow(bundle: Bundle, newcomers: Sequence[Newcomer]) -> Bundle:
    """The bundle and, after its items, those of the newcomers whose platform and stand-ins it knows."""
    known = [
        newcomer
        for newcomer in newcomers
        if newcomer.item.key not in bundle.items
        and newcomer.item.key.platform in bundle.platforms
        and any(key in bundle.items for key in newcomer.stand_ins)
    ]
    if not known:
        return bundle
    items = [newcomer.item for newcomer in known]
    same = {field.name: getattr(bundle, field.name) for field in fields(Bundle)}
    platform = np.array([bundle.platforms.index(item.key.platform) for item in items], dtype=np.int64)
    return GrownBundle(
        **same
        | {
            "items": Vocabulary([*bundle.items.keys, *(item.key for item in items)]),
            "item_platform": np.concatenate([bundle.item_platform, platform]),
            "titles": [*bundle.titles, *(item.title or item.key for item in items)],
            "urls": [*bundle.urls, *(item.url for item in items)],
        },
        base=bundle,
        newcomers=tuple(known),
    )


@dataclass(frozen=True, eq=False)
class GrownBundle(Bundle):
    """A bundle with the rows of newcomers after its own."""

    base: Bundle
    newcomers: Sequence[Newcomer]

    @cached_property
    def flagship(self) -> Flagship:
        """The base's, with vectors, bias and columns of the newcomers."""
        model = self.base.flagship
        shares = _shares(self.newcomers, self.base.items)
        used = np.unique(shares.indices)
        few = csr_array(shares[:, used])

        def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(few @ values[used], dtype=np.float32)

        parts = {name: mean(part) for name, part in model.parts.items()}
        whole = np.asarray(sum(parts.values()), dtype=np.float32)
        # A mean of vectors is shorter than they are.
        lengths = few @ np.linalg.norm(model.vectors[used], axis=1)
        scale = (lengths / np.maximum(np.linalg.norm(whole, axis=1), _TINY)).astype(np.float32)[:, None]
        lift = model.leads_to.lift
        return replace(
            model,
            vectors=_stacked(model.vectors, whole * scale),
            bias=np.concatenate([model.bias, mean(model.bias)]),
            parts={name: _stacked(part, parts[name] * scale) for name, part in model.parts.items()},
            item_platform=self.item_platform,
            leads_to=replace(
                model.leads_to,
                weights=_with_columns(model.leads_to.weights, shares),
                lift=None if lift is None else np.concatenate([lift, mean(lift)]),
            ),
        )

    def mean_of_stand_ins(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """[M, T] what each newcomer's stand-ins make of the base's lines [N, T], as long as a unit vector."""
        mean = np.asarray(_shares(self.newcomers, self.base.items) @ vectors, dtype=np.float32)
        return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), np.float32(_TINY)))

    @cached_property
    def knowledge(self) -> Knowledge:
        """The base's: what newcomers share with other items is not known yet."""
        more = len(self.newcomers)
        grown = {}
        for name, (incidence, keys) in self.base.knowledge.items():
            ends = np.concatenate([incidence.indptr, np.full(more, incidence.indptr[-1], incidence.indptr.dtype)])
            shape = (incidence.shape[0] + more, incidence.shape[1])
            grown[name] = csr_matrix((incidence.data, incidence.indices, ends), shape=shape), keys
        return grown

    @cached_property
    def attributes(self) -> ItemAttributes:
        """The base's and the newcomers' own."""
        items = [newcomer.item for newcomer in self.newcomers]
        columns = self.base.attributes
        table = columns.table
        if table.num_columns:
            table = with_lines(table, [item.created_at for item in items], [item.attributes for item in items])
        titles = pa.concat_arrays([columns.titles, pa.array([item.title for item in items], pa.string())])
        return ItemAttributes(self.platforms, self.item_platform, titles, table, self.knowledge)


class Stacked:
    """Two matrices as one whose lines are those of the first and then those of the second; neither is copied."""

    def __init__(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
        self._first, self._second = first, second
        self.shape: tuple[int, ...] = (len(first) + len(second), *first.shape[1:])
        self.dtype = first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """As an array's, for a row, an array of rows, or a slice with both ends."""
        size = len(self._first)
        if isinstance(rows, slice):
            if rows.stop is not None and rows.stop <= size:
                return self._first[rows]
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        late = rows >= size
        if not late.any():
            return np.asarray(self._first[rows])
        found = self._first[np.where(late, 0, rows)]
        if rows.ndim == 0:
            return np.asarray(self._second[rows - size])
        found[late] = self._second[rows[late] - size]
        return found


def _stacked(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", Stacked(first, second))


def _shares(newcomers: Sequence[Newcomer], items: Vocabulary) -> csr_array:
    """[M, N] how much of each newcomer an item makes; lines add up to 1."""
    lines, columns, values = [], [], []
    for line, newcomer in enumerate(newcomers):
        known = {row: share for key, share in newcomer.stand_ins.items() if (row := items.get(key)) is not None}
        total = sum(known.values())
        lines += [line] * len(known)
        columns += list(known)
        values += [share / total for share in known.values()]
    shape = (len(newcomers), len(items))
    return csr_array((np.array(values, np.float32), (np.array(lines), np.array(columns))), shape=shape)


def _with_columns(weights: csr_array, shares: csr_array) -> csr_array:
    """[N + M, N + M] the weights, with columns for newcomers; they themselves lead nowhere yet."""
    columns = csr_array(weights @ csr_array(shares.T))
    beside = hstack([weights, columns], format="csr")
    nothing = csr_array((shares.shape[0], beside.shape[1]), dtype=np.float32)
    return csr_array(vstack([beside, nothing], format="csr"))
