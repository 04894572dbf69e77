"""Keys to rows and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import KeyFormatError
from graph.vocabulary import Vocabulary

keys = st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True)


@given(keys)
def test_every_key_comes_back_from_its_row(keys: list[str]):
    vocabulary = Vocabulary(keys)
    assert [vocabulary.keys[vocabulary.row(key)] for key in keys] == keys
    assert vocabulary.rows(keys).tolist() == list(range(len(keys)))
    assert vocabulary.rows(keys).dtype == np.int64


@given(keys, keys)
def test_two_vocabularies_share_a_checksum_only_if_they_have_the_same_keys_in_the_same_order(
    first: list[str], second: list[str]
):
    one, other = Vocabulary(first), Vocabulary(second)
    newlines = any("\n" in key for key in first + second)
    assert (one == other) == (first == second)
    assert newlines or (one.checksum == other.checksum) == (first == second)
    if first == second:
        assert hash(one) == hash(other)


def test_a_key_given_twice_is_named():
    with pytest.raises(KeyFormatError, match="'films:2' is twice in a vocabulary of 4 keys"):
        Vocabulary(["films:1", "films:2", "films:3", "films:2"])


def test_a_key_that_is_not_here_is_named_or_none():
    vocabulary = Vocabulary(["films:1"])
    assert vocabulary.get("films:9") is None
    assert "films:9" not in vocabulary
    with pytest.raises(KeyError, match="films:9"):
        vocabulary.row("films:9")
    with pytest.raises(KeyError, match="films:9"):
        vocabulary.rows(["films:1", "films:9"])
