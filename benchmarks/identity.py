"""How many accounts are joined rightly when a tenth of the evidence is wrong or missing, through the whole road.

    python -m benchmarks.identity [--only food-kitchen] [--data ../shared/data]

The truth is `identities.csv.gz` of food-kitchen and beauty-sports-toys: person, platform, account, one row an account.
They are Amazon reviews of 2014 (McAuley et al.) by people who reviewed in two or three departments, each department a
platform; ingest/mappings/README.md says how to get the originals. From the truth a table, mail addresses, telephone
numbers and logins are made; of each, a tenth of the rows is left out, or names somebody else who is drawn at random.
These exports are ingested into a new SQLite store, and the pairs of accounts that have come out as one person are
compared with those of the truth.

* table: an identity table, which the store believes.
* mail, phone: every account's row may err by itself; who shares a wrong one with a stranger is what conflicts find.
* login: for each of a person's accounts but the first, that it logged in with the first.
"""

import argparse
import csv
import gzip
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Final, NamedTuple

from graph.keys import Pseudonyms
from graph.store import Store, open_store
from ingest.load import ingest
from ingest.mapping import read_mapping

SETS: Final = ("food-kitchen", "beauty-sports-toys")
SHARE: Final = 0.1
SEED: Final = 2026
KINDS: Final = (("table",), ("mail",), ("mail", "phone"), ("mail", "phone", "login"))
ERRORS: Final = ("missing", "wrong")
PSEUDONYMS: Final = Pseudonyms(b"benchmarks: no secret")


class Row(NamedTuple):
    """An account and whose it is."""

    person: str
    platform: str
    account: str


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SETS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder of these two sets")
    given = parser.parse_args()
    print("| set | evidence | a tenth is | precision | recall | left out | s |\n|---|---|---|---|---|---|---|")
    for name in [given.only] if given.only else SETS:
        file = given.data / name / "identities.csv.gz"
        if not file.is_file():
            sys.exit(f"{file} is not there: ingest/mappings/README.md says how to get it")
        with gzip.open(file, "rt", newline="") as stream:
            truth = [Row(each["person"], each["platform"], each["account"]) for each in csv.DictReader(stream)]
        for kinds in KINDS:
            for error in ERRORS:
                print(f"| {name} | {' + '.join(kinds)} | {error} | {measured(truth, kinds, error)} |", flush=True)


def measured(truth: Sequence[Row], kinds: Sequence[str], error: str) -> str:
    """The figures of one line, as the table shows them."""
    draw = random.Random(f"{SEED} {kinds} {error}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mappings = [read_mapping(path) for path in exported(folder, truth, kinds, error, draw)]
        with open_store(f"sqlite:///{folder}/graph.db") as store:
            began = time.perf_counter()
            ingest(mappings, store, PSEUDONYMS, folder / "var", data=folder)
            seconds = time.perf_counter() - began
            found, left_out = joined(store)
    people: dict[str, list[str]] = defaultdict(list)
    for row in truth:
        people[row.person].append(str(PSEUDONYMS.account(row.platform, row.account)))
    true = pairs(people)
    right = len(found & true)
    return f"{right / max(len(found), 1):.3f} | {right / len(true):.3f} | {left_out:,} | {seconds:.0f}"


def exported(
    folder: Path, truth: Sequence[Row], kinds: Sequence[str], error: str, draw: random.Random
) -> Iterable[Path]:
    """Write what each platform would export, and its mapping."""
    everybody = sorted({row.person for row in truth})
    number_of = {person: f"+49{100_000 + n}" for n, person in enumerate(everybody)}
    firsts: dict[str, Row] = {}
    for row in truth:
        firsts.setdefault(row.person, row)

    def said(person: str) -> str | None:
        """Whom a row names: mostly the person, else nobody or another."""
        if draw.random() >= SHARE:
            return person
        return None if error == "missing" else draw.choice(everybody)

    files: Mapping[str, list[list[str]]] = defaultdict(list)
    platforms = sorted({row.platform for row in truth})
    for row in truth:
        table, mail, phone = (said(row.person) if kind in kinds else None for kind in ("table", "mail", "phone"))
        logins = dict.fromkeys(platforms, "")
        if "login" in kinds and firsts[row.person] != row and (person := said(row.person)):
            other = firsts[person]
            logins[other.platform] = other.account if other != row else ""
        shared = [f"{mail}@example.org" if mail else "", number_of[phone] if phone else ""]
        files[row.platform].append([row.account, *shared, *logins.values()])
        if table:
            files["table"].append([table, row.platform, row.account])
    with (folder / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["person", "platform", "account"], *files["table"]])
    for platform in platforms:
        with (folder / f"{platform}.csv").open("w", newline="") as stream:
            header = ["account", "mail", "phone", *(f"login_{other}" for other in platforms)]
            csv.writer(stream).writerows([header, *files[platform]])
        logins = {other: f"login_{other}" for other in platforms}
        lines = [
            f"platform: {platform}",
            f"accounts: {{file: {platform}.csv, id: account, mail: mail, phone: phone, logins: {logins}}}",
        ]
        if "table" in kinds:
            lines.append("identities: {file: table.csv, person: person, platform: platform, account: account}")
        (folder / f"{platform}.yaml").write_text("\n".join(lines) + "\n")
        yield folder / f"{platform}.yaml"


def joined(store: Store) -> tuple[set[frozenset[str]], int]:
    """The pairs of accounts that are one person, and how many pieces of evidence were left out."""
    people: dict[str, list[str]] = defaultdict(list)
    for batch in store.read_links():
        for link in batch.to_pylist():
            people[link["user"]].append(link["account"])
    return pairs(people), sum(len(batch) - batch["left_out"].null_count for batch in store.read_evidence())


def pairs(people: Mapping[str, Sequence[str]]) -> set[frozenset[str]]:
    """Every two accounts of one person."""
    return {frozenset(pair) for accounts in people.values() for pair in combinations(accounts, 2)}


if __name__ == "__main__":
    main()
