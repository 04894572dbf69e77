"""How well the flagship ranks, beside its two halves, trained on each platform alone, and refitted.

    python -m benchmarks.flagship [--only movielens-100k] [--seeds 3] [--alone 1] [--data ../shared/data]
        [--var var/benchmarks]

The protocols are those of benchmarks.quality, which prints the baselines. Epoch and blend are chosen on the
validation part; the test part is ranked once, at the end. "dense" and "sparse" are the two parts of the score by
themselves, "alone" is trained on one platform and told of that platform only, "refitted" makes graph and sparse part
again from training and validation, without training again. Of several seeds the Amazon tables have a line each, then
the mean.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.quality import AMAZON, KGAT_PARTS, SAMPLE, SPLIT_SEEDS, parser_of, prepare_with_texts
from graph.errors import IsthmusError
from graph.interactions import Interactions, join
from graph.snapshot import Snapshot
from graph.split import Split, random_per_user
from models.flagship import Flagship
from models.leads_to import LeadsTo
from models.scorer import Scorer
from models.text import DEFAULT_MODEL, vectors_name
from train.compare import held_out_task
from train.evaluate import Report, Task, evaluate
from train.loop import LoopConfig
from train.regimes import suited
from train.release import Trained, assemble, knowing
from train.run import WorkerConfig
from train.runs import Run


def trained(snapshot: Snapshot, var: Path, config: LoopConfig) -> tuple[Trained, Run, float]:
    """The flagship of a run, the run, and the seconds that training took."""
    run = Run(snapshot.id, vectors_name(DEFAULT_MODEL), config, var)
    result = run.fit(WorkerConfig(workers=0))
    return assemble(run.inputs, config, result.checkpoint), run, result.seconds


def parts(model: Trained) -> Sequence[tuple[str, Scorer]]:
    """The flagship and the two halves of its score, without what both together give to cold items."""
    flagship = model.flagship
    return (
        ("isthmus", flagship),
        ("isthmus, dense", replace(flagship, leads_to=LeadsTo.empty(len(flagship.bias)))),
        ("isthmus, sparse", replace(flagship.leads_to, lift=None)),
    )


def movielens(snapshot: Snapshot, var: Path, seeds: int, _: int) -> None:
    """8:1:1 at random of each person's ratings of 3 and more; training and validation masked; told of training only.

    "as served" is what somebody who asks the service gets: refitted with the validation part and told of it, and what
    the person rated below 3 is not offered again.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    seconds = []
    for seed in SPLIT_SEEDS[:seeds]:
        model, run, took = trained(snapshot, var, replace(suited(snapshot, "random_per_user"), seed=seed))
        split = model.prepared.split
        task = Task("test", split.train, split.test, withheld=split.validation, ks=(20,), seed=seed)
        served = _as_served(snapshot, split, seed)
        again = refitted(run, model, served.histories)
        asked = [(name, scorer, task) for name, scorer in parts(model)]
        asked += [("isthmus, as served", again, served), ("its sparse part, as served", again.leads_to, served)]
        for name, scorer, question in asked:
            report = evaluate(scorer, question)
            found.setdefault(name, []).append((report.value("recall@20"), report.value("ndcg@20")))
        seconds.append(took)
    _print_at_20(f"MovieLens-100k, splits {SPLIT_SEEDS[:seeds]}", found, max(seconds))


def _as_served(snapshot: Snapshot, split: Split, seed: int) -> Task:
    """The same test events, but told of validation too, and without the nine tenths of disliked items known by then."""
    past, whole = join(split.train, split.validation), snapshot.interactions()
    disliked = random_per_user(whole.where(whole.weight < 0), seed=seed)
    known = replace(join(disliked.train, disliked.validation), users=past.users, items=past.items)
    return Task("served", past, split.test, withheld=known, ks=(20,), seed=seed)


def fixed_parts(snapshot: Snapshot, var: Path, seeds: int, _: int) -> None:
    """Training and test as KGAT (KDD 2019) published them; told of training and validation, which are masked.

    Five epochs and not the 24 that suit such data: an epoch takes minutes, and by ids alone the network adds nothing
    to the sparse part there (docs/decisions/0019).
    """
    found: dict[str, list[tuple[float, float]]] = {}
    seconds = []
    for seed in range(seeds):
        config = replace(
            suited(snapshot, "temporal"),
            epochs=5,
            validation_from=KGAT_PARTS.validation_from,
            test_from=KGAT_PARTS.test_from,
            seed=seed,
        )
        model, run, took = trained(snapshot, var, config)
        split = model.prepared.split
        task = replace(held_out_task(split, ks=(20,)), seed=seed)
        again = refitted(run, model, task.histories)
        for name, scorer in (*parts(model), ("isthmus, refitted", again)):
            report = evaluate(scorer, task)
            found.setdefault(name, []).append((report.value("recall@20"), report.value("ndcg@20")))
        seconds.append(took)
    _print_at_20(f"amazon-book, {seeds} seed(s)", found, max(seconds))


def _print_at_20(title: str, found: Mapping[str, Sequence[tuple[float, float]]], seconds: float) -> None:
    print(f"\n## {title}\n\n| model | Recall@20 | NDCG@20 | train s |\n|---|---|---|---|")
    for name, figures in found.items():
        recall, ndcg = zip(*figures, strict=True)
        print(f"| {name} | {_spread(recall)} | {_spread(ndcg)} | {seconds:.0f} |", flush=True)


