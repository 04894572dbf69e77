"""Scenarios: sets of defaults and business rules that requests name, read from the settings and checked."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from models.attributes import ItemAttributes
from serve import filters
from serve.api import MAX_LIST, ItemId, PlatformName
from serve.errors import ServeError

DEFAULT: Final = "default"
"""The scenario of requests that name none, where the settings have it."""


def _filter(text: str) -> str:
    try:
        filters.parse(text)
    except filters.FilterError as error:
        raise ValueError(str(error)) from None
    return text


_Filter = Annotated[str, AfterValidator(_filter)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Boost(_Model):
    """Items that come sooner or, where `by` is negative, later."""

    filter: _Filter
    by: float = Field(ge=-10, le=10)
    """Standard deviations of a person's scores that are added to an item's, to order by."""


class Pin(_Model):
    """An item that has a place of its own, wherever it may be shown at all."""

    item_id: ItemId
    position: int = Field(ge=1, le=MAX_LIST)


class PlatformShare(_Model):
    """The part of a list that a platform gets, and of every beginning of it."""

    at_least: float = Field(0.0, ge=0, le=1)
    at_most: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.at_least > self.at_most:
            raise ValueError(f"at_least is {self.at_least:g} and at_most {self.at_most:g}: give the larger to at_most")
        return self


class Scenario(_Model):
    """What a request means that names it, unless the request says otherwise."""

    filter: _Filter | None = None
    """Items have to pass it, beside the filter of the request."""
    target_platforms: list[PlatformName] | None = Field(None, min_length=1)
    """Where the request names none."""
    diversity: float = Field(0.0, ge=0, le=1)
    """Where the request does not say."""
    boost: list[Boost] = Field(default_factory=list, max_length=20)
    bury: list[_Filter] = Field(default_factory=list, max_length=20)
    """Items that pass one of these come after all others."""
    pin: list[Pin] = Field(default_factory=list, max_length=20)
    quotas: dict[PlatformName, PlatformShare] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if sum(quota.at_least for quota in self.quotas.values()) > 1 + 1e-9:
            raise ValueError("the at_least of the quotas are more than 1 together: give smaller ones")
        if len({pin.position for pin in self.pin}) < len(self.pin):
            raise ValueError("two pins have one position: give each its own")
        return self

    @property
    def has_rules(self) -> bool:
        """Whether lists are more than what scores best."""
        return bool(self.boost or self.bury or self.pin or self.quotas)

    def filters(self) -> list[str]:
        """All that it has."""
        own = [] if self.filter is None else [self.filter]
        return [*own, *(boost.filter for boost in self.boost), *self.bury]


PLAIN: Final = Scenario.model_validate({})
Scenarios = Mapping[str, Scenario]
_SCENARIOS: Final[TypeAdapter[dict[str, Scenario]]] = TypeAdapter(
    dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], Scenario]
)


def read_scenarios(raw: Mapping[str, Any]) -> Scenarios:
    """The scenarios of the settings, by name. Raises: ServeError that says where something is wrong."""
    try:
        return _SCENARIOS.validate_python(dict(raw))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("scenarios", *first["loc"]))
        raise ServeError(
            f"{where}: {first['msg'].removeprefix('Value error, ')}; docs/api.md shows scenarios"
        ) from None


def scenario_called(scenarios: Scenarios, name: str | None) -> Scenario:
    """The scenario of this name, or the default one where none is named. Raises: ServeError."""
    if name is None:
        return scenarios.get(DEFAULT, PLAIN)
    if name not in scenarios:
        known = f"use {', '.join(scenarios)}" if scenarios else "the settings have none"
        raise ServeError(f"there is no scenario {name}: {known}")
    return scenarios[name]


def check_scenarios(scenarios: Scenarios, platforms: Sequence[str], attributes: ItemAttributes) -> None:
    """See that a bundle's items have what the scenarios ask for. Raises: ServeError."""
    for name, scenario in scenarios.items():
        for platform in (*(scenario.target_platforms or ()), *scenario.quotas):
            if platform not in platforms:
                raise ServeError(
                    f"scenario {name} names the platform {platform}: the bundle has {', '.join(platforms)}"
                )
        for text in scenario.filters():
            try:
                filters.check(filters.parse(text), attributes)
            except filters.FilterError as error:
                raise ServeError(f"scenario {name}, filter {text}: {error}") from None
