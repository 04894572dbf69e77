"""Eight bits: the bound on what rounding takes holds for every item, and sums do not overflow unnoticed."""

import numpy as np
import pytest

from models import eight_bits
from models.eight_bits import EightBits, multiplies_exactly


def rough(vectors: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, float]:
    found = np.empty(len(vectors), np.float32)
    off = EightBits(vectors).products(query, found)
    return found, off


@pytest.mark.parametrize("size", [1, 7, 300])
def test_a_rough_product_is_off_by_no_more_than_is_said_and_that_is_little(size: int) -> None:
    random = np.random.default_rng(size)
    lengths = random.uniform(0.01, 3, (size, 1)).astype(np.float32)
    vectors = lengths * random.normal(size=(size, 64)).astype(np.float32)
    for _ in range(20):
        query = random.normal(size=64).astype(np.float32)
        found, off = rough(vectors, query)
        exact = vectors.astype(np.float64) @ query
        assert np.abs(found - exact).max() <= off
        assert off < 0.02 * np.linalg.norm(vectors, axis=1).max() * np.linalg.norm(query)


@pytest.mark.parametrize("rounded", ["vector", "query"])
def test_the_bound_holds_where_all_rounding_goes_one_way(rounded: str) -> None:
    # Both have a scale of 1, and the other values of one of them are rounded down by a half.
    vector, query = np.full(64, 10.0, np.float32), np.full(64, 10.0, np.float32)
    (vector if rounded == "vector" else query)[:] = 10.499
    vector[0] = query[0] = 127
    found, off = rough(vector[None], query)
    assert found[0] == 127 * 127 + 63 * 100
    assert off >= 63 * 10 * 0.499


def test_nothing_is_nothing() -> None:
    vectors = np.zeros((3, 8), np.float32)
    assert rough(vectors, np.ones(8, np.float32))[0].tolist() == [0, 0, 0]
    assert rough(np.ones((3, 8), np.float32), np.zeros(8, np.float32)) == (pytest.approx([0, 0, 0]), 0)


def test_a_processor_whose_sums_overflow_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturated(left, right):
        return (left.int() @ right.int()).clamp(-(1 << 15), (1 << 15) - 1)

    monkeypatch.setattr(eight_bits.torch, "_int_mm", saturated)
    assert not multiplies_exactly.__wrapped__()
    monkeypatch.setattr(eight_bits.torch, "_int_mm", lambda left, right: left.int() @ right.int())
    assert multiplies_exactly.__wrapped__()
