"""The command line: platform exports in, one graph, one model, answers with reasons over HTTP.

Verbs are imported inside the commands, so that `isthmus --help` answers at once.
"""

import errno
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from collections.abc import Mapping as Map
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from graph.errors import IsthmusError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from graph.keys import AccountKey, Pseudonyms, UserKey
    from graph.records import Link
    from graph.snapshot import Snapshot
    from graph.store import Store
    from ingest.mapping import Mapping
    from ingest.report import IngestReport
    from settings import Settings
    from train.loop import LoopConfig
    from train.run import TrainingResult
    from train.runs import Run

START: Final = "To begin"
ROAD: Final = "The road, in order"
CARE: Final = "Looking after it"

MENDABLE: Final[Map[int, str]] = {
    errno.ENOSPC: "no space is left on the disk; free some and run the same command again, nothing is lost",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again, nothing is lost",
    errno.EACCES: "permission denied; give this user the right to it, or name another folder with --var",
    errno.EROFS: "this file system is read-only; name another folder with --var",
    errno.EADDRINUSE: "the address is in use; stop what listens there, or name another port with --port",
}
"""What the operating system refuses and a person can mend."""

Config = Annotated[
    Path | None, typer.Option(help="The configuration file.", show_default="isthmus.yaml where it exists")
]
Var = Annotated[Path | None, typer.Option(help="The folder of all that is kept.", show_default="var")]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The graph, as sqlite:///var/graph.db or neo4j://user:password@host:7687/neo4j.",
        show_default="graph.db in var",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="The folder, or its URL, that the mappings' files are under.", show_default="the mapping's own"),
]
TextModelName = Annotated[
    str | None,
    typer.Option(
        help="The language model: a folder, a hub name, use-multilingual-3 or openai:MODEL@URL.",
        show_default="all-MiniLM-L6-v2, which needs no hub",
    ),
]
OtherVectors = Annotated[
    str | None,
    typer.Option(
        "--vectors", metavar="NAMES", help="Vectors that items have too, such as images,sound.", show_default="none"
    ),
]
RayAddress = Annotated[
    str | None, typer.Option(help="The Ray cluster to join.", show_default="one of this command's own")
]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over all events, at most.", show_default="16; a quarter to continue")
]
Continued = Annotated[
    bool, typer.Option("--continue", help="Begin with what the newest run on an earlier snapshot learned.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Ray workers that share the people; 0: none, train in this process.", show_default="1"),
]
Sampled = Annotated[
    int | None,
    typer.Option(help="Rank each target among so many items instead of all.", show_default="full ranking"),
]
Cohorts = Annotated[bool, typer.Option("--cohorts", help="Show every group of people and items.")]
Protocol = Literal["leave_one_out", "random_per_user", "newcomers", "temporal"]
Who = Annotated[
    str,
    typer.Argument(
        help="PLATFORM:ID of one of their accounts, as the platform knows it; or a key, user:… or account:…",
        show_default=False,
    ),
]
AccountName = Annotated[
    str, typer.Argument(help="An account: PLATFORM:ID as the platform knows it, or account:…", show_default=False)
]
Port = Annotated[int | None, typer.Option(help="The port to listen on.", show_default="8000")]


class UnknownPersonError(IsthmusError, LookupError):
    """Nobody is known by what was given."""


class ContradictionError(IsthmusError):
    """What is known speaks against what was said."""


class RetrainingError(IsthmusError):
    """Retraining has nothing to take the place of."""


class RotationError(IsthmusError):
    """The secret cannot be replaced now."""


class TracesError(IsthmusError):
    """Something is left of a person who was erased."""


app = typer.Typer(
    name="isthmus",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def about() -> None:
    """Join the islands of what people do into one graph, learn over it,
    and say what to show them and why.

    [bold]A first look[/]

    isthmus demo

    [bold]Your own data[/]

    isthmus ingest shop.yaml video.yaml
    isthmus embed
    isthmus train
    isthmus serve

    Settings come from isthmus.yaml, then from the environment
    (ISTHMUS_STORE, ISTHMUS_PORT, …), then from flags; later wins.
    """


@app.command(rich_help_panel=START)
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the first answers.")] = False,
    config: Config = None,
    var: Var = None,
    port: Port = None,
) -> None:
    """See the whole road on MovieLens-100k, in minutes.

    Real people and ratings; one real catalogue, parted by release year
    into an old-films and a new-films service. It is ingested, embedded,
    trained, compared with baselines, served on 127.0.0.1 and asked.

    What it makes stays in var/demo, and a second run reuses what has not
    changed. Ctrl-C stops it.
    """
    import demo as first_look

    first_look.run(_settings(config, var=var, port=port), once=once)


mapping = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(mapping, name="mapping", rich_help_panel=START)


@mapping.callback()
def about_mappings() -> None:
    """Describe an export, and see what its mapping would do.

    A mapping is a YAML file that says which files and columns of an export
    hold the items, events and people of a platform. docs/mapping.md explains
    every key, ingest/mappings has ready ones for public data sets.
    """


@mapping.command("init")
def draft_mapping(
    files: Annotated[
        list[str],
        typer.Argument(help="Files of one platform's export: paths, fsspec URLs or patterns.", show_default=False),
    ],
    platform: Annotated[
        str | None, typer.Option(help="The platform's name.", show_default="that of the first file's folder")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="PLATFORM.yaml")] = None,
) -> None:
    """Look at an export, and write a first mapping with comments.

    The first thousand rows of each file say what its format, delimiter,
    header and encoding are, and which columns hold ids, times, types of
    events, ratings and titles. What was guessed is said beside it: read it,
    mend it, then try it with isthmus mapping check.

    Example: isthmus mapping init exports/*.csv --platform shop
    """
    from ingest.draft import write_draft

    written = write_draft(files, platform, out)
    print(f"{written} is a first mapping. Read it, then: isthmus mapping check {written}")


@mapping.command("check")
def check_mapping(
    mappings: Annotated[list[Path], typer.Argument(help="A mapping file for each export.", show_default=False)],
    data: Data = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each file to look at.")] = 1000,
) -> None:
    """Say what a mapping would do to the first rows of its files.

    Counts what would be accepted, a duplicate or rejected, by rule; shows a
    few of the records that would be made; writes nothing. Exits with 1 where
    not one row of a file is taken.

    Example: isthmus mapping check shop.yaml --data exports
    """
    from ingest.check import check
    from ingest.mapping import read_mapping

    report = check([read_mapping(path) for path in mappings], data or mappings[0].parent, rows)
    print(report)
    if report.unfit:
        sys.exit(_refuse(f"no row of {', '.join(report.unfit)} was taken: see the rules above, and mend the mapping"))


