"""Real bundles over the planted items: people want what shares the taste of what they did, by LEADS_TO."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, csr_matrix

from graph.keys import ItemKey
from graph.vocabulary import Vocabulary
from models.attributes import attribute_table
from models.bundle import Catalogue, write_bundle
from models.drift import counted, kept
from models.encoder import EncoderConfig, HistoryEncoder
from models.flagship import Flagship
from models.leads_to import LeadsTo
from models.plan import Requires
from tests.planted import PLATFORMS, RING, TASTES, TITLES, item_of, taste_of

KEYS = sorted(item_of(platform, taste, n) for platform in PLATFORMS for taste in TASTES for n in range(RING + 1))
TYPES = ("DISLIKED", "PLAYED", "PURCHASED", "RATED", "VIEWED")


def write_tiny_bundle(directory: Path, seed: int = 0, trained_on: int | None = None) -> Path:
    """A bundle whose version the seed decides; its dense part is small noise.

    Args:
        trained_on: events that its manifest says, as many of each item; None says nothing of them.
    """
    generator = torch.manual_seed(seed)
    config = EncoderConfig(dim=8, heads=2, max_history=20)
    history = HistoryEncoder(len(TYPES), len(PLATFORMS), config).eval()
    shared = 0.01 * torch.randn(len(KEYS), 8, generator=generator).numpy()
    taste = np.array([TASTES.index(taste_of(key)) for key in KEYS])
    platform = np.array([PLATFORMS.index(key.platform) for key in KEYS])
    own = 0.01 * torch.randn(len(KEYS), 8, generator=generator).numpy()
    own += 0.1 * np.eye(8, dtype=np.float32)[taste]
    together = (taste[:, None] == taste[None, :]).astype(np.float32)
    np.fill_diagonal(together, 0)
    incidence = csr_matrix((taste[:, None] == np.arange(len(TASTES))).astype(np.float32))
    flagship = Flagship(
        history,
        torch.zeros(len(PLATFORMS), 8, 8),
        0.01 * torch.randn(len(PLATFORMS), 8, generator=generator),
        config.max_history,
        own + shared,
        np.linspace(0.01, 0.001, len(KEYS), dtype=np.float32),
        {"own": own, "IN_CATEGORY": shared},
        platform,
        LeadsTo(csr_array(together), decay=0.5, scale=1.0),
    )
    before = [[KEYS.index(item_of(key.platform, taste_of(key), n)) for n in _required(key)] for key in KEYS]
    numbers = [int(key.id.rpartition("-")[2]) for key in KEYS]
    titles = [TITLES[taste_of(key)][number] for key, number in zip(KEYS, numbers, strict=True)]
    return write_bundle(
        directory,
        flagship,
        Catalogue(
            Vocabulary(KEYS),
            [key.platform for key in KEYS],
            titles,
            [None] * len(KEYS),
            attribute_table(
                [datetime(2023, 1 + number, 1, tzinfo=UTC) for number in numbers],
                [json.dumps({"number": number, "even": number % 2 == 0, "tags": ["t"] * number}) for number in numbers],
            ),
            # Every item requires the one before it of its taste and platform, and 0 and 1 of books each other.
            Requires(np.cumsum([0, *map(len, before)]), np.array([row for line in before for row in line])),
        ),
        config,
        event_types=TYPES,
        platforms=PLATFORMS,
        knowledge={"IN_CATEGORY": (incidence, [f"category:{name}" for name in TASTES])},
        facts={} if trained_on is None else {"events": _events(trained_on)},
    )


def _events(count: int) -> dict[str, Any]:
    said = kept(counted((key, TYPES[place % len(TYPES)]) for place, key in enumerate(KEYS)))
    return {"count": count, "newest": "2024-01-31T00:00:00+00:00", "counts": said}


def _required(key: ItemKey) -> list[int]:
    number = int(key.id.rpartition("-")[2])
    if key.platform == "books" and number < 2:
        return [1 - number]
    return [number - 1] if number else []
