"""Matrix factorisation: a vector for each person and each item, learned from pairs and sampled items nobody wanted."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import Pairs, Validate, check_dim, l2_penalty, minimise, seeded
from models.baselines.matrix import positive_matrix
from models.baselines.people import TrainedUsers, history_sums, row_sums

LossName = Literal["squared", "cross_entropy", "bpr"]
PairLoss = Callable[[Tensor, Tensor], Tensor]

FOLD_IN_RIDGE: Final = 1.0


def squared_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean (positive - 1)^2 + sum_n negative^2: Hu, Koren and Volinsky (ICDM 2008), equation 3, with sampled zeros.

    Args:
        positive: [B] scores of observed pairs.
        negative: [B, K] scores of K sampled items for the user of the same line.
    """
    return ((positive - 1).square() + negative.square().sum(dim=1)).mean()


def cross_entropy_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean -ln sigmoid(positive) - sum_n ln sigmoid(-negative): He et al. (WWW 2017), equation 7; shapes as above."""
    return (F.softplus(-positive) + F.softplus(negative).sum(dim=1)).mean()


def bpr_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean -ln sigmoid(positive - negative): Rendle et al. (UAI 2009), section 4.1; shapes as above."""
    return F.softplus(negative - positive.unsqueeze(1)).mean()


LOSSES: Final[Mapping[LossName, PairLoss]] = {
    "squared": squared_loss,
    "cross_entropy": cross_entropy_loss,
    "bpr": bpr_loss,
}
NAMES: Final[Mapping[LossName, str]] = {"squared": "mf-squared", "cross_entropy": "mf-cross-entropy", "bpr": "bpr"}


class Factors(nn.Module):
    """The parameters: p_u, q_i and an item bias b_i."""

    def __init__(self, num_users: int, num_items: int, dim: int) -> None:
        super().__init__()
        check_dim(dim)
        self.users = nn.Parameter(torch.randn(num_users, dim) * 0.1)
        self.items = nn.Parameter(torch.randn(num_items, dim) * 0.1)
        self.bias = nn.Parameter(torch.zeros(num_items))

    def forward(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [B, K] of items [B, K] for users [B], and the vectors they come from."""
        p, q = F.embedding(user, self.users), F.embedding(item, self.items)
        return torch.einsum("bd,bkd->bk", p, q) + self.bias[item], p, q


@dataclass(frozen=True, eq=False)
class MatrixFactorisation:
    """score(u, i) = p_u · q_i + b_i.

    Somebody who was not in training gets p = W s, where s sums the q of what they wanted (`people.history_sums`) and W
    is the ridge regression of the trained p on the s of the same users.
    """

    users: TrainedUsers
    items: NDArray[np.float32]
    """[N, D]"""
    bias: NDArray[np.float32]
    """[N]"""
    fold_in: NDArray[np.float32]
    """[D, D] W, applied from the right."""
    name: str = "bpr"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        loss: LossName = "bpr",
        dim: int = 64,
        negatives: int = 4,
        penalty: float = 0.02,
        epochs: int = 100,
        batch: int = 2048,
        learning_rate: float = 2e-3,
        seed: int = 0,
        validate: Validate | None = None,
    ) -> Self:
        """Learn from every wanted pair once an epoch.

        Args:
            loss: a key of LOSSES.
            negatives: items that the person did not want, drawn for each pair.
            penalty: weight of half the squared length of the vectors in a batch, a mean over its pairs.
        """
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}: give one of {', '.join(LOSSES)}")
        check_negatives(negatives, penalty)
        people = positive_matrix(interactions)
        pairs, compute = Pairs.from_matrix(people), LOSSES[loss]
        with seeded(seed):
            factors = Factors(*people.shape, dim)

            def epoch() -> Iterator[Tensor]:
                for user, item in pairs.batches(batch):
                    asked = torch.cat([item.unsqueeze(1), pairs.unwanted(user, negatives)], dim=1)
                    scores, p, q = factors(user, asked)
                    yield compute(scores[:, 0], scores[:, 1:]) + penalty * l2_penalty(p, q)

            return minimise(
                factors,
                epoch,
                lambda: cls.from_factors(factors, people, NAMES[loss]),
                epochs=epochs,
                learning_rate=learning_rate,
                validate=validate,
            )

    @classmethod
    def from_factors(cls, factors: Factors, people: csr_array, name: str) -> Self:
        """A copy of learned factors, and how to fold in others than these people [U, N]."""
        users, items, bias = (each.detach().numpy().copy() for each in (factors.users, factors.items, factors.bias))
        known = np.diff(people.indptr) > 0
        sums = row_sums(people, items)[known]
        gram = sums.T @ sums + FOLD_IN_RIDGE * np.eye(sums.shape[1], dtype=np.float32)
        fold_in = np.linalg.solve(gram, sums.T @ users[known])
        return cls(TrainedUsers(users, known), items, bias, fold_in, name)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        people = self.users.vectors_of(histories, history_sums(histories, self.items) @ self.fold_in)
        scores: NDArray[np.float32] = people @ self.items.T + self.bias
        return scores


def check_negatives(negatives: int, penalty: float) -> None:
    """Raise ValueError unless there is something to compare with and no reward for long vectors."""
    if negatives < 1 or not penalty >= 0:
        raise ValueError(
            f"negatives is {negatives} and penalty {penalty}: give at least one negative and no negative penalty"
        )
