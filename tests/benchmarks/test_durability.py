"""A short form of `python -m benchmarks.durability`: runs that are killed lose nothing, and a re-run completes."""

from pathlib import Path

from benchmarks.durability import Trial


def test_runs_that_are_killed_lose_nothing_and_a_re_run_completes(tmp_path: Path) -> None:
    trial = Trial(tmp_path, events=6_000, seed=1)
    assert trial.disturb(1, follow=False).endswith("| 1 | 1 | 1 | 1 |")
    assert trial.disturb(2, follow=True).endswith("| 1 | 1 | 1 | 1 |")
    assert not trial.faults
    assert {row[2] for row in trial.expected.quarantine} == {"unknown-item", "not-an-instant"}
