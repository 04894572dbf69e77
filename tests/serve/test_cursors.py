"""Cursors: what comes back is what was written, for the same request and model, for half an hour."""

import time

import numpy as np
import pytest

from serve.cursors import LIFETIME_S, Cursors, Rest
from serve.errors import Problem

ROWS = Rest(np.array([7, -1, 0, 70_000, 4_000_000_000, -1], dtype=np.int64), ["films:new", "music:newer"])
CURSORS = Cursors(b"a key")
ASKED = CURSORS.digest(b"asked")


def test_rows_and_end_come_back_in_any_process_with_the_key():
    text = CURSORS.write("v1", ASKED, ROWS)
    rows, expires = Cursors(b"a key").read(text, "v1", Cursors(b"a key").digest(b"asked"), "/cursor")
    assert (rows.rows.tolist(), rows.later) == (ROWS.rows.tolist(), ROWS.later)
    assert abs(expires - time.time() - LIFETIME_S) < 60
    later = CURSORS.write("v1", ASKED, Rest(ROWS.rows[:1], []), expires)
    assert CURSORS.read(later, "v1", ASKED, "/cursor")[1] == expires


def test_it_is_short_enough_for_an_address():
    assert len(CURSORS.write("v1", ASKED, Rest(np.arange(200), []))) < 1200


@pytest.mark.parametrize(
    ("version", "request_", "kind", "status"),
    [("v2", b"asked", "cursor-expired", 410), ("v1", b"other", "invalid-cursor", 422)],
)
def test_another_model_or_request_is_told_apart(version, request_, kind, status):
    text = CURSORS.write("v1", ASKED, ROWS)
    with pytest.raises(Problem) as caught:
        CURSORS.read(text, version, CURSORS.digest(request_), "/cursor")
    assert (caught.value.kind, caught.value.status) == (kind, status)


def test_it_ends(monkeypatch):
    text = CURSORS.write("v1", ASKED, ROWS)
    now = time.time()
    monkeypatch.setattr("serve.cursors.time.time", lambda: now + LIFETIME_S + 2)
    with pytest.raises(Problem, match="ask without a cursor") as caught:
        CURSORS.read(text, "v1", ASKED, "/cursor")
    assert caught.value.status == 410


def test_what_was_changed_or_made_by_another_is_refused():
    text = CURSORS.write("v1", ASKED, ROWS)
    changed = [text[:n] + ("A" if text[n] != "A" else "B") + text[n + 1 :] for n in range(0, len(text) - 1, 5)]
    for wrong in ("", "x", "%%%", "ä", text[:-4], Cursors(b"another").write("v1", ASKED, ROWS), *changed):
        with pytest.raises(Problem) as caught:
            CURSORS.read(wrong, "v1", ASKED, "/cursor")
        assert caught.value.status == 422
        assert caught.value.errors[0][0] == "/cursor"
