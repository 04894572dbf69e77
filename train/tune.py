"""Tuning: the settings of a family that validation prefers, by its grid or by a search through Ray Tune."""

import io
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

from graph.cluster import start_ray
from train.families import Family, Fitted, Material, Settings, to_nobody
from train.loop import TrainingError


@dataclass(frozen=True, eq=False)
class Tuned:
    """The best of a family, fitted on all of the training part."""

    settings: Settings
    fitted: Fitted
    seconds: float
    """All of the tuning, the last fit included."""


def tune(family: Family, material: Material, *, search: int = 0, folds: int = 0) -> Tuned:
    """Fit a family with the settings that are best on validation; one that has a single one is just fitted.

    Args:
        search: so many settings are drawn by Ray Tune between the ends of the grid; 0 tries the grid itself.
        folds: cross-validate each over so many shares of the people; 0 validates on all, fitted on all.
    """
    started = time.perf_counter()
    tried: Sequence[Settings] = family.settings
    if search and any(len(set(values)) > 1 for values in family.grid.values()):
        material.told(f"{family.name}: searching among {search} settings with Ray Tune")
        settings = _search(family, material, search, folds)
        return _tuned(settings, family.fitted(material, settings), started)
    if len(tried) == 1 and not family.decays:
        material.told(family.name)
        return _tuned(tried[0], family.fitted(material, tried[0]), started)
    best: tuple[float, Settings, Fitted | None] | None = None
    for number, settings in enumerate(tried):
        material.told(f"{family.name}: settings {number + 1} of {len(tried)}")
        found = attempt(family, material, settings, folds)
        if best is None or found[0] > best[0]:
            best = found
    if best is None:
        raise TrainingError(f"{family.name} has no settings to try: give its grid a value for each name")
    return _tuned(best[1], best[2] or family.fitted(material, best[1]), started)


def _tuned(settings: Settings, fitted: Fitted, started: float) -> Tuned:
    return Tuned(settings, fitted, time.perf_counter() - started)


def attempt(
    family: Family, material: Material, settings: Settings, folds: int = 0
) -> tuple[float, Settings, Fitted | None]:
    """The validation figure of some settings with the best decay, and the model unless it was fitted on folds."""
    found: dict[float | None, list[float]] = {}
    variants: dict[float | None, tuple[Settings, Fitted | None]] = {}
    for part in material.folds(folds) if folds else [material]:
        for variant, fitted in family.variants(family.fitted(part, settings), settings):
            decay = variant.get("decay")
            found.setdefault(decay, []).append(part.validate(fitted.model))
            variants[decay] = variant, None if folds else fitted  # of folds no model is kept: they may be large
    means = {decay: sum(values) / len(values) for decay, values in found.items()}
    best = max(means, key=means.__getitem__)
    return means[best], *variants[best]


def _search(family: Family, material: Material, samples: int, folds: int) -> Settings:
    """Through Ray Tune, in a Ray of this process's own unless there is one; what is best on validation."""
    import ray
    import ray.tune
    from ray.tune.search import BasicVariantGenerator

    own = start_ray()
    try:
        with tempfile.TemporaryDirectory() as folder:
            tuner = ray.tune.Tuner(
                ray.tune.with_parameters(_trial, family=family, material=_to_travel(material), folds=folds),
                param_space={name: _space(values) for name, values in family.grid.items()},
                tune_config=ray.tune.TuneConfig(
                    metric="value",
                    mode="max",
                    num_samples=samples,
                    search_alg=BasicVariantGenerator(random_state=material.seed),
                ),
                run_config=ray.tune.RunConfig(storage_path=folder, verbose=0),
            )
            with redirect_stdout(io.StringIO()):  # its tables, which verbose=0 leaves
                results = tuner.fit()
            if results.num_errors == len(results):
                raise TrainingError(f"every trial of {family.name} failed; the first with: {results.errors[0]}")
            metrics: Mapping[str, Any] = results.get_best_result().metrics or {}
            settings: Settings = metrics["settings"]
            return settings
    finally:
        if own:
            ray.shutdown()


def _trial(drawn: dict[str, Any], family: Family, material: Material, folds: int) -> None:
    import ray.tune

    value, settings, _ = attempt(family, material, drawn, folds)
    ray.tune.report({"value": value, "settings": dict(settings)})


def _to_travel(material: Material) -> Material:
    """Without who is told: a console stays at home."""
    return replace(material, told=to_nobody, run=None)


def _space(values: Sequence[Any]) -> Any:
    """Between the smallest and the largest number, evenly by their logarithm unless one is 0; else one of them."""
    import ray.tune

    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values) or len(set(values)) == 1:
        return ray.tune.choice(list(values))
    low, high = min(values), max(values)
    if all(isinstance(value, int) for value in values):
        return ray.tune.lograndint(low, high + 1) if low > 0 else ray.tune.randint(low, high + 1)
    return ray.tune.loguniform(low, high) if low > 0 else ray.tune.uniform(low, high)
