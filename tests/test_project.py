"""The project as a whole: what an import costs, who may import whom, what is pinned."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGES = ("graph", "models", "ingest", "train", "serve")
LOADED_BY_HELP = """
import sys
from typer.testing import CliRunner
{app}
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
print(*sys.modules)
"""
EMPTY_APP = """
import typer
app = typer.Typer(rich_markup_mode="rich")
@app.command(rich_help_panel="Panel")
def one(): "One."
@app.command()
def two(): "Two."
"""


def _loaded_by_help(app: str) -> set[str]:
    command = [sys.executable, "-c", LOADED_BY_HELP.format(app=app)]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_help_loads_nothing_of_others_that_an_empty_command_line_does_not():
    """The same on every machine; benchmarks/startup.py tells what that costs on the clock."""
    beyond = _loaded_by_help("from isthmus import app") - _loaded_by_help(EMPTY_APP)
    assert {name for name in beyond if not name.startswith("rich.")} == {"isthmus", "graph", "graph.errors"}


def _lint_imports(root: Path) -> "subprocess.CompletedProcess[str]":
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("serve", "train"), ("train", "ingest"), ("models", "serve"), ("graph", "models"), ("serve", "settings")],
)
def test_the_layers_refuse_an_import_against_the_arrows(tmp_path, package, forbidden):
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / package / "planted.py").write_text(f"import {forbidden}\n")
    answer = _lint_imports(tmp_path)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert f"{package}.planted -> {forbidden}" in answer.stdout


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("neo4j", {"graph/neo4j_store.py"}),
        ("ray.data", {"ingest/embed.py", "ingest/parallel.py"}),
        ("ray.train", {"train/run.py", "train/loop.py"}),
        ("ray.serve", {"serve/deployment.py"}),
    ],
)
def test_a_service_is_spoken_to_in_its_own_modules_only(library, homes):
    importers = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if any(name == library or name.startswith(f"{library}.") for name in _imports(path))
    }
    assert importers
    assert importers <= homes


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed_and_its_init_is_one_docstring(package):
    assert (ROOT / package / "py.typed").exists()
    [statement] = ast.parse((ROOT / package / "__init__.py").read_text()).body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Constant)


def test_every_dependency_is_pinned_without_the_address_of_an_index():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    constraints = (ROOT / "constraints.txt").read_text()
    pinned = {line.partition("==")[0] for line in constraints.splitlines()}
    names = {re.split(r"[\[<>=!~ ]", wish, maxsplit=1)[0].lower().replace("_", "-") for wish in wanted}
    assert names <= pinned
    assert "://" not in constraints
    assert "--" not in constraints


def test_conda_installs_what_make_installs():
    [pip] = [part["pip"] for part in _conda()["dependencies"] if isinstance(part, dict)]
    makefile = (ROOT / "Makefile").read_text()
    assert pip == ["--constraint constraints.txt", "--editable .[dev,notebooks]"]
    assert "--constraint constraints.txt --editable '.[dev,notebooks]'" in makefile


def _conda() -> dict[str, list[str | dict[str, list[str]]]]:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def test_make_alone_lists_the_commands():
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in ("env", "demo", "test", "neo4j", "format", "check", "benchmarks", "clean", "help"):
        assert re.search(rf"^  make {target} +\S", listed, re.MULTILINE), target
