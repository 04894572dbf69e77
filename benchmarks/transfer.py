"""What the model knows of people, platforms and items that training has not seen.

    python -m benchmarks.transfer [--only food-kitchen] [--ask newcomers platforms items] [--seeds 1]
        [--epochs 0] [--data ../shared/data] [--var var/benchmarks]

Newcomers: people who come to a platform where they never did anything, ranked there by what they did elsewhere, beside
what is popular there, which is all that the platform by itself can show them.

Platforms: one that joins after training, its items and people served at once by the weights as they are. The model is
trained on a snapshot in which the platform never was: no item, text, account or event of it. "Trained with it" is the
usual training on everything, asked the same questions about the same histories.

Items: a tenth is hidden from training, ranked among themselves, beside their texts alone. Their events on validation
choose the epoch, the blend and the settings of the linear map, as clicks on new items do in use; the others are asked.
"""

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.flagship import parts, trained
from benchmarks.quality import AMAZON, SPLIT_SEEDS, parser_of, prepare, snapshot_of
from graph.errors import IsthmusError
from graph.interactions import Histories, Interactions, join
from graph.snapshot import Snapshot, without_platform
from graph.split import Split
from graph.store import open_store
from graph.vectors import read_vectors
from ingest.embed import embed
from ingest.sources.movielens import ISLANDS, fetch, write_islands
from models.baselines.matrix import positive_matrix, query_matrix
from models.baselines.people import row_means
from models.baselines.popularity import Popularity
from models.flagship import Flagship
from models.leads_to import LeadsTo
from models.retrieval import top_k
from models.scorer import Scorer
from models.text import DEFAULT_MODEL, vectors_name
from train.adapt import Start, take_in
from train.blend import choose_blend
from train.compare import next_task
from train.data import ItemSide, SplitName, item_side, new_encoder, split_by
from train.evaluate import Report, Task, evaluate
from train.families import FAMILIES, Family, Material
from train.leaderboard import bootstrap
from train.loop import BEST, LoopConfig, validation_task
from train.regimes import suited
from train.release import Trained
from train.run import WorkerConfig
from train.runs import Run
from train.tune import tune

DECAYS: Final = (1.0, 0.9, 0.8, 0.6)
"""What an event may count less for each later one where texts are averaged."""
TRAINED_WITH, POPULAR, MAP = "isthmus, trained with it", "popularity", "text map"
NEW_ONES: Final = ("platform-popularity", "item-knn", "ease", "isthmus")
PEOPLE: Final = 1000
"""Whose validation events choose the settings of the anchors of newcomers: each of 30 settings ranks them."""
MANY: Final = 5000
RIDGE: Final = (300.0,)
Found = dict[tuple[str, str], list[Report]]
"""(what was asked, model) -> a report for each seed."""


@dataclass(frozen=True)
class Bench:
    """A data set, and how it is trained on."""

    name: str
    snapshot: Snapshot
    var: Path
    config: LoopConfig

    def run(self, config: LoopConfig) -> Run:
        return Run(self.snapshot.id, vectors_name(DEFAULT_MODEL), config, self.var)


# --- newcomers -------------------------------------------------------------------------------------------------------


def newcomers(bench: Bench, seeds: int) -> None:
    """The first thing that people do on a platform where they are new, among all items of it."""
    found: Found = {}
    for seed in range(seeds):
        run = bench.run(replace(bench.config, split="newcomers", seed=bench.config.seed + seed))
        split = split_by("newcomers", bench.snapshot.interactions(), run.config.seed)
        few = validation_task(split, PEOPLE, run.config.seed)
        material = Material(split.train, few, seed=run.config.seed, run=run)
        for family in NEW_ONES:
            scorer = tune(quick(FAMILIES[family], split.train), material).fitted.model
            for platform, task in new_there(split):
                name = POPULAR if family == "platform-popularity" else family
                found.setdefault((platform, name), []).append(evaluate(scorer, task))
                if family == "isthmus":
                    forgotten = replace(task, histories=forgotten_of(task))
                    found.setdefault((platform, "isthmus, told nothing"), []).append(evaluate(scorer, forgotten))
    print(f"\n## {bench.name}: people who are new on a platform, {seeds} seed(s)\n")
    print_table(found, "new on", POPULAR)


