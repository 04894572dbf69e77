"""The flagship, ready to score: item vectors laid out, a person's vector computed from what they did.

    score(i) = q(platform of i) · z(i) + b(i)  +  sum_j decay^age(j) * (scale * leads_to[j, i] + lift(i))

The dense part is the graph network's (models.encoder), the sparse part a linear item-item model (models.leads_to).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graph.interactions import Histories
from models.encoder import Encoder, EventBatch, HistoryEncoder, Relations, gap_buckets
from models.frozen import FrozenHistory, Reading
from models.leads_to import LeadsTo

_KEPT: Final = 64
"""Readings that are kept, some 25 KB each; they name nobody."""


@dataclass(frozen=True, eq=False)
class Flagship:
    """A trained model whose item side is computed once; a scorer like any other."""

    history: HistoryEncoder
    """Weighs a person's events; on the CPU, in evaluation mode."""
    adapter: Tensor
    """[P, D, D] what each target platform adds to a query."""
    prior: Tensor
    """[P, D] the query of somebody without events."""
    max_history: int
    """Newest wanted events that the dense part looks at; the sparse part looks at all."""
    vectors: NDArray[np.float32]
    """[N, D] z; may be a memory map."""
    bias: NDArray[np.float32]
    """[N]"""
    parts: Mapping[str, NDArray[np.float32]]
    """"own" and each relation -> [N, D], which add up to `vectors`."""
    item_platform: NDArray[np.int64]
    """[N]"""
    leads_to: LeadsTo
    name: str = "isthmus"

    @classmethod
    def from_encoder(cls, encoder: Encoder, graph: Relations, leads_to: LeadsTo) -> "Flagship":
        """Compute the item side of a trained encoder over a graph; the encoder may go on training, this is a copy."""
        encoder = encoder.eval()
        with torch.inference_mode():
            parts = {
                name: part.numpy(force=True)
                for name, part in encoder.items.parts(encoder.text, encoder.warm, graph).items()
            }
            vectors: NDArray[np.float32] = np.asarray(sum(parts.values()), dtype=np.float32)
        return cls(
            deepcopy(encoder.history).cpu().requires_grad_(False),
            encoder.adapter.detach().clone().cpu(),
            encoder.prior.detach().clone().cpu(),
            encoder.config.max_history,
            vectors,
            encoder.bias.numpy(force=True).copy(),
            parts,
            encoder.item_platform.numpy(force=True),
            leads_to,
        )

    def score(self, histories: Histories) -> NDArray[np.float32]:
        """[B, N]; see models.scorer."""
        scores = self.leads_to.score(histories)
        queries = self.queries(histories)
        for platform in range(len(self.prior)):
            items = np.flatnonzero(self.item_platform == platform)
            scores[:, items] += queries[:, platform] @ self.vectors[items].T + self.bias[items]
        return scores

    def queries(self, histories: Histories) -> NDArray[np.float32]:
        """[B, P, D] what each person's events ask for on each platform."""
        if len(histories) == 1:
            reading = self._reading(histories)[0]
            prior = self._adapters[1]
            return (prior if reading is None else self._adapted(reading.y) + prior)[None]
        with torch.inference_mode():
            batch = EventBatch.from_histories(wanted(histories), self.max_history)
            rows = batch.item.numpy()
            events, platform = torch.from_numpy(self.vectors[rows]), torch.from_numpy(self.item_platform[rows])
            y = self.history.parts(events, batch, platform).sum(dim=1)
        return self._adapted(y.numpy()) + self._adapters[1]

    def event_queries(self, histories: Histories) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What each event puts into the query of one person.

        Args:
            histories: of one person.
        Returns: [L, P, D], which add up to `queries` less the prior, and [L] positions of these events in histories.
        """
        if len(histories) != 1:
            raise ValueError(f"event_queries takes the history of one person, got {len(histories)}")
        reading, places = self._reading(histories)
        nothing = np.zeros((0, self.vectors.shape[1]), np.float32)
        return self._adapted(nothing if reading is None else reading.parts()), places

    def _reading(self, history: Histories) -> tuple[Reading | None, NDArray[np.int64]]:
        """What one person's events amount to, None without any that was wanted; and the positions of those read."""
        places = np.flatnonzero(history.weight > 0)
        if not len(places):
            return None, places
        gap = gap_buckets(history.at[places], np.zeros(len(places), np.int64))[-self.max_history :]
        places = places[-self.max_history :]
        columns = (history.item[places], history.type[places], gap)
        return self._read(*(column.tobytes() for column in columns)), places

    def _adapted(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """[..., P, D] for y [..., D]."""
        adapter, prior = self._adapters
        return y[..., None, :] + (y @ adapter).reshape(*y.shape[:-1], *prior.shape)

    @cached_property
    def _read(self) -> Callable[[bytes, bytes, bytes], Reading]:
        """What events amount to, from their items, types and gaps; the last few readings are kept, for whoever asks for
        a list and then for its reasons, or for several lists of one page."""
        frozen = FrozenHistory(self.history)

        @lru_cache(maxsize=_KEPT)
        def read(*columns: bytes) -> Reading:
            item, type, gap = (np.frombuffer(column, np.int64) for column in columns)
            return frozen.read(self.vectors[item], type, self.item_platform[item], gap)

        return read

    @cached_property
    def _adapters(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The adapters side by side [D, P * D], and the priors."""
        adapter = self.adapter.numpy()
        return adapter.transpose(1, 0, 2).reshape(adapter.shape[1], -1), self.prior.numpy()


def wanted(histories: Histories) -> Histories:
    """The events of positive weight: a dislike is no wish."""
    return histories.where(histories.weight > 0)


def relation_names(flagship: Flagship) -> Sequence[str]:
    """The relations the item vectors are made of, "own" first."""
    return tuple(flagship.parts)
