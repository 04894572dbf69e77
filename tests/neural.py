"""The neural baselines with settings so small that each learns a planted answer in a moment."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from graph.interactions import Interactions
from models.baselines.adversarial import AdversarialFactorisation
from models.baselines.alpharec import AlphaRec
from models.baselines.fitting import Validate
from models.baselines.lightgcn import LightGCN
from models.baselines.matrix_factorisation import MatrixFactorisation
from models.baselines.mult_vae import MultVAE
from models.baselines.recurrent import Recurrent
from models.baselines.sasrec import SASRec
from models.baselines.two_tower import TwoTower
from models.baselines.xsimgcl import XSimGCL
from models.scorer import Scorer

FitNeural = Callable[[Interactions, int, Validate | None], Scorer]
"""From interactions, a seed and what to validate on."""


def text_of(interactions: Interactions) -> np.ndarray:
    """[N, N] a text vector for each item that says which item it is and nothing else."""
    return np.eye(len(interactions.items), dtype=np.float32)


NEURAL: Final[Mapping[str, FitNeural]] = {
    "mf-squared": lambda data, seed, validate: MatrixFactorisation.fit(
        data, loss="squared", dim=2, penalty=0.3, epochs=60, batch=64, learning_rate=0.02, seed=seed, validate=validate
    ),
    "mf-cross-entropy": lambda data, seed, validate: MatrixFactorisation.fit(
        data, loss="cross_entropy", dim=8, epochs=30, batch=64, learning_rate=0.03, seed=seed, validate=validate
    ),
    "bpr": lambda data, seed, validate: MatrixFactorisation.fit(
        data, dim=8, epochs=30, batch=64, learning_rate=0.03, seed=seed, validate=validate
    ),
    "apr": lambda data, seed, validate: AdversarialFactorisation.fit(
        data, warm_up=10, dim=8, epochs=30, batch=64, learning_rate=0.03, seed=seed, validate=validate
    ),
    "lightgcn": lambda data, seed, validate: LightGCN.fit(
        data, dim=8, epochs=30, batch=64, learning_rate=0.03, seed=seed, validate=validate
    ),
    "xsimgcl": lambda data, seed, validate: XSimGCL.fit(
        data, dim=8, noise=0.05, contrast=0.05, epochs=30, batch=64, learning_rate=0.03, seed=seed, validate=validate
    ),
    "alpharec": lambda data, seed, validate: AlphaRec.fit(
        data, text_of(data), dim=8, negatives=32, epochs=20, batch=64, learning_rate=0.01, seed=seed, validate=validate
    ),
    "mult-vae": lambda data, seed, validate: MultVAE.fit(
        data, hidden=16, latent=8, annealing=100, epochs=60, batch=32, learning_rate=0.02, seed=seed, validate=validate
    ),
    "two-tower": lambda data, seed, validate: TwoTower.fit(
        data, dim=8, negatives=32, epochs=20, batch=64, learning_rate=0.03, seed=seed, validate=validate
    ),
}
"""Those that take a history for a set."""

SEQUENTIAL: Final[Mapping[str, FitNeural]] = {
    "gru": lambda data, seed, validate: Recurrent.fit(
        data, dim=16, hidden=16, negatives=32, epochs=40, batch=16, learning_rate=0.02, seed=seed, validate=validate
    ),
    "lstm": lambda data, seed, validate: Recurrent.fit(
        data,
        cell="lstm",
        dim=16,
        hidden=16,
        negatives=32,
        epochs=40,
        batch=16,
        learning_rate=0.02,
        seed=seed,
        validate=validate,
    ),
    "sasrec": lambda data, seed, validate: SASRec.fit(
        data, dim=16, negatives=32, epochs=40, batch=16, learning_rate=0.02, seed=seed, validate=validate
    ),
}
"""Those that read a history in its order and look for what comes next."""
