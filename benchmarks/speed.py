"""How fast the network itself is: propagation beside hand-written kernels, and a person's vector from 50 events.

    python -m benchmarks.speed

Propagation is three layers forward and backward over 100,000 nodes with 4,000,000 symmetric weights of 64 dimensions.
"hand-written" is `embedding_bag` in both directions with nothing around it, for a matrix that is its own transpose.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from graph.interactions import Histories
from models.encoder import Encoder, EncoderConfig
from models.flagship import Flagship
from models.leads_to import LeadsTo
from models.propagate import Adjacency, symmetric_normalised

NODES: Final = 100_000
EDGES: Final = 4_000_000
DIM: Final = 64
LAYERS: Final = 3
ITEMS: Final = 50_000
EVENTS: Final = 50


def main() -> None:
    """Print both tables."""
    print(f"{torch.get_num_threads()} threads\n\n| propagation | ms | of hand-written |\n|---|--:|--:|")
    matrix = random_matrix()
    kernels: Mapping[str, Any] = {
        "hand-written": _HandWritten(matrix),
        "ours": Adjacency.from_scipy(matrix),
        "torch.sparse": csr(matrix),
    }
    x = torch.randn(NODES, DIM, requires_grad=True)
    expected = kernels["hand-written"] @ x.detach()
    floor = 0.0
    for name, kernel in kernels.items():
        if not torch.allclose(kernel @ x.detach(), expected, atol=1e-4):
            raise AssertionError(f"{name} gives another product")
        took = median_ms(partial(layers, kernel, x), 7 if name != "torch.sparse" else 1)
        floor = floor or took
        print(f"| {name} | {took:.0f} | {took / floor:.2f} |", flush=True)
    torch.set_num_threads(1)
    flagship, history = random_flagship(), random_history()
    print(f"\n| one person, {EVENTS} events, one thread | ms |\n|---|--:|")
    print(f"| vector on every platform | {median_ms(lambda: flagship.queries(history), 200):.2f} |")
    print(f"| the same, event by event, for reasons | {median_ms(lambda: flagship.event_queries(history), 200):.2f} |")


def layers(kernel: Any, x: Tensor) -> None:
    """Three layers, their mean, and its gradient."""
    layer = total = x
    for _ in range(LAYERS):
        layer = kernel @ layer
        total = total + layer
    x.grad = None
    total.mean().backward()  # type: ignore[no-untyped-call]


def random_matrix() -> sp.csr_matrix:
    """[NODES, NODES] symmetric and normalised; some nodes have far more edges than others."""
    random = np.random.default_rng(0)
    rows = random.integers(0, NODES, EDGES // 2)
    columns = (NODES * random.random(EDGES // 2) ** 2).astype(np.int64)
    half = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(NODES, NODES))
    return symmetric_normalised(sp.csr_matrix(half + half.T))


class _Bag(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(columns, offsets, weights)
        return F.embedding_bag(columns, x, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        columns, offsets, weights = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        summed = F.embedding_bag(
            columns, gradient, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )
        return summed, None, None, None


class _HandWritten:
    """FACTS' fastest: the same symmetric matrix for both directions."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        self._parts = (
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.data.astype(np.float32)),
        )

    def __matmul__(self, x: Tensor) -> Tensor:
        return _Bag.apply(x, *self._parts)  # type: ignore[no-any-return]


def csr(matrix: sp.csr_matrix) -> Tensor:
    """The matrix as torch has it."""
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr), torch.from_numpy(matrix.indices), torch.from_numpy(matrix.data), matrix.shape
    )


def random_flagship() -> Flagship:
    """Two platforms, untrained: time does not depend on what was learned."""
    encoder = Encoder(
        torch.zeros(ITEMS, 8),
        torch.ones(ITEMS),
        torch.arange(ITEMS) % 2,
        [],
        num_event_types=3,
        num_platforms=2,
        config=EncoderConfig(),
    )
    return Flagship.from_encoder(encoder, {}, LeadsTo.empty(ITEMS))


def random_history() -> Histories:
    """One person."""
    random = np.random.default_rng(0)
    items, at = random.integers(0, ITEMS, EVENTS), np.arange(EVENTS) * 3600
    return Histories(np.array([0, EVENTS]), items, items % 3, at, np.ones(EVENTS, np.float32))


def median_ms(run: Callable[[], object], times: int) -> float:
    """Milliseconds of a call, after one that warms up."""
    run()
    took = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return 1000 * statistics.median(took)


if __name__ == "__main__":
    main()
