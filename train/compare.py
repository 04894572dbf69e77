"""Comparison: every model on one bench, fitted on the same events, asked the same questions by one evaluator."""

import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graph.interactions import join
from graph.snapshot import read_snapshot
from graph.split import Split
from graph.vectors import read_vectors
from train.data import SplitName
from train.evaluate import Report, Task, evaluate
from train.families import FAMILIES, Material, Settings, Told, to_nobody
from train.loop import TrainingError, validation_task
from train.runs import Run
from train.tune import tune

USUAL: Final = ("popularity", "item-knn", "ease", "isthmus")
"""Who is asked when nobody is named."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One model on one bench with one seed."""

    model: str
    """Its family."""
    seed: int
    settings: Settings
    """What validation preferred."""
    report: Report
    fit_seconds: float
    """Of the model that was asked; a flagship's training may have been earlier."""
    tune_seconds: float
    """Of all fits that its settings were chosen by."""
    peak_bytes: int
    """Memory that the whole process had taken at most when it was done: what it adds to the one before is its own."""


def held_out_task(split: Split, *, sampled: int | None = None, ks: Sequence[int] = (10,)) -> Task:
    """Rank the test events given all that came before them, validation included."""
    histories = join(split.train, split.validation)
    return Task("test", histories, split.test, sampled=sampled, ks=tuple(ks), training=split.train)


def withheld_task(split: Split, *, sampled: int | None = None, ks: Sequence[int] = (10,)) -> Task:
    """Rank the test events given the training part alone, validation neither told nor offered: as RecBole does."""
    return Task(
        "test", split.train, split.test, sampled=sampled, ks=tuple(ks), withheld=split.validation, training=split.train
    )


def next_task(split: Split, *, sampled: int | None = None, ks: Sequence[int] = (10,)) -> Task:
    """Rank what each person did next, one target each: on a platform where they are new if they came to one."""
    histories, test = join(split.train, split.validation), split.test
    number = len(test.platforms)
    known = np.isin(test.user * number + test.platform, histories.user * number + histories.platform)
    last = np.full(len(test.users), np.iinfo(np.int64).min)
    np.maximum.at(last, histories.user, histories.at)
    later = np.flatnonzero(test.at >= last[test.user])
    order = later[np.lexsort((later, known[later], test.user[later]))]
    first = order[np.unique(test.user[order], return_index=True)[1]]
    mask = np.zeros(len(test), np.bool_)
    mask[first] = True
    return Task("next", histories, test.where(mask), sampled=sampled, ks=tuple(ks), training=split.train)


def asked_of(
    protocol: SplitName, split: Split, *, sampled: int | None = None, ks: Sequence[int] = (10,), seed: int = 0
) -> Task:
    """What is asked at test after a split of this name."""
    tasks = {
        "leave_one_out": held_out_task,
        "random_per_user": withheld_task,
        "newcomers": next_task,
        "temporal": held_out_task,
    }
    return replace(tasks[protocol.removesuffix("_cold_items")](split, sampled=sampled, ks=ks), seed=seed)


def compare(
    run: Run,
    models: Sequence[str] = USUAL,
    *,
    seeds: int = 1,
    sampled: int | None = None,
    ks: Sequence[int] = (10,),
    search: int = 0,
    folds: int = 0,
    told: Told = to_nobody,
) -> Iterator[Entry]:
    """Fit each model on the training part, choose its settings on validation, ask it the test; as each is done.

    Args:
        run: the snapshot, how it is split, and how the flagship is trained on it.
        models: names of FAMILIES.
        seeds: of the split, the weights and the sample: so many, from the run's own on.
        sampled: as `Task.sampled`.
        search, folds: as `tune`.
    Raises: TrainingError if a model is unknown or needs text vectors that are not there, or the sample is too small.
    """
    unknown = [name for name in models if name not in FAMILIES]
    if unknown or not models:
        raise TrainingError(f"no model is called {', '.join(unknown) or '-'}: name some of {', '.join(FAMILIES)}")
    if sampled is not None and sampled < max(ks):
        raise TrainingError(f"{sampled} sampled items are fewer than the cut-off {max(ks)}: give more, such as 999")
    interactions = read_snapshot(run.inputs.snapshot).interactions()
    text = _text(run, interactions.items.keys, models)
    for number in range(seeds):
        here = replace(run, config=replace(run.config, seed=run.config.seed + number))
        config = here.config
        split = config.parted(interactions)
        if not len(split.validation):
            raise TrainingError("no event is held out for validation: ingest longer histories")
        task = asked_of(config.split, split, sampled=sampled, ks=ks, seed=config.seed)
        task = replace(task, item_vectors=text if text is not None and text.any() else None)

        def tell(now: str, prefix: str = f"seed {number + 1} of {seeds}  " if seeds > 1 else "") -> None:
            told(prefix + now)

        material = Material(split.train, validation_task(split), text=text, seed=config.seed, run=here, told=tell)
        for name in models:
            tuned = tune(FAMILIES[name], material, search=search, folds=folds)
            tell(f"{name}: test")
            report = evaluate(tuned.fitted.model, task)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            yield Entry(name, config.seed, tuned.settings, report, tuned.fitted.seconds, tuned.seconds, peak)


def _text(run: Run, keys: Sequence[str], models: Sequence[str]) -> NDArray[np.float32] | None:
    """The items' text vectors; None where there are none and nobody needs them."""
    file = run.inputs.vectors / "Item.parquet"
    needed = any({"text", "run"} & set(FAMILIES[name].takes) for name in models)
    return read_vectors(file, keys)[0] if needed or file.exists() else None
