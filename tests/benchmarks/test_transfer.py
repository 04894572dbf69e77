"""What is measured of newcomers, new platforms and new items is what the tables say, and nothing is told beforehand."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.transfer import (
    Bench,
    Chance,
    MeanText,
    among_themselves,
    beside,
    cold_items,
    forgotten_of,
    hidden_items,
    joined_late,
    new_there,
    on,
    platforms,
    share_shown,
)
from graph.interactions import Histories, Interactions, join
from graph.snapshot import Snapshot
from graph.split import Split
from graph.vocabulary import Vocabulary
from models.baselines.popularity import Popularity
from models.text import DEFAULT_MODEL, vectors_name
from tests.planted_training import SMALL, write_word_vectors
from train.data import SplitName, split_by
from train.evaluate import Task, evaluate

LATE = "music"
CONFIG = replace(SMALL, epochs=10)


@pytest.fixture(scope="module")
def bench(planted_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    var = tmp_path_factory.mktemp("var")
    shutil.copytree(planted_snapshot.path, var / "snapshots" / planted_snapshot.id)
    vectors = write_word_vectors(planted_snapshot, var / "vectors")
    vectors.rename(vectors.with_name(vectors_name(DEFAULT_MODEL)))
    return Bench("planted", planted_snapshot, var, CONFIG)


@pytest.fixture(scope="module")
def split(bench: Bench) -> Split:
    return split_by("leave_one_out", bench.snapshot.interactions(), CONFIG.seed)


def there(events: Interactions, platform: str = LATE) -> np.ndarray:
    return events.platform == events.platforms.index(platform)


def on_platform(events: Interactions) -> Interactions:
    return events.where(there(events))


def numbered(events: list[tuple[int, int]], num_items: int) -> Interactions:
    """Of (user, item), in this order, on one platform."""
    user, item = np.array(sorted(events, key=lambda event: event[0]), np.int64).T
    return Interactions(
        user=user,
        item=item,
        type=np.zeros(len(user), np.int64),
        at=np.arange(len(user)),
        value=np.zeros(len(user), np.float32),
        weight=np.ones(len(user), np.float32),
        users=Vocabulary(f"user:{n}" for n in range(int(user.max()) + 1)),
        items=Vocabulary(f"films:{n}" for n in range(num_items)),
        event_types=("RATED",),
        platforms=("films",),
        item_platform=np.zeros(num_items, np.int64),
    )


class Fixed:
    """The same scores for everybody."""

    name = "fixed"

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores.astype(np.float32)

    def score(self, histories: Histories) -> np.ndarray:
        return np.tile(self._scores, (len(histories), 1))


def test_only_those_are_new_on_a_platform_who_never_did_anything_there(bench: Bench):
    events = split_by("leave_one_out", bench.snapshot.interactions(), 0)
    whole = join(join(events.train, events.validation), events.test)
    at_home = int(whole.user[there(whole)][0])
    kept = ~there(whole) | (whole.user == at_home)
    kept[np.flatnonzero(whole.user == at_home)[-1]] = False
    split = Split(whole.where(kept), whole.where(np.zeros(len(whole), np.bool_)), whole.where(~kept))
    [(platform, task)] = new_there(split)
    assert platform == LATE
    assert at_home in split.test.user
    assert set(task.targets.user) <= set(split.test.user) - {at_home}
    assert there(task.targets).all()
    assert len(np.unique(task.targets.user)) == len(task.targets), "one question a person"
    told = task.histories.where(np.isin(task.histories.user, task.targets.user))
    assert not there(told).any()
    forgotten = forgotten_of(task)
    assert not np.isin(forgotten.user, task.targets.user).any()
    assert len(forgotten) + len(told) == len(task.histories)


@pytest.fixture(scope="module")
def late(bench: Bench, split: Split):
    return dict(joined_late(bench, LATE, CONFIG, split))


def test_a_platform_that_joins_is_served_at_once_by_what_its_texts_say(bench: Bench, split: Split, late):
    histories = split.train.where(~there(split.train))
    targets = split.test.where(there(split.test))
    task = Task("texts alone", histories, targets, ks=(3,), training=split.train)
    popular = evaluate(Popularity.fit(split.train), task).value("ndcg@3")
    for name, flagship in list(late.items())[:3]:  # the blend of the last was chosen for other histories than these
        assert evaluate(flagship, task).value("ndcg@3") > 2 * popular, name
    text, rebuilt, refitted, blended = late.values()
    own = evaluate(rebuilt, Task("with what they did there", split.train, targets, ks=(3,))).value("ndcg@3")
    assert own > evaluate(Chance(len(histories.items)), task).value("ndcg@3")
    assert not text.leads_to.weights.nnz
    assert refitted.leads_to.weights.nnz
    chosen_by = Task("validation", split.train, on_platform(split.validation), ks=(10,), training=split.train)
    assert evaluate(blended, chosen_by).value("ndcg@10") >= evaluate(rebuilt, chosen_by).value("ndcg@10")


def test_nothing_that_happened_on_a_platform_is_known_before_its_graph_is_rebuilt(bench: Bench, split: Split, late):
    """Other events there change nothing of the first way, and the rebuilt graph."""
    music = np.flatnonzero(there(split.train))
    item = split.train.item.copy()
    item[music] = np.random.default_rng(0).permutation(item[music])
    other = dict(joined_late(bench, LATE, CONFIG, replace(split, train=replace(split.train, item=item))))
    names = list(late)
    np.testing.assert_array_equal(other[names[0]].vectors, late[names[0]].vectors)
    np.testing.assert_array_equal(other[names[0]].bias, late[names[0]].bias)
    assert not np.allclose(other[names[1]].vectors, late[names[1]].vectors)


def test_training_without_a_platform_read_a_snapshot_without_it(bench: Bench, late):
    [folder] = (bench.var / f"without-{LATE}" / "snapshots").glob("*")
    assert f"{LATE}:".encode() not in b"".join(repr(table.to_pylist()).encode() for table in _tables(folder))


def _tables(folder: Path):
    import pyarrow.parquet as pq

    for file in folder.rglob("*.parquet"):
        if file.stem != "Platform":
            yield pq.read_table(file).drop_columns(
                [name for name in ("text", "url") if name in pq.read_schema(file).names]
            )


def test_hidden_items_are_asked_for_and_never_trained_on(bench: Bench):
    interactions = bench.snapshot.interactions()
    for name in ("leave_one_out", "random_per_user"):
        whole = split_by(name, interactions, 0)
        split = split_by(f"{name}_cold_items", interactions, 0)
        hidden = hidden_items(whole, split)
        assert np.count_nonzero(hidden) == len(np.unique(whole.train.item)) // 10
        assert not hidden[split.train.item].any()
        task = among_themselves(whole, split, hidden, replace(CONFIG, split=name))
        assert hidden[task.targets.item].all()
        assert task.candidates is hidden
        asked = len(on(whole.test, hidden)) + (len(on(whole.train, hidden)) if name == "random_per_user" else 0)
        assert len(task.targets) == asked > 0


def test_the_text_map_is_its_formula():
    random = np.random.default_rng(0)
    text = random.normal(size=(9, 3)).astype(np.float32)
    wanted = [(user, item) for user in range(12) for item in random.permutation(8)[: 1 + user % 4].tolist()]
    training = numbered(wanted, num_items=9)
    model = MeanText.mapped(training, text, people_ridge=0.5, item_ridge=2.0)
    lists = {user: [item for other, item in wanted if other == user] for user in range(12)}
    lists = {user: items for user, items in lists.items() if len(items) > 1}
    known = sorted({item for items in lists.values() for item in items})
    t = text.astype(np.float64) - text[known].mean(axis=0)
    means = np.stack([t[items].mean(axis=0) for items in lists.values()])
    pairs = np.zeros((3, 3))
    for items in lists.values():
        for item in items:
            pairs += np.outer(t[[other for other in items if other != item]].mean(axis=0), t[item])
    among_people, among_items = means.T @ means, t[known].T @ t[known]
    left = among_people + 0.5 * np.trace(among_people) / 3 * np.eye(3)
    right = among_items + 2.0 * np.trace(among_items) / 3 * np.eye(3)
    user = next(user for user, items in lists.items() if len(items) == 3)
    expected = t[lists[user]].mean(axis=0) @ np.linalg.inv(left) @ pairs @ np.linalg.inv(right) @ t.T
    np.testing.assert_allclose(model.score(training.histories(np.array([user])))[0], expected, rtol=1e-3, atol=1e-4)


def test_the_text_map_learns_what_goes_with_what_where_texts_have_nothing_in_common():
    """Items 0 to 2 are liked with 4 to 6, 8 to 10 with 12 to 14; 3, 7, 11 and 15 are cold and of their texts."""
    text = np.repeat(np.eye(4, dtype=np.float32), 4, axis=0)
    tastes = ([0, 1, 2, 4, 5, 6], [8, 9, 10, 12, 13, 14])
    training = numbered([(user, item) for user in range(8) for item in tastes[user % 2]], num_items=16)
    model = MeanText.mapped(training, text, people_ridge=0.1, item_ridge=0.1)
    told = numbered([(0, 0), (0, 1)], num_items=16).histories(np.array([0]))
    mapped, plain = (scorer.score(told)[0] for scorer in (model, MeanText.fit(training, text)))
    assert mapped[7] > max(mapped[11], mapped[15])
    assert plain[7] == plain[11] == plain[15]


@pytest.mark.parametrize(
    ("cold_first", "k", "expected"), [(True, 10, 3 / 10), (False, 10, 0.0), (False, 13, 1 / 13), (True, 20, 3 / 15)]
)
def test_the_share_of_cold_items_counts_the_places_of_a_list(cold_first: bool, k: int, expected: float):
    """Sixteen items of which four are cold, one of these in the history and so not shown: twelve and three are left."""
    events = numbered([(0, 15), (0, 1)], num_items=16)
    task = Task("next", events.where(events.item == 15), events.where(events.item == 1))
    cold = np.arange(16) >= 12
    assert share_shown(Fixed(cold if cold_first else ~cold), task, cold, k) == pytest.approx(expected)


def test_a_ratio_is_that_of_the_means_and_its_interval_holds_it(split: Split):
    task = Task("last", split.train, split.test, ks=(10,), training=split.train)
    popular, same = (evaluate(Popularity.fit(split.train), task) for _ in range(2))
    chance = evaluate(Chance(len(split.train.items)), task)
    assert beside([popular], [same], "ndcg@10")[1:] == (1.0, 1.0, 1.0)
    mean, ratio, low, high = beside([popular, popular], [chance, chance], "ndcg@10")
    assert mean == pytest.approx(popular.value("ndcg@10"))
    assert ratio == pytest.approx(popular.value("ndcg@10") / chance.value("ndcg@10"))
    assert low < ratio < high


@pytest.mark.parametrize("split", ["leave_one_out", "random_per_user"])
def test_the_tables_have_a_line_for_each_model(bench: Bench, split: SplitName, capsys: pytest.CaptureFixture[str]):
    short = replace(bench, config=replace(CONFIG, epochs=1, split=split))
    cold_items(short, 1)
    names = ["hidden items | chance", "hidden items | mean text", "hidden items | text map", "hidden items | isthmus"]
    names += ["other items | isthmus, items hidden", "in what people wanted", "in lists of ten, a list for each person"]
    if split == "leave_one_out":
        platforms(short, 1)
        names += [f"{platform} | isthmus, trained with it" for platform in ("books", "films", "music")]
        names += [f"music | at once: {how}" for how in ("text, graph as it was", "graph rebuilt")]
    printed = capsys.readouterr().out
    for name in names:
        assert f"| {name} |" in printed
    assert "nan" not in printed
