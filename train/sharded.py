"""Ids in shards: each of several workers trains a share of the id vectors and fetches from the others what it needs.

Item i is row i // workers of the share of worker i % workers. Shared out is what training holds of the table: the
vectors, their gradient, both of AdamW's moments and the best weights. The table itself must fit each worker as it
starts, and the first one whenever the weights are judged or saved, as it must fit the server.

A step fetches id vectors when its walks have been drawn, as a leaf of autograd, and returns their gradients after the
backward pass: collectives within that pass might come before DDP's on one worker and after them on another.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.encoder import ItemEncoder
from train.step import Objective


class ShardedIds:
    """One worker's share of the id vectors, and the way to those of the others."""

    def __init__(self, items: ItemEncoder, rank: int, workers: int) -> None:
        """Leave `items` with this worker's share of its id vectors, which all workers hold alike until then."""
        self._items, self.rank, self.workers = items, rank, workers
        self._num_items = len(items.id)
        items.id = nn.Parameter(self.share_of(items.id.detach()))

    def share_of(self, whole: Tensor) -> Tensor:
        """This worker's rows of a table [N, D], copied."""
        return whole[self.rank :: self.workers].clone()

    def __call__(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Fetch id vectors; every worker calls this at the same time, and `return_gradients` once before the next call.

        Returns: [U, D] the vectors of the different `items`, and in the shape of `items` which of them each one has.
        """
        height = -(-self._num_items // self.workers)
        by_owner = items % self.workers * height + items // self.workers
        asked, places = by_owner.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        counts = torch.bincount(asked // height, minlength=self.workers)
        others = torch.empty_like(counts)
        torch.distributed.all_to_all_single(others, counts)
        self._mine, self._theirs = counts.tolist(), others.tolist()
        self._rows = _exchanged(asked % height, self._mine, self._theirs)
        fetched = _exchanged(self._items.id.detach()[self._rows], self._theirs, self._mine)
        self._fetched = fetched.requires_grad_()
        return self._fetched, places

    def return_gradients(self) -> None:
        """Give each share its gradient of the last fetch: the mean over all workers, as DDP's."""
        gradient = cast(Tensor, self._fetched.grad)
        share = self._items.id
        returned = _exchanged(gradient, self._mine, self._theirs) / self.workers
        share.grad = torch.zeros_like(share).index_add_(0, self._rows, returned)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """All id vectors in the first worker's encoder, as long as the block runs; the others keep their shares."""
        share = self._items.id
        whole = self.whole(share.detach())
        if whole is not None:
            self._items.id = nn.Parameter(whole, requires_grad=False)
        try:
            yield
        finally:
            self._items.id = share

    def whole(self, share: Tensor) -> Tensor | None:
        """[N, D] the table of which every worker calls this with its share, on the first; None on the others."""
        if self.rank:
            torch.distributed.send(share, 0)
            return None
        whole = share.new_empty(self._num_items, share.shape[1])
        whole[:: self.workers] = share
        for other in range(1, self.workers):
            rows = whole[other :: self.workers]
            part = share.new_empty(rows.shape)
            torch.distributed.recv(part, other)
            rows.copy_(part)
        return whole


def data_parallel(objective: Objective, ids: ShardedIds | None) -> DistributedDataParallel:
    """Keep the parameters of several workers in step, but for ids in shards."""
    # Buffers never change, and DDP would send them all in each step, the texts of all items among them.
    ignored = [name for name, _ in objective.named_buffers()]
    if ids is not None:
        ignored.append("encoder.items.id")
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, ignored)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(objective)


def _exchanged(values: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
    """What the other workers sent to this one, in their order, for so many rows sent to each of them."""
    found = values.new_empty(sum(received), *values.shape[1:])
    torch.distributed.all_to_all_single(found, values.contiguous(), list(received), list(sent))
    return found
