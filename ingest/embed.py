"""Embed: the texts of items and entities through the frozen language model, only where they changed.

A model of this machine or cluster runs with Ray Data; an endpoint is asked by this process alone, which has the key.
"""

import hashlib
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from graph.keys import ItemKey
from graph.records import Item
from graph.store import Store
from ingest.cluster import ray_cluster
from ingest.errors import IngestError
from ingest.vectors import make_folder, vector_array, write_whole
from models.endpoint import EndpointModel
from models.text import DEFAULT_MODEL, TextEncoder, TextError, is_endpoint, open_model, require_model, vectors_name

if TYPE_CHECKING:
    from ray.data import Dataset

_WITHOUT_TEXT: Final = frozenset({"Platform", "User", "Account"})

_OPAQUE: Final = re.compile(r"[a-z]\.[0-9a-z_]+|[0-9a-fA-F-]{16,}|[A-Z]?[0-9]+")
"""Names that are a source's ids (Freebase's m.0dr_4, hashes, numbers, Wikidata's Q42): they say nothing to read."""

_BATCH: Final = 512
"""Texts that an actor is handed at once; it sorts them by length."""
_KEPT_AFTER: Final = 20_000
"""Texts that an endpoint has read when its vectors are written down: they may have cost money."""
_WORTH_AN_ACTOR: Final = 4_000
"""Texts that are worth the seconds it takes another actor to load the model."""


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What became of the nodes of a label."""

    label: str
    nodes: int
    texts: int
    """Nodes with something to read; each has a vector now."""
    embedded: int
    """Texts that were new or had changed."""


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What a run did."""

    model: str
    labels: Sequence[LabelReport]
    embedded: int
    """Texts that went through the model; the same text of several nodes goes once."""
    seconds: float
    texts_per_s: float
    """Of those that went through the model, its loading and the start of Ray included; 0 when nothing had changed."""
    tokens: int | None = None
    """What an endpoint has counted; None where the model runs here, or was not asked."""

    def __str__(self) -> str:
        width = max((len(row.label) for row in self.labels), default=5)
        lines = [f"{'label':{width}}  {'nodes':>9}  {'texts':>9}  {'embedded':>9}"]
        lines += [f"{row.label:{width}}  {row.nodes:9,}  {row.texts:9,}  {row.embedded:9,}" for row in self.labels]
        used = "" if self.tokens is None else f", {self.tokens:,} tokens"
        return "\n".join([*lines, f"{self.model}: {self.seconds:.1f} s, {self.texts_per_s:,.0f} texts/s{used}"])


def embed(
    store: Store,
    var: Path,
    model_name: str = DEFAULT_MODEL,
    *,
    budget: int | None = None,
    ray_address: str | None = None,
    console: Console | None = None,
) -> EmbedReport:
    """Write var/vectors/<model>/<label>.parquet (key, text_hash, vector) for every label of the store.

    Nodes without text get no vector, nodes that left the store leave the file, and a text that some node had before is
    not embedded again; a label without any text gets a file without vectors. A file appears whole or not at all; one
    that would not change is not touched.
    A Ray that runs already is used; else one is started, and stopped at the end. Without new texts none is.

    An endpoint that stops (its budget is used up, it refuses, it is gone) leaves what it has embedded: that is written,
    and the next run goes on there.

    Args:
        model_name: a folder, a hub name or an endpoint's, as `open_model` takes it.
        budget: tokens that an endpoint may use in this run, see `models.endpoint.EndpointModel`.
        ray_address: the cluster to join; None starts one of this process's own.
        console: where a progress bar goes when there are new texts and it is a terminal.
    Raises: StoreError; TextError; IngestError if the vectors cannot be read or written, or a budget is given to a model
        that needs none.
    """
    started = time.perf_counter()
    if budget is not None and not is_endpoint(model_name):
        raise IngestError(f"{model_name} runs here and uses no tokens: give --budget with an openai: model, or not")
    folder = var / "vectors" / vectors_name(model_name)
    known = {label: _Vectors.read(folder / f"{label}.parquet") for label in _labels(store)}
    said = {label: _texts(store, label) for label in known}
    held = {digest: (label, row) for label, vectors in known.items() for row, digest in enumerate(vectors.hashes)}
    new = {digest: text for texts in said.values() for digest, text in texts.by_hash.items() if digest not in held}

    def keep(made: _Vectors) -> Mapping[str, int]:
        """Write each label's file, without those texts that have no vector yet; how many of these vectors it took."""
        fresh = {digest: row for row, digest in enumerate(made.hashes)}
        for label, texts in said.items():
            there = texts.among(fresh.keys() | held.keys()) if len(fresh) < len(new) else texts
            vectors = [
                made.matrix[fresh[digest]] if digest in fresh else known[held[digest][0]].matrix[held[digest][1]]
                for digest in there.hashes
            ]
            _write(folder / f"{label}.parquet", known[label], there, vectors)
        return {label: sum(digest in fresh for digest in texts.hashes) for label, texts in said.items()}

    made, tokens = _Vectors.none(), None
    if new and is_endpoint(model_name):
        endpoint = EndpointModel(model_name, budget=budget)
        make_folder(folder)
        width = next((vectors.matrix.shape[1] for vectors in known.values() if len(vectors.keys)), None)
        made = _through_endpoint(new, endpoint, width, keep, console)
        tokens = endpoint.tokens
    elif new:
        require_model(model_name)
        make_folder(folder)
        made = _through_ray(new, model_name, ray_address, console)
    seconds = time.perf_counter() - started
    taken = keep(made)
    return EmbedReport(
        vectors_name(model_name),
        [LabelReport(label, texts.nodes, len(texts.keys), taken[label]) for label, texts in said.items()],
        len(new),
        time.perf_counter() - started,
        len(new) / seconds if new else 0.0,
        tokens,
    )


