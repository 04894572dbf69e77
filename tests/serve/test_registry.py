import json
import os
import threading
from pathlib import Path

import pytest

from models.bundle import BundleError
from serve.registry import Choice, Plan, PlanChangedError, Registry, RegistryError
from tests.serve.tiny import write_tiny_bundle


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    """The older one first."""
    paths = [write_tiny_bundle(tmp_path / "bundles", seed) for seed in (1, 2)]
    for age, path in enumerate(paths):
        os.utime(path / "manifest.json", (1000 + age, 1000 + age))
    return paths


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "bundles", tmp_path / "var")


def test_a_server_starts_with_the_newest_unless_another_is_given(registry: Registry, bundles: list[Path]):
    older, newer = bundles
    assert registry.at_start(None).bundles == [newer]
    assert registry.at_start(older).bundles == [older]
    assert registry.at_start(None).bundles == [newer]


def test_what_was_chosen_over_http_outlives_a_restart(registry: Registry, bundles: list[Path]):
    older, newer = bundles
    registry.at_start(None)
    registry.choose(Plan.alone(older, chosen=True))
    assert registry.at_start(None).bundles == [older]
    assert registry.at_start(newer).bundles == [newer]


def test_a_start_without_any_bundle_or_with_a_damaged_one_is_refused(registry: Registry, tmp_path: Path):
    with pytest.raises(BundleError, match="there is no bundle below"):
        registry.at_start(None)
    path = write_tiny_bundle(tmp_path / "bundles", 1)
    (path / "bias.npy").write_bytes(b"")
    with pytest.raises(BundleError, match=r"bias\.npy is not what was released"):
        registry.at_start(None)
    assert registry.state() is None


def test_manifests_are_listed_newest_first_without_what_is_none(registry: Registry, bundles: list[Path]):
    (registry.bundles / "half").mkdir()
    (registry.bundles / "half/manifest.json").write_text("{")
    assert [one["version"] for one in registry.manifests()] == [path.name for path in reversed(bundles)]


def test_a_version_is_found_where_its_folder_is_called_otherwise(
    registry: Registry, bundles: list[Path], tmp_path: Path
):
    moved = tmp_path / "prod"
    bundles[1].rename(moved)
    registry.at_start(moved)
    assert registry.plan().versions == {bundles[1].name}
    assert registry.path(bundles[1].name) == moved
    with pytest.raises(BundleError, match="there is no bundle 000000000000 below"):
        registry.path("000000000000")


def test_a_plan_that_was_changed_in_between_is_not_replaced(registry: Registry, bundles: list[Path]):
    seen = registry.at_start(bundles[0]).tag
    changed = registry.choose(Plan.alone(bundles[1], chosen=True), if_match=seen)
    with pytest.raises(PlanChangedError, match=f"the plan is {changed.tag} by now, not {seen}"):
        registry.choose(Plan.alone(bundles[0], chosen=True), if_match=seen)
    assert registry.plan() == changed


def test_of_many_who_replace_the_same_plan_one_does(registry: Registry, bundles: list[Path]):
    seen = registry.at_start(bundles[0]).tag
    outcomes: list[bool] = []

    def change(number: int) -> None:
        choices = [Choice.of(bundles[0], f"a{number}", 0.5), Choice.of(bundles[1], "b", 0.5)]
        try:
            registry.choose(Plan(tuple(choices), chosen=True), if_match=seen)
            outcomes.append(True)
        except PlanChangedError:
            outcomes.append(False)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]


def test_plans_that_make_no_sense_are_refused(bundles: list[Path]):
    one, other = Choice.of(bundles[0], "a", 0.5), Choice.of(bundles[1], "b", 0.2)
    with pytest.raises(RegistryError, match=r"add up to 0\.7"):
        Plan((one, other))
    with pytest.raises(RegistryError, match="called a, a: give each a name of its own"):
        Plan((one, one))
    with pytest.raises(RegistryError, match="called nothing"):
        Plan(())


def test_a_plan_that_cannot_be_read_says_how_to_go_on(registry: Registry, bundles: list[Path], tmp_path: Path):
    registry.choose(Plan.alone(bundles[0], chosen=True))
    (tmp_path / "var/serving.json").write_text(json.dumps({"variants": []}))
    with pytest.raises(RegistryError, match="start with isthmus serve --bundle"):
        registry.at_start(None)
    assert registry.at_start(bundles[0]).bundles == [bundles[0]]
