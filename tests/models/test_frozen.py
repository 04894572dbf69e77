"""The history encoder in NumPy says of one person what the network in PyTorch says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.encoder import EncoderConfig, EventBatch
from models.flagship import Flagship, wanted
from tests.networks import NUM_PLATFORMS, TINY, random_flagship, random_histories

CONFIGS = [
    TINY,
    replace(TINY, blocks=3, heads=1),
    replace(TINY, ordered=False),
    EncoderConfig(dim=64, heads=4, max_history=50),
]


def by_the_network(flagship: Flagship, history) -> tuple[np.ndarray, np.ndarray]:
    """The summands of events, and the query on each platform."""
    batch = EventBatch.from_histories(wanted(history), flagship.max_history)
    rows = batch.item.numpy()
    vectors, platform = torch.from_numpy(flagship.vectors[rows]), torch.from_numpy(flagship.item_platform[rows])
    with torch.inference_mode():
        parts = flagship.history.parts(vectors, batch, platform)[0, : int(batch.length[0])]
        y = parts.sum(dim=0)
        queries = [y + y @ flagship.adapter[n] + flagship.prior[n] for n in range(len(flagship.prior))]
    return parts.numpy(), torch.stack(queries).numpy()


@pytest.mark.parametrize("config", CONFIGS, ids=["tiny", "three blocks", "unordered", "as served"])
@pytest.mark.parametrize("length", [0, 1, 2, 9, 90])
def test_it_is_the_network(config: EncoderConfig, length: int) -> None:
    flagship = random_flagship(config=config)
    history = random_histories([length], seed=length)
    parts, queries = by_the_network(flagship, history)
    close = 1e-5 * max(1.0, float(np.abs(queries).max()))
    assert flagship.queries(history)[0] == pytest.approx(queries, abs=close)
    found, places = flagship.event_queries(history)
    assert found.shape == (len(parts), NUM_PLATFORMS, config.dim)
    assert places.tolist() == np.flatnonzero(history.weight > 0)[-config.max_history :].tolist()
    adapted = parts[:, None] + np.einsum("ld,pde->lpe", parts, flagship.adapter.numpy())
    assert found == pytest.approx(adapted, abs=close)


def test_alone_a_person_has_the_query_that_they_have_among_others() -> None:
    flagship = random_flagship()
    one, other = random_histories([7], seed=1), random_histories([12], seed=2)
    columns = {
        name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("item", "type", "at", "weight")
    }
    both = replace(one, offsets=np.array([0, 7, 19]), **columns)
    together = flagship.queries(both)
    assert flagship.queries(one)[0] == pytest.approx(together[0], abs=1e-5)
    assert flagship.queries(other)[0] == pytest.approx(together[1], abs=1e-5)


@pytest.mark.parametrize("column", ["item", "type", "at"])
def test_what_was_read_before_is_not_taken_for_another_history(column: str) -> None:
    flagship, history = random_flagship(), replace(random_histories([6]), weight=np.ones(6, np.float32))
    before = flagship.queries(history)
    values = getattr(history, column).copy()
    values[-1] += 3000 * 3600 if column == "at" else 1 if values[-1] == 0 else -1
    changed = replace(history, **{column: values})
    assert flagship.queries(changed)[0] == pytest.approx(by_the_network(flagship, changed)[1], abs=1e-4)
    assert np.abs(flagship.queries(changed) - before).max() > 1e-3
    assert (flagship.queries(history) == before).all()
