"""Walks: what the relations bring to a few items, from a bounded number of neighbours however many there are.

A walk leads from an item back along the hops of a relation, at each hop to a neighbour drawn in proportion to its
weight, and carries the product of the sums of the rows that it passed. The sum of x over the ends of an item's walks,
each times what its walk carries over the number of walks, is an unbiased estimate of the item's row of
`path_adjacency`: neighbour sampling as in GraphSAGE (Hamilton et al., NeurIPS 2017).

An item's walks set out systematically (Madow and Madow 1944): at evenly spaced places of its cumulative weights, all
moved by one random offset. What has k of n equal shares is taken k times, so an item of n equal neighbours, or of one,
has none left out and none twice; where neighbours are more than walks, none of average weight is taken twice.

PyG's loaders sample too, with pyg-lib, which is not on PyPI. They would be a second way beside this one, with other
random numbers and without weights along two hops; this one is a binary search, on the processor that holds the graph.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.propagate import Adjacency


class Walks:
    """Some walks along each relation of a graph."""

    def __init__(self, relations: Sequence[Sequence[Adjacency]], count: int) -> None:
        """
        Args:
            relations: the hops of each, from items to items, the first of them first; no weight is negative.
            count: walks of an item along each relation.
        """
        self._count = count
        self._paths = [[_Steps(hop) for hop in reversed(hops)] for hops in relations]

    def __call__(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Walks of the items in `rows` [M] along each of R relations.

        Returns: where they end and with what weight, both [M, R, count]. The sum over the last dimension of weight
            times x at the end estimates what the relation brings to the item; weights are 0 where that is nothing.
        """
        count = self._count
        spaced = torch.arange(count, dtype=torch.float64)
        ends, weights = [], []
        for path in self._paths:
            end = rows.unsqueeze(1).expand(-1, count)
            weight = torch.full(end.shape, 1 / count, dtype=torch.float64, device=rows.device)
            place = (torch.rand(len(rows), 1, generator=generator, dtype=torch.float64) + spaced) / count
            for steps in path:
                end, total = steps.take(end, place.to(rows.device))
                weight = weight * total
                place = torch.rand(end.shape, generator=generator, dtype=torch.float64)
            ends.append(end)
            weights.append(weight.float())
        nothing = rows.new_zeros(len(rows), 0, count)
        return (torch.stack(ends, 1), torch.stack(weights, 1)) if ends else (nothing, nothing.float())


class _Steps:
    """One hop against its direction, from a target to one of its sources."""

    def __init__(self, hop: Adjacency) -> None:
        self._offsets, self._sources, weights = hop.forward
        self._below = torch.cat([weights.new_zeros(1, dtype=torch.float64), weights.double().cumsum(0)])
        """[E+1] weights of all rows before an edge and of the edges before it in its own."""

    def take(self, at: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """The source at a place, from 0 to 1, of each target's cumulative weights, and the sum of these weights."""
        start, end = self._offsets[at], self._offsets[at + 1]
        low = self._below[start]
        total = self._below[end] - low
        edge = torch.searchsorted(self._below, low + place * total, right=True) - 1
        return self._sources[edge.minimum(end - 1).clamp(min=0)], total
