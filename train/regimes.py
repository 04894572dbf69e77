"""Regimes: training settings by what the data are like, each chosen on validation parts (docs/decisions/0016).

many people         128 wide, dropout .2, 128 windows in a step: the defaults of LoopConfig
few people          64 wide, dropout .3, 32 windows in a step
order says little   histories of 100 events, shuffled in training, 24 epochs; beside either of the two
"""

from dataclasses import replace
from typing import Final

import numpy as np

from graph.snapshot import Snapshot
from train.data import SplitName
from train.loop import LoopConfig

FEW_WINDOWS: Final = 5000
"""Windows of 50 events below which an epoch of large steps would be over before much is learned."""
TIED: Final = 0.75
"""Share of a person's neighbouring events at one instant from which on a source counts as not knowing their order."""


def suited(snapshot: Snapshot, split: SplitName) -> LoopConfig:
    """The settings for a snapshot whose events are held out so."""
    config = LoopConfig(split=split)
    encoder = config.encoder
    counts = np.diff(snapshot.interactions().offsets)
    if np.ceil(counts / encoder.max_history).sum() < FEW_WINDOWS:
        encoder = replace(encoder, dim=64, dropout=0.3)
        config = replace(config, batch=32)
    if split.startswith("random_per_user") or snapshot.tied() > TIED:
        encoder = replace(encoder, max_history=100, ordered=False)
        config = replace(config, epochs=24, patience=8)  # shuffled anew, an epoch more or less decides little
    return replace(config, encoder=encoder)