def next_event(snapshot: Snapshot, var: Path, seeds: int, alone: int) -> None:
    """Leave-one-out over all platforms; the validation event is part of the history at test (ABXI, WWW 2025).

    Args:
        alone: seeds, of all, that train on each platform by itself too.
    """
    platforms = snapshot.interactions().platforms
    sides = [f"{platform} {how}" for how in ("sampled", "full") for platform in platforms]
    print(
        f"\n## {'-'.join(platforms)}, HR@10/NDCG@10, {seeds} seed(s)\n"
        f"\n| model | {' | '.join(sides)} | warm full | cold full | train s |"
    )
    print(f"|{'---|' * (len(sides) + 4)}")
    rows: dict[str, list[list[tuple[float, float]]]] = {}
    seconds: dict[str, list[float]] = {}

    def show(name: str, figures: Sequence[list[tuple[float, float]]], took: float) -> None:
        cells = [_pair(values) for values in zip(*figures, strict=True)]
        cells += [""] * (len(sides) + 2 - len(cells))
        print(f"| {name} | {' | '.join(cells)} | {f'{took:.0f}' if took else ''} |", flush=True)

    def add(name: str, seed: int, figures: list[tuple[float, float]], took: float = 0.0) -> None:
        rows.setdefault(name, []).append(figures)
        seconds.setdefault(name, []).append(took)
        show(name if seeds == 1 else f"{name}, seed {seed}", [figures], took)

    for seed in range(seeds):
        model, run, took = trained(snapshot, var, replace(suited(snapshot, "leave_one_out"), seed=seed))
        split = model.prepared.split
        past = join(split.train, split.validation)
        for name, scorer in parts(model):
            add(name, seed, _joint(scorer, past, split.test, split.train, seed), took if name == "isthmus" else 0.0)
        again = refitted(run, model, past)
        add("isthmus, refitted", seed, _joint(again, past, split.test, split.train, seed))
        if len(platforms) > 1 and seed < alone:
            add("isthmus, alone", seed, *_alone(snapshot, var, seed, past, split.test))
    for name, figures in rows.items():
        if len(figures) > 1:
            show(f"{name}, mean of {len(figures)}", figures, max(seconds[name]))


def _alone(
    snapshot: Snapshot, var: Path, seed: int, past: Interactions, test: Interactions
) -> tuple[list[tuple[float, float]], float]:
    """Each platform by itself: figures against sampled items, then in full, and the longest training's seconds."""
    sampled: list[tuple[float, float]] = []
    full: list[tuple[float, float]] = []
    seconds = []
    for number, platform in enumerate(past.platforms):
        config = replace(suited(snapshot, "leave_one_out"), seed=seed, only_platform=platform)
        model, _, took = trained(snapshot, var, config)
        told, targets = (part.where(part.platform == number) for part in (past, test))
        against = Task("sampled", told, targets, sampled=SAMPLE, ks=(10,), seed=seed)
        for found, task in ((sampled, against), (full, Task("full", told, targets, ks=(10,)))):
            report = evaluate(model.flagship, task)
            found.append((report.value("hr@10"), report.value("ndcg@10")))
        seconds.append(took)
    return sampled + full, max(seconds)


def refitted(run: Run, model: Trained, events: Interactions) -> Flagship:
    """The trained weights over the graph and with the sparse part of more events, as they are released."""
    result = run.result()
    if result is None:
        raise IsthmusError(f"{run.folder} holds no result: run this benchmark again")
    return knowing(model, run.inputs, run.config, result.checkpoint, events)[0]


def _joint(
    scorer: Scorer, past: Interactions, test: Interactions, training: Interactions, seed: int
) -> list[tuple[float, float]]:
    sampled = evaluate(scorer, Task("sampled", past, test, sampled=SAMPLE, ks=(10,), seed=seed))
    full = evaluate(scorer, Task("full", past, test, ks=(10,), training=training))
    cohorts = [f"platform:{platform}" for platform in past.platforms]
    asked: list[tuple[Report, str]] = [(report, cohort) for report in (sampled, full) for cohort in cohorts]
    asked += [(full, "warm items"), (full, "cold items")]
    told = {row.cohort for row in full.rows}
    nothing = float("nan")
    return [
        (report.value("hr@10", cohort), report.value("ndcg@10", cohort)) if cohort in told else (nothing, nothing)
        for report, cohort in asked
    ]


def _pair(values: Sequence[tuple[float, float]]) -> str:
    return "/".join(f"{statistics.mean(column):.3f}" for column in zip(*values, strict=True))


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


BENCHES: Final[Mapping[str, Callable[[Snapshot, Path, int, int], None]]] = {
    "movielens-100k": movielens,
    **dict.fromkeys(AMAZON, next_event),
    "amazon-book": fixed_parts,
}


def main() -> None:
    """Print the tables."""
    parser = parser_of(__doc__, BENCHES)
    parser.add_argument("--seeds", type=int, choices=(1, 2, 3), default=1, help="runs behind every figure")
    parser.add_argument("--alone", type=int, help="of these, the first so many train on each platform alone too; all")
    arguments = parser.parse_args()
    alone = arguments.seeds if arguments.alone is None else arguments.alone
    try:
        for name in [arguments.only] if arguments.only else BENCHES:
            started = time.perf_counter()
            snapshot = prepare_with_texts(name, arguments.data, arguments.var)
            BENCHES[name](snapshot, arguments.var / name, arguments.seeds, alone)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"\n{time.perf_counter() - started:.0f} s in all, {peak:.1f} GiB at most")
    except IsthmusError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
