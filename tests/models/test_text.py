"""The frozen language model: real weights, known order of meaning, every way to name a model."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.text import DEFAULT_MODEL, TextError, TextModel, vectors_name


@pytest.fixture(scope="module")
def model() -> TextModel:
    return TextModel.load()


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model with random weights and a tokenizer of words, saved as a folder of the hub's form."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("decoder")
    words = ["[UNK]", "a", "comet", "rocket", "rose", "tulip"]
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", model_max_length=16).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words), n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_texts_of_one_meaning_are_nearer_than_others(model: TextModel) -> None:
    rocket, astronaut, roses, tulips = model.encode(
        ["A rocket to the moon", "An astronaut flies into space", "Roses for beginners", "A garden full of tulips"]
    )
    assert rocket @ astronaut > max(rocket @ roses, rocket @ tulips, astronaut @ roses, astronaut @ tulips)
    assert roses @ tulips > max(rocket @ roses, rocket @ tulips, astronaut @ roses, astronaut @ tulips)


def test_vectors_are_float32_of_length_one(model: TextModel) -> None:
    vectors = model.encode(["A comet", "", "花园"])
    assert vectors.shape == (3, model.dim) == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert model.encode([]).shape == (0, 384)


def test_a_vector_does_not_depend_on_the_other_texts_or_their_order(model: TextModel) -> None:
    texts = ["comet " * length for length in (1, 40, 3, 12)] * 10
    together = model.encode(texts)
    np.testing.assert_allclose(model.encode(texts[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(model.encode(texts[2:3])[0], together[2], atol=1e-5)


def test_a_text_is_cut_off_where_the_model_ends(model: TextModel) -> None:
    long = "comet " * 300
    np.testing.assert_allclose(model.encode([long])[0], model.encode([long + "roses " * 50])[0], atol=1e-6)


def test_a_decoder_is_read_from_its_last_token_and_an_encoder_from_all(decoder: Path) -> None:
    causal = TextModel.load(str(decoder))
    np.testing.assert_allclose(
        causal.encode(["a comet", "a rocket rose tulip a comet"]),
        [causal.encode([text])[0] for text in ("a comet", "a rocket rose tulip a comet")],
        atol=1e-6,
    )
    mean = TextModel.load(str(decoder), pooling="mean")
    assert abs(float(mean.encode(["a comet"])[0] @ causal.encode(["a comet"])[0])) < 0.999
    one = causal.encode(["comet"])[0]
    np.testing.assert_allclose(mean.encode(["comet"])[0], one, atol=1e-6)  # of one token, mean and last are the same


def test_an_instruction_stands_before_every_text(decoder: Path) -> None:
    plain, instructed = TextModel.load(str(decoder)), TextModel.load(str(decoder), instruction="rose a ")
    np.testing.assert_allclose(instructed.encode(["comet"]), plain.encode(["rose a comet"]), atol=1e-6)


def test_a_frozen_model_has_nothing_to_train(model: TextModel) -> None:
    assert not any(parameter.requires_grad for parameter in model._model.parameters())
    assert not model._model.training


def test_models_of_one_name_in_two_folders_file_their_vectors_apart(tmp_path: Path) -> None:
    for parent in ("first", "second"):
        (tmp_path / parent / "model").mkdir(parents=True)
    first, second = (vectors_name(str(tmp_path / parent / "model")) for parent in ("first", "second"))
    assert first.startswith("model-")
    assert first != second
    assert vectors_name("intfloat/e5-small") == "intfloat--e5-small"
    assert vectors_name(f"sentence-transformers/{DEFAULT_MODEL}") == DEFAULT_MODEL


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="nowhere is no folder: give the folder of a Hugging Face model"):
        TextModel.load(str(tmp_path / "nowhere"))


def test_a_folder_that_holds_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(TextError, match="cannot be read as a text model"):
        TextModel.load(str(tmp_path))


def test_a_hub_that_cannot_be_reached_is_one_sentence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(TextError, match=r"somebody/something is not on this machine and http://127.0.0.1:1 cannot be"):
        TextModel.load("somebody/something")
