"""What people did as sparse rows over the items: the form in which linear models read it."""

import numpy as np
from scipy.sparse import csr_array

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
    person = np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
    wanted = np.flatnonzero(histories.weight > 0)[::-1]
    _, newest = np.unique(person[wanted] * num_items + histories.item[wanted], return_index=True)
    kept = wanted[newest]
    weights = np.power(decay, histories.ages[kept], dtype=np.float32)
    return csr_array((weights, (person[kept], histories.item[kept])), shape=(len(histories), num_items))


def check_decay(decay: float) -> None:
    """Raise ValueError unless decay is a factor in (0, 1]."""
    if not 0 < decay <= 1:
        raise ValueError(
            f"decay is {decay}: give a factor in (0, 1] for each later event, such as 0.8; 1 forgets nothing"
        )
