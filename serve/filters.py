"""Filters: a small language of tests over the attributes of items, parsed to a tree that can do nothing else.

    platform == "shop" and "Comedy" in category and (year >= 1990 or not used) and price != null

    either  = both {"or" both}           both = negated {"and" negated}       negated = ["not"] (test | "(" either ")")
    test    = name ("==" | "!=" | "<" | "<=" | ">" | ">=") value
            | name ["not"] "in" "[" value {"," value} "]"
            | value ["not"] "in" name
            | name                       an attribute that is true or false
    name    = letters, digits and _ , or anything between `backticks`; context.device is the request's own context
    value   = "text" or 'text', a number, true, false; beside == and != also null, which an item has that says nothing

A test of something that an item does not have is false, and its opposite (!=, not in, not) is true.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, reduce
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from graph.errors import IsthmusError
from models.attributes import ItemAttributes, Kind, Order, Value

MAX_LENGTH: Final = 2000
"""Characters of a filter."""
MAX_DEPTH: Final = 20
"""Parentheses and nots inside each other."""
MAX_TESTS: Final = 50
"""Comparisons in one filter."""
CONTEXT: Final = "context."
"""What names of the request's context begin with."""


class FilterError(IsthmusError):
    """A filter that is not one, or that asks for what items do not have."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"at character {position + 1}: {message}")
        self.position = position
        """Characters before the mistake."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A name's value stands so to a value, which is None for null; of a list, one of its texts does."""

    name: str
    order: Order
    value: str | float | bool | None
    at: int
    inside: bool = False
    """Written `value in name`: the name is one of a list."""


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    inner: "Tree"


@dataclass(frozen=True, slots=True)
class Every:
    """All of them."""

    inner: tuple["Tree", ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of them at least."""

    inner: tuple["Tree", ...]


Tree = Comparison | Not | Every | Some
Context = Mapping[str, str | float | bool]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?(?![\w.]))
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`[^`]+`)
    |(?P<word>[^\W\d]\w*(?:\.\w+)?)
    |(?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)
    |(?P<wrong>\S)
    |(?P<end>$)
    )""",
    re.VERBOSE,
)
_WORDS: Final = {"and", "or", "not", "in", "true", "false", "null"}
_ORDERS: Final = ("==", "!=", "<", "<=", ">", ">=")
_CALLED: Final[Mapping[Kind, str]] = {
    "number": "a number",
    "flag": "true or false",
    "instant": 'an instant, such as "2024-01-31" or "2024-01-31T12:00:00Z"',
    "text": "a text",
    "texts": "a list of texts",
}


@lru_cache(maxsize=1024)
def parse(text: str) -> Tree:
    """The tree of a filter. Raises: FilterError with the position of what is wrong."""
    if len(text) > MAX_LENGTH:
        raise FilterError(f"a filter may have {MAX_LENGTH} characters, this has {len(text)}", MAX_LENGTH)
    tree = _Parser(text).whole()
    tests = list(_tests(tree))
    if len(tests) > MAX_TESTS:
        raise FilterError(f"a filter may have {MAX_TESTS} tests, this has {len(tests)}", tests[MAX_TESTS].at)
    return tree


def check(tree: Tree, attributes: ItemAttributes) -> None:
    """See that items have what a filter asks for. Raises: FilterError."""
    for test in _tests(tree):
        if not test.name.startswith(CONTEXT):
            _check_test(test, attributes)


def mask(tree: Tree, attributes: ItemAttributes) -> NDArray[np.bool_]:
    """[N] the items that pass a filter that was checked and has no context in it (see `within`)."""
    if isinstance(tree, Comparison):
        column = attributes[tree.name]
        if tree.value is None:
            return column.missing()
        return column.compare(tree.order, _value(tree, column.kind))
    if isinstance(tree, Not):
        return ~mask(tree.inner, attributes)
    size = len(attributes["platform"].missing())
    if isinstance(tree, Every):
        return reduce(np.logical_and, (mask(each, attributes) for each in tree.inner), np.ones(size, np.bool_))
    return reduce(np.logical_or, (mask(each, attributes) for each in tree.inner), np.zeros(size, np.bool_))


def within(tree: Tree, context: Context) -> Tree:
    """The filter with each test of the request's context decided: `Every(())` where it is true, else `Some(())`."""
    if isinstance(tree, Comparison):
        if not tree.name.startswith(CONTEXT):
            return tree
        return Every(()) if _decide(tree, context.get(tree.name.removeprefix(CONTEXT))) else Some(())
    if isinstance(tree, Not):
        return Not(within(tree.inner, context))
    return type(tree)(tuple(within(each, context) for each in tree.inner))


def _tests(tree: Tree) -> Iterator[Comparison]:
    if isinstance(tree, Comparison):
        yield tree
        return
    for each in (tree.inner,) if isinstance(tree, Not) else tree.inner:
        yield from _tests(each)


