"""The first look: MovieLens-100k as two platforms, the whole road to one served answer; what is there is reused."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from graph.keys import Pseudonyms, UserKey
from graph.snapshot import Snapshot, write_snapshot
from graph.store import Store, open_store
from ingest.embed import embed
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.sources.movielens import ISLANDS, fetch, write_islands
from isthmus_client import Isthmus, PathEvent
from isthmus_client import Path as ReasonPath
from models.text import DEFAULT_MODEL, vectors_name
from serve.deployment import run as start
from serve.security import check_port
from train.compare import compare
from train.evaluate import Row
from train.regimes import suited
from train.release import release
from train.run import WorkerConfig
from train.runs import Run

if TYPE_CHECKING:
    from settings import Settings

SECRET: Final = b"the people of the demo are public data"
"""Behind the pseudonyms of the demo alone, so that its figures are the same on every machine."""

METRICS: Final = ("ndcg@10", "hr@10")
KNOWN, NEW = "known on the platform", "new on the platform"
SEED: Final = 1
"""Question and batch size were settled on the newcomers of seed 0; those of this one were drawn for what is shown."""
MAPPINGS: Final = Path(__file__).parent / "ingest" / "mappings"


def run(settings: "Settings", *, once: bool) -> None:
    """Walk the whole road and show it; returns after Ctrl-C, or by itself when `once`."""
    check_port("127.0.0.1", settings.port)
    console = Console()
    var = settings.var / "demo"
    store_url = f"sqlite:///{var / 'graph.db'}"
    road = _Road(console)
    console.print(
        "\n[bold]Isthmus[/]: MovieLens-100k, 943 real people and their 100,000 ratings. The catalogue is parted by "
        "release year into two services, [cyan]old-films[/] and [cyan]new-films[/]: people and ratings are real, the "
        f"islands are ours. All that is made stays in {var}.\n",
        highlight=False,
    )
    with open_store(store_url) as store:
        _fill(store, var, road)
        with road.stage("embed titles", spin=False) as done:
            read = embed(store, var, DEFAULT_MODEL, console=console)
            done.said = f"{read.embedded:,} texts" if read.embedded else "no text has changed"
        with road.stage("cut a snapshot") as done:
            snapshot = write_snapshot(store, var / "snapshots")
            done.said = snapshot.id
        config = settings.with_split("newcomers").configured(replace(suited(snapshot, "newcomers"), seed=SEED))
        bundle, figures = _train(store, Run(snapshot.id, vectors_name(DEFAULT_MODEL), config, var), road)
        _show_quality(console, figures)
    person = choose_person(snapshot)
    with road.stage("start Ray Serve") as done:
        server = start(bundle, store_url, var=var, pseudonym_secret=SECRET, port=settings.port)
        done.said = server.url
    with server:
        _ask(console, server.url, snapshot, person)
        console.print(f"[dim]{road.total:.0f} s from start to answer.[/]")
        if not once:
            console.print("\nCtrl-C stops it.")
            _wait_for_ctrl_c()
            console.print("Stopping.")


@dataclass
class _Stage:
    """What a stage tells when it has ended."""

    said: str = ""


@dataclass
class _Road:
    """The stages, each shown with its time."""

    console: Console
    started: float = field(default_factory=time.perf_counter)

    @property
    def total(self) -> float:
        return time.perf_counter() - self.started

    @contextmanager
    def stage(self, name: str, *, spin: bool = True) -> Iterator[_Stage]:
        """Time a block; show that it runs unless it shows a bar of its own."""
        began, stage = time.perf_counter(), _Stage()
        with self.console.status(name) if spin else nullcontext():
            yield stage
        took = f"{time.perf_counter() - began:6.1f} s"
        self.console.print(f"[green]✓[/] {name:22} [dim]{took}[/]  {stage.said}", highlight=False)


def _fill(store: Store, var: Path, road: _Road) -> None:
    """Fetch the data, part it, and ingest it unless these very files were ingested already."""
    with road.stage("fetch MovieLens-100k", spin=False) as done:
        films = fetch(var / "movielens", lambda text: road.console.print(f"[dim]{text}[/]", highlight=False))
        done.said = "inside the wheel of recbole 1.2.1, checksum verified"
    with road.stage("part it in two") as done:
        islands = write_islands(films, var / "islands")
        done.said = ", ".join(f"{one.platform} {one.items} films, {one.people} people" for one in islands)
    with road.stage("ingest", spin=False) as done:
        mappings = [MAPPINGS / f"{platform}.yaml" for platform in ISLANDS]
        files = sorted(path for path in (var / "islands").rglob("*") if path.is_file())
        digest = hashlib.blake2b(b"".join(path.read_bytes() for path in [*mappings, *files])).hexdigest()
        stamp = var / "ingested"
        if stamp.exists() and stamp.read_text() == digest and store.counts().nodes:
            done.said = "these files are in the graph already"
            return
        described = [read_mapping(path) for path in mappings]
        report = ingest(described, store, Pseudonyms(SECRET), var, data=var / "islands", console=road.console)
        stamp.write_text(digest)
        counts = store.counts()
        done.said = (
            f"{report.total.read:,} rows, {report.total.rejected} rejected: {sum(counts.nodes.values()):,} nodes, "
            f"{sum(counts.edges.values()):,} relationships"
        )


Figures = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Model -> cohort -> metric -> value."""


