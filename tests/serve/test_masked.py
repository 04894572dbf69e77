import pytest

from serve.errors import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nobody is called 'ann@mail.example'", "nobody is called '…'"),
        ("/v1/users/ann%40mail.example/events", "/v1/users/…/events"),
        ("films:ann.lee+x@mail.example is not there", "films:… is not there"),
        ("call +49 171 4711-0815 now", "call … now"),
        ("isthmus_" + 43 * "A", "…"),
    ],
)
def test_what_reads_like_an_identity_or_a_key_is_masked(text: str, shown: str):
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the bundle 39aa3aa97b30 has no item movielens:50123456789012",
        "2026-01-31T12:00:00+05:30 is more than a day ahead of this server's clock",
        "var/keys: make one with isthmus key",
        "film@night is no platform",
    ],
)
def test_ids_instants_and_words_are_not(text: str):
    assert masked(text) == text
