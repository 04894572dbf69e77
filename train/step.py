"""One training step: after every event, the next item on each platform among sampled others."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import Encoder, Relations
from models.losses import sampled_softmax_loss
from models.negatives import uniform_negatives
from train.data import TrainingBatch


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a step asks of the encoder."""

    negatives: int = 1500
    """Items of the target platform sampled uniformly for each step, shared by its batch."""
    later_weight: float = 0.3
    """What a target counts that is not the very next event but the next on its platform."""

    def __post_init__(self) -> None:
        if self.negatives < 1 or not 0 <= self.later_weight <= 1:
            raise ValueError(
                f"negatives is {self.negatives} and later_weight {self.later_weight}: "
                "give at least one negative and a weight from 0 to 1"
            )


class Objective(nn.Module):
    """The encoder with its loss: one forward pass of this is what data-parallel workers keep in step."""

    def __init__(self, encoder: Encoder, graph: Relations, config: ObjectiveConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self._graph = graph
        self._config = config
        platforms = range(len(encoder.prior))
        self._catalogues = [torch.nonzero(encoder.item_platform == number).flatten() for number in platforms]

    def forward(self, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        """The mean loss over all targets of a batch, a scalar."""
        vectors = self.encoder.item_vectors(self._graph)
        y = self.encoder.after_each_event(vectors, batch.events)
        losses, weights = [], []
        for platform, catalogue in enumerate(self._catalogues):
            target, first = batch.target[platform], batch.first[platform]
            known, begins = target >= 0, first >= 0
            if not self._config.later_weight:
                known = known & batch.immediate[platform]
            asked = torch.cat([y[known], y.new_zeros(int(begins.sum()), y.shape[-1])])
            wanted = torch.cat([target[known], first[begins]])
            if not len(wanted):
                continue
            weight = torch.where(batch.immediate[platform][known], 1.0, self._config.later_weight)
            weight = torch.cat([weight, weight.new_ones(len(wanted) - len(weight))])
            query = self.encoder.queries(asked, platform)
            sampled = uniform_negatives(catalogue, self._config.negatives, generator)
            positive = (query * F.embedding(wanted, vectors)).sum(dim=-1) + self.encoder.bias[wanted]
            negative = query @ F.embedding(sampled, vectors).T + self.encoder.bias[sampled]
            negative = negative.masked_fill(wanted.unsqueeze(1) == sampled, -torch.inf)
            losses.append(sampled_softmax_loss(positive, negative, len(catalogue), weight) * weight.sum())
            weights.append(weight.sum())
        # Platforms without a target in this batch still take part, or workers would wait for their gradients.
        unused = 0.0 * (self.encoder.adapter.sum() + self.encoder.prior.sum() + self.encoder.bias.sum() + y.sum())
        if not losses:
            return unused
        return torch.stack(losses).sum() / torch.stack(weights).sum() + unused