def index(store: Store, var: Path, model_name: str = DEFAULT_MODEL) -> Mapping[str, int]:
    """Put the vectors that `embed` wrote on the store's nodes, for semantic search in Cypher.

    Returns: by label, how many nodes had none or another one.
    Raises: StoreError where the store has no vector index; IngestError if there are no vectors.
    """
    folder = var / "vectors" / vectors_name(model_name)
    held = {label: _Vectors.read(folder / f"{label}.parquet") for label in _labels(store)}
    return {label: store.index_vectors(label, v.keys, v.matrix) for label, v in held.items() if len(v.keys)}


@dataclass(frozen=True)
class _Texts:
    """What the nodes of a label say, by key."""

    nodes: int
    keys: Sequence[str]
    hashes: Sequence[str]
    by_hash: Mapping[str, str]

    def among(self, hashes: Collection[str]) -> "_Texts":
        """Those of them alone."""
        kept = [row for row, digest in enumerate(self.hashes) if digest in hashes]
        return replace(self, keys=[self.keys[row] for row in kept], hashes=[self.hashes[row] for row in kept])


def _labels(store: Store) -> Sequence[str]:
    return [label for label in store.labels() if label not in _WITHOUT_TEXT]


def _texts(store: Store, label: str) -> _Texts:
    nodes, said = 0, {}
    for batch in store.read_nodes(label):
        nodes += len(batch)
        for node in batch.to_pylist():
            if text := _readable(label, node):
                said[node["key"]] = text
    keys = sorted(said)
    hashes = [hashlib.blake2b(said[key].encode(), digest_size=16).hexdigest() for key in keys]
    return _Texts(nodes, keys, hashes, {digest: said[key] for key, digest in zip(keys, hashes, strict=True)})


def _readable(label: str, node: Mapping[str, Any]) -> str:
    if label == "Item":
        return Item(ItemKey.parse(node["key"]), title=node["title"], text=node["text"]).description.strip()
    name: str = node["name"].strip()
    return "" if _OPAQUE.fullmatch(name) else name


@dataclass(frozen=True, eq=False)
class _Vectors:
    """A file of vectors."""

    keys: Sequence[str]
    hashes: Sequence[str]
    matrix: NDArray[np.float32]

    @classmethod
    def none(cls) -> "_Vectors":
        return cls((), (), np.zeros((0, 0), dtype=np.float32))

    @classmethod
    def read(cls, path: Path) -> "_Vectors":
        if not path.exists():
            return cls.none()
        try:
            table = pq.read_table(path, columns=["key", "text_hash", "vector"])
            return cls(table["key"].to_pylist(), table["text_hash"].to_pylist(), _matrix(table["vector"]))
        except (OSError, pa.ArrowException, ValueError) as error:
            raise IngestError(f"{path} cannot be read as vectors ({error}): delete it and embed again") from error


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32).reshape(-1, column.type.list_size)


