"""Propagation: one step of messages along weighted edges, as a sparse product that is fast in both directions.

On a CPU `torch.nn.functional.embedding_bag` sums the rows of a neighbourhood several times faster than any sparse
product of torch or PyG, and its own backward pass is what is slow: so the backward pass is the transposed product.
On a GPU PyG's `spmm` is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Adjacency:
    """A sparse [T, S] matrix whose product with [S, D] gives every target the weighted sum of its sources."""

    forward: tuple[Tensor, Tensor, Tensor]
    """Compressed rows: offsets [T+1], columns [E], weights [E]."""
    backward: tuple[Tensor, Tensor, Tensor]
    """The same of the transposed matrix."""

    @classmethod
    def from_scipy(cls, matrix: sp.csr_matrix) -> "Adjacency":
        """Take over a scipy matrix."""
        return cls(_compressed(matrix), _compressed(sp.csr_matrix(matrix.T)))

    @property
    def num_edges(self) -> int:
        return len(self.forward[1])

    def to(self, device: torch.device) -> "Adjacency":
        return Adjacency(_moved(self.forward, device), _moved(self.backward, device))

    def __matmul__(self, x: Tensor) -> Tensor:
        """[S, D] -> [T, D]"""
        return gpu_product(self, x) if x.is_cuda else cast(Tensor, _SparseProduct.apply(x, self))


def gpu_product(adjacency: Adjacency, x: Tensor) -> Tensor:
    """The product as a GPU does it; a CPU can too, more slowly."""
    from torch_geometric.utils import spmm

    crow, column, weight = adjacency.forward
    size = (len(crow) - 1, len(adjacency.backward[0]) - 1)
    with torch.autocast(x.device.type, enabled=False):  # or torch would round the weights to the lower precision too
        matrix = torch.sparse_csr_tensor(crow, column, weight.to(x.dtype), size=size, check_invariants=False)
        return cast(Tensor, spmm(matrix, x))


def path_adjacency(hops: Sequence[Adjacency], x: Tensor) -> Tensor:
    """Send x along several hops, the first of them first: item -> user -> item is one relation of two hops."""
    for hop in hops:
        x = hop @ x
    return x


def row_normalised(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """D^-1 A: every target takes the weighted mean of its sources; a target without any takes nothing."""
    degree = np.asarray(matrix.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(np.divide(1.0, degree, out=np.zeros_like(degree), where=degree > 0)) @ matrix)


def symmetric_normalised(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """D_t^-1/2 A D_s^-1/2, as in Kipf and Welling (ICLR 2017), equation 2, without self-loops."""
    target = np.asarray(matrix.sum(axis=1)).ravel()
    source = np.asarray(matrix.sum(axis=0)).ravel()
    left = np.divide(1.0, np.sqrt(target), out=np.zeros_like(target), where=target > 0)
    right = np.divide(1.0, np.sqrt(source), out=np.zeros_like(source), where=source > 0)
    return sp.csr_matrix(sp.diags(left) @ matrix @ sp.diags(right))


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, adjacency: Adjacency) -> Tensor:
        ctx.adjacency = adjacency
        return _bag_sums(adjacency.forward, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _bag_sums(ctx.adjacency.backward, gradients[0].contiguous()), None


def _bag_sums(compressed: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    offsets, columns, weights = compressed
    return F.embedding_bag(
        columns, x, offsets, mode="sum", per_sample_weights=weights.to(x.dtype), include_last_offset=True
    )


def _compressed(matrix: sp.csr_matrix) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.data.astype(np.float32)),
    )


def _moved(compressed: tuple[Tensor, Tensor, Tensor], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    offsets, columns, weights = compressed
    return offsets.to(device), columns.to(device), weights.to(device)