def quick(family: Family, training: Interactions) -> Family:
    """The family with one ridge where a matrix of all items takes minutes to invert."""
    return replace(family, grid={"ridge": RIDGE}) if "ridge" in family.grid and len(training.items) > MANY else family


def new_there(split: Split) -> Iterator[tuple[str, Task]]:
    """For each platform: what those did first there who had never done anything there."""
    task = next_task(split)
    number = len(task.targets.platforms)
    known = np.isin(
        task.targets.user * number + task.targets.platform, task.histories.user * number + task.histories.platform
    )
    for platform, name in enumerate(task.targets.platforms):
        asked = task.targets.where(~known & (task.targets.platform == platform))
        if len(asked):
            yield name, replace(task, name=f"new on {name}", targets=asked)


def forgotten_of(task: Task) -> Interactions:
    """The histories without those of the people who are asked."""
    return task.histories.where(~np.isin(task.histories.user, task.targets.user))


# --- platforms -------------------------------------------------------------------------------------------------------


def platforms(bench: Bench, seeds: int) -> None:
    """The last event of everybody for whom it was on the platform that joins."""
    found: Found = {}
    for seed in range(seeds):
        config = replace(bench.config, seed=bench.config.seed + seed)
        model, _, _ = trained(bench.snapshot, bench.var, config)
        split = model.prepared.split
        past = join(split.train, split.validation)
        for number, platform in enumerate(past.platforms):
            asked = split.test.where(split.test.platform == number)
            task = Task(f"on {platform}", past, asked, ks=(10,), training=split.train)
            dense, sparse = (scorer for _, scorer in parts(model)[1:])
            scorers: list[tuple[str, Scorer]] = [
                (TRAINED_WITH, model.flagship),
                (f"{TRAINED_WITH}, dense", dense),
                (f"{TRAINED_WITH}, sparse", sparse),
            ]
            scorers += joined_late(bench, platform, config, model.prepared.split)
            scorers += [
                ("mean text", MeanText.fit(split.train, raw_text(bench, split.train))),
                (POPULAR, Popularity.fit(split.train)),
            ]
            for name, scorer in scorers:
                found.setdefault((platform, name), []).append(evaluate(scorer, task))
    print(f"\n## {bench.name}: a platform that joins after training, {seeds} seed(s)\n")
    print_table(found, "joins", TRAINED_WITH)


def joined_late(bench: Bench, platform: str, config: LoopConfig, split: Split) -> Iterator[tuple[str, Flagship]]:
    """The flagship of a training that never knew a platform, serving it at once in four ways.

    Args:
        split: what is known to have happened when the platform has joined. Graph and sparse part are made of its
            training part; the last way also weighs the two parts by what people wanted of the platform on validation.
    """
    var, events = bench.var / f"without-{platform}", split.train
    shutil.copytree(bench.var / "vectors", var / "vectors", dirs_exist_ok=True)
    earlier = without_platform(bench.snapshot, platform, var / "snapshots")
    model, run, _ = trained(earlier, var, config)
    result = run.fit(WorkerConfig(workers=0))
    start = Start(run.folder, earlier.path, os.path.relpath(result.checkpoint / BEST, run.folder))
    number = events.platforms.index(platform)
    as_it_was, _ = at_once(bench, events.where(events.platform != number), config, model, start)
    rebuilt, items = at_once(bench, events, config, model, start)
    text = items.text.numpy()
    leads_to = LeadsTo.fit(events, model.blend.linear, text).with_query(model.blend.decay, model.blend.scale)
    yield "at once: text, graph as it was", as_it_was
    yield "at once: graph rebuilt", rebuilt
    yield "at once: graph rebuilt, sparse part refitted", replace(rebuilt, leads_to=leads_to)
    there = replace(split, validation=split.validation.where(split.validation.platform == number))
    blend, leads_to = choose_blend(rebuilt, there, text, config.seed)
    yield "at once: the same, blended anew", blend.applied(rebuilt, leads_to, items.warm.numpy())


