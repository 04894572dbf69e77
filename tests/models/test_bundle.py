"""A bundle: written whole or not at all, named by its content, scoring as before to the bit, checked when opened."""

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

from models.attributes import attribute_table
from models.bundle import Bundle, BundleError, Catalogue, newest_bundle, write_bundle
from models.flagship import Flagship
from models.plan import Requires
from tests.networks import NUM_ITEMS, PLATFORM_OF, TINY, item_keys, random_flagship, random_histories

KNOWLEDGE = {
    "IN_CATEGORY": (
        csr_matrix((np.arange(NUM_ITEMS)[:, None] % 2 == np.arange(2)).astype(np.float32)),
        ["category:even", "category:odd"],
    )
}


def write(
    directory: Path,
    flagship: Flagship | None = None,
    facts: dict[str, object] | None = None,
    attributes: pa.Table | None = None,
    requires: Requires | None = None,
) -> Path:
    keys = item_keys()
    titles = [None if row == 3 else f"Título {row} 花园" for row in range(len(keys))]
    return write_bundle(
        directory,
        flagship or random_flagship(),
        Catalogue(
            keys,
            ["abc"[platform] for platform in PLATFORM_OF],
            titles,
            [f"https://x/{key}" for key in keys],
            attributes,
            requires,
        ),
        TINY,
        event_types=["DISLIKED", "LIKED", "PLAYED", "VIEWED"],
        platforms=["a", "b", "c"],
        knowledge=KNOWLEDGE,
        facts=facts or {"snapshot": "abc"},
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("written"))


def test_an_opened_bundle_scores_bit_by_bit_as_what_was_written(written: Path) -> None:
    history = random_histories([0, 3, 20])
    assert (Bundle.open(written).flagship.score(history) == random_flagship().score(history)).all()


def test_its_catalogue_is_that_of_its_rows(written: Path) -> None:
    bundle = Bundle.open(written)
    assert list(bundle.items) == list(item_keys())
    assert bundle.item_platform.tolist() == PLATFORM_OF.tolist()
    assert list(bundle.platforms) == ["a", "b", "c"]
    assert bundle.titles[2] == "Título 2 花园"
    assert bundle.titles[3] == "a:03"
    assert bundle.urls[5] == "https://x/c:05"
    assert bundle.event_types == ["DISLIKED", "LIKED", "PLAYED", "VIEWED"]
    assert bundle.manifest["snapshot"] == "abc"


def test_its_knowledge_and_relations_come_back(written: Path) -> None:
    bundle = Bundle.open(written)
    incidence, keys = bundle.knowledge["IN_CATEGORY"]
    assert keys == ["category:even", "category:odd"]
    assert (incidence.toarray() == KNOWLEDGE["IN_CATEGORY"][0].toarray()).all()
    assert list(bundle.flagship.parts) == ["own", "NEXT", "IN_CATEGORY"]


def test_its_attributes_are_those_it_was_given_and_a_bundle_without_any_still_opens(
    written: Path, tmp_path: Path
) -> None:
    assert list(Bundle.open(written).attributes) == ["platform", "title", "category", "in_category"]
    lines = [f'{{"row":{row}}}' for row in range(NUM_ITEMS)]
    attributes = Bundle.open(write(tmp_path, attributes=attribute_table([None] * NUM_ITEMS, lines))).attributes
    assert np.flatnonzero(attributes["row"].compare(">", 5.0)).tolist() == list(range(6, NUM_ITEMS))
    assert np.flatnonzero(attributes["title"].missing()).tolist() == [3]
    assert np.flatnonzero(attributes["category"].compare("==", "odd")).tolist() == list(range(1, NUM_ITEMS, 2))


def test_what_its_items_require_comes_back_and_a_bundle_that_does_not_say_requires_nothing(
    written: Path, tmp_path: Path
) -> None:
    assert Bundle.open(written).requires.of(3) == []
    requires = Requires(np.array([0, 2, *[2] * (NUM_ITEMS - 1)]), np.array([5, 7]))
    assert Bundle.open(write(tmp_path, requires=requires)).requires.of(0) == [5, 7]


