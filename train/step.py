"""One training step: after every event, the next item on each platform among sampled others."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import Encoder, Lookup, Relations
from models.losses import sampled_softmax_loss
from models.negatives import uniform_negatives
from models.walks import Walks
from train.data import TrainingBatch


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a step asks of the encoder."""

    negatives: int = 1500
    """Items of the target platform sampled uniformly for each step, shared by its batch."""
    later_weight: float = 0.3
    """What a target counts that is not the very next event but the next on its platform."""
    neighbours: int = 0
    """Neighbours of an item that a step draws along each relation, see `models.walks`; 0 takes the whole graph."""

    def __post_init__(self) -> None:
        if self.negatives < 1 or not 0 <= self.later_weight <= 1:
            raise ValueError(
                f"negatives is {self.negatives} and later_weight {self.later_weight}: "
                "give at least one negative and a weight from 0 to 1"
            )
        if self.neighbours < 0:
            raise ValueError(f"neighbours is {self.neighbours}: give a count, such as 10, or 0 for the whole graph")


class Objective(nn.Module):
    """The encoder with its loss: one forward pass of this is what data-parallel workers keep in step."""

    def __init__(
        self, encoder: Encoder, graph: Relations, config: ObjectiveConfig, lookup: Lookup | None = None
    ) -> None:
        """
        Args:
            lookup: where drawn neighbours' id vectors are found; None finds them in the encoder.
        """
        super().__init__()
        self.encoder = encoder
        self._graph = graph
        self._config = config
        self._lookup = lookup
        self._walks: Walks | None = None
        if config.neighbours:
            self._walks = Walks([graph[name] for name in encoder.items.relations], config.neighbours)
            self._texts = encoder.texts(graph)
        platforms = range(len(encoder.prior))
        self._catalogues = [torch.nonzero(encoder.item_platform == number).flatten() for number in platforms]

    def forward(self, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        """The mean loss over all targets of a batch, a scalar."""
        negatives = {
            platform: uniform_negatives(catalogue, self._config.negatives, generator)
            for platform, catalogue in enumerate(self._catalogues)
            if (batch.target[platform] >= 0).any() or (batch.first[platform] >= 0).any()
        }
        positives = batch.target[batch.target >= 0], batch.first[batch.first >= 0]
        rows = torch.cat([batch.events.item.flatten(), *positives, *negatives.values()]).unique()  # type: ignore[no-untyped-call]
        vectors = self._vectors(rows, generator)

        def of(items: Tensor) -> Tensor:
            return F.embedding(torch.searchsorted(rows, items), vectors)

        y = self.encoder.after_each_event(of(batch.events.item), batch.events)
        losses, weights = [], []
        for platform, sampled in negatives.items():
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
            positive = (query * of(wanted)).sum(dim=-1) + self.encoder.bias[wanted]
            negative = query @ of(sampled).T + self.encoder.bias[sampled]
            negative = negative.masked_fill(wanted.unsqueeze(1) == sampled, -torch.inf)
            size = len(self._catalogues[platform])
            losses.append(sampled_softmax_loss(positive, negative, size, weight) * weight.sum())
            weights.append(weight.sum())
        # Platforms without a target in this batch still take part, or workers would wait for their gradients.
        unused = 0.0 * (self.encoder.adapter.sum() + self.encoder.prior.sum() + self.encoder.bias.sum() + y.sum())
        if not losses:
            return unused
        return torch.stack(losses).sum() / torch.stack(weights).sum() + unused

    def _vectors(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """[M, D] the vectors of these items alone."""
        if self._walks is None:
            return F.embedding(rows, self.encoder.item_vectors(self._graph))
        return self.encoder.sampled_vectors(rows, self._texts, self._walks, generator, self._lookup)
