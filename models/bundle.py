"""The bundle: a release of the flagship on disk, written once, checked when opened, memory-mapped by every replica.

manifest.json            format, version, snapshot, model, metrics, checksum of every file
items.parquet            key, platform, title, url; row r is row r of every matrix
attributes.arrow         what else the source says of the items, in columns; bundles before it had it are without
vectors.npy  bias.npy    [N, D] and [N]
parts/<relation>.npy     [N, D] what each relation brought to the vectors, for explanations
leads_to.*.npy           the sparse item-item weights, compressed rows; what lifts items without events
requires.*.npy           which items an item requires first, where the source says it
network.safetensors      the history encoder, adapters and priors
knowledge/<relation>.*   which entities items share, for explanations
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array, csr_matrix

from graph.errors import IsthmusError
from graph.vocabulary import Vocabulary
from models.attributes import ItemAttributes, read_attributes, write_attributes
from models.encoder import EncoderConfig, HistoryEncoder
from models.explain import Knowledge
from models.flagship import Flagship
from models.leads_to import LeadsTo
from models.plan import Requires

FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_ATTRIBUTES: Final = "attributes.arrow"


class BundleError(IsthmusError):
    """A bundle that is missing, damaged, or of another format."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What a bundle says about its items, in the order of its rows."""

    items: Vocabulary
    platforms: Sequence[str]
    titles: Sequence[str | None]
    urls: Sequence[str | None]
    attributes: pa.Table | None = None
    """From models.attributes.attribute_table; None says nothing further."""
    requires: Requires | None = None
    """Which items an item requires first; None where the source does not say."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle."""

    path: Path
    manifest: Mapping[str, Any]
    items: Vocabulary
    item_platform: NDArray[np.int64]
    """[N] position in `platforms`."""
    platforms: Sequence[str]
    event_types: Sequence[str]
    titles: Sequence[str]
    """The item's key where it has no title."""
    urls: Sequence[str | None]

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @classmethod
    def open(cls, path: Path) -> Self:
        """Check every file against the manifest and read the catalogue; matrices stay on disk until they are used.

        Raises: BundleError, saying which file is wrong.
        """
        path = Path(path)
        manifest = read_manifest(path)
        for name, checksum in manifest["files"].items():
            file = path / name
            if not file.is_file():
                raise BundleError(f"{file} is missing: the bundle is not whole, train again with isthmus train")
            if _checksum(file) != checksum:
                raise BundleError(f"{file} is not what was released: it was changed or damaged, train again")
        table = pq.read_table(path / "items.parquet")
        keys = table["key"].to_pylist()
        platforms = list(manifest["platforms"])
        position = {name: number for number, name in enumerate(platforms)}
        return cls(
            path,
            manifest,
            Vocabulary(keys),
            np.array([position[name] for name in table["platform"].to_pylist()], dtype=np.int64),
            platforms,
            list(manifest["event_types"]),
            [title or key for title, key in zip(table["title"].to_pylist(), keys, strict=True)],
            table["url"].to_pylist(),
        )

    @cached_property
    def flagship(self) -> Flagship:
        """The model, its matrices memory-mapped. Raises: BundleError if its files do not fit each other."""
        try:
            return self._flagship()
        except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
            raise BundleError(f"{self.path} does not fit this Isthmus ({error}): train again") from error

    def _flagship(self) -> Flagship:
        config = EncoderConfig(**self.manifest["encoder"])
        history = HistoryEncoder(max(1, len(self.event_types)), len(self.platforms), config).eval()
        weights = load_file(self.path / "network.safetensors")
        adapter, prior = weights.pop("adapter"), weights.pop("prior")
        history.load_state_dict(weights)
        linear = self.manifest["leads_to"]
        arrays = [self._map(f"leads_to.{name}.npy") for name in ("data", "indices", "indptr")]
        lift = self._map("leads_to.lift.npy") if "leads_to.lift.npy" in self.manifest["files"] else None
        size = len(self.items)
        return Flagship(
            history.requires_grad_(False),
            adapter,
            prior,
            config.max_history,
            self._map("vectors.npy"),
            self._map("bias.npy"),
            {name: self._map(f"parts/{name}.npy") for name in self.manifest["relations"]},
            self.item_platform,
            LeadsTo(csr_array(tuple(arrays), shape=(size, size)), linear["decay"], linear["scale"], lift),
        )

    @cached_property
    def knowledge(self) -> Knowledge:
        """Which entities items share, by relation."""
        found: dict[str, tuple[csr_matrix, Sequence[str]]] = {}
        for name in self.manifest["knowledge"]:
            keys = pq.read_table(self.path / f"knowledge/{name}.parquet")["key"].to_pylist()
            indices, indptr = self._map(f"knowledge/{name}.indices.npy"), self._map(f"knowledge/{name}.indptr.npy")
            shape = (len(self.items), len(keys))
            found[name] = csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=shape), keys
        return found

    @cached_property
    def attributes(self) -> ItemAttributes:
        """What can be asked of the items, for filters."""
        has = _ATTRIBUTES in self.manifest["files"]
        return ItemAttributes(
            self.platforms,
            self.item_platform,
            pq.read_table(self.path / "items.parquet", columns=["title"])["title"].combine_chunks(),
            read_attributes(self.path / _ATTRIBUTES) if has else None,
            self.knowledge,
        )

    @cached_property
    def requires(self) -> Requires:
        """Which items an item requires first; of none in a bundle that does not say."""
        if "requires.starts.npy" not in self.manifest["files"]:
            return Requires(np.zeros(1, np.int64), np.zeros(0, np.int64))
        return Requires(self._map("requires.starts.npy"), self._map("requires.targets.npy"))

    def _map(self, name: str) -> Any:
        # A plain view of the map: numpy's memmap class costs a Python call at every slice.
        return np.asarray(np.load(self.path / name, mmap_mode="r"))


