"""Small untrained networks with nothing at zero, graphs and histories: what a network promises before it learns."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch

from graph.interactions import Histories
from graph.vocabulary import Vocabulary
from models.encoder import Encoder, EncoderConfig, Relations
from models.flagship import Flagship
from models.leads_to import LeadsTo
from models.propagate import Adjacency, row_normalised, symmetric_normalised

NUM_ITEMS: Final = 30
NUM_PLATFORMS: Final = 3
NUM_TYPES: Final = 4
PLATFORM_OF: Final = np.arange(NUM_ITEMS) % NUM_PLATFORMS
TINY: Final = EncoderConfig(dim=8, heads=2, max_history=6)

Step = tuple[int, int, int, float]
"""Item, event type, hour, weight."""


def histories(*people: Sequence[Step]) -> Histories:
    """One line of steps for each person."""
    flat = np.array([step for person in people for step in person], np.float64).reshape(-1, 4)
    return Histories(
        np.cumsum([0, *(len(person) for person in people)]),
        flat[:, 0].astype(np.int64),
        flat[:, 1].astype(np.int64),
        (flat[:, 2] * 3600).astype(np.int64),
        flat[:, 3].astype(np.float32),
    )


def random_histories(lengths: Sequence[int], seed: int = 0) -> Histories:
    """People with so many events each, about a third of them dislikes."""
    random = np.random.default_rng(seed)

    def steps(length: int) -> Sequence[Step]:
        hours = np.sort(random.integers(0, 5000, length))
        weights = random.choice([1.0, 0.5, -1.0], length)
        pairs = zip(random.integers(0, NUM_ITEMS, length), random.integers(0, NUM_TYPES, length), strict=True)
        return [
            (int(item), int(type), int(hour), float(weight))
            for (item, type), hour, weight in zip(pairs, hours, weights, strict=True)
        ]

    return histories(*(steps(length) for length in lengths))


def random_graph(seed: int = 0) -> Relations:
    """A relation between items and one through entities."""
    random = np.random.default_rng(seed)
    between = sp.random(NUM_ITEMS, NUM_ITEMS, 0.1, random_state=random, format="csr", dtype=np.float32)
    through = sp.random(NUM_ITEMS, 5, 0.3, random_state=random, format="csr", dtype=np.float32)
    return {
        "NEXT": (Adjacency.from_scipy(symmetric_normalised(sp.csr_matrix(between + between.T))),),
        "IN_CATEGORY": (
            Adjacency.from_scipy(row_normalised(sp.csr_matrix(through.T))),
            Adjacency.from_scipy(row_normalised(through)),
        ),
    }


def moved(graph: Relations, device: torch.device) -> Relations:
    """The same graph on a device."""
    return {name: [hop.to(device) for hop in hops] for name, hops in graph.items()}


def random_encoder(seed: int = 0, config: EncoderConfig = TINY) -> Encoder:
    """An encoder whose parameters are all random, those that begin at zero too."""
    torch.manual_seed(seed)
    encoder = Encoder(
        torch.randn(NUM_ITEMS, 12),
        (torch.rand(NUM_ITEMS) < 0.7).float(),
        torch.tensor(PLATFORM_OF),
        list(random_graph()),
        num_event_types=NUM_TYPES,
        num_platforms=NUM_PLATFORMS,
        config=config,
    )
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.eval()


def random_flagship(seed: int = 0, config: EncoderConfig = TINY) -> Flagship:
    """A flagship with a sparse part that forgets."""
    weights = sp.random(NUM_ITEMS, NUM_ITEMS, 0.3, random_state=np.random.default_rng(seed), dtype=np.float32)
    lift = np.where(np.arange(NUM_ITEMS) % 3 == 0, np.float32(0.6), np.float32(0))
    leads_to = LeadsTo(sp.csr_array(weights), decay=0.8, scale=1.7, lift=lift)
    return Flagship.from_encoder(random_encoder(seed, config), random_graph(), leads_to)


def item_keys() -> Vocabulary:
    """Keys in the order of their rows."""
    return Vocabulary([f"{'abc'[platform]}:{row:02}" for row, platform in enumerate(PLATFORM_OF)])
