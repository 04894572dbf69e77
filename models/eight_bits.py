"""Eight bits: a first look at many items, a quarter of their bytes, that leaves out none of those that score best.

Vectors and query are rounded to whole numbers times a scale of their own, and whole numbers multiply exactly. What the
rounding takes from an inner product is bounded by Cauchy and Schwarz:

    |q z - q' z'| <= |q| |z - z'| + |q - q'| |z'|

so items whose rough score is more than twice this bound below the k-th cannot be among the best k.
"""

from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

_MOST: Final = 127
_ROUNDING: Final = 1e-5
"""What single precision may add to the bound, as a share of the lengths of query and vector."""


class EightBits:
    """[N, D] vectors in 8 bits each. Safe to use from many threads."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        largest = np.abs(vectors).max(axis=1, initial=0)
        self._scale = np.maximum(largest / _MOST, np.finfo(np.float32).tiny).astype(np.float32)
        whole = np.rint(vectors / self._scale[:, None])
        self._whole = torch.from_numpy(whole.astype(np.int8))
        whole *= self._scale[:, None]
        self._length = float(np.linalg.norm(whole, axis=1).max(initial=0))
        self._error = float(np.linalg.norm(vectors - whole, axis=1).max(initial=0))

    def products(self, query: NDArray[np.float32], out: NDArray[np.float32]) -> float:
        """Put the rough inner products with a query [D] into `out` [N]; returns how far off any of them may be."""
        scale = max(float(np.abs(query).max()) / _MOST, float(np.finfo(np.float32).tiny))
        whole = np.rint(query / np.float32(scale))
        products = torch._int_mm(self._whole, torch.from_numpy(whole.astype(np.int8))[:, None])
        np.multiply(products.numpy()[:, 0], self._scale, out=out, dtype=np.float32, casting="unsafe")
        out *= np.float32(scale)
        length = float(np.linalg.norm(query))
        rounded = float(np.linalg.norm(query - whole * np.float32(scale)))
        return length * self._error + rounded * self._length + _ROUNDING * length * self._length


@cache
def multiplies_exactly() -> bool:
    """Whether this processor does: one without instructions for it (VNNI) lets sums of 16 bits overflow."""
    largest = torch.full((64, 64), _MOST, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest[:, :1]) == 64 * _MOST**2).all())
