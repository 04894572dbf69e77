"""How well every model ranks, through the whole road: export, ingest, store, snapshot, split, fit, evaluation.

    python -m benchmarks.quality [--only movielens-100k] [--data ../shared/data] [--var var/benchmarks]

Settings are chosen on the validation part by NDCG and never see the test part. Models are fitted on the training part
alone, as published figures are; "refitted" is what a user gets: fitted on training and validation with those settings.
"alone" is fitted on one platform and told of that platform only. Sampled metrics do not keep the order of models:
read the full ranking. A figure of three seeds is a mean and, behind ±, the standard deviation.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from graph.errors import IsthmusError
from graph.interactions import Interactions, join
from graph.keys import Pseudonyms
from graph.snapshot import Snapshot, read_snapshot, write_snapshot
from graph.split import Split, leave_one_out, random_per_user
from graph.store import open_store
from ingest.embed import embed
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.sources import kgat
from ingest.sources.movielens import fetch
from models.scorer import Scorer
from models.text import DEFAULT_MODEL
from train import families as bench
from train.compare import held_out_task
from train.evaluate import Task, evaluate
from train.families import Family, Material, Settings
from train.loop import VALIDATED, LoopConfig, validation_task
from train.tune import tune

MAPPINGS: Final = Path(__file__).parent.parent / "ingest" / "mappings"
SPLIT_SEEDS: Final = (2020, 2021, 2022)
SAMPLE_SEEDS: Final = (0, 1, 2)
SAMPLE: Final = 999

FAMILIES: Final = (
    bench.FAMILIES["popularity"],
    *(
        family
        for name in ("item-knn", "ease")
        for family in (
            replace(bench.FAMILIES[name], decays=()),
            replace(bench.FAMILIES[name], name=f"{name}, recency", decays=bench.DECAYS[1:]),
        )
    ),
)
"""Those of the bench, with and without regard to when."""

KGAT_PARTS: Final = LoopConfig(
    split="temporal", validation_from=kgat.VALIDATED.isoformat(), test_from=kgat.TESTED.isoformat()
)
"""The split of its two files again, with validation carved from the first."""
KGAT_FAMILIES: Final = (
    bench.FAMILIES["popularity"],
    replace(bench.FAMILIES["item-knn"], decays=()),
    replace(bench.FAMILIES["ease"], decays=(), grid={"ridge": (200.0,)}),
)
"""Without regard to when, which is not known; EASE with the one ridge of a first look at these data."""


def movielens(snapshot: Snapshot) -> None:
    """8:1:1 at random of each person's ratings of 3 and more; training and validation masked; told of training only."""
    interactions = snapshot.interactions()
    wanted = interactions.where(interactions.weight > 0)
    found: dict[str, list[tuple[float, ...]]] = {}
    chosen: dict[str, list[str]] = {}
    for seed in SPLIT_SEEDS:
        split = random_per_user(wanted, seed=seed)
        validation = Task("validation", split.train, split.validation, ks=(20,), seed=seed)
        test = Task("test", split.train, split.test, withheld=split.validation, ks=(20,), seed=seed)
        for family in FAMILIES:
            tuned = tune(family, Material(split.train, validation, "ndcg@20"))
            report = evaluate(tuned.fitted.model, test)
            figures = (report.value("recall@20"), report.value("ndcg@20"), tuned.fitted.seconds, report.seconds)
            found.setdefault(family.name, []).append(figures)
            chosen.setdefault(family.name, []).append(_text(tuned.settings))
    print(f"\n## MovieLens-100k: {len(wanted):,} ratings of 3 and more, splits {SPLIT_SEEDS}\n")
    print("| model | Recall@20 | NDCG@20 | fit s | score s | settings by validation |\n|---|---|---|---|---|---|")
    for name, runs in found.items():
        recall, ndcg, fit, score = zip(*runs, strict=True)
        tried = "; ".join(dict.fromkeys(chosen[name]))
        print(f"| {name} | {_spread(recall)} | {_spread(ndcg)} | {max(fit):.1f} | {max(score):.1f} | {tried} |")


