"""Retrieval: the best of many items, the same in evaluation and in serving."""

from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_BLOCKS_EACH: Final = 8
"""Blocks for each of the best that are asked for, where one line is searched."""


def top_k(
    scores: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k best of each line, best first; of equal scores the lower row comes first among those returned.

    Args:
        scores: [B, N]; -inf is never returned.
        k: at least 1; may be more than N.
        allowed: [N] or [B, N], False for rows that may not be returned; None allows all.
    Returns: rows [B, k] and scores [B, k], filled up with -1 and -inf where a line has fewer than k.
    """
    if scores.ndim != 2 or k < 1:
        raise ValueError(f"scores is {scores.shape} and k {k}: expected [B, N] and at least 1")
    if allowed is not None:
        if allowed.shape not in (scores.shape, scores.shape[1:]):
            raise ValueError(f"allowed is {allowed.shape}: expected {scores.shape} or {scores.shape[1:]}")
        scores = np.where(allowed, scores, np.float32(-np.inf))
    size = min(k, scores.shape[1])
    if len(scores) == 1:
        line = best(scores[0], k)
        found = line[None], scores[:, line]
    else:
        if size < scores.shape[1]:
            # The smallest costs, not the largest scores: argpartition is many times slower from the far end of ties.
            rows = np.sort(np.argpartition(-scores, size, axis=1)[:, :size], axis=1)
        else:
            rows = np.broadcast_to(np.arange(size), scores.shape)
        values = np.take_along_axis(scores, rows, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows, values = np.take_along_axis(rows, order, axis=1), np.take_along_axis(values, order, axis=1)
        found = np.where(values == -np.inf, -1, rows), values
    short = ((0, 0), (0, k - found[0].shape[1]))
    return np.pad(found[0], short, constant_values=-1), np.pad(found[1], short, constant_values=-np.inf)


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The places of the k best of N scores, best first, of equal ones the lower place first; never those of -inf."""
    if k < len(scores):
        near = np.flatnonzero(scores >= reached(scores, k))
        near = near[np.sort(np.argpartition(-scores[near], k - 1)[:k])]
    else:
        near = np.arange(len(scores))
    near = near[np.argsort(-scores[near], kind="stable")]
    places: NDArray[np.int64] = near[scores[near] > -np.inf]
    return places


def reached(scores: NDArray[np.float32], k: int) -> float:
    """What at least k of N scores reach and mostly few more, found in one pass over them; N is k or more.

    It is the k-th largest maximum of blocks, each of which holds a score that is as large.
    """
    blocks = min(k * _BLOCKS_EACH, len(scores))
    length = len(scores) // blocks
    maxima = scores[: blocks * length].reshape(length, blocks).max(axis=0)
    return float(np.partition(maxima, blocks - k)[blocks - k])


class ItemIndex:
    """Items by inner product with a query: exact over few items, a FAISS inverted file over many.

    A filtered answer is complete: where fewer than `exact_up_to` items are allowed they are all compared; otherwise
    FAISS applies the filter inside and looks into more and more lists until it has k items.
    """

    def __init__(self, vectors: NDArray[np.float32], exact_up_to: int = 100_000, probes: int = 16) -> None:
        """
        Args:
            vectors: [N, D] float32, kept, not copied; a memory map will do.
            exact_up_to: so many items are compared one by one rather than through FAISS.
            probes: lists FAISS looks into at first; more find more and take longer.
        """
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise ValueError(f"vectors is {vectors.dtype} {vectors.shape}: expected float32 [N, D]")
        self.vectors = vectors
        self.exact_up_to = exact_up_to
        self.probes = probes
        self._lists: Any = _inverted_file(vectors) if len(vectors) > exact_up_to else None

    def __len__(self) -> int:
        return len(self.vectors)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k items with the largest inner products for each query [B, D], of those that allowed [N] admits.

        Returns: as `top_k`.
        """
        if allowed is not None and allowed.shape != (len(self),):
            raise ValueError(f"allowed is {allowed.shape}: expected {(len(self),)}")
        if self._lists is None:
            return top_k(queries @ self.vectors.T, k, allowed)
        if allowed is not None and np.count_nonzero(allowed) <= self.exact_up_to:
            admitted = np.flatnonzero(allowed)
            places, scores = top_k(queries @ self.vectors[admitted].T, k)
            return np.where(places < 0, -1, np.append(admitted, -1)[places]), scores
        return self._search_lists(queries, k, allowed)

    def _search_lists(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        faiss: Any = import_module("faiss")
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        selector = None if bits is None else faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(bits))
        probes = self.probes
        while True:
            parameters = faiss.SearchParametersIVF(nprobe=min(probes, self._lists.nlist), sel=selector)
            scores, rows = self._lists.search(np.ascontiguousarray(queries, dtype=np.float32), k, params=parameters)
            if (rows >= 0).all() or probes >= self._lists.nlist:
                return rows, np.where(rows < 0, -np.inf, scores).astype(np.float32)
            probes *= 4


def _inverted_file(vectors: NDArray[np.float32]) -> Any:
    faiss: Any = import_module("faiss")
    lists = int(4 * np.sqrt(len(vectors)))
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64
    index.cp.niter = 10
    index.train(np.ascontiguousarray(vectors))
    index.add(np.ascontiguousarray(vectors))
    return index