@app.command(rich_help_panel=ROAD)
def ingest(
    mappings: Annotated[list[Path], typer.Argument(help="A mapping file for each export.", show_default=False)],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is added to the files, until Ctrl-C.")
    ] = False,
    data: Data = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
    ray_address: RayAddress = None,
) -> None:
    """Read platforms' exports into the graph.

    A mapping is a YAML file that says which files and columns hold the
    items, events and people of a platform; isthmus mapping init drafts one.

    Sending the same rows again changes nothing. Bad rows are left in
    var/quarantine with file, line and rule: isthmus quarantine shows them.
    What was found is written to var/reports, as a page and as JSON.

    Big exports (256 MB and more) are parsed by Ray where there are four
    cores or more, or on the cluster that --ray-address names.

    With --follow, lines that are added to text files, messages of Kafka
    topics and new files are read within seconds; a file that is cut short
    or replaced is read anew. Parquet, XML, packed files and URLs are read
    whole, when they are new or have changed. Ctrl-C or SIGTERM ends it; the
    next --follow goes on where this one was.

    [bold]Examples[/]

    isthmus ingest shop.yaml video.yaml --data exports
    isthmus ingest shop.yaml --follow
    """
    from rich.console import Console

    from graph.keys import Pseudonyms
    from graph.stats import store_stats
    from graph.store import open_store
    from ingest.load import ingest as load
    from ingest.mapping import read_mapping
    from ingest.page import write_report

    settings = _settings(config, store=store, var=var, ray_address=ray_address)
    console = Console(stderr=True)
    described = [read_mapping(path) for path in mappings]
    *former, secret = _secrets(settings)
    pseudonyms, directory = Pseudonyms(secret, former), data or mappings[0].parent
    with open_store(settings.store_url) as graph:
        if follow:
            report = _follow(described, graph, pseudonyms, settings.var, directory)
        else:
            report = load(
                described,
                graph,
                pseudonyms,
                settings.var,
                data=directory,
                console=console,
                ray_address=settings.ray_address,
            )
        print(report)
        with console.status("report"):
            page = write_report(report, store_stats(graph), settings.var / "reports")
        print(f"report    {page}")


@app.command(rich_help_panel=ROAD)
def embed(
    text_model: TextModelName = None,
    index: Annotated[
        bool, typer.Option("--index", help="Put them on Neo4j's nodes too, for semantic search in Cypher.")
    ] = False,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens that an openai: model may use in this run.", show_default="no limit"),
    ] = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
    ray_address: RayAddress = None,
) -> None:
    """Turn titles, texts and names into vectors.

    A frozen language model reads them, on all cores or GPUs that Ray has.
    Only what is new or has changed is read again; the vectors are kept in
    var/vectors, and with --index in Neo4j's vector indexes: Item_embedding
    for items (docs/cypher.md asks them).

    use-multilingual-3 (pip install 'isthmus\\[multilingual]') has Chinese,
    English and 14 more languages in one space.

    openai:MODEL asks OpenAI, and openai:MODEL@https://host/v1 any endpoint
    that is compatible: titles and texts are sent there. The key is in
    ISTHMUS_TEXT_API_KEY or OPENAI_API_KEY. What was embedded is kept when
    the endpoint or the budget ends.

    [bold]Examples[/]

    isthmus embed --text-model intfloat/multilingual-e5-small
    isthmus embed --text-model openai:text-embedding-3-small --budget 1000000
    isthmus embed --index --store neo4j://…
    """
    from rich.console import Console

    from graph.store import open_store
    from ingest.embed import embed as read_texts
    from ingest.embed import index as index_vectors
    from models.text import DEFAULT_MODEL

    settings = _settings(config, store=store, var=var, text_model=text_model, ray_address=ray_address)
    if index and settings.store_url.startswith("sqlite:"):
        raise StoreError("SQLite has no vector index, nor Cypher to ask it: give a Neo4j (make neo4j) as --store")
    with open_store(settings.store_url) as graph:
        model = settings.text_model or DEFAULT_MODEL
        console = Console(stderr=True)
        address = settings.ray_address
        print(read_texts(graph, settings.var, model, budget=budget, ray_address=address, console=console))
        if index:
            with console.status("index"):
                indexed = index_vectors(graph, settings.var, model)
            for label, changed in indexed.items():
                print(f"index {label}_embedding: {changed:,} vectors were new or had changed")


