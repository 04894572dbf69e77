"""Chinese and English in one space: which English text is nearest to a Chinese one, and the other way round.

    python -m benchmarks.multilingual [--text-model NAME …]

84 pairs of our own (benchmarks/chinese_english.tsv): 28 titles or short descriptions each of shop items, films and
courses, with neighbours among them that are easily confused. A text is asked for among the 84 of the other language;
retrieval@1 is how often the nearest is its translation. Without --text-model: the default model, which reads English,
and the extra isthmus[multilingual]. Speed is that of all texts eight times over, after a first one, by CPU time.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.text import DEFAULT_MODEL, MULTILINGUAL, TextEncoder, open_model

PAIRS: Final = Path(__file__).with_name("chinese_english.tsv")
KINDS: Final = ("shop", "film", "course")
REPEATED: Final = 8


@dataclass(frozen=True)
class Pair:
    """A text in both languages."""

    kind: str
    chinese: str
    english: str


def main() -> None:
    """Measure and print the table, then what was taken for what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text-model", nargs="+", default=[DEFAULT_MODEL, MULTILINGUAL])
    pairs, missed = read_pairs(), []
    print(f"| model | numbers | Chinese → English | English → Chinese | {' | '.join(KINDS)} | texts per CPU-second |")
    print("|---|---|---|---|---|---|---|---|")
    for name in parser.parse_args().text_model:
        model = open_model(name)
        chinese, english = (model.encode([getattr(pair, side) for pair in pairs]) for side in ("chinese", "english"))
        there, back = nearest(chinese, english).tolist(), nearest(english, chinese).tolist()
        right = np.stack([there, back]) == np.arange(len(pairs))
        of_kind = [right[:, [pair.kind == kind for pair in pairs]].mean() for kind in KINDS]
        shares = " | ".join(f"{share:.3f}" for share in (*right.mean(axis=1), *of_kind))
        print(f"| {name} | {model.dim} | {shares} | {speed(model, pairs):,.0f} |", flush=True)
        missed += [f"{name}: {pairs[row].chinese} → {pairs[there[row]].english}" for row in _where(~right[0])]
        missed += [f"{name}: {pairs[row].english} → {pairs[back[row]].chinese}" for row in _where(~right[1])]
    print(f"\n{len(missed)} were taken for another, the last of them:\n" + "\n".join(missed[-10:]))


def read_pairs() -> Sequence[Pair]:
    """All pairs, in the order of the file."""
    with PAIRS.open(newline="", encoding="utf-8") as file:
        return [Pair(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def nearest(asked: NDArray[np.float32], among: NDArray[np.float32]) -> NDArray[np.intp]:
    """[N] the row of `among` [M, D] that is nearest to each row of `asked` [N, D]; all are unit vectors."""
    return np.asarray((asked @ among.T).argmax(axis=1), np.intp)


def _where(mask: NDArray[np.bool_]) -> list[int]:
    found: list[int] = np.flatnonzero(mask).tolist()
    return found


def speed(model: TextEncoder, pairs: Sequence[Pair]) -> float:
    """Texts that a CPU-second embeds."""
    texts = [text for pair in pairs for text in (pair.chinese, pair.english)] * REPEATED
    started = time.process_time()
    model.encode(texts)
    return len(texts) / (time.process_time() - started)


if __name__ == "__main__":
    main()
