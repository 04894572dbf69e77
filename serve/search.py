"""Search by meaning: what somebody wrote against the texts of the items, by the vectors that the bundle was trained on.

Model and vectors are loaded when somebody first searches, by the one thread that also reads what is searched for: no
other answer waits for it. Where the vectors came from an endpoint, each search that is new asks it.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from graph.errors import IsthmusError
from graph.vectors import read_vectors
from serve.errors import Problem, ServeError

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.text import TextEncoder

TIMEOUT_S: Final = 3.0
"""How long a search may take; the first one, which loads the model, may take longer and is told to come back."""
_KEPT: Final = 1024

_LOG = logging.getLogger("isthmus.search")


class Search:
    """Of one replica. Give it up with `close`."""

    def __init__(self, vectors: Path, open_model: "Callable[[str], TextEncoder]") -> None:
        """
        Args:
            vectors: the folder in which isthmus embed keeps a folder of vectors for each text model.
            open_model: opens a text model by the name that the bundle gives.
        """
        self._vectors, self._open_model = vectors, open_model
        self._pool = ThreadPoolExecutor(1, "search")
        self._encode = lru_cache(maxsize=_KEPT)(self._read)
        self._models: dict[str, TextEncoder] = {}
        self._base: tuple[Bundle, NDArray[np.float32]] | None = None
        self._later: tuple[Bundle, NDArray[np.float32]] | None = None

    async def cosines(self, bundle: "Bundle", text: str) -> NDArray[np.float32]:
        """[N] of the text with each item; -inf for items without text. Raises: Problem (503)."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._pool, self._cosines, bundle, text)
        except TimeoutError:
            detail = f"the text model did not answer within {TIMEOUT_S:.0f} s; it may just be loading"
            raise Problem(503, "search-busy", detail, headers={"Retry-After": "5"}) from None
        except IsthmusError as error:
            _LOG.warning("no search: %s", error)
            detail = "the text model or its vectors cannot be used here; the server's log says why"
            raise Problem(503, "search-unavailable", detail, headers={"Retry-After": "60"}) from None

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _cosines(self, bundle: "Bundle", text: str) -> NDArray[np.float32]:
        from models.grown import GrownBundle

        name = bundle.manifest.get("text_model")
        if name is None:
            raise ServeError(f"the bundle {bundle.version} does not say which text model it was trained with")
        base = bundle.base if isinstance(bundle, GrownBundle) else bundle
        if self._base is None or self._base[0] is not base:
            vectors, _ = read_vectors(self._vectors / str(name) / "Item.parquet", base.items.keys)
            self._base = base, vectors
        query = self._encode(str(name), text)
        found = [_products(self._base[1], query)]
        if isinstance(bundle, GrownBundle):
            if self._later is None or self._later[0] is not bundle:
                self._later = bundle, bundle.mean_of_stand_ins(self._base[1])
            found.append(_products(self._later[1], query))
        return np.concatenate(found)

    def _read(self, name: str, text: str) -> NDArray[np.float32]:
        if name not in self._models:
            self._models[name] = self._open_model(name)
        vector: NDArray[np.float32] = self._models[name].encode([text])[0]
        return vector


def _products(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    if vectors.shape[1:] != query.shape:
        raise ServeError(
            f"the text model gives {len(query)} numbers and the stored vectors have {vectors.shape[1]}: they are of "
            "different models, so embed and train again"
        )
    cosines: NDArray[np.float32] = vectors @ query
    return np.where(vectors.any(axis=1), cosines, -np.inf)
