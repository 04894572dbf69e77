"""Writes that another writer is in the way of: tried again, counted, nothing lost."""

from graph.store import Retried
from ingest.report import IngestReport


def test_the_report_says_what_was_tried_again() -> None:
    report = IngestReport([], 1.0, None, retried=Retried(3, 2))
    assert "3 transactions were tried again, 2 of them after a deadlock with another writer" in str(report)
    assert report.json()["retried"] == {"transactions": 3, "deadlocks": 2}
    assert "tried again" not in str(IngestReport([], 1.0, None))