def write_bundle(
    directory: Path,
    flagship: Flagship,
    catalogue: Catalogue,
    config: EncoderConfig,
    *,
    event_types: Sequence[str],
    platforms: Sequence[str],
    knowledge: Knowledge,
    facts: Mapping[str, Any],
) -> Path:
    """Write a release below `directory` and return its folder, whose name is its version: what is in it decides.

    Args:
        facts: what else the manifest says: snapshot, metrics, training configuration. JSON values.
    Raises: BundleError if the disk does not take it; nothing half-written is left behind.
    """
    folder = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=directory))
        _write_files(folder, flagship, catalogue, knowledge)
        files = {str(file.relative_to(folder)): _checksum(file) for file in sorted(folder.rglob("*")) if file.is_file()}
        manifest = {
            "format": FORMAT,
            "encoder": asdict(config),
            "event_types": list(event_types),
            "platforms": list(platforms),
            "relations": list(flagship.parts),
            "knowledge": list(knowledge),
            "leads_to": {"decay": flagship.leads_to.decay, "scale": flagship.leads_to.scale},
            "num_items": len(catalogue.items),
            "files": files,
            **facts,
        }
        content = json.dumps(manifest, sort_keys=True).encode()
        manifest["version"] = hashlib.blake2b(content, digest_size=6).hexdigest()
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        target = directory / str(manifest["version"])
        if not _is_whole(target):
            shutil.rmtree(target, ignore_errors=True)
            folder.chmod(0o755)
            folder.rename(target)
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"the bundle could not be written to {directory} ({error}): free some space there, or name another folder"
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return target


def _is_whole(path: Path) -> bool:
    try:
        Bundle.open(path)
    except BundleError:
        return False
    return True


def _write_files(folder: Path, flagship: Flagship, catalogue: Catalogue, knowledge: Knowledge) -> None:
    columns = {
        "key": list(catalogue.items),
        "platform": list(catalogue.platforms),
        "title": list(catalogue.titles),
        "url": list(catalogue.urls),
    }
    schema = pa.schema([(name, pa.string()) for name in columns])
    pq.write_table(pa.table(columns, schema=schema), folder / "items.parquet")
    if catalogue.attributes is not None:
        write_attributes(catalogue.attributes, folder / _ATTRIBUTES)
    if catalogue.requires is not None:
        np.save(folder / "requires.starts.npy", catalogue.requires.starts)
        np.save(folder / "requires.targets.npy", catalogue.requires.targets)
    np.save(folder / "vectors.npy", np.ascontiguousarray(flagship.vectors, dtype=np.float32))
    np.save(folder / "bias.npy", flagship.bias)
    (folder / "parts").mkdir()
    for name, part in flagship.parts.items():
        np.save(folder / f"parts/{name}.npy", part)
    for name in ("data", "indices", "indptr"):
        np.save(folder / f"leads_to.{name}.npy", getattr(flagship.leads_to.weights, name))
    if flagship.leads_to.lift is not None:
        np.save(folder / "leads_to.lift.npy", flagship.leads_to.lift)
    weights = {name: value.contiguous() for name, value in flagship.history.state_dict().items()}
    weights |= {"adapter": flagship.adapter.contiguous(), "prior": flagship.prior.contiguous()}
    save_file(weights, folder / "network.safetensors")
    (folder / "knowledge").mkdir()
    for name, (incidence, keys) in knowledge.items():
        np.save(folder / f"knowledge/{name}.indices.npy", incidence.indices)
        np.save(folder / f"knowledge/{name}.indptr.npy", incidence.indptr)
        pq.write_table(pa.table({"key": pa.array(keys, pa.string())}), folder / f"knowledge/{name}.parquet")


def read_manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    try:
        manifest = json.loads(file.read_text())
    except FileNotFoundError:
        raise BundleError(f"{path} holds no bundle ({_MANIFEST} is missing): make one with isthmus train") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read ({error}): the bundle is damaged, train again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(f"{path} is a bundle of format {found}, this Isthmus reads format {FORMAT}: train again")
    claimed = manifest.get("version")
    content = json.dumps({key: value for key, value in manifest.items() if key != "version"}, sort_keys=True).encode()
    if hashlib.blake2b(content, digest_size=6).hexdigest() != claimed:
        raise BundleError(f"{file} is not what was released as {claimed}: it was changed or damaged, train again")
    return manifest


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def newest_bundle(directory: Path) -> Path:
    """The bundle written last below a directory, leaving out those that were judged no match for what answered.

    Raises: BundleError if there is none.
    """
    manifests = sorted(directory.glob(f"[!.]*/{_MANIFEST}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for manifest in manifests:
        if not _is_refused(manifest):
            return manifest.parent
    raise BundleError(f"there is no bundle below {directory}: make one with isthmus train")


def _is_refused(manifest: Path) -> bool:
    try:
        said = json.loads(manifest.read_text())
    except (OSError, ValueError):
        return False  # whoever opens it says what is wrong
    judged = said.get("judged") if isinstance(said, dict) else None
    return isinstance(judged, dict) and not judged["not_worse"]
