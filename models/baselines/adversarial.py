"""Adversarial factorisation: BPR that holds when vectors are pushed where it hurts most (He et al., SIGIR 2018)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from graph.interactions import Interactions
from models.baselines.fitting import Pairs, Validate, l2_penalty, minimise, seeded
from models.baselines.matrix import positive_matrix
from models.baselines.matrix_factorisation import Factors, MatrixFactorisation, bpr_loss, check_negatives


@dataclass(frozen=True, eq=False)
class AdversarialFactorisation(MatrixFactorisation):
    """Scores like matrix factorisation; adversarial personalised ranking (APR) is in how it is fitted."""

    name: str = "apr"

    @classmethod
    def fit(  # type: ignore[override]
        cls,
        interactions: Interactions,
        *,
        noise: float = 0.5,
        strength: float = 1.0,
        warm_up: int = 20,
        dim: int = 64,
        penalty: float = 0.02,
        epochs: int = 100,
        batch: int = 2048,
        learning_rate: float = 2e-3,
        seed: int = 0,
        validate: Validate | None = None,
    ) -> Self:
        """Minimise L(θ) + strength · L(θ + Δ), L the BPR loss and Δ = noise · g / |g| for each vector, with g = ∂L/∂θ.

        That is equations 7 to 10 of the paper, Δ normalised for each row as in its published code.

        Args:
            noise: length of the push, against vectors of length about 1.
            strength: weight of the loss after the push; 0 is plain BPR.
            warm_up: first epochs of plain BPR: pushing random vectors teaches nothing.
        """
        check_negatives(1, penalty)
        if min(noise, strength, warm_up) < 0:
            raise ValueError(f"noise is {noise}, strength {strength} and warm_up {warm_up}: give none below 0")
        people = positive_matrix(interactions)
        pairs = Pairs.from_matrix(people)
        with seeded(seed):
            factors = Factors(*people.shape, dim)
            passed = 0

            def epoch() -> Iterator[Tensor]:
                nonlocal passed
                passed += 1
                for user, item in pairs.batches(batch):
                    asked = torch.cat([item.unsqueeze(1), pairs.unwanted(user, 1)], dim=1)
                    scores, p, q = factors(user, asked)
                    loss = bpr_loss(scores[:, 0], scores[:, 1:])
                    if passed > warm_up:
                        loss = loss + strength * _pushed_loss(factors, user, asked, loss, noise)
                    yield loss + penalty * l2_penalty(p, q)

            return minimise(
                factors,
                epoch,
                lambda: cls.from_factors(factors, people, "apr"),
                epochs=epochs,
                learning_rate=learning_rate,
                validate=validate,
            )


def _pushed_loss(factors: Factors, user: Tensor, asked: Tensor, loss: Tensor, noise: float) -> Tensor:
    """The BPR loss of items asked [B, 2] after every vector is pushed by `noise` up the gradient of `loss`."""
    up = torch.autograd.grad(loss, [factors.users, factors.items], retain_graph=True)
    users, items = (
        vectors + noise * F.normalize(gradient, dim=1)
        for vectors, gradient in zip((factors.users, factors.items), up, strict=True)
    )
    scores = torch.einsum("bd,bkd->bk", F.embedding(user, users), F.embedding(asked, items)) + factors.bias[asked]
    return bpr_loss(scores[:, 0], scores[:, 1:])
