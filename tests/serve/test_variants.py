from collections import Counter

from graph.keys import UserKey
from serve.variants import Variant, Variants
from tests.serve.taste import taste_recommender

PEOPLE = [UserKey(str(number)) for number in range(10_000)]


def variants(*shares: float) -> Variants:
    return Variants([Variant(f"v{place}", taste_recommender(), share) for place, share in enumerate(shares)])


def test_each_variant_answers_its_share_of_the_people():
    three = variants(0.7, 0.2, 0.1)
    counts = Counter(three.of(person).name for person in PEOPLE)
    assert [round(counts[f"v{place}"] / len(PEOPLE), 1) for place in range(3)] == [0.7, 0.2, 0.1]


def test_a_person_stays_with_a_variant_while_its_share_grows():
    before, after = variants(0.5, 0.5), variants(0.6, 0.4)
    assert all(after.of(person).name == "v0" for person in PEOPLE if before.of(person).name == "v0")
    assert any(after.of(person) is not before.of(person) for person in PEOPLE)


def test_the_first_answers_nobody_in_particular_and_one_alone_answers_everybody():
    assert variants(0.5, 0.5).of(None).name == "v0"
    alone = Variants.alone(taste_recommender())
    assert {alone.of(person).name for person in PEOPLE[:100]} == {"default"}
