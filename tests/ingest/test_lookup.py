"""A table of ids on disk: what is looked up, what is not there, and what stays behind."""

from pathlib import Path

import pytest

from ingest.errors import SourceError
from ingest.mapping import Items
from ingest.sources.files import local_file
from ingest.sources.lookup import LookedUp, Lookup
from ingest.sources.rows import Malformed, open_source


def test_a_field_is_replaced_where_the_table_has_it_and_bad_rows_pass(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("who,what\nann,part\nben,whole\nbroken\ncid,part\n")
    source = open_source(local_file(tmp_path / "a.csv"), Items(file=("a.csv",), id="what"))
    looked_up = LookedUp(source, "what", Lookup([("part", "album"), ("part", "second"), ("other", "x")]))
    assert list(looked_up.rows()) == [
        (2, ["ann", "album"]),
        (3, ["ben", "whole"]),
        (4, Malformed("has 1 fields where the header has 2")),
        (5, ["cid", "album"]),
    ]
    looked_up.close()


def test_nothing_stays_behind_whether_it_ends_well_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def pairs():
        yield "a", "b"
        raise SourceError("the table breaks off")

    with pytest.raises(SourceError, match="breaks off"):
        Lookup(pairs())
    whole = Lookup([("a", "b")])
    assert whole.found(["a", "c"]) == {"a": "b"}
    whole.close()
    assert not list(tmp_path.iterdir())
