"""Mult-VAE: a variational autoencoder of what people wanted, with a multinomial likelihood (Liang et al., WWW 2018)."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import Validate, minimise, seeded, shuffled
from models.baselines.matrix import positive_matrix, query_matrix


class Autoencoder(nn.Module):
    """N -> hidden -> latent -> hidden -> N with tanh between, as in section 4.3 of the paper."""

    def __init__(self, num_items: int, hidden: int, latent: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.Sequential(nn.Linear(num_items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, num_items))
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.normal_(layer.bias, std=0.001)

    def forward(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, N] and the divergence from the prior [B], from who wanted what [B, N]; noise in training only."""
        mean, log_variance = self.encoder(self.dropout(F.normalize(wanted, dim=1))).chunk(2, dim=1)
        divergence = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(dim=1)
        if self.training:
            mean = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decoder(mean), divergence


@dataclass(frozen=True, eq=False)
class MultVAE:
    """score = the logits that the autoencoder gives for what a person wanted."""

    network: Autoencoder
    """In evaluation mode."""
    num_items: int
    name: str = "mult-vae"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        hidden: int = 600,
        latent: int = 200,
        dropout: float = 0.5,
        divergence: float = 0.2,
        annealing: int = 2000,
        epochs: int = 200,
        batch: int = 128,
        learning_rate: float = 1e-3,
        seed: int = 0,
        validate: Validate | None = None,
    ) -> Self:
        """Maximise the evidence lower bound of equation 3, the divergence weighed by beta as in section 2.2.2.

        Args:
            hidden: width of the layers between items and the latent vector.
            latent: width of that.
            dropout: share of a person's items hidden in training.
            divergence: the beta that is reached.
            annealing: steps over which it rises from 0.
        """
        if min(hidden, latent, annealing) < 1 or not divergence >= 0:
            raise ValueError(
                f"hidden is {hidden}, latent {latent}, annealing {annealing} and divergence {divergence}: "
                "give at least 1 of each, and no negative divergence"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: give a share from 0 to below 1")
        people = positive_matrix(interactions)
        people = people[np.flatnonzero(np.diff(people.indptr))]
        if not people.nnz:
            raise ValueError("there is no event of positive weight to learn from: ingest some, or split otherwise")
        with seeded(seed):
            network = Autoencoder(people.shape[1], hidden, latent, dropout)
            step = 0

            def epoch() -> Iterator[Tensor]:
                nonlocal step
                for rows in shuffled(people.shape[0], batch):
                    step += 1
                    wanted = torch.from_numpy(people[rows.numpy()].toarray())
                    logits, diverged = network(wanted)
                    likelihood = (logits.log_softmax(dim=1) * wanted).sum(dim=1)
                    yield (min(1.0, step / annealing) * divergence * diverged - likelihood).mean()

            return minimise(
                network,
                epoch,
                lambda: cls(deepcopy(network), people.shape[1]),
                epochs=epochs,
                learning_rate=learning_rate,
                validate=validate,
            )

    def score(self, histories: Histories) -> NDArray[np.float32]:
        wanted = torch.from_numpy(query_matrix(histories, self.num_items).toarray())
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.network(wanted)[0].numpy()
        return logits
