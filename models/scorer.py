"""Scorer: what evaluation and serving ask of every model, flagship and baseline alike."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories


class Scorer(Protocol):
    """A model that is fitted already; tests/models/test_baselines.py is its specification."""

    @property
    def name(self) -> str:
        """How tables and logs call it."""

    def score(self, histories: Histories) -> NDArray[np.float32]:
        """[B, N] how much each of B people wants each of the N items, given what they did; higher is better, no NaN.

        One person's scores do not depend on who else is in the batch. A person without history is scored too.
        """
