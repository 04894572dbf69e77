"""The history encoder for one person, in NumPy: the same as models.encoder computes for many, in a third of the time.

For one person the network is so small that most of PyTorch's time goes into calls. Weights are laid out once, only
what follows from the newest event is computed, and what each event put in is kept, for explanations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from models.encoder import HistoryEncoder

Array = NDArray[np.float32]
_EPS = np.finfo(np.float32).eps


@dataclass(frozen=True, eq=False)
class Reading:
    """What a person's events amount to after the newest of them."""

    y: Array
    """[D]"""
    weighted: Array
    """[L, D] the values of the events, weighed by attention."""
    newest: Array
    """[D] what the newest event brings beside its value."""
    factor: Array
    """[D] what both are multiplied by in the end."""
    output: Array
    """[D, D]"""

    def parts(self) -> Array:
        """[L, D] the summand of each event in y."""
        parts = self.weighted @ self.output
        parts[-1] += self.newest
        parts *= self.factor
        return parts


class FrozenHistory:
    """A history encoder's weights as they are now. Safe to use from many threads."""

    def __init__(self, history: HistoryEncoder) -> None:
        weights = {name: value.numpy() for name, value in history.state_dict().items()}

        def right(name: str) -> Array:
            return np.ascontiguousarray(weights[f"{name}.weight"].T)

        self.heads, self.ordered = history.heads, history.ordered
        self._event_type, self._platform, self._gap = (
            weights[f"{name}.weight"] for name in ("event_type", "platform", "gap")
        )
        self._input_scale = np.float32(history.input_scale)
        self._blocks: Sequence[_Block] = [_Block(f"blocks.{n}.", weights) for n in range(len(history.blocks))]
        longest = weights["age_bias"].shape[-1]
        age = np.arange(longest)[:, None] - np.arange(longest)
        self._bias = np.where(age < 0, np.float32(-np.inf), weights["age_bias"][:, :, np.maximum(age, 0)])
        self._norm = weights["norm.weight"]
        query_key = right("query_key")
        dim = len(query_key)
        self._query = np.ascontiguousarray(query_key[:, :dim])
        self._key_gate = np.concatenate([query_key[:, dim:], right("value_gate")], axis=1)
        self._value, self._output, self._newest = right("value"), right("output"), right("newest")
        self._output_gate, self._output_gate_bias = right("output_gate"), 1 + weights["output_gate.bias"]
        self._value_gate_bias = 1 + weights["value_gate.bias"]
        self._scale = weights["scale"]

    def read(
        self, vectors: Array, event_type: NDArray[np.int64], platform: NDArray[np.int64], gap: NDArray[np.int64]
    ) -> Reading:
        """From the z [L, D], types, platforms and gaps [L] of at least one event, oldest first."""
        length, dim = vectors.shape
        heads = (length, self.heads, dim // self.heads)
        hidden = vectors * self._input_scale
        hidden += self._event_type[event_type]
        hidden += self._platform[platform]
        hidden += self._gap[gap] if self.ordered else self._gap[0]
        for block, bias in zip(self._blocks, self._bias, strict=False):
            hidden = block(hidden, bias[:, :length, :length], heads)
        hidden = _rms_norm(hidden, self._norm)
        last = hidden[-1]
        key_gate = hidden @ self._key_gate
        key = key_gate[:, :dim].reshape(heads).transpose(1, 2, 0)
        asked = (last @ self._query).reshape(self.heads, 1, -1)
        asked *= np.float32(heads[2] ** -0.5)
        weights = _softmax((asked @ key)[:, 0] + self._bias[-1, :, length - 1, :length])
        gate = key_gate[:, dim:]
        gate += self._value_gate_bias
        value = vectors @ self._value
        value *= gate
        weighted = value.reshape(heads) * weights.T[:, :, None]
        weighted = weighted.reshape(length, dim)
        newest = vectors[-1] @ self._newest
        gate = last @ self._output_gate + self._output_gate_bias
        y = (weighted.sum(axis=0) @ self._output + newest) * gate
        norm = np.float32(1 / np.sqrt(y @ y / dim + _EPS))
        factor = norm * self._scale
        return Reading(y * factor, weighted, newest, gate * factor, self._output)


class _Block:
    def __init__(self, prefix: str, weights: dict[str, Array]) -> None:
        def of(name: str) -> Array:
            return weights[prefix + name]

        self.attention_norm, self.feed_norm = of("attention_norm.weight"), of("feed_norm.weight")
        self.qkv, self.output, self.up, self.down = (
            np.ascontiguousarray(of(f"{name}.weight").T) for name in ("qkv", "output", "up", "down")
        )
        self.up_bias, self.down_bias = of("up.bias"), of("down.bias")

    def __call__(self, x: Array, bias: Array, heads: tuple[int, int, int]) -> Array:
        length, number, size = heads
        qkv = (_rms_norm(x, self.attention_norm) @ self.qkv).reshape(length, 3, number, size)
        weights = qkv[:, 0].transpose(1, 0, 2) @ qkv[:, 1].transpose(1, 2, 0)
        weights *= np.float32(size**-0.5)
        weights += bias
        attended = _softmax(weights) @ qkv[:, 2].transpose(1, 0, 2)
        x = np.add(x, attended.transpose(1, 0, 2).reshape(length, -1) @ self.output, dtype=np.float32)
        wide = _rms_norm(x, self.feed_norm) @ self.up
        wide += self.up_bias
        x += F.gelu(torch.from_numpy(wide)).numpy() @ self.down
        x += self.down_bias
        return x


def _rms_norm(x: Array, weight: Array) -> Array:
    scale = np.einsum("ld,ld->l", x, x)
    scale /= x.shape[1]
    scale += _EPS
    normed: Array = x / np.sqrt(scale)[:, None]
    normed *= weight
    return normed


def _softmax(x: Array) -> Array:
    """In place, over the last axis."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)
    return x