@app.command(rich_help_panel=ROAD)
def vectors(
    name: Annotated[str, typer.Argument(help="What they are called, such as images.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="A Parquet file.", show_default=False)],
    platform: Annotated[
        str | None, typer.Option(help="The platform whose ids they are.", show_default="ids are keys, as shop:4711")
    ] = None,
    key: Annotated[str, typer.Option(help="The column of ids.")] = "key",
    column: Annotated[str, typer.Option(help="The column of vectors, lists of numbers.")] = "vector",
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Bring vectors of items' images or sound.

    What another model has seen or heard becomes one more feature of items:
    train and compare use it with --vectors NAME, or vectors: [NAME] in
    isthmus.yaml. A file may be one platform's; others keep what they have.

    [bold]Examples[/]

    isthmus vectors images posters.parquet --platform films --key film_id
    isthmus train --vectors images
    """
    from graph.store import open_store
    from ingest.vectors import add_vectors

    settings = _settings(config, store=store, var=var)
    with open_store(settings.store_url) as graph:
        print(add_vectors(graph, settings.var, name, file, key=key, vector=column, platform=platform))


@app.command("same-work", rich_help_panel=ROAD)
def same_work(
    undo: Annotated[bool, typer.Option("--undo", help="Take all these links back instead.")] = False,
    text_model: TextModelName = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Find the same film or book on two platforms.

    Items whose texts are near each other (isthmus embed comes first) are
    compared by title, year and creators. Pairs that are one work are
    joined by SAME_WORK, with a score and its evidence; training and paths
    use it. A second run replaces what the first one found.

    [bold]Examples[/]

    isthmus same-work
    isthmus same-work --undo
    """
    from rich.console import Console

    from graph.store import open_store
    from ingest.same_work import link_same_works, unlink_same_works
    from models.text import DEFAULT_MODEL, vectors_name

    settings = _settings(config, store=store, var=var, text_model=text_model)
    vectors = settings.var / "vectors" / vectors_name(settings.text_model or DEFAULT_MODEL) / "Item.parquet"
    with open_store(settings.store_url) as graph:
        if undo:
            print(f"{unlink_same_works(graph):,} links were taken back")
            return
        with Console(stderr=True).status("comparing items"):
            report = link_same_works(graph, vectors)
        print(report)


@app.command(rich_help_panel=ROAD)
def train(
    epochs: Epochs = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest step size.", show_default="0.003; a third to continue")
    ] = None,
    continued: Continued = False,
    adapt: Annotated[
        str | None,
        typer.Option(
            metavar="PLATFORM",
            help="Begin with it and train the parameters of this platform alone.",
            show_default="all parameters",
        ),
    ] = None,
    workers: Workers = None,
    until: Annotated[
        datetime | None,
        typer.Option(help="Leave out what happened at or after this instant (UTC).", show_default="the whole graph"),
    ] = None,
    text_model: TextModelName = None,
    vectors: OtherVectors = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
    ray_address: RayAddress = None,
) -> None:
    """Learn from the graph, and release a bundle to serve.

    A snapshot of the graph is cut, the last events of each person are held
    out, the graph network is trained on the rest and the bundle is written
    to var/bundles. What it learned about items goes back into the graph as
    LEADS_TO. A run that was stopped goes on where it was; one that has
    ended is not done again.

    When there are new events, --continue trains on from the weights of the
    run before, in a quarter of the epochs. For a new platform, --adapt
    leaves these weights as they are, and learns beside them what is the
    platform's own: how people ask there, and what is popular.

    Settings suit the data: few people or many, an order that says
    something or none. Others are set under training: in isthmus.yaml, or
    as ISTHMUS_TRAINING__LEARNING_RATE=0.001.

    Metrics of each epoch are in var/training/*/log for TensorBoard, and go
    to MLflow (pip install 'isthmus\\[mlflow]') where MLFLOW_TRACKING_URI
    names a server.

    [bold]Examples[/]

    isthmus train --epochs 30 --workers 2
    isthmus train --continue
    isthmus train --adapt music
    """
    from rich.console import Console

    from graph.store import open_store
    from train.release import release

    settings = _settings(
        config,
        store=store,
        var=var,
        text_model=text_model,
        vectors=None if vectors is None else _parted(vectors),
        ray_address=ray_address,
        workers=workers,
    )
    console = Console(stderr=True)
    with open_store(settings.store_url) as graph:
        cut = None if until is None else until.replace(tzinfo=until.tzinfo or UTC).astimezone(UTC)
        run = _begun(settings, graph, continued, adapt, epochs=epochs, learning_rate=learning_rate, cut=cut)
        result = _fitted(run, settings, console)
        with console.status("release"):
            bundle = run.bundle() or release(run.inputs, run.config, result, settings.var / "bundles", graph)
        print(f"bundle    {bundle}\n\nisthmus evaluate compares it with baselines, isthmus serve answers from it.")


@app.command(rich_help_panel=ROAD)
def evaluate(
    sampled: Sampled = None,
    cohorts: Cohorts = False,
    config: Config = None,
    var: Var = None,
) -> None:
    """Compare the last trained model with popularity, ItemKNN and EASE.

    Each ranks what the held-out events of each person were, among all
    items of the platform that the person did not have; all of them know
    the same events, and none the held-out ones. isthmus compare trains
    other models and asks in other ways.

    Example: isthmus evaluate --sampled 999 --cohorts
    """
    from train.loop import TrainingError
    from train.runs import Run

    run = Run.newest(_settings(config, var=var).var)
    if run.result() is None:
        raise TrainingError(f"the checkpoint of {run.folder} is gone: train again with isthmus train")
    for name in run.other_now():
        print(f"the vectors of {name} were written again since: isthmus train trains on those of now", file=sys.stderr)
    _compare(run, sampled=sampled, cohorts=cohorts)


@app.command(rich_help_panel=ROAD)
def compare(
    models: Annotated[
        str, typer.Option(help="Who competes, parted by commas; the names are above, all is every one.")
    ] = "popularity,item-knn,ease,isthmus",
    snapshot: Annotated[
        str | None, typer.Option(help="The id of a snapshot in var/snapshots.", show_default="cut now from the store")
    ] = None,
    protocol: Annotated[
        Protocol | None, typer.Option(help="How events are held out.", show_default="as training: says")
    ] = None,
    validation_from: Annotated[
        datetime | None,
        typer.Option(
            help="With temporal: where training ends and validation begins (UTC).",
            show_default="with the newest fifth of events",
        ),
    ] = None,
    test_from: Annotated[
        datetime | None,
        typer.Option(
            help="With temporal: where validation ends and test begins (UTC).", show_default="with the newest tenth"
        ),
    ] = None,
    sampled: Sampled = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with so many seeds of split, weights and sample.")] = 1,
    metrics: Annotated[
        str, typer.Option(help="What is shown, parted by commas; the first one orders the models.")
    ] = "ndcg@10,hr@10,recall@20,mrr,auc,coverage@10,novelty@10",
    cohorts: Cohorts = False,
    search: Annotated[
        int, typer.Option(min=0, help="Draw so many settings of each model with Ray Tune; 0: try its grid.")
    ] = 0,
    folds: Annotated[
        int, typer.Option(min=0, help="Choose settings by cross-validation over so many shares of the people.")
    ] = 0,
    save: Annotated[
        Path | None, typer.Option(help="Write leaderboard.json and leaderboard.png there.", show_default="not saved")
    ] = None,
    text_model: TextModelName = None,
    vectors: OtherVectors = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Train any models on one snapshot, and rank them on one leaderboard.

    Each is fitted on the training part, its settings are chosen on the
    validation part, and all are asked the same of the test part. Beside
    the figures: how far the best is ahead of each, with the interval that
    95 % of 10,000 draws of the people fall into. If it holds 0, the two do
    not differ clearly. peak GiB is what the whole process had taken at most
    when a model was done, so it grows in the order of --models.

    [bold]Models[/]   popularity, platform-popularity, recent-popularity, item-knn,
    ease, l3ae, slist, gf-cf, als, interest-fusion, text-gcn, mf-squared,
    mf-cross-entropy, bpr, apr, two-tower, lightgcn, xsimgcl, alpharec,
    mult-vae, gru, lstm, sasrec and isthmus.

    [bold]Protocols[/]   leave_one_out asks for each person's last event;
    random_per_user for a tenth, drawn at random; newcomers for what people
    did first on a platform where they are new; temporal for all that
    everybody did from an instant on, given all before: the newest tenth of
    events, with the tenth before it for validation, unless --validation-from
    and --test-from say otherwise.

    [bold]Metrics[/]   recall, ndcg, hr, f1, coverage, diversity and novelty with
    a cut-off, such as ndcg@20; mrr and auc.

    [bold]Examples[/]

    isthmus compare --models ease,isthmus --seeds 3 --save results
    isthmus compare --models all --search 20 --sampled 999
    """
    from graph.snapshot import read_snapshot, write_snapshot
    from graph.store import open_store
    from models.text import DEFAULT_MODEL, vectors_name
    from train.families import FAMILIES
    from train.runs import Run

    others = None if vectors is None else _parted(vectors)
    settings = _settings(config, store=store, var=var, text_model=text_model, vectors=others).with_split(
        protocol, validation_from=validation_from, test_from=test_from
    )
    if snapshot is None:
        with open_store(settings.store_url) as graph:
            cut = write_snapshot(graph, settings.var / "snapshots")
    else:
        cut = read_snapshot(settings.var / "snapshots" / snapshot)
    loop = _suited(settings, cut)
    said = vectors_name(settings.text_model or DEFAULT_MODEL)
    run = Run(cut.id, said, loop, settings.var, vectors=tuple(sorted({*settings.vectors})))
    _compare(
        run,
        list(FAMILIES) if models == "all" else _parted(models),
        sampled=sampled,
        seeds=seeds,
        metrics=_parted(metrics),
        cohorts=cohorts,
        search=search,
        folds=folds,
        save=save,
    )


@app.command(rich_help_panel=ROAD)
def recommend(
    to: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    limit: Annotated[int, typer.Option(min=1, max=200, help="Items for each person.")] = 20,
    platforms: Annotated[
        str | None, typer.Option(help="To choose from, with commas.", show_default="all platforms")
    ] = None,
    filter: Annotated[str | None, typer.Option(help="A test that items have to pass, see docs/api.md.")] = None,
    scenario: Annotated[
        str | None, typer.Option(help="Of the settings.", show_default="the one called default, if any")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle to answer from.", show_default="the newest in var/bundles")
    ] = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Write everybody's recommendations to a Parquet file.

    A line for each person and item: user_id, position, item_id, score,
    source, model_version. They are what isthmus serve would answer now,
    with what was put and deleted over HTTP and events on their way.

    Example: isthmus recommend --to lists.parquet --limit 50
    """
    import time

    from rich.console import Console

    from graph.store import open_store
    from models.bundle import Bundle, newest_bundle
    from models.ranker import Ranker
    from serve import filters
    from serve.batch import everybody, write_lists
    from serve.live import Live, StoreGate
    from serve.outbox import Outbox
    from serve.recommender import Recommender
    from serve.scenarios import read_scenarios, scenario_called
    from serve.shelf import Shelf

    settings = _settings(config, store=store, var=var)
    begin = time.monotonic()
    opened = Bundle.open(bundle or newest_bundle(settings.var / "bundles"))
    base = Recommender(opened, Ranker(opened), read_scenarios(settings.scenarios))
    console = Console(stderr=True)
    gate = StoreGate(lambda: open_store(settings.store_url))
    with Outbox(settings.var / "outbox.db") as outbox, open_store(settings.store_url) as graph:
        try:
            recommender = Shelf(outbox.catalogue).of(base)
            with console.status("recommend"):
                people, rows = write_lists(
                    recommender,
                    Live(outbox, gate),
                    everybody(graph),
                    to,
                    limit=limit,
                    platforms=None if platforms is None else recommender.known(_parted(platforms)),
                    allowed=None if filter is None else recommender.allowed(filters.parse(filter)),
                    scenario=scenario_called(recommender.scenarios, scenario),
                )
        finally:
            gate.close()
    print(f"{people:,} people, {rows:,} lines in {to}, {time.monotonic() - begin:.0f} s")


@app.command(rich_help_panel=ROAD)
def serve(
    bundle: Annotated[
        Path | None,
        typer.Option(help="The bundle to answer from.", show_default="chosen over HTTP, or newest in var/bundles"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")] = None,
    port: Port = None,
    replicas: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Answer over HTTP, with reasons, until Ctrl-C.

    Events that are sent are on disk before they are acknowledged, change
    the same person's next answer, and go on to the store. /docs shows the
    API. Without keys it listens on this machine only and answers everybody
    on it; isthmus key makes one.

    Example: isthmus serve --port 8080
    """
    settings = _settings(config, store=store, var=var, host=host, port=port)

    from serve.deployment import run

    *former, secret = _secrets(settings)
    run(
        bundle,
        settings.store_url,
        var=settings.var,
        pseudonym_secret=secret,
        former_secrets=former,
        keys=settings.keys,
        text_model=settings.text_model,
        scenarios=settings.scenarios,
        retrain=settings.retrain,
        host=settings.host,
        port=settings.port,
        replicas=replicas,
        block=True,
    )


@app.command(rich_help_panel=CARE)
def retrain(
    epochs: Epochs = None,
    continued: Continued = False,
    plan: Annotated[
        str | None,
        typer.Option(help="Go live only in the place of the plan of this ETag.", show_default="the plan of now"),
    ] = None,
    workers: Workers = None,
    text_model: TextModelName = None,
    vectors: OtherVectors = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
    ray_address: RayAddress = None,
) -> None:
    """Train anew, and let the bundle answer if it is not worse.

    Does what embed and train do, then asks the new model and the bundle
    that answers what people did since that one was made, which neither
    knows. If the new one is not worse (the 95 % interval of the difference
    of NDCG@10 stays above -1 %), it takes the other's place in the plan
    of the running server, unless somebody changed the plan meanwhile. Else
    it stays in var/bundles, to look at: nothing takes it up by itself.

    The server begins this as a job when asked to (POST /v1/jobs), and by
    itself with retrain: start in isthmus.yaml; GET /v1/retraining says
    when it is time.

    Example: isthmus retrain --continue
    """
    from dataclasses import replace

    from rich.console import Console

    from graph.snapshot import read_snapshot
    from graph.store import open_store
    from ingest.embed import embed as read_texts
    from models.bundle import Bundle
    from models.text import DEFAULT_MODEL
    from serve.follow import load
    from serve.registry import Choice, PlanChangedError, Registry
    from serve.scenarios import read_scenarios
    from train.judge import judge, made_until, parted_since
    from train.release import assemble, release

    settings = _settings(
        config,
        store=store,
        var=var,
        text_model=text_model,
        vectors=None if vectors is None else _parted(vectors),
        ray_address=ray_address,
        workers=workers,
    )
    bundles = settings.var / "bundles"
    registry = Registry(bundles, settings.var)
    answering, console = registry.plan(), Console(stderr=True)
    tag = plan or answering.tag
    if answering.tag != tag:
        print(f"The plan is {answering.tag} by now, not {tag}: nothing was trained.")
        return
    if len(answering.variants) > 1:
        names = ", ".join(choice.name for choice in answering.variants)
        raise RetrainingError(f"{names} answer side by side: end that comparison first, or train with isthmus train")
    (choice,) = answering.variants
    old = Bundle.open(Path(choice.bundle))
    with open_store(settings.store_url) as graph:
        model = settings.text_model or DEFAULT_MODEL
        print(read_texts(graph, settings.var, model, ray_address=settings.ray_address, console=console))
        run = _begun(settings, graph, continued, epochs=epochs)
        parted_since(run.config.parted(read_snapshot(run.inputs.snapshot).interactions()), made_until(old))
        result = _fitted(run, settings, console)
        with console.status("judge"):
            trained = assemble(run.inputs, run.config, result.checkpoint)
            verdict = judge(trained, run.inputs, run.config, result, old)
        print(f"judged    {verdict}")
        with console.status("release"):
            to = graph if verdict.is_not_worse else None
            bundle = release(run.inputs, run.config, result, bundles, to, judged=verdict.said())
    print(f"bundle    {bundle}")
    if not verdict.is_not_worse:
        print(f"It does not go live: it was not shown to be as good as {old.version}, which goes on answering.")
        return
    load(bundle, read_scenarios(settings.scenarios))
    chosen = replace(answering, variants=(replace(Choice.of(bundle), name=choice.name),), chosen=True)
    try:
        registry.choose(chosen, if_match=tag)
    except PlanChangedError as error:
        print(f"It does not go live: {error}")
        return
    print(f"It is live: it answers in the place of {old.version}.")


@app.command(rich_help_panel=CARE)
def key(
    name: Annotated[str, typer.Argument(help="Who will ask with it, such as shop; it appears in logs and metrics.")],
    scopes: Annotated[str, typer.Option(help="What it may do, of read, write and admin, with commas.")] = "read",
    per_minute: Annotated[int, typer.Option(min=0, help="Requests a minute; 0 is without a limit.")] = 600,
    keep: Annotated[bool, typer.Option("--keep/--print", help="Add its line to var/keys, or print that too.")] = True,
    config: Config = None,
    var: Var = None,
) -> None:
    """Make a key to ask the server with, and show it once.

    Only its hash is kept: a line in var/keys, which a running server reads
    anew within a second. Remove the line and the key is no longer valid.
    From the first key on, every route but /livez asks for one, and isthmus
    serve may listen beyond this machine (--host 0.0.0.0).

    Example: isthmus key shop --scopes read,write --per-minute 6000
    """
    from serve.keys import add, make

    settings = _settings(config, var=var)
    text, made = make(name, _parted(scopes), per_minute)
    if keep:
        add(settings.var / "keys", made)
    print(text)
    kept = f"is kept in {settings.var / 'keys'}" if keep else f"for ISTHMUS_KEYS, a JSON list:\n{made.line()}"
    print(f"Shown this once; its hash {kept}", file=sys.stderr)


quarantine = typer.Typer(no_args_is_help=True)
app.add_typer(quarantine, name="quarantine", rich_help_panel=CARE)


@quarantine.callback()
def about_quarantine() -> None:
    """Look at rows that ingest did not take, and try them again.

    Each is kept in var/quarantine as Parquet, with file, line, field, the
    value without what says who it was, the rule that it broke and what to
    do. A file that is ingested again replaces what was found in it.

    isthmus quarantine list
    isthmus quarantine show --rule unknown-item
    isthmus quarantine retry
    """


@quarantine.command("list")
def list_quarantine(config: Config = None, var: Var = None) -> None:
    """Count rejected rows by file, rule and field.

    Example: isthmus quarantine list
    """
    from ingest.quarantine import groups, quarantined

    rows = quarantined(_settings(config, var=var).var)
    advised = set()
    for group in groups(rows):
        print(group)
        if group.rule not in advised:
            advised.add(group.rule)
            print(f"{'':12}{group.rule.asks}: {group.rule.advice}")
    print(f"{len(rows):,} rows are in quarantine")


@quarantine.command("show")
def show_quarantine(
    rule: Annotated[str | None, typer.Option(help="Of this rule alone.", show_default="all")] = None,
    file: Annotated[
        str | None, typer.Option(help="Of files whose name holds this text alone.", show_default="all")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many rows at most.")] = 20,
    config: Config = None,
    var: Var = None,
) -> None:
    """Show rejected rows, one a line: where, what and why.

    Ids of accounts, mail addresses and telephone numbers are left out. The
    row itself is in the file that is named.

    Example: isthmus quarantine show --rule off-scale --limit 5
    """
    from ingest.quarantine import quarantined, where

    rows = where(quarantined(_settings(config, var=var).var), rule=rule, file=file)
    for row in rows.slice(0, limit).to_pylist():
        what = " ".join(part for part in (row["field"], repr(row["value"]) if row["value"] else "") if part)
        print(f"{row['file']} line {row['line']}: {what or 'the row'} {row['detail']} ({row['rule']})")
    if len(rows) > limit:
        print(f"and {len(rows) - limit:,} more: --limit {len(rows)} shows all")
    elif not len(rows):
        print("there is no such row in quarantine")


@quarantine.command("retry")
def retry_quarantine(store: StoreUrl = None, config: Config = None, var: Var = None) -> None:
    """Try rejected rows again, after a mapping or catalogue was put right.

    The rejected lines are read again from their files, with the mappings
    as they are now. What passes is taken and leaves quarantine. A file that
    has changed since is not tried line by line: ingest reads it anew.

    Example: isthmus quarantine retry
    """
    from rich.console import Console

    from graph.keys import Pseudonyms
    from graph.store import open_store
    from ingest.retry import retry

    settings = _settings(config, store=store, var=var)
    *former, secret = _secrets(settings)
    with open_store(settings.store_url) as graph:
        print(retry(graph, Pseudonyms(secret, former), settings.var, console=Console(stderr=True)))


@app.command(rich_help_panel=CARE)
def person(
    who: Who,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Show who somebody is: their accounts, and what says so.

    Evidence that is not believed is listed with the reason.

    Example: isthmus person shop:4711
    """
    from graph.store import open_store

    settings = _settings(config, store=store, var=var)
    named = _named(who, settings)
    with open_store(settings.store_url) as graph:
        user, links = _person(graph, named)
        if user is None:
            raise _nobody(who, graph, settings)
        print(user)
        for link in links:
            print(f"  {link.account}  {link.evidence}{f', since {link.at:%F}' if link.at else ''}")
        for known in graph.evidence_of([link.account for link in links]):
            said = known.evidence
            since = f", since {said.at:%F}" if said.at else ""
            print(f"{said.account} = {said.other}  says {said.source}{since}")
            if known.left_out:
                print(f"  left out: {known.left_out}")


@app.command(rich_help_panel=CARE)
def link(
    account: AccountName,
    other: AccountName,
    source: Annotated[str, typer.Option(help="Why, to be kept with the link; write no name or address.")] = "operator",
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Say that two accounts are one person.

    Two accounts of one platform are joined by this alone; accounts of
    two platforms as by a login, unless what says more speaks against it.
    isthmus unlink takes it back.

    Example: isthmus link shop:4711 video:anna --source ticket-17
    """
    from graph.records import Evidence
    from graph.store import open_store

    settings = _settings(config, store=store, var=var)
    pair = _account(account, settings), _account(other, settings)
    with open_store(settings.store_url) as graph:
        for name, key in zip((account, other), pair, strict=True):
            if graph.user_of(key) is None:
                raise _nobody(name, graph, settings)
        said = Evidence(*pair, source, datetime.now(UTC))
        new = graph.add_evidence([said], restore=True)
        left_out = next(known.left_out for known in graph.evidence_of(pair) if known.evidence.id == said.id)
        if left_out:
            graph.revoke(new)
            raise ContradictionError(
                f"{pair[0]} and {pair[1]} stay two persons: {left_out}; see isthmus person, and link those two "
                "accounts with each other, or change the table"
            )
        print(f"{'Linked' if new else 'Linked already'}: {graph.user_of(pair[0])} has {pair[0]} and {pair[1]}.")


@app.command(rich_help_panel=CARE)
def unlink(
    account: AccountName,
    other: Annotated[
        str | None,
        typer.Argument(help="Take back only what joins it with this one.", show_default="all that joins it to anybody"),
    ] = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Take evidence about an account back: logins, links, shared addresses.

    The graph becomes what it would be had nobody said so. Exports that say
    it again change nothing; isthmus link does. What an identity table says
    is changed in the table.

    Example: isthmus unlink shop:4711 video:anna
    """
    from graph.store import open_store

    settings = _settings(config, store=store, var=var)
    mine = _account(account, settings)
    with open_store(settings.store_url) as graph:
        if graph.user_of(mine) is None:
            raise _nobody(account, graph, settings)
        evidence = [known.evidence for known in graph.evidence_of([mine])]
        if other is not None:
            theirs = _account(other, settings)
            identities = {known.evidence.other for known in graph.evidence_of([theirs])}
            evidence = [
                one
                for one in evidence
                if (theirs in {one.account, one.other} if one.is_statement else one.other in identities)
            ]
        done = graph.revoke(evidence)
        print(f"Taken back: {done} pieces of evidence. {mine} is {graph.user_of(mine)}.")


@app.command(rich_help_panel=CARE)
def erase(
    person: Who,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    prove: Annotated[
        bool, typer.Option("--prove", help="Then search every file under var, and the store, for traces.")
    ] = False,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Forget a person: all their accounts, events and evidence.

    They leave the store, the events that wait for it, quarantine, and the
    snapshots that hold them (training cuts a new one). Bundles hold items,
    not people. Your own backups and exports are not touched.

    A tombstone stays, a hash that nobody can turn back: rows and events of
    these accounts are refused from now on. --prove prints what it searched
    and exits with 1 where it found something; of somebody erased before it
    can only search for what is named here.

    Example: isthmus erase shop:4711 --prove
    """
    from graph.keys import AccountKey, UserKey, lone_user
    from graph.store import open_store
    from graph.tombstones import Tombstones
    from ingest.quarantine import forget
    from serve.outbox import Outbox

    settings = _settings(config, store=store, var=var)
    named = _named(person, settings)
    with open_store(settings.store_url) as graph, Outbox(settings.var / "outbox.db") as outbox:
        user = named if isinstance(named, UserKey) else graph.user_of(named) or lone_user(named)
        # Somebody whose events the store has not had yet is known by nothing but those events.
        arriving = {event.account for event in outbox.pending_of(digest=user.digest)}
        arriving = {account for account in arriving if graph.user_of(account) in {None, user}}
        known = graph.neighbourhood(user).nodes or arriving
        if not known and not graph.erased([named]) and not Tombstones(settings.var).erased([named]):
            raise _nobody(person, graph, settings)
        if known and not yes:
            typer.confirm(f"Forget {user} with all accounts and events in {graph.url}?", abort=True)
        happened = [(event.type, event.event_id) for event in graph.history(user)]
        report = graph.erase(user, arriving | ({named} if isinstance(named, AccountKey) else set()))
        digests = report.digests | {named.digest}
        Tombstones(settings.var).add(graph.tombstones())
        gone = [AccountKey.parse(key) for key in graph.erased(outbox.accounts())]
        waiting = outbox.forget({*report.accounts, *gone}, happened)
        rejected = forget(settings.var, {*report.accounts, *gone, *([named] if isinstance(named, AccountKey) else [])})
        snapshots = _remove_snapshots(settings.var / "snapshots", graph)
        print(
            f"Forgotten: {user} with {len(report.accounts)} accounts, {report.events} events, {waiting} events on "
            f"their way, {rejected} rows in quarantine and {snapshots} snapshots. Train again for a model without them."
        )
        if prove:
            _prove(user, digests, settings.var, graph)


@app.command(rich_help_panel=CARE)
def rotate(
    target: Annotated[
        str, typer.Argument(help="An empty store, as a URL; the old one stays as it is.", show_default=False)
    ],
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Replace the secret behind the pseudonyms.

    The store is copied into an empty one, where each pseudonym is that of
    the next secret; raw ids are not needed. The next secret is made here,
    or given as ISTHMUS_NEXT_PSEUDONYM_KEY where ISTHMUS_PSEUDONYM_KEY is.
    Stop ingest and serve first. docs/security.md says when to rotate.

    Example: isthmus rotate sqlite:///var/graph-2.db
    """
    from graph.keys import Pseudonyms, tombstone
    from graph.rekey import rekey
    from graph.store import open_store
    from graph.tombstones import Tombstones
    from serve.outbox import Outbox

    settings = _settings(config, store=store, var=var)
    secrets = settings.rotated()
    pseudonyms = Pseudonyms(secrets[-1], secrets[:-1])
    with Outbox(settings.var / "outbox.db") as outbox:
        if sum(outbox.counts()):
            raise RotationError(
                f"{outbox.path} holds events under the old secret: start isthmus serve until it is empty, then rotate"
            )
    with open_store(settings.store_url) as old, open_store(target) as new:
        events = rekey(old, new, pseudonyms)
        graves = Tombstones(settings.var)
        graves.add([tombstone(pseudonyms.rekeyed(grave)) for grave in graves])
        where = old.url, new.url
    if settings.pseudonym_key is None:
        settings.keep(secrets)
        said = f"{settings.pseudonym_file} holds the new secret below the old one; back it up, both are needed."
    else:
        said = (
            "Give the new secret as ISTHMUS_PSEUDONYM_KEY, and the old one as the last of "
            "ISTHMUS_FORMER_PSEUDONYM_KEYS, a JSON list: both are needed."
        )
    print(
        f"Copied: {events:,} events from {where[0]} to {where[1]}.\n{said}\n"
        f"Give the new store with --store or ISTHMUS_STORE from now on. The old one, {settings.var / 'snapshots'} and "
        f"{settings.var / 'quarantine'} are still under the old secret: remove them."
    )


bulk = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(bulk, name="bulk", rich_help_panel=CARE)


@bulk.callback()
def about_bulk() -> None:
    """Load a big graph into an empty Neo4j, through Neo4j's own importer.

    The importer writes the database while the server is down, many times
    faster than ingest can. Ingest into SQLite first (the default store), so
    that every row is checked; then

    isthmus bulk write neo4j://…     writes the store as files, and says
                                     how to run the importer on them
    isthmus bulk finish neo4j://…    when the server is up again: makes
                                     constraints, compares the checksum

    From then on isthmus ingest --store neo4j://… goes on as usual.
    """


BulkTarget = Annotated[
    str, typer.Argument(help="The Neo4j, as neo4j://user:password@host:7687/neo4j.", show_default=False)
]
BulkFolder = Annotated[Path | None, typer.Option("--files", help="The folder of the files.", show_default="var/bulk")]


@bulk.command("write")
def write_bulk(
    target: BulkTarget,
    files: BulkFolder = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Write the store as files for the importer of an empty Neo4j.

    The target is looked at and not touched: the importer throws away what
    is in a database, so it has to be empty. Stop ingest and serve first.
    Vectors are not among the files; isthmus embed --index puts them there.

    Example: isthmus bulk write neo4j://neo4j:…@127.0.0.1:7687/neo4j
    """
    from rich.console import Console

    from graph.bulk import check_empty, write
    from graph.neo4j_store import Neo4jStore
    from graph.store import open_store

    settings = _settings(config, store=store, var=var)
    folder = files or settings.var / "bulk"
    with Neo4jStore.open(target) as empty:
        check_empty(empty)
        database = empty.database
    with open_store(settings.store_url) as graph, Console(stderr=True).status("writing") as status:
        written = write(graph, folder, status.update)
    importer = f"database import full @{folder.absolute()}/arguments --overwrite-destination=true {database}"
    print(
        f"{folder} holds {written.nodes:,} nodes and {written.relationships:,} relationships of {written.store}.\n"
        "The Neo4j of make neo4j takes them with\n"
        f"  python deploy/neo4j/server.py import --from {folder}\n"
        "any other on its own machine: stop it, run as the user that it runs as\n"
        f"  neo4j-admin {importer}\n"
        "and start it. Then: isthmus bulk finish, with the same URL."
    )


@bulk.command("finish")
def finish_bulk(
    target: BulkTarget,
    files: BulkFolder = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Finish what the importer began: constraints, the rest, the checksum.

    The graph that comes out is the one that ingest would have made, which
    its checksum proves; then the files are removed. Where this is stopped,
    run it again. Until it is done, nothing else should write to the graph.

    Example: isthmus bulk finish neo4j://neo4j:…@127.0.0.1:7687/neo4j
    """
    from rich.console import Console

    from graph.bulk import finish
    from graph.neo4j_store import Neo4jStore

    folder = files or _settings(config, var=var).var / "bulk"
    with Neo4jStore.open(target) as filled, Console(stderr=True).status("counting") as status:
        done = finish(folder, filled, status.update)
        print(
            f"{filled.url} holds {done.nodes:,} nodes and {done.relationships + done.rest:,} relationships, with the "
            f"checksum of {done.store}. {folder} is removed."
        )


def _remove_snapshots(folder: Path, graph: "Store") -> int:
    """Remove the snapshots that hold anybody who was erased; returns how many."""
    import shutil

    import pyarrow.parquet as pq

    from graph.keys import AccountKey

    removed = 0
    for accounts in folder.glob("*/nodes/Account.parquet"):
        keys = pq.read_table(accounts, columns=["key"])["key"].to_pylist()
        if graph.erased([AccountKey.parse(key) for key in keys]):
            shutil.rmtree(accounts.parents[1])
            removed += 1
    return removed


def _prove(user: "UserKey", digests: "Set[str]", var: Path, graph: "Store") -> None:
    """Search for pseudonyms in all that is kept and print where; raises TracesError if one is found."""
    from graph.traces import search_files

    print(f"\nSearched for {len(digests)} pseudonyms of {user}\n{'bytes':>15}  {'hits':>4}  file")
    files, parts = [], []
    for part in search_files(var, digests):
        files.append(part)
        print(f"{part.size:15,}  {part.hits:4}  {part.name}")
    print(f"{'rows':>15}  {'hits':>4}  in {graph.url}")
    for part in graph.search(digests):
        parts.append(part)
        print(f"{part.size:15,}  {part.hits:4}  {part.name}")
    if found := [part.name for part in (*files, *parts) if part.hits]:
        raise TracesError(
            f"traces of {user} are in {', '.join(found)}: stop what is using these files and run this again; what is a "
            "copy that you made, remove"
        )
    print(
        f"No trace in {len(files)} files of {sum(part.size for part in files):,} bytes and "
        f"{sum(part.size for part in parts):,} rows, nodes and relationships."
    )


def _suited(settings: "Settings", snapshot: "Snapshot", *, as_before: bool = False) -> "LoopConfig":
    """The training settings that suit a snapshot, with those that are configured in the place of their own.

    Args:
        as_before: shape the network as the newest run did, so that its weights fit.
    """
    from dataclasses import replace

    from train.loop import LoopConfig
    from train.regimes import suited
    from train.runs import Run

    base = suited(snapshot, settings.configured(LoopConfig()).split)
    if as_before:
        base = replace(base, encoder=Run.newest(settings.var).config.encoder)
    return settings.configured(base)


def _begun(
    settings: "Settings",
    graph: "Store",
    continued: bool,
    adapt: str | None = None,
    *,
    epochs: int | None,
    learning_rate: float | None = None,
    cut: datetime | None = None,
) -> "Run":
    """Cut a snapshot and say what is trained on it; see the command train."""
    from graph.snapshot import write_snapshot
    from models.text import DEFAULT_MODEL, vectors_name
    from train.runs import Run

    going_on = continued or adapt is not None
    snapshot = write_snapshot(graph, settings.var / "snapshots", cut=cut)
    print(f"snapshot  {snapshot.path}")
    loop = _suited(settings, snapshot, as_before=going_on)
    if continued and adapt is None:
        brief = loop.shortened()
        settings = settings.with_training(epochs=brief.epochs, learning_rate=brief.learning_rate)
    loop = settings.with_training(epochs=epochs, learning_rate=learning_rate).configured(loop)
    shape, drawn = loop.encoder, loop.objective.neighbours
    print(
        f"settings  {shape.dim} dimensions, dropout {shape.dropout}, batches of {loop.batch}, the newest "
        f"{shape.max_history} events of a person, {'in' if shape.ordered else 'without'} order, "
        + (f"{drawn} neighbours of an item drawn in a step" if drawn else "the whole graph in every step")
    )
    said = vectors_name(settings.text_model or DEFAULT_MODEL)
    run = Run(snapshot.id, said, loop, settings.var, vectors=tuple(sorted({*settings.vectors})))
    if going_on:
        run = run.continued(adapt)
        print(f"begins    with {run.inputs.start and run.inputs.start.run}")
    return run


def _fitted(run: "Run", settings: "Settings", console: "Console") -> "TrainingResult":
    """Train a run to its end, showing how it goes."""
    from train.run import WorkerConfig

    who = WorkerConfig(settings.workers, cpus_per_worker=settings.cpus_per_worker, address=settings.ray_address)
    with epoch_bar(console, run.config.epochs) as told:
        result = run.fit(who, told)
    print(
        f"trained   {result.epochs} epochs of {result.parameters:,} parameters in {result.seconds:.0f} s, "
        f"validation NDCG@10 {result.best:.4f}"
    )
    return result


def _compare(
    run: "Run",
    models: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] = ("hr@10", "ndcg@10", "recall@20", "ndcg@20"),
    seeds: int = 1,
    sampled: int | None = None,
    cohorts: bool = False,
    search: int = 0,
    folds: int = 0,
    save: Path | None = None,
) -> None:
    """Let models compete, showing who is at it, and print the leaderboard."""
    from rich.console import Console

    from train.compare import USUAL, compare
    from train.leaderboard import Leaderboard, cut_offs

    entries, console, ks = [], Console(stderr=True), cut_offs(metrics)
    with console.status("reading the snapshot") as status:
        for entry in compare(
            run,
            models or USUAL,
            seeds=seeds,
            sampled=sampled,
            ks=ks,
            search=search,
            folds=folds,
            told=status.update,
        ):
            entries.append(entry)
            done = f"seed {entry.seed}, {', '.join(f'{name} {value}' for name, value in entry.settings.items())}"
            console.print(f"{entry.model}  {entry.tune_seconds:.1f} s  {done.rstrip(', ')}", highlight=False)
    board = Leaderboard(entries, metrics[0])
    platforms = [name for name in board.cohorts if name.startswith("platform:")]
    shown = board.cohorts if cohorts else ["all", *(platforms if len(platforms) > 1 else ())]
    print("\n\n".join(board.text(metrics, cohort) for cohort in shown))
    if save is not None:
        about = {
            "snapshot": run.snapshot,
            "protocol": run.config.split,
            "validation_from": run.config.validation_from,
            "test_from": run.config.test_from,
            "sampled": sampled,
            "text_model": run.text_model,
            "vectors": list(run.vectors),
        }
        board.save(save, about)
        print(f"\nsaved     {save / 'leaderboard.json'}, {save / 'leaderboard.png'}")


def _follow(
    mappings: "Sequence[Mapping]", graph: "Store", pseudonyms: "Pseudonyms", var: Path, data: Path | str
) -> "IngestReport":
    """Follow the files until a signal, and say what comes; a second Ctrl-C ends it at once."""
    from ingest.follow import follow

    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, frame: object) -> None:
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    def say(sentence: str) -> None:
        print(f"{datetime.now().astimezone():%H:%M:%S}  {sentence}", file=sys.stderr, flush=True)

    for number in before:
        signal.signal(number, end)
    whole = None
    for found in follow(mappings, graph, pseudonyms, var, data=data, stop=stop, say=say):
        for file in found.files:
            say(
                f"{file.file} ({file.section}): {file.read:,} read, {file.accepted:,} accepted, "
                f"{file.duplicates:,} duplicates, {file.rejected:,} rejected"
            )
        if whole is None:
            say("following; Ctrl-C ends it")
        whole = found if whole is None else whole + found
    assert whole is not None  # noqa: S101 the first look always tells
    return whole


def _parted(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def main() -> None:
    """Run a command: what a user can mend is one sentence on stderr and exit code 1, all else keeps its traceback."""
    try:
        with _without_chatter():
            app()
    except IsthmusError as error:
        sys.exit(_refuse(str(error)))
    except OSError as error:
        advice = MENDABLE.get(error.errno or 0)
        if advice is None:
            raise
        sys.exit(_refuse(f"{error.filename}: {advice}" if error.filename else advice))


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Leave out what libraries say to their developers: their INFO lines, how to see more bars, a deprecation."""
    logging.disable(logging.INFO)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextmanager
def epoch_bar(console: "Console", epochs: int) -> "Iterator[Callable[[dict[str, Any]], None]]":
    """A progress bar over epochs on a terminal; gives what is to be told the metrics of each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("train", total=epochs)
        yield lambda told: bar.update(
            task, completed=told["epoch"], description=f"train  loss {told['loss']:.3f}  NDCG@10 {told['ndcg@10']:.4f}"
        )


def _refuse(sentence: str) -> int:
    print(f"isthmus: {sentence}", file=sys.stderr)
    return 1


def _settings(config: Path | None, **flags: object) -> "Settings":
    from settings import read_settings

    return read_settings(config, **flags)


def _secrets(settings: "Settings") -> list[bytes]:
    """The secrets for pseudonyms, the one in use last; says so when it is made now."""
    new = settings.pseudonym_key is None and not settings.pseudonym_file.exists()
    secrets = settings.secrets()
    if new:
        print(
            f"A secret for pseudonyms was made: {settings.pseudonym_file}. Back it up apart from the graph; "
            "without it new events cannot be joined to these accounts.",
            file=sys.stderr,
        )
    return secrets


def _person(graph: "Store", named: "UserKey | AccountKey") -> "tuple[UserKey | None, list[Link]]":
    """A person and the links of their accounts; None if the store knows nobody by this."""
    from graph.keys import AccountKey
    from graph.records import Link

    user = graph.user_of(named) if isinstance(named, AccountKey) else named
    edges = () if user is None else graph.neighbourhood(user).edges
    links = sorted((edge for edge in edges if isinstance(edge, Link)), key=lambda link: link.account)
    return (user if links else None), links


def _nobody(name: str, graph: "Store", settings: "Settings") -> UnknownPersonError:
    return UnknownPersonError(
        f"{graph.url} has nobody called {name!r}: check the id, the store, and that ISTHMUS_PSEUDONYM_KEY or "
        f"{settings.pseudonym_file} is the secret that it was ingested with"
    )


def _account(text: str, settings: "Settings") -> "AccountKey":
    from graph.keys import AccountKey

    named = _named(text, settings)
    if not isinstance(named, AccountKey):
        raise UnknownPersonError(f"{text!r} is a person: name an account, as PLATFORM:ID or account:…")
    return named


def _named(text: str, settings: "Settings") -> "UserKey | AccountKey":
    """Who is meant by user:…, account:…, or by a platform's name and own id.

    Raises: UnknownPersonError if it is none of these, or no secret is there to make a pseudonym with.
    """
    from graph.keys import AccountKey, Pseudonyms, UserKey

    if text.startswith("user:"):
        return UserKey.parse(text)
    if text.startswith("account:"):
        return AccountKey.parse(text)
    platform, _, id = text.partition(":")
    if not id:
        raise UnknownPersonError(f"{text!r} names nobody: give PLATFORM:ID, such as shop:4711, or a key user:…")
    if settings.pseudonym_key is None and not settings.pseudonym_file.exists():
        raise UnknownPersonError(
            f"{settings.pseudonym_file} is not there, so {text!r} cannot be found: name the folder that was ingested "
            "into with --var, give ISTHMUS_PSEUDONYM_KEY, or name the person by a key user:…"
        )
    *former, secret = settings.secrets()
    return Pseudonyms(secret, former).account(platform, id)


if __name__ == "__main__":
    main()
