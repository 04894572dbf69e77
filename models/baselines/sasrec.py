"""SASRec: causal self-attention over a person's items predicts the next (Kang and McAuley, ICDM 2018)."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import Validate, seeded
from models.baselines.next_item import NextItem, check_reader, learn_next_item, score_next_item


class AttentiveReader(nn.Module):
    """Items and their places, blocks of attention and feed-forward, a last norm: section III of the paper."""

    def __init__(self, max_history: int, dim: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.place = nn.Embedding(max_history, dim)
        nn.init.xavier_normal_(self.place.weight)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(dim, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, vectors: Tensor, length: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]; places are counted from the newest item, which is what padding in front does."""
        age = length.unsqueeze(1) - 1 - torch.arange(vectors.shape[1])
        hidden = self.dropout(vectors + self.place(age.clamp(min=0)))
        for block in self.blocks:
            hidden = block(hidden)
        return self.norm(hidden)  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.share = heads, dropout
        self.query_norm, self.feed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value, self.output = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        for weights in (self.query.weight, self.key_value.weight, self.output.weight, self.up.weight, self.down.weight):
            nn.init.xavier_normal_(weights)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]; the norm is on the query alone, as in the published code."""
        asked = self.query_norm(x)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(asked), *self.key_value(x).chunk(2, dim=-1))
        )
        dropped = self.share if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropped, is_causal=True)
        x = self.feed_norm(asked + self.output(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.down(self.dropout(F.relu(self.up(x)))))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class SASRec:
    """score(i) = q · z_i, with q attending to the newest wanted items in their order."""

    network: NextItem
    """In evaluation mode."""
    max_history: int
    name: str = "sasrec"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        dim: int = 64,
        blocks: int = 1,
        heads: int = 1,
        max_history: int = 50,
        dropout: float = 0.2,
        negatives: int = 1024,
        epochs: int = 200,
        batch: int = 128,
        learning_rate: float = 1e-3,
        seed: int = 0,
        validate: Validate | None = None,
    ) -> Self:
        """Learn from the newest items of every person, each predicted from those before it.

        The loss is a sampled softmax, which makes SASRec far stronger than the binary cross-entropy of its paper
        (Klenitskiy and Vasilev, RecSys 2023). Items lose the same share of their numbers wherever a step meets them,
        as those read and as those looked for: RecTools' way, without which it learns by heart from the third look on.

        Args:
            blocks: of attention.
            heads: of each block; divides dim.
            max_history: newest wanted items that are read.
            dropout: share of activations, and of the items' numbers, dropped in training.
            negatives: items drawn uniformly and shared by a batch.
        """
        check_reader(max_history, dropout)
        if min(dim, blocks, heads) < 1 or dim % heads:
            raise ValueError(
                f"dim is {dim}, blocks {blocks} and heads {heads}: give at least 1 of each, heads a divisor of dim"
            )
        with seeded(seed):
            reader = AttentiveReader(max_history, dim, blocks, heads, dropout)
            network = NextItem(len(interactions.items), dim, reader, dropout)
            return learn_next_item(
                network,
                interactions,
                lambda: cls(deepcopy(network), max_history),
                max_history=max_history,
                negatives=negatives,
                epochs=epochs,
                batch=batch,
                learning_rate=learning_rate,
                validate=validate,
            )

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return score_next_item(self.network, histories, self.max_history)