def _check_test(test: Comparison, attributes: ItemAttributes) -> None:
    if test.name not in attributes:
        names = sorted(attributes)
        more = f" and {len(names) - 40} more" if len(names) > 40 else ""
        raise FilterError(f"items have no {test.name}: they have {', '.join(names[:40])}{more}", test.at)
    kind = attributes[test.name].kind
    if test.value is None:
        return
    if test.inside != (kind == "texts"):
        right = f'"…" in {test.name}' if kind == "texts" else f"{test.name} == …"
        raise FilterError(f"{test.name} is {_CALLED[kind]}: write {right}", test.at)
    if kind == "flag" and test.order != "==":
        raise FilterError(f"{test.name} is {_CALLED[kind]}, which knows no order: write {test.name} == true", test.at)
    _value(test, kind)


def _value(test: Comparison, kind: Kind) -> Value:
    """What a column compares itself with; raises FilterError where the test's value is of another kind."""
    value = test.value
    if kind == "instant" and isinstance(value, str):
        try:
            instant = datetime.fromisoformat(value)
            return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        except (ValueError, OverflowError):
            value = None
    fits = {"number": isinstance(value, float), "flag": isinstance(value, bool), "instant": False}
    if value is None or not fits.get(kind, isinstance(value, str)):
        wanted = "a list of texts: ask for a text in it" if kind == "texts" else _CALLED[kind]
        raise FilterError(f"{test.name} is {wanted}, not {_shown(test.value)}", test.at)
    return value


def _decide(test: Comparison, given: object) -> bool:
    if test.value is None or given is None:
        return test.value is None and given is None
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = float(given)
    if type(given) is not type(test.value):
        return False
    value: Any = given
    return bool(
        {
            "==": value == test.value,
            "<": value < test.value,
            "<=": value <= test.value,
            ">": value > test.value,
            ">=": value >= test.value,
        }[test.order]
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent; `_depth` bounds how far."""

    def __init__(self, text: str) -> None:
        self._tokens = [
            _Token(str(found.lastgroup), found.group(str(found.lastgroup)), found.start(str(found.lastgroup)))
            for found in _TOKEN.finditer(text)
        ]
        for token in self._tokens:
            if token.kind == "wrong":
                open_text = "is not closed" if token.text in "\"'`" else "means nothing in a filter"
                raise FilterError(f"{token.text} {open_text}", token.at)
        self._next = 0
        self._depth = 0

    def whole(self) -> Tree:
        tree = self._either()
        if self._peek().kind != "end":
            raise self._expected("and, or, or the end")
        return tree

    def _either(self) -> Tree:
        return self._joined("or", self._both, Some)

    def _both(self) -> Tree:
        return self._joined("and", self._negated, Every)

    def _joined(self, word: str, part: Callable[[], Tree], join: type[Every] | type[Some]) -> Tree:
        parts = [part()]
        while self._takes(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else join(tuple(parts))

    def _negated(self) -> Tree:
        token = self._peek()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FilterError(f"more than {MAX_DEPTH} parentheses and nots are inside each other", token.at)
        if self._takes("not"):
            tree: Tree = Not(self._negated())
        elif self._takes("("):
            tree = self._either()
            self._must(")")
        else:
            tree = self._test()
        self._depth -= 1
        return tree

    def _test(self) -> Tree:
        token = self._peek()
        if self._is_name(token):
            return self._of_name(self._name(), token.at)
        value = self._value("an attribute's name, a value, not, or (")
        opposite = self._takes("not")
        self._must("in")
        if not isinstance(value, str):
            raise FilterError(f"lists hold texts, so {_shown(value)} is in none", token.at)
        place = self._peek()
        if not self._is_name(place):
            raise self._expected("an attribute's name")
        found = Comparison(self._name(), "==", value, place.at, inside=True)
        return Not(found) if opposite else found

    def _of_name(self, name: str, at: int) -> Tree:
        token = self._peek()
        if token.kind == "sign" and token.text in _ORDERS:
            self._next += 1
            null = token.text in {"==", "!="} and self._takes("null")
            value = None if null else self._value("a value")
            if token.text == "!=":
                return Not(Comparison(name, "==", value, at))
            return Comparison(name, cast("Order", token.text), value, at)
        opposite = self._takes("not")
        if opposite or self._peek().text == "in":
            self._must("in")
            self._must("[")
            tests = [Comparison(name, "==", self._value("a value"), at)]
            while self._takes(","):
                tests.append(Comparison(name, "==", self._value("a value"), at))
            self._must("]")
            return Not(Some(tuple(tests))) if opposite else Some(tuple(tests))
        return Comparison(name, "==", True, at)

    def _value(self, expected: str) -> str | float | bool:
        token = self._peek()
        if token.kind == "number":
            self._next += 1
            return float(token.text)
        if token.kind == "text":
            self._next += 1
            return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        if token.kind == "word" and token.text in {"true", "false"}:
            self._next += 1
            return token.text == "true"
        raise self._expected(expected)

    def _name(self) -> str:
        token = self._peek()
        self._next += 1
        return token.text.strip("`")

    def _is_name(self, token: _Token) -> bool:
        return token.kind == "quoted" or (token.kind == "word" and token.text not in _WORDS)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _takes(self, text: str) -> bool:
        token = self._peek()
        if token.kind not in {"word", "sign"} or token.text != text:
            return False
        self._next += 1
        return True

    def _must(self, text: str) -> None:
        if not self._takes(text):
            raise self._expected(text)

    def _expected(self, what: str) -> FilterError:
        token = self._peek()
        return FilterError(f"{what} is expected, not {token.text or 'the end'}", token.at)