def _train(store: Store, training: Run, road: _Road) -> tuple[Path, Figures]:
    """Train, compare and release, or find that all of it is there."""
    from isthmus import epoch_bar

    config = training.config
    kept, bundle = training.folder / "comparison.json", training.bundle()
    # With a thread on every core, training beside anything else that runs is up to ten times slower.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    with road.stage("train", spin=False) as done:
        with epoch_bar(road.console, config.epochs) as told:
            result = training.fit(WorkerConfig(workers=0), told)
        done.said = f"{result.epochs} epochs, validation NDCG@10 {result.best:.3f} before the blend"
    with road.stage("compare") as done:
        if not kept.exists():
            kept.write_text(json.dumps({entry.model: _cohorts(entry.report.rows) for entry in compare(training)}))
        figures: Figures = json.loads(kept.read_text())
        done.said = ", ".join(figures)
    with road.stage("release a bundle") as done:
        bundle = bundle or release(training.inputs, config, result, training.var / "bundles", store)
        done.said = str(bundle)
    return bundle, figures


def _cohorts(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    cohorts: dict[str, dict[str, float]] = {}
    for row in rows:
        cohorts.setdefault(row.cohort, {"queries": row.num_queries})[row.metric] = row.value
    return cohorts


def _show_quality(console: Console, figures: Figures) -> None:
    shown = Table(title="What each person rated next, ranked among all films of the service", title_justify="left")
    shown.add_column("model")
    columns = [(cohort, metric) for cohort in (KNOWN, NEW) for metric in METRICS]
    for cohort, metric in columns:
        queries = int(figures["isthmus"][cohort]["queries"])
        shown.add_column(f"{cohort.removesuffix(' the platform')} it\n{queries} asked\n{metric}", justify="right")
    for model, cohorts in figures.items():
        cells = []
        for cohort, metric in columns:
            value = cohorts[cohort][metric]
            is_best = value == max(others[cohort][metric] for others in figures.values())
            cells.append(f"[bold green]{value:.3f}[/]" if is_best else f"{value:.3f}")
        shown.add_row(model, *cells)
    console.print(shown)
    alone, joint = (figures[model][NEW]["ndcg@10"] for model in ("popularity", "isthmus"))
    console.print(
        "Of somebody who arrives, a service alone knows nothing: what is popular is all that it can show "
        f"({alone:.3f}).\nJoined, what they did on the other one speaks for them: {joint:.3f}, "
        f"[bold]{joint / alone - 1:+.0%}[/].\n",
        highlight=False,
    )


@dataclass(frozen=True)
class Person:
    """Somebody to recommend to."""

    user: UserKey
    genre: str
    share: float
    """How many of the films that they liked are of that genre."""


def choose_person(snapshot: Snapshot) -> Person:
    """Somebody with taste: at home on both services, and fonder of one genre than anybody else is."""
    events = snapshot.interactions()
    liked = events.where(events.weight > 0)
    genres = snapshot.relations["IN_CATEGORY"]
    names = sorted(set(genres["target"].to_pylist()))
    of_item = np.zeros((len(liked.items), len(names)))
    for item, genre in zip(genres["source"].to_pylist(), genres["target"].to_pylist(), strict=True):
        of_item[liked.items.row(item), names.index(genre)] = 1
    counts = np.zeros((len(liked.users), len(liked.platforms)))
    np.add.at(counts, (liked.user, liked.platform), 1)
    fond = np.zeros((len(liked.users), len(names)))
    np.add.at(fond, liked.user, of_item[liked.item])
    share = fond / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    lift = share - of_item[liked.item].mean(axis=0)
    lift[(counts.min(axis=1) < 8) | (counts.sum(axis=1) > 60)] = -1
    row, genre = divmod(int(lift.argmax()), len(names))
    return Person(UserKey.parse(liked.users.keys[row]), names[genre].partition(":")[2], float(share[row, genre]))


def _ask(console: Console, url: str, snapshot: Snapshot, person: Person) -> None:
    """Show what one person did, then what the server answers for each service, and why."""
    _show_history(console, snapshot, person)
    shown = Table(title="What they are recommended, fetched over HTTP", title_justify="left")
    for column in ("service", "film", "score", "because of"):
        shown.add_column(column)
    with Isthmus(url, http=httpx.Client(base_url=url, trust_env=False, timeout=30)) as isthmus:
        for platform in ISLANDS:
            answer = isthmus.recommend(user_id=person.user, target_platforms=[platform], limit=4)
            for place, item in enumerate(answer.items):
                because = "\n".join(_reason(path, path.event) for path in (item.paths or ())[:2] if path.event)
                shown.add_row("" if place else platform, item.title, f"{item.score:.2f}", because)
            shown.add_section()
    console.print(shown)
    body = {
        "events": [{"item_id": "old-films:50", "type": "RATED", "value": 5}],
        "target_platforms": ["new-films"],
        "limit": 3,
    }
    console.print(
        f"\nAPI        {url}/docs\nmetrics    {url}/metrics\nthem       {url}/v1/users/{person.user}/recommendations\n"
        "\nSomebody never seen, who liked Star Wars on the other service:\n"
        f"curl -s {url}/v1/recommendations -H 'content-type: application/json' \\\n  -d '{json.dumps(body)}'\n",
        highlight=False,
        soft_wrap=True,
    )


def _show_history(console: Console, snapshot: Snapshot, person: Person) -> None:
    events = snapshot.interactions()
    titles = snapshot.items["title"].to_pylist()
    mine = np.flatnonzero(events.user == events.users.row(person.user))
    shown = Table(title=f"{person.user}: {len(mine)} ratings, {person.share:.0%} of what they liked is {person.genre}")
    for platform in ISLANDS:
        shown.add_column(f"last on {platform}")
    columns = [
        [f"{'★' * int(events.value[at]):5} {titles[events.item[at]]}" for at in mine if events.platform[at] == number][
            -6:
        ]
        for number in map(events.platforms.index, ISLANDS)
    ]
    for line in zip_longest(*columns, fillvalue=""):
        shown.add_row(*line)
    console.print(shown)


WORDS: Final = {
    "LEADS_TO": "who likes it goes on to this",
    "NEXT": "followed by this",
    "TOGETHER": "liked by the same people",
    "SIMILAR": "alike",
}
"""What the relations that the model learned say; those of the sources speak for themselves."""


def _reason(path: ReasonPath, event: PathEvent) -> str:
    kind, _, name = (path.via or "").partition(":")
    via = f" {name}" if kind in {"category", "genre"} and not name.startswith("m.") else ""
    relation = WORDS.get(path.relation, path.relation.lower().replace("_", " "))
    return f"{path.contribution:+.2f} {event.title} [dim]({relation}{via})[/]"


def _wait_for_ctrl_c() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
