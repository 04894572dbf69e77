"""A big export into a new SQLite store: rows/s, and the memory of all processes that take part.

    python -m benchmarks.big_export [--events 1000000 10000000] [--parsed-by one ray] [--folder .]

The export is synthetic and drawn from a seed: ratings of one platform as csv, 25 a person, 100 an item and some items
liked far more than others, times to the second over five years. One row in a hundred is told twice, one in a thousand
is of an item that no catalogue names and one in a thousand is no event. `isthmus ingest` reads it, as a user would, in
a process of its own. Memory is the sum of the proportional set sizes of that process and all it started (Linux: a page
that two share counts half for each), looked at five times a second.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

ROOT: Final = Path(__file__).resolve().parents[1]
PART: Final = 500_000
FIRST: Final = 1_600_000_000
SECONDS: Final = 5 * 365 * 86_400
MAPPING: Final = """
platform: shop
items: {file: items.csv, id: item, title: title}
events:
  file: events.csv
  account: account
  item: item
  type: RATED
  at: {column: at, format: seconds}
  value: {column: stars, scale: [1, 5], positive_from: 3}
"""

PARSERS: Final = {
    name: f"""
import sys, time
import ingest.load, ingest.parallel, isthmus
ingest.parallel.WORTH, ingest.parallel.CORES = {worth}, 1
def measured(*given, ingest=ingest.load.ingest, **named):
    report, took = ingest(*given, **named), time.process_time()
    print("writer", took, file=sys.stderr)
    return report
ingest.load.ingest = measured
isthmus.main()
"""
    for name, worth in {"one": 1 << 60, "ray": 0}.items()
}
"""What a process runs that parses its export alone, or on Ray."""


def main() -> None:
    """Measure each size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, help="where the exports and stores are for a while: 0.4 GB a million")
    parser.add_argument("--parsed-by", choices=list(PARSERS), nargs="+", default=list(PARSERS))
    options = parser.parse_args()
    print("| events | parsed by | MB of csv | ingest s | CPU of the writer | rows/s | report s | peak GiB | MB kept |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|--:|")
    for events in options.events:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            write_export(Path(folder), events)
            for parsed_by in options.parsed_by:
                print(measure(Path(folder), events, parsed_by), flush=True)


def write_export(folder: Path, events: int, seed: int = 0) -> None:
    """Write items.csv, events.csv and shop.yaml; `events` counts all rows of events."""
    (folder / "shop.yaml").write_text(MAPPING)
    random = np.random.default_rng(seed)
    people, items = max(1, events // 25), max(1, events // 100)
    numbers = pa.array(range(items))
    titles = pc.binary_join_element_wise("The thing number", numbers.cast(pa.string()), " ")
    pyarrow.csv.write_csv(pa.table({"item": numbers, "title": titles}), folder / "items.csv")
    with pyarrow.csv.CSVWriter(folder / "events.csv", pa.schema([(n, pa.string()) for n in COLUMNS])) as writer:
        for start in range(0, events, PART):
            writer.write(part_of(random, min(PART, events - start), people, items))


COLUMNS: Final = ("account", "item", "at", "stars")


def part_of(random: np.random.Generator, rows: int, people: int, items: int) -> pa.Table:
    """So many rows of events."""
    item = (items * random.random(rows) ** 3).astype(np.int64)
    item[random.random(rows) < 0.001] += 10 * items  # in no catalogue
    at = random.integers(FIRST, FIRST + SECONDS, rows).astype(str).astype(object)
    at[random.random(rows) < 0.001] = "yesterday"
    account, stars = random.integers(people, size=rows).astype(str), random.integers(1, 6, rows).astype(str)
    again = np.arange(rows)
    twice = np.flatnonzero(random.random(rows) < 0.01)
    again[twice[twice > 0]] -= 1  # what the row before says
    return pa.table(
        {
            name: pa.array(column[again])
            for name, column in zip(COLUMNS, (account, item.astype(str), at, stars), strict=True)
        }
    )


def measure(folder: Path, events: int, parsed_by: str) -> str:
    """One line of the table."""
    var = folder / parsed_by
    store = var / "graph.db"
    environment = os.environ | {"ISTHMUS_PSEUDONYM_KEY": "a key for measuring", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PARSERS[parsed_by], "ingest", str(folder / "shop.yaml"), "--var", str(var)]
    started = time.perf_counter()
    peak = 0
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [*command, "--store", f"sqlite:///{store}"], cwd=ROOT, env=environment, stdout=said, stderr=said
        )
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.2)
    seconds = time.perf_counter() - started
    said_text = (folder / "said.txt").read_text()
    if process.returncode:
        sys.exit(said_text)
    run = json.loads(Path(re.findall(r"^report +(.*)\.html$", said_text, re.M)[0] + ".json").read_text())["run"]
    total = run["total"]
    assert total["read"] == total["accepted"] + total["duplicates"] + total["rejected"]
    print(total, file=sys.stderr)
    size, kept = (path.stat().st_size / 1e6 for path in (folder / "events.csv", store))
    took, cpu = run["seconds"], float(re.findall(r"^writer (.*)$", said_text, re.M)[0])
    return (
        f"| {events:,} | {parsed_by} | {size:,.0f} | {took:,.0f} | {cpu:,.0f} | {total['read'] / took:,.0f} "
        f"| {seconds - took:,.0f} | {peak / 2**30:.2f} | {kept:,.0f} |"
    )


def memory(process: int) -> int:
    """Bytes of memory of a process and all that it started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, todo = 0, [process]
    while todo:
        one = todo.pop()
        todo += children.get(one, [])
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += 1024 * int(re.findall(r"^Pss: +(\d+) kB", text, re.M)[0]) if text else 0
    return found


if __name__ == "__main__":
    main()
