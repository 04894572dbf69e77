"""Tombstones on disk: read again when they change, written once, readable by their owner only."""

from pathlib import Path

from graph.keys import AccountKey, UserKey, tombstone
from graph.tombstones import Tombstones

ANN, BEN = AccountKey("films", "4nn"), AccountKey("films", "b3n")


def test_what_one_process_writes_another_sees_at_once(tmp_path: Path) -> None:
    reader, writer = Tombstones(tmp_path / "var"), Tombstones(tmp_path / "var")
    assert reader.erased([ANN]) == set()
    writer.add([tombstone("4nn")])
    assert reader.erased([ANN, BEN, UserKey("4nn")]) == {ANN, "user:4nn"}
    writer.add([tombstone("4nn"), tombstone("b3n")])
    assert reader.erased([BEN]) == {BEN}
    assert list(reader) == sorted([tombstone("4nn"), tombstone("b3n")])
    file = tmp_path / "var" / "tombstones"
    assert len(file.read_text().split()) == 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert "4nn" not in file.read_text()
