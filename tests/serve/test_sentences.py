"""Sentences: they say the largest paths, and name nothing that is not in them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.sentences import reason


def path(title, contribution, relation="LEADS_TO", via=None, type="RATED", value=None):
    event = {"item_id": f"films:{title}", "title": title, "type": type, "value": value, "at": "2024-01-01T00:00:00Z"}
    return {"event": event, "relation": relation, "via": via, "contribution": contribution}


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (
            [path("Lion King, The", 0.5, value=5.0)],
            "Because you rated “Lion King, The” 5: people who liked it went on to this.",
        ),
        (
            [
                path("Alien", 0.3, "DIRECTED_BY", "person:Ridley Scott", "PURCHASED"),
                path("Dune", 0.4, "NEXT", type="SAVED"),
                path("Alien", 0.2, "SIMILAR", type="PURCHASED"),
            ],
            "Because you bought “Alien”: both have the person “Ridley Scott” and the two are alike. "
            "You also saved “Dune”.",
        ),
        ([path("Alien", -0.3), {"event": None, "relation": "OTHERS", "via": None, "contribution": 1.0}], None),
        ([], None),
        (
            [path("Alien", 0.1, "FROM_COUNTRY", type="PLAYED")],
            "Because you played “Alien”: the two are near by from country.",
        ),
    ],
)
def test_what_is_said(paths, sentence):
    assert reason("films", paths) == (sentence or "Liked by many on films.")


names = st.text(st.characters(codec="utf-8", exclude_characters="“”:"), min_size=1, max_size=12)
paths = st.builds(
    path,
    names,
    st.floats(-1, 1),
    st.sampled_from(["LEADS_TO", "IN_CATEGORY", "TOGETHER"]),
    st.none() | names.map(lambda name: f"category:{name}"),
    st.sampled_from(["RATED", "VIEWED"]),
    st.none() | st.just(4.0),
)


@given(st.lists(paths, max_size=6))
def test_every_name_in_a_sentence_is_in_the_paths(found):
    quoted = re.findall("“([^”]*)”", reason("films", found))
    assert set(quoted) <= {name for each in found for name in (each["event"]["title"], (each["via"] or ":")[9:])}
