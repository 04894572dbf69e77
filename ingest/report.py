"""The report of a run: what became of the rows of each file, and why those that were rejected were; text and JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from graph.store import Retried
from ingest.quarantine import Broken

_SHOWN = 5
"""Broken rules that the text shows."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of the rows of one file; accepted + duplicates + rejected = read."""

    file: str
    section: str
    read: int
    accepted: int
    duplicates: int
    """Rows that said what an earlier row or an earlier run had said."""
    rejected: int
    seconds: float
    missing: Mapping[str, int] = field(default_factory=dict)
    """Field that a row may leave out → readable rows that do. The graph has no value there, and none is made up."""

    def __add__(self, later: "FileReport") -> "FileReport":
        """The rows of both, of one file and section."""
        return FileReport(
            self.file,
            self.section,
            self.read + later.read,
            self.accepted + later.accepted,
            self.duplicates + later.duplicates,
            self.rejected + later.rejected,
            self.seconds + later.seconds,
            Counter(self.missing) + Counter(later.missing),
        )

    @property
    def rows_per_s(self) -> float:
        return self.read / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a run did."""

    files: Sequence[FileReport]
    seconds: float
    quarantine: Path | None
    """The folder where rejected rows are kept; None where they are not."""
    broken: Sequence[Broken] = ()
    """Which rules were broken, the most frequent first."""
    left_out: Sequence[tuple[str, int]] = ()
    """Why evidence of who is who is not believed, and how many pieces in the whole store, the most frequent first."""
    retried: Retried = field(default_factory=Retried)
    """What the store tried again since it was opened."""

    def __add__(self, later: "IngestReport") -> "IngestReport":
        """This run and a later one as one: a file that both read has one line."""
        files: dict[tuple[str, str], FileReport] = {}
        for each in (*self.files, *later.files):
            before = files.get((each.file, each.section))
            files[each.file, each.section] = each if before is None else before + each
        rules: dict[tuple[str, str, str, str], Broken] = {}
        for broken in (*self.broken, *later.broken):
            place = broken.file, broken.section, broken.field, broken.rule
            first = rules.get(place)
            rules[place] = broken if first is None else replace(first, rows=first.rows + broken.rows)
        return IngestReport(
            list(files.values()),
            self.seconds + later.seconds,
            later.quarantine,
            sorted(rules.values(), key=lambda broken: -broken.rows),
            later.left_out or self.left_out,
            later.retried,
        )

    @property
    def total(self) -> FileReport:
        """All files together; its seconds include what lies between them."""
        read, accepted, duplicates, rejected = (
            sum(counts)
            for counts in zip(
                (0, 0, 0, 0), *((f.read, f.accepted, f.duplicates, f.rejected) for f in self.files), strict=True
            )
        )
        return FileReport("total", "", read, accepted, duplicates, rejected, self.seconds)

    def json(self) -> dict[str, Any]:
        """The report for programs."""
        total = asdict(self.total)
        return {
            "seconds": round(self.seconds, 3),
            "total": {name: total[name] for name in ("read", "accepted", "duplicates", "rejected")},
            "files": [asdict(each) | {"seconds": round(each.seconds, 3)} for each in self.files],
            "evidence_left_out": dict(self.left_out),
            "retried": asdict(self.retried),
            "rejected": [
                asdict(each) | {"rule": str(each.rule), "asks": each.rule.asks, "advice": each.rule.advice}
                for each in self.broken
            ],
        }

    def __str__(self) -> str:
        lines = [_table([*self.files, self.total])]
        lines += [
            f"{each.file} ({each.section}): {', '.join(f'{n:,} rows without {name}' for name, n in gaps.items())}"
            for each in self.files
            if (gaps := each.missing)
        ]
        if self.broken and self.quarantine is not None:
            lines.append(f"rejected rows are in {self.quarantine}; isthmus quarantine shows them and tries them again")
        lines += [f"{each}\n{'':12}{each.rule.advice}" for each in self.broken[:_SHOWN]]
        if len(self.broken) > _SHOWN:
            lines.append(f"{'':12}and {len(self.broken) - _SHOWN} more rules in a field of a file")
        if self.retried.transactions:
            lines.append(
                f"{self.retried.transactions:,} transactions were tried again, {self.retried.deadlocks:,} of them "
                "after a deadlock with another writer; nothing of them is lost"
            )
        if self.left_out:
            lines.append("left out of who is who (isthmus person shows an account's):")
            lines += [f"{count:9,} x {reason}" for reason, count in self.left_out]
        return "\n".join(lines)


def _table(rows: Sequence[FileReport]) -> str:
    width = max(len(row.file) for row in rows)
    head = f"{'file':{width}}  {'section':10}  {'read':>9}  {'accepted':>9}  {'duplicates':>10}"
    lines = [f"{head}  {'rejected':>8}  {'rows/s':>8}"]
    for row in rows:
        counts = f"{row.read:9,}  {row.accepted:9,}  {row.duplicates:10,}  {row.rejected:8,}"
        lines.append(f"{row.file:{width}}  {row.section:10}  {counts}  {row.rows_per_s:8,.0f}")
    return "\n".join(lines)