def at_once(
    bench: Bench, events: Interactions, config: LoopConfig, earlier: Trained, start: Start
) -> tuple[Flagship, ItemSide]:
    """The dense part of an earlier training over all items and the graph that these events make."""
    items = item_side(bench.snapshot, events, bench.run(config).inputs.vectors)
    warm = np.zeros(len(events.items), np.float32)
    warm[events.items.rows(earlier.prepared.split.train.items.keys)] = earlier.prepared.items.warm
    encoder = new_encoder(replace(items, warm=items.warm.new_tensor(warm)), events, config.encoder)
    take_in(encoder, events, start)
    return Flagship.from_encoder(encoder, items.graph, LeadsTo.empty(len(events.items))), items


# --- items -----------------------------------------------------------------------------------------------------------


def cold_items(bench: Bench, seeds: int) -> None:
    """Items without an event in training: among themselves, and beside the others."""
    found: Found = {}
    warm: Found = {}
    shown: dict[str, list[float]] = {}
    for seed in range(seeds):
        config = replace(bench.config, seed=bench.config.seed + seed)
        hiding: SplitName = "leave_one_out_cold_items"
        if config.split == "random_per_user":
            hiding = "random_per_user_cold_items"
        knows_all, _, _ = trained(bench.snapshot, bench.var, config)
        model, _, _ = trained(bench.snapshot, bench.var, replace(config, split=hiding))
        interactions = bench.snapshot.interactions()
        split, whole = (split_by(name, interactions, config.seed) for name in (hiding, config.split))
        hidden = hidden_items(whole, split)
        among = among_themselves(whole, split, hidden, config)
        choice = Task("choice", split.train, on(split.validation, hidden), ks=(20,), candidates=hidden)
        text = raw_text(bench, split.train)
        material = Material(split.train, choice, "recall@20", text, config.seed)
        scorers = [
            ("chance", Chance(len(hidden))),
            *((name, tune(TEXTS[name], material).fitted.model) for name in TEXTS),
        ]
        for name, scorer in [*scorers, *parts(model)]:
            found.setdefault(("hidden items", name), []).append(evaluate(scorer, among))
        for name, part, one in (("isthmus", whole, knows_all), ("isthmus, items hidden", split, model)):
            task = asked_at_test(part, config)
            task = replace(task, targets=on(task.targets, ~hidden))
            warm.setdefault(("other items", name), []).append(evaluate(one.flagship, task))
        cold = np.bincount(split.train.item, minlength=len(hidden)) == 0
        task = asked_at_test(split, config)
        shown.setdefault("in what people wanted", []).append(float(cold[task.targets.item].mean()))
        for how, asked in (("a list for each person", once(task)), ("for each wanted item", task)):
            shown.setdefault(f"in lists of ten, {how}", []).append(share_shown(model.flagship, asked, cold))
    print(f"\n## {bench.name}: items that training has not seen, {seeds} seed(s)\n")
    print_table(found, "asked for", MAP, ("recall@20", "ndcg@20"))
    print()
    print_table(warm, "asked for", "isthmus", ("recall@20", "ndcg@10"))
    print("\n| share of cold items | |\n|---|---|")
    for name, values in shown.items():
        print(f"| {name} | {np.mean(values):.3f} |", flush=True)


def hidden_items(whole: Split, split: Split) -> NDArray[np.bool_]:
    """[N] true where training on the whole knows an item and training on the split does not."""
    counts, left = (np.bincount(part.train.item, minlength=len(part.train.items)) for part in (whole, split))
    return np.asarray((counts > 0) & (left == 0))


def on(events: Interactions, items: NDArray[np.bool_]) -> Interactions:
    """The events with some items."""
    return events.where(items[events.item])


def asked_at_test(split: Split, config: LoopConfig) -> Task:
    """The test part: of a random split beside the validation part, else after it."""
    if config.split == "random_per_user":
        return Task("test", split.train, split.test, withheld=split.validation, ks=(10, 20), training=split.train)
    return Task("test", join(split.train, split.validation), split.test, ks=(10, 20), training=split.train)


def among_themselves(whole: Split, split: Split, hidden: NDArray[np.bool_], config: LoopConfig) -> Task:
    """Which of the hidden items did people want: of a random split in training too, for there is no when in it."""
    task = asked_at_test(split, config)
    targets = task.targets
    if config.split == "random_per_user":
        targets = join(targets, whole.train)
    return replace(task, name="hidden items", targets=on(targets, hidden), candidates=hidden)


