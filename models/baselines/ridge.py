"""Ridge regression of every item on all items: the inverse that EASE and L3AE share, dense or through the people."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import spotrf, spotri
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

_BLOCK: Final = 2048


@dataclass(frozen=True, eq=False)
class Smoother:
    """G = X' K X with K = (X X' + lambda I)^-1, so that (X'X + lambda I)^-1 = (I - G) / lambda (Woodbury).

    Where people are fewer than items no item-item matrix is made: X' K is kept instead.
    """

    left: NDArray[np.float32]
    """G [N, N], or X' K [N, U] where people are fewer."""
    people: csr_array | None
    """X [U, N], or None where `left` is G."""
    diagonal: NDArray[np.float32]
    """[N] the diagonal of G, in [0, 1)."""

    @classmethod
    def fit(cls, people: csr_array, ridge: float) -> Self:
        """Invert in min(people, items)^3 operations.

        Args:
            people: X [U, N]; people without an item are left out.
            ridge: lambda, at least 1: smaller ones are too much for single precision.
        """
        people = csr_array(people[np.diff(people.indptr) > 0])
        if people.shape[0] > people.shape[1]:
            smoothed = inverse((people.T @ people).toarray(), ridge)
            smoothed *= -ridge
            np.fill_diagonal(smoothed, smoothed.diagonal() + 1)
            return cls(smoothed, None, smoothed.diagonal().copy())
        left = people.T @ inverse((people @ people.T).toarray(), ridge)
        diagonal = np.asarray(people.T.multiply(left).sum(axis=1), dtype=np.float32)
        return cls(left, people, diagonal)

    def smooth(self, rows: csr_array | NDArray[np.float32]) -> NDArray[np.float32]:
        """[B, N] rows G of the rows [B, N]."""
        smoothed = rows @ self.left
        return np.asarray(smoothed if self.people is None else smoothed @ self.people, dtype=np.float32)


def inverse(gram: NDArray[np.float32], ridge: float) -> NDArray[np.float32]:
    """(gram + ridge I)^-1 through Cholesky in place, in single precision: the ridge keeps it well conditioned.

    On one thread: with two, the spotrf of OpenBLAS 0.3.30 ends the process on 27,274 items (a segmentation fault), and
    took 1.2 to 2.4 times as long on 8,000 to 24,000 (two cores).

    Raises: ValueError if it is not.
    """
    np.fill_diagonal(gram, gram.diagonal() + ridge)
    with threadpool_limits(1, "blas"):
        factor, failed = spotrf(gram.T, lower=True, overwrite_a=True)
        inverted, failed_too = spotri(factor, lower=True, overwrite_c=True)
    if failed or failed_too:
        raise ValueError(f"the normal equations cannot be solved with ridge {ridge}: give a larger one")
    for start in range(0, len(inverted), _BLOCK):  # the other half, without a second matrix of this size
        end = start + _BLOCK
        corner = np.tril(inverted[start:end, start:end])
        inverted[start:end, start:end] = corner + np.tril(corner, -1).T
        inverted[start:end, end:] = inverted[end:, start:end].T
    return inverted.T  # type: ignore[no-any-return]
