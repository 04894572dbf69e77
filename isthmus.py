"""The command line: platform exports in, one graph, one model, answers with reasons over HTTP.

Verbs are imported inside the commands, so that `isthmus --help` answers at once.
"""

import errno
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from graph.errors import IsthmusError

if TYPE_CHECKING:
    from graph.keys import AccountKey, Pseudonyms, UserKey
    from settings import Settings

START: Final = "To begin"
ROAD: Final = "The road, in order"
CARE: Final = "Looking after it"

MENDABLE: Final[Mapping[int, str]] = {
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
Port = Annotated[int | None, typer.Option(help="The port to listen on.", show_default="8000")]


class UnknownPersonError(IsthmusError, LookupError):
    """Nobody is known by what was given."""


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


@app.command(rich_help_panel=ROAD)
def ingest(
    mappings: Annotated[list[Path], typer.Argument(help="A mapping file for each export.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(help="The folder that the mappings' files are under.", show_default="the mapping's own"),
    ] = None,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Read platforms' exports into the graph.

    A mapping is a YAML file that says which files and columns hold the
    items, events and people of a platform; ingest/mappings has examples.

    Sending the same rows again changes nothing. Bad rows are left in
    var/quarantine with file, line and reason.

    Example: isthmus ingest shop.yaml video.yaml --data exports
    """
    from rich.console import Console

    from graph.store import open_store
    from ingest.load import ingest as load
    from ingest.mapping import read_mapping

    settings = _settings(config, store=store, var=var)
    described = [read_mapping(path) for path in mappings]
    with open_store(settings.store_url) as graph:
        report = load(
            described,
            graph,
            _pseudonyms(settings),
            settings.var,
            data=data or mappings[0].parent,
            console=Console(stderr=True),
        )
        print(report)


@app.command(rich_help_panel=CARE)
def erase(
    person: Annotated[
        str,
        typer.Argument(
            help="PLATFORM:ID of one of their accounts, as the platform knows it; or a key, user:… or account:…",
            show_default=False,
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    store: StoreUrl = None,
    config: Config = None,
    var: Var = None,
) -> None:
    """Forget a person: all their accounts and events.

    They leave the store, the events that wait for it, and the snapshots
    that hold them (training cuts a new one). Bundles hold items, not
    people. Your own backups and exports are not touched.

    Example: isthmus erase shop:4711
    """
    import shutil

    from graph.keys import UserKey, lone_user
    from graph.snapshot import read_snapshot
    from graph.store import open_store
    from serve.outbox import Outbox

    settings = _settings(config, store=store, var=var)
    named = _named(person, settings)
    with open_store(settings.store_url) as graph, Outbox(settings.var / "outbox.db") as outbox:
        user = named if isinstance(named, UserKey) else graph.user_of(named) or lone_user(named)
        if not yes:
            typer.confirm(f"Forget {user} with all accounts and events in {graph.url}?", abort=True)
        report = graph.erase(user)
        accounts = set(report.accounts) if isinstance(named, UserKey) else {*report.accounts, named}
        waiting = outbox.forget(accounts)
        if not report.accounts and not waiting:
            raise UnknownPersonError(
                f"{graph.url} has nobody called {person!r}: check the id, the store, and that ISTHMUS_PSEUDONYM_KEY or "
                f"{settings.pseudonym_file} is the secret that it was ingested with"
            )
    snapshots = 0
    for manifest in (settings.var / "snapshots").glob("*/manifest.json"):
        if not accounts.isdisjoint(read_snapshot(manifest.parent).nodes("Account")["key"].to_pylist()):
            shutil.rmtree(manifest.parent)
            snapshots += 1
    print(
        f"Forgotten: {user} with {len(report.accounts)} accounts, {report.events} events, {waiting} events on their "
        f"way and {snapshots} snapshots. Train again for a model without them."
    )


def main() -> None:
    """Run a command: what a user can mend is one sentence on stderr and exit code 1, all else keeps its traceback."""
    try:
        app()
    except IsthmusError as error:
        sys.exit(_refuse(str(error)))
    except OSError as error:
        advice = MENDABLE.get(error.errno or 0)
        if advice is None:
            raise
        sys.exit(_refuse(f"{error.filename}: {advice}" if error.filename else advice))


def _refuse(sentence: str) -> int:
    print(f"isthmus: {sentence}", file=sys.stderr)
    return 1


def _settings(config: Path | None, **flags: object) -> "Settings":
    from settings import read_settings

    return read_settings(config, **flags)


def _pseudonyms(settings: "Settings") -> "Pseudonyms":
    """The configured pseudonyms; says so when their secret is made now."""
    new = settings.pseudonym_key is None and not settings.pseudonym_file.exists()
    pseudonyms = settings.pseudonyms()
    if new:
        print(
            f"A secret for pseudonyms was made: {settings.pseudonym_file}. Back it up apart from the graph; "
            "without it new events cannot be joined to these accounts.",
            file=sys.stderr,
        )
    return pseudonyms


def _named(text: str, settings: "Settings") -> "UserKey | AccountKey":
    """Who is meant by user:…, account:…, or by a platform's name and own id.

    Raises: UnknownPersonError if it is none of these, or no secret is there to make a pseudonym with.
    """
    from graph.keys import AccountKey, UserKey

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
    return settings.pseudonyms().account(platform, id)


if __name__ == "__main__":
    main()