def once(task: Task) -> Task:
    """The task with one target of each person on each platform, so that people count alike."""
    targets = task.targets
    _, first = np.unique(targets.user * len(targets.platforms) + targets.platform, return_index=True)
    return replace(task, targets=targets.where(np.isin(np.arange(len(targets)), first)))


def share_shown(scorer: Scorer, task: Task, cold: NDArray[np.bool_], k: int = 10, batch: int = 256) -> float:
    """The share of cold items in the k best items of the platform of each target; the targets count alike."""
    places, found = 0, 0
    for start in range(0, len(task.targets), batch):
        users, item = (column[start : start + batch] for column in (task.targets.user, task.targets.item))
        histories = task.histories.histories(users)
        scores = scorer.score(histories)
        allowed = task.targets.item_platform == task.targets.item_platform[item][:, None]
        seen = histories if task.withheld is None else join(task.histories, task.withheld).histories(users)
        allowed[np.repeat(np.arange(len(users)), np.diff(seen.offsets)), seen.item] = False
        rows, _ = top_k(scores, k, allowed)
        places += int(np.count_nonzero(rows >= 0))
        found += int(np.count_nonzero(cold[rows] & (rows >= 0)))
    return found / places


def raw_text(bench: Bench, events: Interactions) -> NDArray[np.float32]:
    """[N, T] of length 1, as the language model gave them."""
    return read_vectors(bench.run(bench.config).inputs.vectors / "Item.parquet", events.items.keys)[0]


@dataclass(frozen=True, eq=False)
class Chance:
    """Every item is as good as any other: ties are broken at random."""

    num_items: int
    name: str = "chance"

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return np.zeros((len(histories), self.num_items), np.float32)


@dataclass(frozen=True, eq=False)
class MeanText:
    """score(u, i) = m_u W t_i, m_u the mean of the texts of what u wanted; with W = I the order of their cosines."""

    text: NDArray[np.float32]
    """[N, T]"""
    wanted: NDArray[np.float32]
    """[N, T] t_i W'."""
    decay: float = 1.0
    """Factor an event loses in the mean for each later one."""
    name: str = "mean text"

    @classmethod
    def fit(cls, training: Interactions, text: NDArray[np.float32]) -> "MeanText":
        """Nothing is learned."""
        return cls(text, text)

    @classmethod
    def mapped(
        cls, training: Interactions, text: NDArray[np.float32], *, people_ridge: float, item_ridge: float
    ) -> "MeanText":
        """W by two-step ridge regression, first over people, then over items (Pahikkala et al., ECML PKDD 2014).

            W = (M'M + a I)^-1 C (T'T + b I)^-1,    C = sum over wanted (u, i) of m_u' t_i

        It is the closed form of what AlphaRec (Sheng et al., ICLR 2025) begins with: a linear map from a person's mean
        text to the texts of items, without the graph. In C an item is left out of the mean of its own person, or W
        would learn that people want what they had.

        Args:
            people_ridge, item_ridge: a and b, each as a share of the mean of the diagonal it is added to.
        """
        people = positive_matrix(training)
        people = people[np.diff(people.indptr) > 1]
        known = np.diff(people.tocsc().indptr) > 0
        centred = np.where(text.any(axis=1, keepdims=True), text - text[known].mean(axis=0), 0).astype(np.float32)
        sums, others = people @ centred, 1 / (np.diff(people.indptr) - 1)
        among_own = centred * (people.T @ others)[:, None]
        pairs = sums.T @ (sums * others[:, None]) - centred.T @ among_own
        left = _ridged(row_means(people, centred), people_ridge)
        learned = np.linalg.solve(left, pairs) @ np.linalg.inv(_ridged(centred[known], item_ridge))
        return cls(centred, np.asarray(centred @ learned.T, dtype=np.float32), name=MAP)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return row_means(query_matrix(histories, len(self.text), self.decay), self.text) @ self.wanted.T


def _ridged(vectors: NDArray[np.float32], share: float) -> NDArray[np.float64]:
    gram = vectors.T.astype(np.float64) @ vectors
    return np.asarray(gram + share * np.trace(gram) / len(gram) * np.eye(len(gram)))


