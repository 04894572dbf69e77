"""The questions of docs/cypher.md, as the page has them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[1] / "docs" / "cypher.md"

_QUESTION = re.compile(r"^## (\d+)\. (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```cypher\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Question:
    """One of the page's questions with its query."""

    number: int
    title: str
    query: str

    @property
    def parameters(self) -> set[str]:
        """The names that the query wants values for."""
        return set(re.findall(r"\$(\w+)", self.query))


def questions() -> list[Question]:
    """All questions, in the page's order; raises ValueError where one has not exactly one query."""
    found = []
    for number, title, text in _QUESTION.findall(PAGE.read_text(encoding="utf-8")):
        blocks = _BLOCK.findall(text)
        if len(blocks) != 1:
            raise ValueError(f"{PAGE.name}: question {number} has {len(blocks)} queries: give it one")
        found.append(Question(int(number), title, blocks[0]))
    return found
