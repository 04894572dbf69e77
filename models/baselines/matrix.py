"""What people did as sparse rows over the items: the form in which linear models read it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import svd
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from graph.interactions import Histories, Interactions


def positive_matrix(interactions: Interactions) -> csr_array:
    """[U, N] 1 where a user has an event of positive weight with an item: dislikes are no wishes."""
    wanted = interactions.where(interactions.weight > 0)
    matrix = csr_array(
        (np.ones(len(wanted), dtype=np.float32), (wanted.user, wanted.item)),
        shape=(len(interactions.users), len(interactions.items)),
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def query_matrix(histories: Histories, num_items: int, decay: float = 1.0) -> csr_array:
    """[B, N] decay^age where a person wanted an item, age counted in events since (the newest time of several)."""
    person, item, weights = query_entries(histories, num_items, decay)
    return csr_array((weights, (person, item)), shape=(len(histories), num_items))


def query_entries(
    histories: Histories, num_items: int, decay: float = 1.0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The entries of `query_matrix`: person, item and value [M], in the order of the matrix."""
    person = np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
    wanted = np.flatnonzero(histories.weight > 0)[::-1]
    _, newest = np.unique(person[wanted] * num_items + histories.item[wanted], return_index=True)
    kept = wanted[newest]
    weights = np.power(decay, histories.ages[kept], dtype=np.float32)
    return person[kept], histories.item[kept], weights


def inverse_root(sums: ArrayLike) -> NDArray[np.float32]:
    """1 / sqrt of each, 0 for 0: what normalises rows or columns of these sums."""
    roots = np.sqrt(np.asarray(sums, dtype=np.float32))
    return np.divide(1, roots, out=np.zeros_like(roots), where=roots > 0)


def normalised(people: csr_array) -> csr_array:
    """D_U^-1/2 X D_I^-1/2 of X [U, N], D the degrees: each edge between a person and an item by both their degrees."""
    rows, columns = inverse_root(people.sum(axis=1)), inverse_root(people.sum(axis=0))
    return csr_array(diags_array(rows) @ people @ diags_array(columns))


def right_singular_vectors(matrix: csr_array, rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The [K, N] right singular vectors of the K largest singular values [K]; K is `rank` or what the matrix has."""
    if rank < 1:
        raise ValueError(f"rank is {rank}: give at least 1 dimension; 32 to 512 suits most data")
    if rank < min(matrix.shape) // 2:
        start = np.random.default_rng(0).standard_normal(min(matrix.shape)).astype(np.float32)
        _, values, vectors = svds(matrix, k=rank, v0=start)
    else:
        _, values, vectors = svd(matrix.toarray(), full_matrices=False)
    kept = np.argsort(-values)[:rank]
    kept = kept[values[kept] > 1e-5 * max(values.max(), 1e-30)]
    return values[kept].astype(np.float32), vectors[kept].astype(np.float32)


def check_vectors(vectors: NDArray[np.float32], interactions: Interactions) -> None:
    """Raise ValueError unless there is one finite vector for each item."""
    if vectors.ndim != 2 or len(vectors) != len(interactions.items):
        raise ValueError(
            f"the vectors are {vectors.shape} for {len(interactions.items)} items: give each one row, zeros for none"
        )
    if not np.isfinite(vectors).all():
        raise ValueError("some vectors hold NaN or infinity: give zeros where an item has no vector")


def check_decay(decay: float) -> None:
    """Raise ValueError unless decay is a factor in (0, 1]."""
    if not 0 < decay <= 1:
        raise ValueError(
            f"decay is {decay}: give a factor in (0, 1] for each later event, such as 0.8; 1 forgets nothing"
        )
