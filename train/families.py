"""Families: the kinds of models that compete, each with the settings it is tried with."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Interactions
from models.baselines.adversarial import AdversarialFactorisation
from models.baselines.alpharec import AlphaRec
from models.baselines.als import ALS
from models.baselines.ease import EASE
from models.baselines.gf_cf import GFCF
from models.baselines.interest_fusion import InterestFusion
from models.baselines.item_knn import ItemKNN
from models.baselines.l3ae import L3AE
from models.baselines.lightgcn import LightGCN
from models.baselines.matrix_factorisation import NAMES, MatrixFactorisation
from models.baselines.mult_vae import MultVAE
from models.baselines.popularity import Popularity
from models.baselines.recurrent import Recurrent
from models.baselines.sasrec import SASRec
from models.baselines.text_gcn import TextGCN
from models.baselines.two_tower import TwoTower
from models.baselines.xsimgcl import XSimGCL
from models.leads_to import NEXT, LeadsTo, Linear
from models.scorer import Scorer
from train.evaluate import Task, evaluate
from train.loop import DENSE_RATINGS, METRIC, LoopConfig, TrainingError
from train.release import assemble
from train.run import WorkerConfig
from train.runs import Run

Settings = Mapping[str, Any]
"""Arguments of a fit by name; `decay` is one of a model that is fitted already."""

Taken = Literal["text", "seed", "validate", "run", "told"]
"""What a fit may ask for of a Material, by name."""

Told = Callable[[str], None]
"""Is told what is being done."""


def to_nobody(text: str) -> None:
    """Tell nothing."""


@dataclass(frozen=True, eq=False)
class Material:
    """All that a model may be fitted on."""

    training: Interactions
    validation: Task
    """What settings and the number of epochs are chosen by."""
    metric: str = METRIC
    """Of the validation task, which has its cut-off."""
    text: NDArray[np.float32] | None = None
    """[N, T] text vectors as the language model gave them, zeros where an item has none; None without any."""
    seed: int = 0
    run: Run | None = None
    """Where the flagship trains, on the same snapshot and split."""
    told: Told = to_nobody

    def validate(self, scorer: Scorer) -> float:
        """How good a model is on the validation part."""
        return evaluate(scorer, self.validation).value(self.metric)

    def folds(self, count: int) -> "Iterator[Material]":
        """Cross-validation: each fold is fitted without a share of the people, and validated on them alone."""
        people = np.unique(self.validation.targets.user)
        if count < 2 or count > len(people):
            raise TrainingError(f"{count} folds of {len(people)} people: give at least 2, and no more than people")
        shuffled = np.random.default_rng(self.seed).permutation(people)
        for fold in range(count):
            mine = shuffled[fold::count]
            training = self.training.where(~np.isin(self.training.user, mine))
            targets = self.validation.targets.where(np.isin(self.validation.targets.user, mine))
            task = replace(self.validation, targets=targets, training=training)
            yield replace(self, training=training, validation=task)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model that can be asked, and what it took."""

    model: Scorer
    seconds: float


@dataclass(frozen=True)
class Family:
    """A kind of model, and the settings that it is tried with."""

    name: str
    fit: Callable[..., Scorer | Fitted]
    """Takes training interactions, what it asks for of a Material, and settings, the last two by name."""
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values to try of each setting, all with all; a search stays between the ends of what are numbers."""
    decays: Sequence[float] = ()
    """Query weights for each later event: tried on a model that is fitted already."""
    takes: Sequence[Taken] = ()
    """What it asks for of a Material."""

    @property
    def settings(self) -> Sequence[Settings]:
        """All of the grid, without decays."""
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]

    def fitted(self, material: Material, settings: Settings) -> Fitted:
        """One model.

        Raises: TrainingError if the material lacks what it asks for, or a library is missing.
        """
        asked = {name: getattr(material, name) for name in self.takes}
        for name, given in asked.items():
            if given is None:
                raise TrainingError(f"{self.name} needs the items' {name} vectors: write them with isthmus embed")
        started = time.perf_counter()
        try:
            model = self.fit(material.training, **asked, **settings)
        except ModuleNotFoundError as missing:
            raise TrainingError(f"{self.name} needs {missing.name}: pip install 'isthmus[compare]'") from missing
        return model if isinstance(model, Fitted) else Fitted(model, time.perf_counter() - started)

    def variants(self, fitted: Fitted, settings: Settings) -> Iterator[tuple[Settings, Fitted]]:
        """A fitted model with each decay, or as it is."""
        if not self.decays:
            yield settings, fitted
        for decay in self.decays:
            model: Any = fitted.model
            yield {**settings, "decay": decay}, replace(fitted, model=replace(model, decay=decay))


def _slist(training: Interactions, *, text: NDArray[np.float32], ridge: float, text_weight: float) -> Scorer:
    """The flagship's sparse part by itself: SLIST, drawn to the texts by so much."""
    linear = Linear(ridge, following=NEXT.following, text=text_weight)
    return replace(LeadsTo.fit(training, linear, text), name="slist")