RIDGES: Final = (0.01, 0.1, 1.0, 10.0)
TEXTS: Final[Mapping[str, Family]] = {
    "mean text": Family("mean text", MeanText.fit, decays=DECAYS, takes=("text",)),
    MAP: Family(MAP, MeanText.mapped, {"people_ridge": RIDGES, "item_ridge": RIDGES}, DECAYS, ("text",)),
}


# --- all of them -----------------------------------------------------------------------------------------------------


def print_table(found: Found, asked: str, reference: str, metrics: Sequence[str] = ("hr@10", "ndcg@10")) -> None:
    """A line for each question and model, each figure also as a multiple of the reference's."""
    columns = [column for metric in metrics for column in (metric.upper(), f"of {reference}")]
    print(f"| {asked} | model | queries | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 3)}")
    for (question, name), reports in sorted(found.items(), key=lambda entry: entry[0][0]):
        cells = [str(sum(len(report.values.user) for report in reports))]
        for metric in metrics:
            mean, ratio, low, high = beside(reports, found[question, reference], metric)
            cells += [f"{mean:.3f}", f"{ratio:.2f} [{low:.2f}, {high:.2f}]"]
        print(f"| {question} | {name} | {' | '.join(cells)} |", flush=True)


def beside(reports: Sequence[Report], others: Sequence[Report], metric: str) -> tuple[float, float, float, float]:
    """The mean over the queries of all seeds, its ratio to another model's, and where 95 % of resampled ratios lie.

    People are drawn with all their queries, the same for both models, see `train.leaderboard.bootstrap`.
    """
    values = np.stack(
        [np.concatenate([report.values.metrics[metric] for report in side]) for side in (reports, others)], axis=1
    ).astype(np.float64)
    people = np.concatenate([report.values.user for report in reports])
    mine, reference = values.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = np.divide(*bootstrap(values, people).T)
        low, high = np.nanpercentile(resampled, (2.5, 97.5))
        return float(mine), float(mine / reference), float(low), float(high)


def prepare_islands(var: Path) -> Snapshot:
    """MovieLens-100k parted by release year into two services, as the demo has it."""
    films = fetch(var / "sources" / "movielens-100k", lambda text: print(text, file=sys.stderr))
    write_islands(films, var / "islands" / "source")
    return snapshot_of(ISLANDS, var / "islands" / "source", var / "islands")


SPLITS: Final[Mapping[str, tuple[SplitName, int]]] = {"movielens-100k": ("random_per_user", SPLIT_SEEDS[0])}
"""How events are held out, and the seed, where it is not leave_one_out and 0."""
ASKED: Final[Mapping[str, Callable[[Bench, int], None]]] = {
    "newcomers": newcomers,
    "platforms": platforms,
    "items": cold_items,
}
BENCHES: Final[Mapping[str, Sequence[str]]] = {
    "islands": ("newcomers", "platforms"),
    "movielens-100k": ("items",),
    "food-kitchen": tuple(ASKED),
}
"""What is asked of each data set unless it is said."""


def main() -> None:
    """Print the tables."""
    parser = parser_of(__doc__, (*BENCHES, *AMAZON))
    parser.add_argument("--ask", choices=ASKED, nargs="+", help="some of the questions")
    parser.add_argument("--seeds", type=int, choices=(1, 2, 3), default=1, help="runs behind every figure")
    parser.add_argument("--epochs", type=int, help="fewer than it takes, to see that all of it works")
    arguments = parser.parse_args()
    try:
        for name in [arguments.only] if arguments.only else BENCHES:
            started = time.perf_counter()
            var = arguments.var / name
            prepared = (
                prepare_islands(arguments.var) if name == "islands" else prepare(name, arguments.data, arguments.var)
            )
            with open_store(f"sqlite:///{var / 'graph.db'}") as store:
                embed(store, var, DEFAULT_MODEL)
            split, seed = SPLITS.get(name, ("leave_one_out", 0))
            config = replace(suited(prepared, split), seed=seed)
            if arguments.epochs:
                config = replace(config, epochs=arguments.epochs)
            for question in arguments.ask or BENCHES.get(name, ("items",)):
                ASKED[question](Bench(name, prepared, var, config), arguments.seeds)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"\n{time.perf_counter() - started:.0f} s in all, {peak:.1f} GiB at most", flush=True)
    except IsthmusError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