def _write(path: Path, before: _Vectors, texts: _Texts, vectors: Sequence[NDArray[np.float32]]) -> None:
    if path.exists() and list(before.keys) == list(texts.keys) and list(before.hashes) == list(texts.hashes):
        return
    # Where nothing can be read the file says so: training takes one that is not there for one that was forgotten.
    matrix = np.stack(vectors) if vectors else np.zeros((0, 1), dtype=np.float32)
    table = pa.table(
        {
            "key": pa.array(texts.keys, pa.string()),
            "text_hash": pa.array(texts.hashes, pa.string()),
            "vector": vector_array(matrix),
        }
    )
    write_whole(path, table)


def _through_endpoint(
    texts: Mapping[str, str],
    endpoint: EndpointModel,
    width: int | None,
    keep: Callable[[_Vectors], object],
    console: Console | None,
) -> _Vectors:
    """Ask for all, or hand to `keep` what there is before an error; `width` is that of the vectors kept before."""
    hashes = list(texts)
    parts: list[NDArray[np.float32]] = []
    done = kept = 0
    with _bar(console) as bar:
        task = bar.add_task("embed", total=len(texts))
        try:
            for vectors in endpoint.batches(list(texts.values())):
                if width not in {None, vectors.shape[1]}:
                    raise IngestError(
                        f"{endpoint.name} answers {vectors.shape[1]} numbers a text and its vectors of before have "
                        f"{width}: it is another model now; delete the folder vectors/{endpoint.name} and embed again"
                    )
                parts.append(vectors)
                done += len(vectors)
                bar.advance(task, len(vectors))
                if done - kept >= _KEPT_AFTER:
                    keep(_Vectors((), hashes[:done], np.concatenate(parts)))
                    kept = done
        except TextError as error:
            raise type(error)(
                f"{error} ({done:,} of {len(texts):,} new texts are embedded and kept; isthmus embed goes on there)"
            ) from error
        finally:
            if kept < done < len(texts):
                keep(_Vectors((), hashes[:done], np.concatenate(parts)))
    return _Vectors((), hashes, np.concatenate(parts))


def _bar(console: Console | None) -> Progress:
    columns = (TextColumn("embed"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=console is None or not console.is_terminal)


def _through_ray(
    texts: Mapping[str, str], model_name: str, ray_address: str | None, console: Console | None
) -> _Vectors:
    from ray.exceptions import RayError

    hashes: list[str] = []
    parts: list[NDArray[np.float32]] = []
    with _bar(console) as bar, ray_cluster(ray_address):
        task = bar.add_task("embed", total=len(texts))
        try:
            batches: Iterable[Any] = _pipeline(texts, model_name).iter_batches(batch_size=None, batch_format="pyarrow")
            for batch in batches:
                hashes += batch["text_hash"].to_pylist()
                parts.append(_matrix(batch["vector"]))
                bar.advance(task, len(batch))
        except RayError as error:
            raise IngestError(f"embedding with {model_name} failed, nothing was written: {error}") from error
    return _Vectors((), hashes, np.concatenate(parts))


def _pipeline(texts: Mapping[str, str], model_name: str) -> "Dataset":
    import ray
    import ray.data

    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus, cores = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
    actors = min(gpus or cores, math.ceil(len(texts) / _WORTH_AN_ACTOR))
    table = pa.table({"text_hash": list(texts), "text": list(texts.values())})
    blocks = [table.slice(start, _BATCH) for start in range(0, len(table), _BATCH)]
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data.from_arrow(blocks).map_batches(
        _Encoder,
        fn_constructor_args=(model_name,),
        batch_size=_BATCH,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=None if gpus else cores // actors,
        num_gpus=1 if gpus else None,
    )


class _Encoder:
    """What each Ray actor does: one model, batch after batch."""

    def __init__(self, model_name: str) -> None:
        self._model: TextEncoder = open_model(model_name)

    def __call__(self, batch: pa.Table) -> pa.Table:
        vectors = self._model.encode(batch["text"].to_pylist())
        return pa.table({"text_hash": batch["text_hash"], "vector": vector_array(vectors)})
