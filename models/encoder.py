"""The flagship's network: items from text, id and the graph around them; a person from what they did.

    item    z(i) = length * unit(x(i) + sum over relations r of w_r (P_r x)(i))          x(i) = text map + id vector
    person  q(p) = (I + A_p) y + c_p          y: a weighted sum of linear images of the z of the person's events
    score   q(platform of i) · z(i) + b(i)

The weights inside y come from a causal transformer over the events, so they know order, recency, event type and
platform; what is weighted is linear in the z of each event, and z is, up to its length, linear in the x along each
relation. That makes every score an exact sum over (event, relation) pairs, which is what `models.explain` shows. All z
have one length: how often an item is wanted is for b(i) to say, its direction says to whom.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from graph.interactions import Histories
from models.propagate import Adjacency, path_adjacency
from models.walks import Walks

Relations = Mapping[str, Sequence[Adjacency]]
"""Name of a relation -> the hops that lead from items back to items."""

Lookup = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows of items -> some id vectors [U, D], and which of these each row has."""

NUM_GAPS = 20
SHORT = 1.0
"""Length of an item's vector before scaling below which it stays shorter than others: little is known of the item."""


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of the network."""

    dim: int = 128
    """Width of every vector."""
    blocks: int = 1
    """Transformer blocks that compute the weights of events."""
    heads: int = 4
    """Attention heads; divides dim."""
    max_history: int = 50
    """Newest events of a person that are looked at."""
    dropout: float = 0.2
    """Share of activations dropped in training."""
    id_dropout: float = 0.5
    """Share of items whose id vector is hidden in a training step, so that text and graph learn to carry them."""
    ordered: bool = True
    """Whether order and time of events say something; False for dense ratings, which training then shuffles."""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.heads < 1 or self.dim % self.heads:
            raise ValueError(
                f"dim is {self.dim} and heads {self.heads}: give a dim that heads divides, such as 64 and 4"
            )
        if min(self.blocks, self.max_history) < 1:
            raise ValueError(f"blocks is {self.blocks} and max_history {self.max_history}: give at least 1 of each")
        if not (0 <= self.dropout < 1 and 0 <= self.id_dropout <= 1):
            raise ValueError(
                f"dropout is {self.dropout} and id_dropout {self.id_dropout}: give shares from 0, dropout below 1"
            )


@dataclass(frozen=True, eq=False)
class EventBatch:
    """B histories side by side, oldest event first, padded at the end."""

    item: Tensor
    """[B, L] rows of items; 0 where padded."""
    event_type: Tensor
    """[B, L] positions in event_types."""
    gap: Tensor
    """[B, L] bucket of the time since the event before, see `gap_buckets`."""
    length: Tensor
    """[B] events of each person, at most L."""

    @classmethod
    def from_histories(cls, histories: Histories, max_history: int) -> "EventBatch":
        """The newest `max_history` events of each person; L is at least 1."""
        ends = histories.offsets[1:]
        lengths = np.minimum(np.diff(histories.offsets), max_history)
        width = max(1, int(lengths.max(initial=0)))
        steps = np.arange(width)
        inside = steps < lengths[:, None]
        events = np.where(inside, (ends - lengths)[:, None] + steps, 0)
        gaps = gap_buckets(histories.at, np.repeat(histories.offsets[:-1], np.diff(histories.offsets)))

        def column(values: NDArray[np.int64]) -> Tensor:
            if not len(values):
                return torch.zeros(events.shape, dtype=torch.int64)
            return torch.from_numpy(np.where(inside, values[events], 0))

        return cls(column(histories.item), column(histories.type), column(gaps), torch.from_numpy(lengths))

    def to(self, device: torch.device) -> "EventBatch":
        return EventBatch(self.item.to(device), self.event_type.to(device), self.gap.to(device), self.length.to(device))


def gap_buckets(at: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """[E] floor(log2(1 + hours since the same person's event before)), at most NUM_GAPS - 1; 0 for a first event.

    Args:
        at: [E] seconds, person by person in order.
        first: [E] position of the first event of the same person.
    """
    if not len(at):
        return np.zeros(0, dtype=np.int64)
    hours = np.maximum(np.diff(at, prepend=at[:1]), 0) / 3600.0
    hours[np.arange(len(at)) == first] = 0
    return np.minimum(np.log2(1 + hours).astype(np.int64), NUM_GAPS - 1)


class ItemEncoder(nn.Module):
    """Items as vectors: a map of the frozen text vector, an id vector, and what the relations bring from elsewhere."""

    def __init__(self, num_items: int, text_dim: int, relations: Sequence[str], config: EncoderConfig) -> None:
        super().__init__()
        self.relations = tuple(relations)
        self.id_dropout = config.id_dropout
        self.id = nn.Parameter(torch.randn(num_items, config.dim) * 0.02)
        self.text = nn.Linear(text_dim, config.dim, bias=False)
        nn.init.normal_(self.text.weight, std=0.02)
        self.relation_weight = nn.Parameter(torch.zeros(len(self.relations)))
        self.length = nn.Parameter(torch.tensor(1.5))

    def forward(self, text: Tensor, warm: Tensor, graph: Relations) -> Tensor:
        """[N, D] vectors z, from text [N, T] and warm [N], 1 where the id vector has been trained and 0 elsewhere."""
        x = self._own(text, warm)
        z = x
        for weight, name in zip(self.relation_weight, self.relations, strict=True):
            z = z + weight * path_adjacency(graph[name], x)
        return z * self._scale(z)

    def sampled(
        self,
        rows: Tensor,
        warm: Tensor,
        texts: Sequence[Tensor],
        walks: Walks,
        generator: Generator,
        lookup: Lookup | None,
    ) -> Tensor:
        """[M, D] the `rows` [M] of `forward`, where walks estimate what relations bring of the ids.

        What they bring of the texts is exact: all is linear, so the map of a sum of texts is the sum of their maps.

        Args:
            texts: [N, T] of the items, then of what each relation brings them.
            walks: along the relations, in their order.
            lookup: where id vectors are found; None finds them in `id`.
        """
        own, *brought = (part[rows] for part in texts)
        for weight, part in zip(self.relation_weight, brought, strict=True):
            own = own + weight * part
        ends, shares = walks(rows, generator)
        shares = self.relation_weight.unsqueeze(1) * shares
        found = torch.cat([rows.unsqueeze(1), ends.flatten(1)], dim=1)
        shares = torch.cat([shares.new_ones(len(rows), 1), shares.flatten(1)], dim=1) * self._shown(warm)[found]
        ids, found = lookup(found) if lookup else (self.id, found)
        z = self.text(own) + F.embedding_bag(found, ids, mode="sum", per_sample_weights=shares)
        return z * self._scale(z)  # type: ignore[no-any-return]

    def parts(self, text: Tensor, warm: Tensor, graph: Relations) -> dict[str, Tensor]:
        """The summands of `forward`: "own" and one [N, D] for each relation."""
        x = self._own(text, warm)
        weights = zip(self.relation_weight, self.relations, strict=True)
        parts = {"own": x} | {name: weight * path_adjacency(graph[name], x) for weight, name in weights}
        scale = self._scale(torch.stack(list(parts.values())).sum(dim=0))
        return {name: part * scale for name, part in parts.items()}

    def _scale(self, z: Tensor) -> Tensor:
        """[N, 1] what brings z to its length; next to nothing stays short, or its gradient would drown all others'."""
        return self.length * torch.rsqrt(z.square().sum(dim=-1, keepdim=True) + SHORT**2)

    def _own(self, text: Tensor, warm: Tensor) -> Tensor:
        return self.text(text) + self.id * self._shown(warm).unsqueeze(1)  # type: ignore[no-any-return]

    def _shown(self, warm: Tensor) -> Tensor:
        """[N] 1 where the id vector counts, 0 elsewhere; in training another part of the warm items at each call."""
        if not self.training:
            return warm
        return warm * (torch.rand(len(warm), device=warm.device) >= self.id_dropout)


class HistoryEncoder(nn.Module):
    """A person's events as a vector y after every event: deep weights, linear values."""

    def __init__(self, num_event_types: int, num_platforms: int, config: EncoderConfig) -> None:
        super().__init__()
        dim, self.heads, self.ordered = config.dim, config.heads, config.ordered
        self.event_type = nn.Embedding(num_event_types, dim)
        self.platform = nn.Embedding(num_platforms, dim)
        self.gap = nn.Embedding(NUM_GAPS if config.ordered else 1, dim)
        for table in (self.event_type, self.platform, self.gap):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.age_bias = nn.Parameter(torch.zeros(config.blocks + 1, config.heads, config.max_history))
        self.norm = nn.RMSNorm(dim)
        self.query_key = nn.Linear(dim, 2 * dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.value_gate = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim, bias=False)
        self.newest = nn.Linear(dim, dim, bias=False)
        self.output_gate = nn.Linear(dim, dim)
        self.scale = nn.Parameter(torch.ones(dim))
        self.dropout = nn.Dropout(config.dropout)
        self.input_scale = dim**0.5

    def forward(self, vectors: Tensor, batch: EventBatch, platform: Tensor) -> Tensor:
        """[B, L, D] y after each event, from the z of the events [B, L, D] and their platforms [B, L]."""
        hidden, weights, vectors = self._attend(vectors, batch, platform)
        value = self._heads(self.value(vectors) * (1 + self.value_gate(hidden)))
        pooled = self.output((weights @ value).transpose(1, 2).flatten(2)) + self.newest(vectors)
        gated: Tensor = pooled * (1 + self.output_gate(hidden))
        return F.rms_norm(gated, gated.shape[-1:]) * self.scale

    def parts(self, vectors: Tensor, batch: EventBatch, platform: Tensor) -> Tensor:
        """[B, L, D] the summand of each event in the y after the last event of each person; padding gives 0."""
        hidden, weights, vectors = self._attend(vectors, batch, platform)
        people = torch.arange(len(vectors), device=vectors.device)
        last = (batch.length - 1).clamp(min=0)
        value = self._heads(self.value(vectors) * (1 + self.value_gate(hidden)))
        weighted = weights[people, :, last].unsqueeze(-1) * value
        parts = self.output(weighted.transpose(1, 2).flatten(2))
        parts[people, last] += self.newest(vectors[people, last])
        parts = parts * (1 + self.output_gate(hidden[people, last])).unsqueeze(1)
        total = parts.sum(dim=1, keepdim=True)
        norm = total.square().mean(dim=-1, keepdim=True).add(torch.finfo(total.dtype).eps).rsqrt()
        inside = torch.arange(vectors.shape[1], device=vectors.device) < batch.length.unsqueeze(1)
        scaled: Tensor = parts * norm * self.scale * inside.unsqueeze(-1)
        return scaled

    def _attend(self, vectors: Tensor, batch: EventBatch, platform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        length = vectors.shape[1]
        steps = torch.arange(length, device=vectors.device)
        age = steps[:, None] - steps[None, :]
        future = torch.zeros(length, length, device=vectors.device).masked_fill(age < 0, -torch.inf)
        bias = self.age_bias[:, :, age.clamp(min=0)] + future
        gap = batch.gap if self.ordered else torch.zeros_like(batch.gap)
        context = self.event_type(batch.event_type) + self.platform(platform) + self.gap(gap)
        hidden = self.dropout(self.input_scale * vectors + context)
        for block, block_bias in zip(self.blocks, bias[:-1], strict=True):
            hidden = block(hidden, block_bias)
        hidden = self.norm(hidden)
        query, key = (self._heads(part) for part in self.query_key(hidden).chunk(2, dim=-1))
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias[-1]).softmax(dim=-1)
        return hidden, weights, self.dropout(vectors)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class _Block(nn.Module):
    """A pre-norm causal transformer block."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim, self.heads = config.dim, config.heads
        self.attention_norm = nn.RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.feed_norm = nn.RMSNorm(dim)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D], with an additive attention bias [H, L, L]."""
        query, key, value = (
            part.reshape(*part.shape[:-1], self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.unsqueeze(0))
        x = x + self.dropout(self.output(attended.transpose(1, 2).flatten(2)))
        wide = self.dropout(F.gelu(self.up(self.feed_norm(x))))
        return x + self.dropout(self.down(wide))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Items, people and the platforms' adapters in one space."""

    text: Tensor
    warm: Tensor
    item_platform: Tensor

    def __init__(
        self,
        text: Tensor,
        warm: Tensor,
        item_platform: Tensor,
        relations: Sequence[str],
        *,
        num_event_types: int,
        num_platforms: int,
        config: EncoderConfig,
    ) -> None:
        """
        Args:
            text: [N, T] text vectors, centred; 0 where an item has no text. Kept, not trained, not in checkpoints.
            warm: [N] 1 where an item has events in training, else 0.
            item_platform: [N] platform of each item.
        """
        super().__init__()
        self.config = config
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("warm", warm, persistent=False)
        self.register_buffer("item_platform", item_platform, persistent=False)
        self.items = ItemEncoder(len(text), text.shape[1], relations, config)
        self.history = HistoryEncoder(num_event_types, num_platforms, config)
        self.adapter = nn.Parameter(torch.zeros(num_platforms, config.dim, config.dim))
        self.prior = nn.Parameter(torch.zeros(num_platforms, config.dim))
        self.bias = nn.Parameter(torch.zeros(len(text)))

    def item_vectors(self, graph: Relations) -> Tensor:
        """[N, D]"""
        return self.items(self.text, self.warm, graph)  # type: ignore[no-any-return]

    def texts(self, graph: Relations) -> Sequence[Tensor]:
        """[N, T] the texts of the items, then what each relation brings of them: training changes none of these."""
        return [self.text, *(path_adjacency(graph[name], self.text) for name in self.items.relations)]

    def sampled_vectors(
        self, rows: Tensor, texts: Sequence[Tensor], walks: Walks, generator: Generator, lookup: Lookup | None = None
    ) -> Tensor:
        """[M, D] the `rows` [M] of `item_vectors`, from `texts` and some walks along `items.relations`."""
        return self.items.sampled(rows, self.warm, texts, walks, generator, lookup)

    def after_each_event(self, vectors: Tensor, batch: EventBatch) -> Tensor:
        """[B, L, D] y after each event, given the vectors of the events' items [B, L, D]."""
        return self.history(vectors, batch, self.item_platform[batch.item])  # type: ignore[no-any-return]

    def queries(self, y: Tensor, platform: int) -> Tensor:
        """[..., D] what to look for on a platform."""
        return y + y @ self.adapter[platform] + self.prior[platform]
