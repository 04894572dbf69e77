"""Adaptation: a run begins with what an earlier one learned, and trains all of it on or one platform's part alone.

What is new can also be served at once, by the weights as they are: `take_in`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from graph.errors import IsthmusError
from graph.interactions import Interactions
from graph.snapshot import read_snapshot
from models.encoder import Encoder


class AdaptationError(IsthmusError):
    """An earlier run that cannot be begun with, or a platform that cannot be trained alone."""


@dataclass(frozen=True)
class Start:
    """What a run begins with: the best weights of an earlier one."""

    run: Path
    """The folder of the earlier run."""
    snapshot: Path
    """The snapshot that it was trained on, which says what each row of its weights is about."""
    weights: str
    """Its best weights, as a path below `run`."""
    platform: str | None = None
    """The only platform whose parameters are trained, all others stay as they are; None trains everything."""

    @property
    def named(self) -> dict[str, str | None]:
        """The same by names that mean something in any var folder."""
        names = {"run": self.run.name, "snapshot": self.snapshot.name}
        return {**names, "weights": self.weights, "platform": self.platform}

    @classmethod
    def below(cls, var: Path, named: Mapping[str, str]) -> "Start":
        """The inverse of `named`."""
        files = var / "training" / named["run"], var / "snapshots" / named["snapshot"]
        return cls(*files, named["weights"], named["platform"])


class Held:
    """Keeps an encoder as it is, bit for bit, but for the parameters of one platform."""

    def __init__(self, encoder: Encoder, training: Interactions, platform: str, new_types: Sequence[int]) -> None:
        """
        Args:
            training: what the encoder is trained on.
            new_types: rows of event types that nothing was learned about yet.
        Raises: AdaptationError if nothing happened on the platform.
        """
        number = training.platforms.index(platform)
        there = np.isin(training.user, training.user[training.platform == number])
        if not there.any():
            raise AdaptationError(f"nothing to train on happened on {platform}: ingest events of several people there")
        self.training = training.where(there)
        """The events of those who did something on the platform: nobody else says anything about its parameters."""
        own = torch.arange(len(training.platforms)) == number
        trained = {
            "adapter": own,
            "prior": own,
            "history.platform.weight": own,
            "bias": encoder.item_platform == number,
            "history.event_type.weight": torch.isin(
                torch.arange(len(encoder.history.event_type.weight)), torch.tensor(new_types, dtype=torch.int64)
            ),
        }
        self.num_parameters = 0
        """How many numbers are trained."""
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(name in trained)
            if name in trained:
                free = trained[name].to(parameter.device)
                self.num_parameters += parameter[free].numel()
                self._rows.append((parameter, ~free, parameter.detach()[~free].clone()))

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what an optimizer's step did to the others' rows of the tensors that are shared between platforms."""
        for parameter, rows, values in self._rows:
            parameter[rows] = values


def begin(encoder: Encoder, training: Interactions, start: Start) -> Held | None:
    """Give an untrained encoder the weights of an earlier run, row by row by the names of what they are about.

    Rows of items, platforms, event types and relations that the earlier run did not know stay untrained.

    Returns: what keeps all but one platform's parameters as they are, where that is asked for. Id vectors that are not
        going to be trained are 0 then, so that they do not add noise to items that they are propagated to.
    Raises: AdaptationError if the weights do not fit.
    """
    weights, found = _found(encoder, training, start)
    for name, value in encoder.state_dict().items():  # its tensors are those of the encoder
        kind = _ROWS.get(name)
        rows = 0 if kind is None else 1
        if name not in weights or weights[name].shape[rows:] != value.shape[rows:]:
            raise AdaptationError(
                f"{start.run} was trained with another encoder or text model (its {name} does not fit): "
                "train once without --continue"
            )
        if kind is None:
            value.copy_(weights[name])
        else:
            here, there = found[kind]
            value[here] = weights[name][there].to(value.device)
    if start.platform is None:
        return None
    new_items = np.setdiff1d(np.arange(len(training.items)), found["item"][0])
    new_types = np.setdiff1d(np.arange(len(training.event_types)), found["event type"][0])
    with torch.no_grad():
        encoder.items.id[torch.from_numpy(new_items)] = 0
    return Held(encoder, training, start.platform, new_types.tolist())


