"""Settings are chosen on validation: by a grid, over folds of the people, through Ray Tune."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from graph.interactions import Histories, Interactions
from tests.train.test_evaluate import events, part
from train.evaluate import Task
from train.families import Family, Material
from train.loop import TrainingError
from train.tune import tune


@dataclass(frozen=True)
class Nearness:
    """Wants the items near the one that it is set to, less of them when it decays."""

    centre: float
    num_items: int
    decay: float = 1.0
    people: int = 0
    name: str = "nearness"

    @classmethod
    def fit(cls, interactions: Interactions, *, centre: float, decay: float = 1.0) -> "Nearness":
        return cls(centre, len(interactions.items), decay, len(np.unique(interactions.user)))

    def score(self, histories: Histories) -> np.ndarray:
        distance = np.abs(np.arange(self.num_items, dtype=np.float32) - self.centre)
        return np.tile(-distance * (1 if self.decay > 0.5 else -1), (len(histories), 1)).astype(np.float32)


FAMILY = Family("nearness", Nearness.fit, {"centre": (2.0, 12.0, 20.0)}, (0.1, 1.0))


@pytest.fixture
def material() -> Material:
    """Twelve people who want what is around item 11 next."""
    history = events([[0]] * 12, platforms=[0] * 25)
    targets = part(history, [[10 + person % 3] for person in range(12)])
    return Material(history, Task("validation", history, targets, ks=(3,)), "ndcg@3", seed=1)


def test_the_grid_is_tried_with_every_decay(material: Material):
    told: list[str] = []
    tuned = tune(FAMILY, replace(material, told=told.append))
    assert tuned.settings == {"centre": 12.0, "decay": 1.0}
    assert tuned.fitted.model == Nearness(12.0, 25, people=12)
    assert tuned.fitted.seconds < tuned.seconds
    assert told == [f"nearness: settings {number} of 3" for number in (1, 2, 3)]


def test_a_family_without_choices_is_fitted_once_and_not_validated(material: Material, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Material, "validate", None)
    assert tune(Family("one", Nearness.fit, {"centre": (2.0,)}), material).settings == {"centre": 2.0}


def test_a_grid_without_values_is_refused(material: Material):
    with pytest.raises(TrainingError, match="nearness has no settings to try"):
        tune(replace(FAMILY, grid={"centre": ()}), material)


def test_folds_part_the_people_and_each_is_fitted_without_its_own(material: Material):
    folds = list(material.folds(4))
    asked = [set(fold.validation.targets.user.tolist()) for fold in folds]
    assert sorted(person for people in asked for person in people) == list(range(12))
    for fold, people in zip(folds, asked, strict=True):
        assert len(people) == 3
        assert people.isdisjoint(fold.training.user.tolist())
        assert len(fold.training) == 9


def test_over_folds_the_same_is_chosen_and_fitted_on_everybody(material: Material):
    tuned = tune(FAMILY, material, folds=3)
    assert tuned.settings == {"centre": 12.0, "decay": 1.0}
    assert tuned.fitted.model == Nearness(12.0, 25, people=12)


@pytest.mark.parametrize("count", [1, 13])
def test_folds_that_cannot_be_are_refused(material: Material, count: int):
    with pytest.raises(TrainingError, match=f"{count} folds of 12 people"):
        tune(FAMILY, material, folds=count)


def test_what_a_family_asks_for_and_is_not_there_is_said(material: Material):
    with pytest.raises(TrainingError, match="nearness needs the items' text vectors: write them with isthmus embed"):
        tune(replace(FAMILY, takes=("text",)), material)


def test_a_missing_library_is_said(material: Material):
    def fit(_: Interactions, **settings: float) -> Nearness:
        raise ModuleNotFoundError("No module named 'lacking'", name="lacking")

    with pytest.raises(TrainingError, match="nearness needs lacking: pip install"):
        tune(replace(FAMILY, fit=fit), material)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_local")
def test_ray_tune_searches_between_the_ends_of_the_grid(material: Material, capfd: pytest.CaptureFixture[str]):
    told: list[str] = []
    near = replace(FAMILY, grid={"centre": (10.0, 12.0)})
    tuned = tune(near, replace(material, told=told.append), search=2)
    assert 10 < tuned.settings["centre"] < 12
    assert tuned.settings["decay"] == 1.0
    assert tuned.fitted.model == Nearness(tuned.settings["centre"], 25, people=12)
    assert told == ["nearness: searching among 2 settings with Ray Tune"]
    assert capfd.readouterr().out == ""