def test_its_matrices_stay_on_disk(written: Path) -> None:
    vectors = Bundle.open(written).flagship.vectors
    base = vectors
    while getattr(base, "base", None) is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not vectors.flags.writeable


def test_its_version_is_its_folder_and_its_content_alone_decides_it(written: Path, tmp_path: Path) -> None:
    again = write(tmp_path)
    assert again.name == written.name == Bundle.open(written).version
    assert write(tmp_path, facts={"snapshot": "other"}).name != written.name
    assert write(tmp_path, random_flagship(seed=1)).name != written.name
    assert write(tmp_path) == again
    assert len(list(tmp_path.iterdir())) == 3


def every_file(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_every_file_that_is_missing_or_changed_is_named(written: Path, tmp_path: Path) -> None:
    names = every_file(written)
    assert len(names) >= 14
    for number, name in enumerate(names):
        copy = tmp_path / str(number)
        shutil.copytree(written, copy)
        file = copy / name
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(BundleError, match=file.name):
            Bundle.open(copy)
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises(BundleError, match=file.name):
            Bundle.open(copy)
        file.unlink()
        with pytest.raises(BundleError, match=file.name):
            Bundle.open(copy)


def test_a_manifest_that_says_something_else_is_found_out(written: Path, tmp_path: Path) -> None:
    def opened(change) -> None:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(written, copy)
        manifest = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps(change(manifest)))
        Bundle.open(copy)

    opened(lambda manifest: manifest)
    with pytest.raises(BundleError, match="was changed or damaged"):
        opened(lambda manifest: {**manifest, "platforms": ["b", "a", "c"]})
    with pytest.raises(BundleError, match="was changed or damaged"):
        opened(lambda manifest: {key: value for key, value in manifest.items() if key != "version"})
    with pytest.raises(BundleError, match="format 2, this Isthmus reads format 1"):
        opened(lambda manifest: {**manifest, "format": 2})
    with pytest.raises(BundleError, match="format None"):
        opened(lambda manifest: [manifest])


def test_a_folder_without_a_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no bundle .* isthmus train"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match=r"no bundle below .* isthmus train"):
        newest_bundle(tmp_path)


def test_the_newest_is_the_one_written_last_and_none_that_is_half_written(written: Path, tmp_path: Path) -> None:
    first = write(tmp_path)
    second = write(tmp_path, facts={"snapshot": "later"})
    shutil.copytree(second, tmp_path / ".new-half")
    times = {first: 100, second: 200, tmp_path / ".new-half": 300}
    for folder, at in times.items():
        os.utime(folder / "manifest.json", (at, at))
    assert newest_bundle(tmp_path) == second


def test_writing_over_a_damaged_bundle_mends_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path / "bias.npy").write_bytes(b"damaged")
    with pytest.raises(BundleError):
        Bundle.open(path)
    assert write(tmp_path) == path
    assert Bundle.open(path).version == path.name


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system refuses to write more into a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_leaves_no_bundle_and_no_half_of_one(written: Path, tmp_path: Path) -> None:
    """At every size where one more of the files fails, whatever library writes it."""
    sizes = sorted({(written / name).stat().st_size for name in every_file(written)})
    for size in sizes:
        with files_up_to(size - 1), pytest.raises(BundleError, match=r"could not be written .* free some space"):
            write(tmp_path)
        assert list(tmp_path.iterdir()) == []
    with files_up_to(sizes[-1]):
        assert write(tmp_path).name == written.name


def test_a_place_that_is_no_folder_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"could not be written .*name another folder"):
        write(tmp_path / "file")


def test_anything_else_that_goes_wrong_leaves_nothing_behind_either(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write(tmp_path, facts={"cannot be": object()})
    with pytest.raises(AttributeError):
        write(tmp_path, replace(random_flagship(), leads_to=None))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