def _isthmus(training: Interactions, *, run: Run, told: Told, preset: LoopConfig | None = None) -> Fitted:
    """The flagship, with the blend of its two halves that validation prefers.

    The run reads its training part, which is `training`, from the snapshot by itself. One that has ended is taken up
    again, with the time that it took then.
    """
    config = run.config
    if preset is not None:
        how = ("split", "validation_from", "test_from", "seed", "only_platform")
        config = replace(preset, **{name: getattr(config, name) for name in how})
    run = replace(run, config=config)
    result = run.fit(
        WorkerConfig(workers=0), lambda epoch: told(f"isthmus: epoch {epoch['epoch']} of at most {config.epochs}")
    )
    started = time.perf_counter()
    trained = assemble(run.inputs, config, result.checkpoint)
    return Fitted(trained.flagship, result.seconds + time.perf_counter() - started)


DECAYS: Final = (1.0, 0.95, 0.9, 0.8, 0.7)
"""What an event may lose for each later one."""

_LEARNED: Final[Sequence[Taken]] = ("seed", "validate")

_FAMILIES: Final = (
    Family("popularity", Popularity.fit),
    Family("platform-popularity", partial(Popularity.fit, per_platform=True)),
    Family("recent-popularity", Popularity.fit, {"half_life_days": (7.0, 30.0, 90.0, 365.0)}),
    Family("item-knn", ItemKNN.fit, {"neighbours": (100, 400), "shrinkage": (0.0, 10.0, 50.0)}, DECAYS),
    Family("ease", EASE.fit, {"ridge": (100.0, 300.0, 1000.0)}, DECAYS),
    Family("l3ae", L3AE.fit, {"ridge": (100.0, 300.0, 1000.0), "text_weight": (100.0, 300.0)}, DECAYS, ("text",)),
    Family("slist", _slist, {"ridge": (30.0, 100.0, 300.0), "text_weight": (0.0, 100.0)}, (*DECAYS, 0.6), ("text",)),
    Family("gf-cf", GFCF.fit, {"rank": (64, 128, 256), "alpha": (0.1, 0.3, 1.0)}, DECAYS),
    Family("als", ALS.fit, {"rank": (64, 128), "confidence": (2.0, 5.0, 20.0)}, DECAYS, ("seed",)),
    Family("interest-fusion", InterestFusion.fit, {"rank": (64, 128, 256)}, DECAYS),
    Family("text-gcn", TextGCN.fit, {"layers": (1, 2, 3)}, DECAYS, ("text",)),
    *(
        Family(name, partial(MatrixFactorisation.fit, loss=loss), {"penalty": (0.005, 0.02, 0.05)}, takes=_LEARNED)
        for loss, name in NAMES.items()
    ),
    Family("apr", AdversarialFactorisation.fit, {"strength": (0.3, 1.0)}, takes=_LEARNED),
    Family("two-tower", TwoTower.fit, {"penalty": (3e-4, 1e-3)}, takes=("text", *_LEARNED)),
    Family("lightgcn", LightGCN.fit, {"penalty": (1e-4, 1e-3)}, takes=_LEARNED),
    Family("xsimgcl", XSimGCL.fit, {"contrast": (0.1, 0.2)}, takes=_LEARNED),
    Family("alpharec", AlphaRec.fit, {"temperature": (0.15, 0.2)}, takes=("text", *_LEARNED)),
    Family("mult-vae", MultVAE.fit, {"divergence": (0.2, 0.5)}, takes=_LEARNED),
    Family("gru", Recurrent.fit, {"dropout": (0.2, 0.5)}, takes=_LEARNED),
    Family("lstm", partial(Recurrent.fit, cell="lstm"), {"dropout": (0.2, 0.5)}, takes=_LEARNED),
    Family("sasrec", SASRec.fit, {"dropout": (0.2, 0.5)}, takes=_LEARNED),
    Family("isthmus", _isthmus, takes=("run", "told")),
    Family("isthmus-dense", partial(_isthmus, preset=DENSE_RATINGS), takes=("run", "told")),
)
FAMILIES: Final[Mapping[str, Family]] = {family.name: family for family in _FAMILIES}
"""By name."""
