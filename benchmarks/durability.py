"""`kill -9` at random moments of an ingest: is anything lost, does a re-run complete, do the counts still add up?

    python -m benchmarks.durability [--kills 50] [--events 60000] [--seed 0]

An export with repeated and bad rows, made here, is read by `isthmus ingest` and by `isthmus ingest --follow`, each a
process of its own that is killed while it writes, or at times before it does: twice over each store, then the run is
repeated to its end. Graph, quarantine and counts are compared with those of a run that nobody disturbed. What --follow
noted as read is not read again, so a row that it had acknowledged and lost would be missing at the end.
"""

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from graph.keys import Pseudonyms
from graph.store import checksum, open_store
from ingest.follow import follow as follow_files
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.quarantine import quarantined
from ingest.report import IngestReport

ROOT: Final = Path(__file__).resolve().parents[1]
KILLS_A_STORE: Final = 2
KEY: Final = "the key of this trial"
FILES: Final = 6
MAPPING: Final = """\
platform: shop
items: {file: items.csv, id: item, title: title}
accounts: {file: accounts.csv, id: account, mail: mail}
events:
  file: events-*.csv
  account: account
  item: item
  type: {column: kind, values: {buy: PURCHASED, look: VIEWED}}
  at: {column: at, format: seconds}
"""


def main() -> None:
    """Kill, run again, compare; print the table, and fail where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="half of them of each command")
    parser.add_argument("--events", type=int, default=60_000, help="rows of events in the export")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| command | killed | of these half-way | stores | same graph | same quarantine | counts add up |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), options.events, options.seed)
        for follow, kills in ((False, options.kills // 2), (True, options.kills - options.kills // 2)):
            print(trial.disturb(kills, follow=follow), flush=True)
    if trial.faults:
        sys.exit("\n".join(trial.faults))


@dataclass(frozen=True)
class Outcome:
    """What a store and a quarantine hold."""

    graph: Mapping[str, str]
    quarantine: Sequence[tuple[str, int, str]]
    """File, line and rule of every bad row."""


class Trial:
    """An export, what an undisturbed run makes of it, and runs that are killed."""

    def __init__(self, folder: Path, events: int, seed: int) -> None:
        self.folder = folder
        self.faults: list[str] = []
        self.random = random.Random(seed)
        write_export(folder, events, self.random)
        self.report = self._complete(folder / "undisturbed", follow=False)
        self.expected = outcome(folder / "undisturbed")
        self.whole = held(folder / "undisturbed")

    def disturb(self, kills: int, *, follow: bool) -> str:
        """Kill so many times, twice a store, and let each store's last run end; a line of the table."""
        stores = writing = graphs = quarantines = sums = 0
        for first in range(0, kills, KILLS_A_STORE):
            var = self.folder / f"killed-{follow}-{first}"
            for _ in range(min(KILLS_A_STORE, kills - first)):
                writing += self._kill(var, follow=follow)
            report = self._complete(var, follow=follow)
            found = outcome(var)
            stores += 1
            graphs += found.graph == self.expected.graph
            quarantines += found.quarantine == self.expected.quarantine
            add_up = all(each.accepted + each.duplicates + each.rejected == each.read for each in report.files)
            if not follow:  # the whole export is read again
                told = [[(each.file, each.read, each.rejected) for each in one.files] for one in (report, self.report)]
                add_up = add_up and told[0] == told[1]
            sums += add_up
        if min(graphs, quarantines, sums) < stores:
            self.faults.append(
                f"of {stores} stores {graphs} hold the graph, {quarantines} the bad rows, {sums} the sums"
            )
        command = "`isthmus ingest --follow`" if follow else "`isthmus ingest`"
        return f"| {command} | {kills} | {writing} | {stores} | {graphs} | {quarantines} | {sums} |"

    def _kill(self, var: Path, *, follow: bool) -> bool:
        """End a run with SIGKILL at a random moment; returns whether the store held something but not all by then."""
        arguments = ["ingest", str(self.folder / "shop.yaml"), "--var", str(var), *(["--follow"] if follow else [])]
        target = self.random.uniform(held(var), self.whole)
        latest = time.monotonic() + (self.random.uniform(0, 2) if self.random.random() < 0.2 else 60)
        with subprocess.Popen(
            [sys.executable, "-m", "isthmus", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "ISTHMUS_PSEUDONYM_KEY": KEY},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None and held(var) < target and time.monotonic() < latest:
                time.sleep(0.03)
            time.sleep(self.random.uniform(0, 0.1))
            process.kill()
        return 0 < held(var) < self.whole

    def _complete(self, var: Path, *, follow: bool) -> IngestReport:
        """What the command does, to its end."""
        mappings, pseudonyms = [read_mapping(self.folder / "shop.yaml")], Pseudonyms(KEY.encode())
        with open_store(f"sqlite:///{var / 'graph.db'}") as store:
            if not follow:
                return ingest(mappings, store, pseudonyms, var, data=self.folder)
            looks = follow_files(mappings, store, pseudonyms, var, data=self.folder, stop=threading.Event(), say=print)
            return next(looks)


def write_export(folder: Path, events: int, random: random.Random) -> None:
    """A mapping and its files: a tenth of the events is there twice, a twentieth names no item or no time."""
    (folder / "shop.yaml").write_text(MAPPING)
    items, accounts = max(10, events // 30), max(10, events // 20)
    (folder / "items.csv").write_text("item,title\n" + "".join(f"{n},Thing {n}\n" for n in range(items)))
    mails = "".join(f"a{n},m{n // 2 * 2}@example.org\n" for n in range(0, accounts, 3))
    (folder / "accounts.csv").write_text(f"account,mail\n{mails}")
    rows: list[str] = []
    for n in range(events):
        chance = random.random()
        if rows and chance < 0.1:
            rows.append(random.choice(rows))
            continue
        item = items + n if chance < 0.125 else random.randrange(items)
        at = "then" if chance > 0.975 else 1_600_000_000 + n
        rows.append(f"a{random.randrange(accounts)},{item},{random.choice(['buy', 'look'])},{at}\n")
    for file in range(FILES):
        text = "account,item,kind,at\n" + "".join(rows[file::FILES])
        (folder / f"events-{file}.csv").write_text(text)


def outcome(var: Path) -> Outcome:
    """What the runs left in a folder."""
    with open_store(f"sqlite:///{var / 'graph.db'}") as store:
        graph = checksum(store)
    bad = quarantined(var)
    return Outcome(graph, list(zip(*(bad[name].to_pylist() for name in ("file", "line", "rule")), strict=True)))


def held(var: Path) -> int:
    """Nodes and events in the store of a folder."""
    try:
        with closing(sqlite3.connect(f"file:{var / 'graph.db'}?mode=ro", uri=True)) as database:
            return sum(
                int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
                for table in ("nodes", "events")
            )
    except sqlite3.OperationalError:  # there is no store yet, or none of its tables
        return 0


if __name__ == "__main__":
    main()
