"""L3AE: EASE drawn towards what the items' texts say of each other (Moon, Park and Lee, CIKM 2025)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories, Interactions
from models.baselines.matrix import check_decay, check_vectors, positive_matrix, query_matrix
from models.baselines.ridge import Smoother, inverse


@dataclass(frozen=True, eq=False)
class L3AE:
    """score = q B, B the minimum of |X - X B|^2 + rX |B|^2 + rE |B - C|^2 with a zero diagonal, C the texts' own EASE.

    The paper's closed form, with P = (X'X + (rX + rE) I)^-1 and C = I - P1 diag(1 / diag P1), P1 = (F F' + rF I)^-1:
    B = rE P C - P diag((1 + rE diag(P C)) / diag P) off the diagonal. Nothing but EASE's G is as large as items by
    items: P = (I - G) / (rX + rE), and C = (F W - diag h) diag(1 / (1 - h)) with W = (F'F + rF I)^-1 F', h = diag(F W).
    """

    smoother: Smoother
    """G, for the ridge rX + rE."""
    text: NDArray[np.float32]
    """F [N, T]"""
    text_weights: NDArray[np.float32]
    """W [T, N]"""
    text_diagonal: NDArray[np.float32]
    """h [N], in [0, 1)."""
    text_share: float
    """rE / (rX + rE), in [0, 1)."""
    scale: NDArray[np.float32]
    """[N] (1 + rE diag(P C)) / diag P, over rX + rE."""
    decay: float = 1.0
    """Factor a wanted item loses for each later event of the same person."""
    name: str = "l3ae"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        text: NDArray[np.float32],
        *,
        ridge: float = 300.0,
        text_ridge: float = 10.0,
        text_weight: float = 300.0,
        decay: float = 1.0,
    ) -> Self:
        """Solve for B from the events of positive weight: as many operations as EASE, and items * T^2.

        Args:
            text: F [N, T] text vectors, used as they are; zeros where an item has none.
            ridge: rX, above 0; together with text_weight at least 1.
            text_ridge: rF, above 0, on the scale of the vectors' squared length: 10 suits unit vectors.
            text_weight: rE, at least 0; 0 is EASE.
        """
        check_decay(decay)
        check_vectors(text, interactions)
        if not (ridge > 0 and text_weight >= 0 and ridge + text_weight >= 1):
            raise ValueError(
                f"ridge is {ridge} and text_weight {text_weight}: give no negative one and a sum of at least 1, "
                "such as 300 and 300"
            )
        if not text_ridge > 0:
            raise ValueError(f"text_ridge is {text_ridge}: give more than 0, such as 10")
        text = np.ascontiguousarray(text, dtype=np.float32)
        smoother = Smoother.fit(positive_matrix(interactions), ridge + text_weight)
        text_weights = inverse(text.T @ text, text_ridge) @ text.T
        text_diagonal = np.einsum("nt,tn->n", text, text_weights)
        both = np.einsum("tn,tn->n", smoother.smooth(np.ascontiguousarray(text.T)), text_weights)
        product_diagonal = (both - smoother.diagonal * text_diagonal) / (1 - text_diagonal)  # of G C = -(rX + rE) P C
        text_share = text_weight / (ridge + text_weight)
        scale = (1 - text_share * product_diagonal) / (1 - smoother.diagonal)
        return cls(smoother, text, text_weights, text_diagonal, text_share, scale.astype(np.float32), decay)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        query = query_matrix(histories, len(self.text), self.decay)
        rest = query - self.smoother.smooth(query)
        by_text = ((rest @ self.text) @ self.text_weights - rest * self.text_diagonal) / (1 - self.text_diagonal)
        return np.asarray(query + self.text_share * by_text - rest * self.scale, dtype=np.float32)