def fixed_parts(snapshot: Snapshot) -> None:
    """Training and test as KGAT (KDD 2019) published them; told of training and validation, which are masked.

    Published models are fitted on both: compare the refitted ones with them. EASE inverts a matrix of 24,915 items,
    four minutes and 5 GB on two cores, so it is fitted once, without trying its grid.
    """
    split = KGAT_PARTS.parted(snapshot.interactions())
    past = join(split.train, split.validation)
    validation = replace(validation_task(split, VALIDATED), ks=(20,))
    test = held_out_task(split, ks=(20,))
    print(
        f"\n## amazon-book: {len(past):,} events, {len(split.test):,} more are asked for, {len(past.items):,} items\n"
    )
    print("| model | Recall@20 | NDCG@20 | fit s | score s | settings by validation |\n|---|---|---|---|---|---|")
    for family in KGAT_FAMILIES:
        settings, parts = family.settings[0], {f"{family.name}, refitted": past}
        if len(family.settings) > 1:
            settings = tune(family, Material(split.train, validation, "ndcg@20")).settings
            parts = {family.name: split.train, **parts}
        for name, events in parts.items():
            fitted = family.fitted(Material(events, validation), settings)
            report = evaluate(fitted.model, test)
            found = f"{report.value('recall@20'):.4f} | {report.value('ndcg@20'):.4f}"
            print(f"| {name} | {found} | {fitted.seconds:.1f} | {report.seconds:.1f} | {_text(settings)} |", flush=True)


def next_event(snapshot: Snapshot) -> None:
    """Leave-one-out over all platforms; the validation event is part of the history at test (ABXI, WWW 2025)."""
    interactions = snapshot.interactions()
    split = leave_one_out(interactions)
    past = join(split.train, split.validation)
    name = "-".join(interactions.platforms)
    print(f"\n## {name}: {len(interactions):,} events, {len(split.test):,} people, {len(past.items):,} items")
    print("\nHR@10/NDCG@10; sampled: against 999 items, seeds", SAMPLE_SEEDS)
    sides = [f"{platform} {how}" for how in ("sampled", "full") for platform in interactions.platforms]
    sides += ["warm full", "cold full"]
    print(f"\n| model | {' | '.join(sides)} | fit s | settings by validation |\n|{'---|' * (len(sides) + 3)}")
    validation = Task("validation", split.train, split.validation, ks=(10,))
    for family in FAMILIES:
        tuned = tune(family, Material(split.train, validation, "ndcg@10"))
        settings, fitted = tuned.settings, tuned.fitted
        _print_row(family.name, _joint(fitted.model, split, past, split.train), fitted.seconds, settings)
        if len(past.platforms) > 1:
            alone = [_alone(family, settings, split, past, number) for number in range(len(past.platforms))]
            _print_row(
                f"{family.name}, alone", [*(a[0] for a in alone), *(a[1] for a in alone), "", ""], None, settings
            )
        again = family.fitted(Material(past, validation), settings)
        _print_row(f"{family.name}, refitted", _joint(again.model, split, past, past), again.seconds, settings)


def _joint(model: Scorer, split: Split, past: Interactions, training: Interactions) -> list[str]:
    sampled = [
        evaluate(model, Task("sampled", past, split.test, sampled=SAMPLE, ks=(10,), seed=seed)) for seed in SAMPLE_SEEDS
    ]
    full = evaluate(model, Task("full", past, split.test, ks=(10,), training=training))
    cohorts = [f"platform:{platform}" for platform in past.platforms]
    told = {row.cohort for row in full.rows}
    return [
        *(
            _pair([report.value("hr@10", c) for report in sampled], [r.value("ndcg@10", c) for r in sampled])
            for c in cohorts
        ),
        *(
            _pair([full.value("hr@10", cohort)], [full.value("ndcg@10", cohort)]) if cohort in told else ""
            for cohort in (*cohorts, "warm items", "cold items")
        ),
    ]


def _alone(family: Family, settings: Settings, split: Split, past: Interactions, platform: int) -> tuple[str, str]:
    train, history, targets = (part.where(part.platform == platform) for part in (split.train, past, split.test))
    validation = Task("validation", train, targets)
    model = family.fitted(Material(train, validation), settings).model
    sampled = evaluate(model, Task("sampled", history, targets, sampled=SAMPLE, ks=(10,)))
    full = evaluate(model, Task("full", history, targets, ks=(10,)))
    first, second = (_pair([report.value("hr@10")], [report.value("ndcg@10")]) for report in (sampled, full))
    return first, second