@torch.no_grad()
def take_in(encoder: Encoder, events: Interactions, start: Start) -> None:
    """Give an untrained encoder the weights of an earlier run, so that it serves what is new without any training.

    A platform or event type that is new is taken for the mean of the known ones. A new item is its text and what the
    graph brings, without an id vector; its bias is what the known items' biases say of one with as many events, by
    least squares on log(1 + events).

    Args:
        events: what is known to have happened; only new items' counts are taken from what happened on a new platform.
    Raises: AdaptationError if the weights do not fit.
    """
    begin(encoder, events, replace(start, platform=None))
    _, found = _found(encoder, events, start)
    for name, value in encoder.state_dict().items():
        kind = _ROWS.get(name)
        if kind in {"platform", "event type"}:
            known = found[kind][0]
            value[_others(known, len(value))] = value[known].mean(dim=0)
    known, new = found["item"][0], _others(found["item"][0], len(encoder.bias))
    encoder.warm[new] = 0
    counts = torch.from_numpy(np.bincount(events.item[events.weight > 0], minlength=len(encoder.bias)))
    said = torch.stack([torch.ones(len(counts)), torch.log1p(counts)], dim=1).to(encoder.bias)
    encoder.bias[new] = said[new] @ torch.linalg.lstsq(said[known], encoder.bias[known].unsqueeze(1)).solution[:, 0]


def _others(rows: Tensor, size: int) -> Tensor:
    return torch.from_numpy(np.setdiff1d(np.arange(size), rows))


def _found(
    encoder: Encoder, training: Interactions, start: Start
) -> tuple[dict[str, Tensor], Mapping[str, tuple[Tensor, Tensor]]]:
    """The weights of an earlier run, and by kind the rows here and there of what both know."""
    weights, relations = _read(start.run / start.weights)
    earlier = read_snapshot(start.snapshot).interactions()
    known, asked = _names(earlier, relations), _names(training, encoder.items.relations)
    return weights, {kind: _matched(known[kind], asked[kind]) for kind in asked}


_ROWS: Final = {
    "bias": "item",
    "items.id": "item",
    "items.relation_weight": "relation",
    "history.event_type.weight": "event type",
    "history.platform.weight": "platform",
    "adapter": "platform",
    "prior": "platform",
}
"""Tensors with a row for each of something that another snapshot may have more or fewer of."""


def _names(interactions: Interactions, relations: Sequence[str]) -> Mapping[str, Sequence[str]]:
    return {
        "item": interactions.items.keys,
        "platform": interactions.platforms,
        "event type": interactions.event_types,
        "relation": relations,
    }


def _matched(known: Sequence[str], asked: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The rows among `asked` of what is known, and their rows among `known`."""
    rows = {name: row for row, name in enumerate(known)}
    both = [(row, rows[name]) for row, name in enumerate(asked) if name in rows]
    here, there = torch.tensor(both, dtype=torch.int64).reshape(-1, 2).unbind(dim=1)
    return here, there


def _read(file: Path) -> tuple[dict[str, Tensor], Sequence[str]]:
    """The best weights of a run, and the names of its relations."""
    if not file.is_file():
        raise AdaptationError(f"{file} is gone, which this run begins with: train without --continue")
    with safe_open(file, framework="pt") as opened:
        said = opened.metadata() or {}
        if "relations" not in said:
            raise AdaptationError(f"{file} is of an Isthmus that could not be continued: train without --continue")
        return {name: opened.get_tensor(name) for name in opened.keys()}, json.loads(said["relations"])  # noqa: SIM118
