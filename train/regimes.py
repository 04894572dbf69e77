"""Regimes: training settings by what the data are like, each chosen on validation parts (docs/decisions/0016).

many people         128 wide, dropout .2, 128 windows in a step: the defaults of LoopConfig
few people          64 wide, dropout .3, 32 windows in a step
order says little   histories of 100 events, shuffled in training, 24 epochs; beside either of the two
many items          in a step a few drawn neighbours of an item, not the whole graph; beside any (docs/decisions/0017)
"""

from dataclasses import replace
from typing import Final

import numpy as np

from graph.interactions import Interactions
from graph.snapshot import Snapshot
from train.data import SplitName
from train.loop import LoopConfig

FEW_WINDOWS: Final = 5000
"""Windows of 50 events below which an epoch of large steps would be over before much is learned."""
TIED: Final = 0.75
"""Share of a person's neighbouring events at one instant from which on a source counts as not knowing their order."""
MANY_ITEMS: Final = 50_000
"""Items from which on a step draws neighbours. The whole graph is exact; it takes 1.2 times as long with 20,000 items,
3.6 times with 50,000."""
NEIGHBOURS: Final = 10
"""Of an item along each relation in a step, where items are many."""


def suited(snapshot: Snapshot, split: SplitName) -> LoopConfig:
    """The settings for a snapshot whose events are held out so."""
    config = sized(snapshot.interactions(), LoopConfig(split=split))
    if split.startswith("random_per_user") or snapshot.tied() > TIED:
        encoder = replace(config.encoder, max_history=100, ordered=False)
        return replace(config, epochs=24, encoder=encoder)
    return config


def sized(events: Interactions, config: LoopConfig) -> LoopConfig:
    """The settings of a configuration with those in their place that suit so many people and items."""
    encoder, objective = config.encoder, config.objective
    if np.ceil(np.diff(events.offsets) / encoder.max_history).sum() < FEW_WINDOWS:
        encoder = replace(encoder, dim=64, dropout=0.3)
        config = replace(config, batch=32)
    if len(events.items) >= MANY_ITEMS:
        objective = replace(objective, neighbours=NEIGHBOURS)
    return replace(config, encoder=encoder, objective=objective)
