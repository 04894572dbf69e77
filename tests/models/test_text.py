"""The frozen language model: real weights, known order of meaning, every way to name a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.text import DEFAULT_MODEL, TextError, TextModel, vectors_name


@pytest.fixture(scope="module")
def model() -> TextModel:
    return TextModel.load()


WORDS = ["[UNK]", "a", "comet", "rocket", "rose", "tulip"]


def saved(folder: Path, kind: str, model: str = "ForCausalLM", **config: Any) -> Path:
    """A tiny model with random weights and a tokenizer of words, saved as a folder of the hub's form."""
    import torch
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", model_max_length=16
    ).save_pretrained(folder)
    torch.manual_seed(0)
    shape = getattr(transformers, f"{kind}Config")(vocab_size=len(WORDS), bos_token_id=0, eos_token_id=0, **config)
    getattr(transformers, f"{kind}{model}")(shape).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(
        tmp_path_factory.mktemp("decoder"), "GPT2", "LMHeadModel", n_positions=16, n_embd=8, n_layer=1, n_head=2
    )


LLAMA = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


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
    np.testing.assert_allclose(model.encode(texts[::-1])[::-1], together, atol=2e-3)  # in bfloat16 three digits agree
    np.testing.assert_allclose(model.encode(texts[2:3])[0], together[2], atol=2e-3)


def test_a_processor_that_multiplies_bfloat16_gives_the_same_vectors(
    model: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["A rocket to the moon", "玫瑰园", "comet " * 40, "Roses for beginners, with ten pictures"]
    found = []
    for half in (False, True):
        monkeypatch.setattr(model, "_half", half)
        found.append(model.encode(texts))
    assert (found[0] * found[1]).sum(axis=1).min() > 0.9995
    assert not np.array_equal(*found)


def test_a_text_is_cut_off_where_the_model_ends(model: TextModel) -> None:
    long = "comet " * 300
    np.testing.assert_allclose(model.encode([long])[0], model.encode([long + "roses " * 50])[0], atol=1e-6)


def by_hand(folder: Path, text: str) -> Any:
    """[L, D] what transformers itself makes of the tokens of a text, alone."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        return model(torch.tensor([[WORDS.index(word) for word in text.split()]])).last_hidden_state[0].numpy()


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("model", ["ForCausalLM", "Model"])
def test_a_decoder_is_read_from_its_last_token_beside_longer_texts_too(tmp_path: Path, model: str) -> None:
    folder = saved(tmp_path, "Llama", model, **LLAMA)
    texts = ["a comet", "a rocket rose tulip a comet", "rose"]
    vectors = TextModel.load(str(folder)).encode(texts)
    for vector, text in zip(vectors, texts, strict=True):
        np.testing.assert_allclose(vector, unit(by_hand(folder, text)[-1]), atol=2e-2)


def test_a_decoder_knows_the_order_of_words_and_its_first_words_alone_do_not_decide(decoder: Path) -> None:
    causal = TextModel.load(str(decoder))
    one, turned, other = causal.encode(["rose a comet", "a rose comet", "rose a tulip"])
    assert not np.allclose(one, turned, atol=1e-4)
    assert not np.allclose(one, other, atol=1e-2)


def test_an_encoder_is_read_from_all_tokens_or_as_it_says_of_itself(tmp_path: Path) -> None:
    folder = saved(tmp_path, "Bert", "Model", **LLAMA, max_position_embeddings=16)
    tokens = by_hand(folder, "rose a comet")
    (tmp_path / "1_Pooling").mkdir()
    for said, expected in (
        (None, tokens.mean(axis=0)),
        ({"pooling_mode": "cls"}, tokens[0]),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, tokens[-1]),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, tokens.mean(axis=0)),
    ):
        if said is not None:
            (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(said))
        (vector, _) = TextModel.load(str(folder)).encode(["rose a comet", "tulip rose a rocket comet"])
        np.testing.assert_allclose(vector, unit(expected), atol=2e-2)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(TextError, match=r"pools its tokens by \['max'\]"):
        TextModel.load(str(folder))


def test_of_a_model_of_two_halves_the_one_that_reads_is_taken(tmp_path: Path) -> None:
    folder = saved(tmp_path, "T5", "Model", d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    vectors = TextModel.load(str(folder)).encode(["rose a comet", "tulip"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


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