def _print_row(name: str, figures: Sequence[str], fit_s: float | None, settings: Settings) -> None:
    seconds = "" if fit_s is None else f"{fit_s:.1f}"
    print(f"| {name} | {' | '.join(figures)} | {seconds} | {_text(settings)} |", flush=True)


def _text(settings: Settings) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _pair(hit_rates: Sequence[float], ndcgs: Sequence[float]) -> str:
    return f"{statistics.mean(hit_rates):.3f}/{statistics.mean(ndcgs):.3f}"


def snapshot_of(mappings: Sequence[str], source: Path, var: Path) -> Snapshot:
    """Ingest an export and cut a snapshot; one that was cut before is read again."""
    snapshots = var / "snapshots"
    for folder in sorted(snapshots.glob("*/manifest.json")):
        return read_snapshot(folder.parent)
    var.mkdir(parents=True, exist_ok=True)
    with open_store(f"sqlite:///{var / 'graph.db'}") as store:
        parts = [read_mapping(MAPPINGS / f"{mapping}.yaml") for mapping in mappings]
        print(ingest(parts, store, Pseudonyms(b"benchmarks: no secret"), var, data=source), file=sys.stderr)
        return write_snapshot(store, snapshots)


def prepare(name: str, data: Path, var: Path) -> Snapshot:
    """The snapshot of a data set."""
    if name == "movielens-100k":
        return snapshot_of([name], fetch(var / "sources" / name, lambda text: print(text, file=sys.stderr)), var / name)
    folder, mappings, original = AMAZON[name]
    reader = "ingest.sources.kgat" if name == "amazon-book" else f"ingest/mappings/{mappings[0]}.yaml"
    if not (data / folder).is_dir():
        raise IsthmusError(
            f"{data / folder} is not there: it holds {original}; bring them into the form that {reader} reads and name "
            "their parent with --data, or give --only movielens-100k"
        )
    source = kgat.write_events(data / folder, var / name / "export") if name == "amazon-book" else data / folder
    return snapshot_of(mappings, source, var / name)


def prepare_with_texts(name: str, data: Path, var: Path) -> Snapshot:
    """The same, with the vectors of its texts beside it."""
    snapshot = prepare(name, data, var)
    with open_store(f"sqlite:///{var / name / 'graph.db'}") as store:
        embed(store, var / name, DEFAULT_MODEL)
    return snapshot


_CRAWL: Final = "the Amazon review crawl of 2014 (McAuley et al.)"
_FIVE_CORE: Final = f"the 5-core parts of {_CRAWL} as S3-Rec (CIKM 2020) and TIGER (NeurIPS 2023) use them"
AMAZON: Final[Mapping[str, tuple[str, Sequence[str], str]]] = {
    "food-kitchen": (
        "food-kitchen",
        ["food", "kitchen"],
        f"the Grocery and Kitchen parts of {_CRAWL} as ABXI (WWW 2025) prepared them",
    ),
    **{name: ("beauty-sports-toys", [name], _FIVE_CORE) for name in ("beauty", "sports", "toys")},
    "amazon-book": (
        "amazon-book",
        ["amazon-book"],
        "train.txt and test.txt of Amazon-Book as KGAT (KDD 2019) has them",
    ),
}
"""Name -> folder below --data, mappings, and what that folder holds; none of it may be redistributed."""
BENCHES: Final[Mapping[str, Callable[[Snapshot], None]]] = {
    "movielens-100k": movielens,
    **dict.fromkeys(AMAZON, next_event),
    "amazon-book": fixed_parts,
}


def parser_of(description: str | None, names: Iterable[str]) -> argparse.ArgumentParser:
    """What a benchmark over some of these data sets is asked with."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(names), help="one data set rather than all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the Amazon data sets")
    parser.add_argument("--var", type=Path, default=Path("var/benchmarks"), help="where stores and runs are kept")
    return parser


def main() -> None:
    """Print the tables."""
    arguments = parser_of(__doc__, BENCHES).parse_args()
    try:
        for name in [arguments.only] if arguments.only else BENCHES:
            started = time.perf_counter()
            BENCHES[name](prepare(name, arguments.data, arguments.var))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"\n{time.perf_counter() - started:.0f} s in all, {peak:.1f} GiB at most")
    except IsthmusError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
