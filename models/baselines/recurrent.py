"""Recurrent: a GRU or LSTM reads a person's items and predicts the next (Hidasi et al., ICLR 2016: GRU4Rec)."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import Validate, check_dim, seeded
from models.baselines.next_item import NextItem, check_reader, learn_next_item, score_next_item

CellName = Literal["gru", "lstm"]
CELLS: Final[dict[CellName, type[nn.GRU] | type[nn.LSTM]]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentReader(nn.Module):
    """Dropout, one recurrent layer, dropout, and a linear map into the space of the items."""

    def __init__(self, cell: CellName, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.cell = CELLS[cell](dim, hidden, batch_first=True)
        self.output = nn.Linear(hidden, dim)

    def forward(self, vectors: Tensor, length: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]; padding comes after all that counts, so nothing that counts has read it."""
        read, _ = self.cell(self.dropout(vectors))
        return self.output(self.dropout(read))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Recurrent:
    """score(i) = q · z_i, with q read from the newest wanted items in their order."""

    network: NextItem
    """In evaluation mode."""
    max_history: int
    name: str = "gru"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        cell: CellName = "gru",
        dim: int = 64,
        hidden: int = 128,
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

        The loss is a sampled softmax as in Hidasi and Karatzoglou (CIKM 2018), whose negatives GRU4Rec draws from the
        batch; here they are uniform and corrected for it, as in SASRec beside it.

        Args:
            cell: "gru" or "lstm".
            hidden: width of the recurrent state.
            max_history: newest wanted items that are read.
            dropout: share of activations dropped in training.
            negatives: items drawn uniformly and shared by a batch.
        """
        if cell not in CELLS:
            raise ValueError(f"cell is {cell!r}: give one of {', '.join(CELLS)}")
        check_dim(dim)
        check_dim(hidden)
        check_reader(max_history, dropout)
        with seeded(seed):
            network = NextItem(len(interactions.items), dim, RecurrentReader(cell, dim, hidden, dropout))
            return learn_next_item(
                network,
                interactions,
                lambda: cls(deepcopy(network), max_history, cell),
                max_history=max_history,
                negatives=negatives,
                epochs=epochs,
                batch=batch,
                learning_rate=learning_rate,
                validate=validate,
            )

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return score_next_item(self.network, histories, self.max_history)
