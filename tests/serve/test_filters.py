"""Filters: what is said is what passes, and what cannot be said is told with its place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.filters import (
    MAX_LENGTH,
    MAX_TESTS,
    Comparison,
    Every,
    FilterError,
    Not,
    Some,
    check,
    mask,
    parse,
    within,
)


def number_of(item: str) -> int:
    return int(item.rpartition("-")[2])


EVERYTHING = {
    'platform == "films"': lambda item: item.startswith("films:"),
    "platform != 'films'": lambda item: not item.startswith("films:"),
    'platform in ["films", "music"] and number < 2': lambda item: (
        item[:5] in ("films", "music") and number_of(item) < 2
    ),
    'platform not in ["films"]': lambda item: not item.startswith("films:"),
    "number >= 2 and number <= 3 or number == 7": lambda item: number_of(item) in (2, 3, 7),
    "number == 1 or number == 2 and even": lambda item: number_of(item) in (1, 2),
    "(number == 1 or number == 2) and even": lambda item: number_of(item) == 2,
    "not even": lambda item: number_of(item) % 2 == 1,
    "not (even or number > 3)": lambda item: number_of(item) in (1, 3),
    "even == false": lambda item: number_of(item) % 2 == 1,
    '"space" in category': lambda item: "space" in item,
    '"space" not in category': lambda item: "space" not in item,
    '"t" in tags': lambda item: number_of(item) > 0,
    "tags == null": lambda item: number_of(item) == 0,
    "tags != null and `number` < 2": lambda item: number_of(item) == 1,
    'created_at < "2023-03-01"': lambda item: number_of(item) < 2,
    'created_at >= "2023-03-01T02:00:00+02:00"': lambda item: number_of(item) >= 2,
    'title == "Überraschung im Garten 花园"': lambda item: "garden-2" in item,
    "number > 100": lambda item: False,
}


@pytest.mark.parametrize("text", EVERYTHING)
def test_exactly_what_is_said_passes(recommender, text: str):
    passing = recommender.allowed(parse(text))
    keys = recommender.bundle.items.keys
    assert {keys[row] for row in np.flatnonzero(passing)} == {item for item in keys if EVERYTHING[text](item)}


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 0, "is expected, not the end"),
        ("number ==", 9, "a value is expected, not the end"),
        ("number = 3", 7, "= means nothing"),
        ('platform == "films', 12, "is not closed"),
        ("number == 1 even", 12, "and, or, or the end is expected, not even"),
        ("(number == 1", 12, ") is expected"),
        ("number in 3", 10, "[ is expected"),
        ("3 in tags", 0, "lists hold texts"),
        ("number < null", 9, "a value is expected, not null"),
        ("__import__('os')", 10, "and, or, or the end"),
        ("number.real == 1", 0, "items have no number.real"),
        ("colour == 1", 0, "items have no colour: they have category, created_at, even, in_category, number"),
        ('number == 1 and number == "a"', 16, 'number is a number, not "a"'),
        ("platform == 3", 0, "platform is a text, not 3"),
        ("platform", 0, "platform is a text, not true"),
        ('tags == "t"', 0, 'write "…" in tags'),
        ('"films" in platform', 11, "write platform == …"),
        ('created_at > "yesterday"', 0, "created_at is an instant, such as"),
        ("even > true", 0, "knows no order"),
        ("even == 1", 0, "even is true or false, not 1"),
        ("not " * 21 + "even", 80, "more than 20"),
        ("(" * 21 + "even" + ")" * 21, 20, "more than 20"),
        ("even or " * MAX_TESTS + "even", 8 * MAX_TESTS, f"may have {MAX_TESTS} tests"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH, f"may have {MAX_LENGTH} characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(recommender, text: str, position: int, said: str):
    with pytest.raises(FilterError) as caught:
        recommender.allowed(parse(text))
    assert caught.value.position == position
    assert said in str(caught.value)
    assert f"at character {position + 1}" in str(caught.value)


def test_the_context_of_a_request_can_be_asked_for(recommender):
    tree = parse('context.device == "tv" and even or context.age >= 18 and context.hour == null')
    size = len(recommender.bundle.items)
    even = recommender.allowed(parse("even")).sum()
    assert recommender.allowed(tree, {"device": "tv", "hour": 3}).sum() == even
    assert recommender.allowed(tree, {"age": 18}).sum() == size
    assert recommender.allowed(tree, {"age": "18"}).sum() == 0
    assert recommender.allowed(tree, {"age": True}).sum() == 0
    assert recommender.allowed(tree).sum() == 0
    assert recommender.allowed(parse('not context.device == "tv"'), {"device": "tv"}).sum() == 0


tests = st.builds(
    Comparison,
    st.just("number"),
    st.sampled_from(["==", "<", "<=", ">", ">="]),
    st.integers(0, 8).map(float),
    st.just(0),
)
trees = st.recursive(
    tests,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(tuple).map(Every),
        st.lists(inner, min_size=2, max_size=3).map(tuple).map(Some),
    ),
    max_leaves=8,
)


def written(tree) -> str:
    if isinstance(tree, Comparison):
        return f"{tree.name} {tree.order} {tree.value:g}"
    if isinstance(tree, Not):
        return f"not ({written(tree.inner)})"
    return (" and " if isinstance(tree, Every) else " or ").join(f"({written(each)})" for each in tree.inner)


def truth(tree, number: int) -> bool:
    if isinstance(tree, Comparison):
        return eval(f"{number} {tree.order} {tree.value}")  # noqa: S307
    if isinstance(tree, Not):
        return not truth(tree.inner, number)
    return (all if isinstance(tree, Every) else any)(truth(each, number) for each in tree.inner)


@given(trees)
def test_any_tree_is_read_back_and_passes_what_python_says(recommender, tree):
    found = parse(written(tree))
    check(found, recommender.bundle.attributes)
    passing = mask(within(found, {}), recommender.bundle.attributes)
    assert passing.tolist() == [truth(tree, number_of(item)) for item in recommender.bundle.items.keys]


@given(st.text(max_size=60) | st.text("()[]\"'`andornotin, =!<>1.e", max_size=60))
def test_any_text_is_a_filter_or_told_why_not(recommender, text: str):
    places = [0]
    try:
        recommender.allowed(parse(text))
    except FilterError as error:
        places.append(error.position)
    assert 0 <= places[-1] <= len(text)
