"""The report of a run: what became of the rows of each file, as numbers and as a table of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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

    @property
    def rows_per_s(self) -> float:
        return self.read / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a run did."""

    files: Sequence[FileReport]
    seconds: float
    quarantine: Path | None
    """Where the rejected rows are, with their reasons; None when there is none."""
    reasons: Sequence[tuple[str, int]] = ()
    """Why rows were rejected and how many for each reason, the most frequent first."""
    left_out: Sequence[tuple[str, int]] = ()
    """Why evidence of who is who is not believed, and how many pieces in the whole store, the most frequent first."""

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

    def __str__(self) -> str:
        rows = [*self.files, self.total]
        width = max(len(row.file) for row in rows)
        head = f"{'file':{width}}  {'section':10}  {'read':>9}  {'accepted':>9}  {'duplicates':>10}"
        lines = [f"{head}  {'rejected':>8}  {'rows/s':>8}"]
        for row in rows:
            counts = f"{row.read:9,}  {row.accepted:9,}  {row.duplicates:10,}  {row.rejected:8,}"
            lines.append(f"{row.file:{width}}  {row.section:10}  {counts}  {row.rows_per_s:8,.0f}")
        if self.quarantine is not None:
            lines.append(f"rejected rows, each with its line and reason, are in {self.quarantine}")
            lines += [f"{count:9,} x {reason}" for reason, count in self.reasons[:5]]
        if self.left_out:
            lines.append("left out of who is who (isthmus person shows an account's):")
            lines += [f"{count:9,} x {reason}" for reason, count in self.left_out]
        return "\n".join(lines)
