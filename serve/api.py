"""The form of requests and answers, version 1: models with limits and examples. A field not named here is refused."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from graph.errors import IsthmusError
from graph.keys import UserKey, check_item, check_platform
from serve.filters import MAX_LENGTH as MAX_FILTER

MAX_BODY_BYTES: Final = 1 << 20
MAX_LIMIT: Final = 100
MAX_LIST: Final = 200
"""Items of one frozen list, over all its pages."""
MAX_SIMILAR_PEOPLE: Final = 40
MAX_EVENTS: Final = 1000
MAX_FUTURE: Final = timedelta(days=1)
"""How far ahead of ours a sender's clock may run."""


def _item_id(text: str) -> str:
    try:
        return check_item(text)
    except IsthmusError as error:
        raise ValueError(str(error)) from None


def _user_id(text: str) -> str:
    try:
        return UserKey.parse(text)
    except IsthmusError as error:
        raise ValueError(str(error)) from None


def check_account_id(text: str) -> str:
    """Return `text` if it is platform:id; ValueError otherwise, without a word of it: it may be somebody's name."""
    platform, colon, id = text.partition(":")
    try:
        check_platform(platform)
    except IsthmusError:
        colon = ""
    if not colon or not re.fullmatch(r"[A-Za-z0-9_:@.-]+", id):
        raise ValueError("write an account as platform:id, of the characters A-Z a-z 0-9 _ : @ . -")
    return text


def _platform(text: str) -> str:
    try:
        return check_platform(text)
    except IsthmusError as error:
        raise ValueError(str(error)) from None


def _instant(at: datetime) -> datetime:
    try:
        utc = at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{at.isoformat()} is no instant in UTC: give when it happened") from None
    if utc > datetime.now(UTC) + MAX_FUTURE:
        raise ValueError(f"{at.isoformat()} is more than a day ahead of this server's clock: give when it happened")
    return utc


ItemId = Annotated[str, Field(max_length=256, examples=["movielens:50"]), AfterValidator(_item_id)]
UserId = Annotated[
    str, Field(max_length=256, examples=["user:2c26b46b68ffc68ff99b453c1d304134"]), AfterValidator(_user_id)
]
AccountId = Annotated[str, Field(max_length=256, examples=["movielens:196"]), AfterValidator(check_account_id)]
"""As the platform writes it; it becomes a pseudonym before anything else happens with it."""
SessionId = Annotated[str, Field(max_length=256, examples=["movielens:s-81f3"]), AfterValidator(check_account_id)]
"""Of somebody who has not logged in, as the platform calls it; a pseudonym like an account's."""
PlatformName = Annotated[str, Field(examples=["movielens"]), AfterValidator(_platform)]
EventType = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$", examples=["RATED"])]
Instant = Annotated[AwareDatetime, Field(examples=["2026-01-31T12:00:00Z"]), AfterValidator(_instant)]
Value = Annotated[float, Field(allow_inf_nan=False)]
Integer = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Scalar = str | Integer | Value | bool
Filter = Annotated[
    str,
    Field(
        max_length=MAX_FILTER,
        description="A test that items have to pass, over the attributes that the bundle has; see docs/api.md.",
        examples=['platform == "shop" and "Comedy" in category and year >= 1990'],
    ),
]
Context = Annotated[
    dict[Annotated[str, Field(pattern=r"^\w{1,64}$")], Annotated[str, Field(max_length=256)] | Integer | Value | bool],
    Field(max_length=20),
]
ScenarioName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="A set of defaults and rules of the server's settings; left out, the one called default if any.",
        examples=["home"],
    ),
]
Diversity = Annotated[
    float,
    Field(ge=0, le=1, description="0 lists what scores best; towards 1 items are less and less alike.", examples=[0.3]),
]
Cursor = Annotated[
    str,
    Field(
        max_length=4096,
        description="next_cursor of the page before, all other fields but limit and explain being the same.",
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PastEvent(_Model):
    """One thing a person did, given with the request and kept nowhere."""

    item_id: ItemId
    type: EventType
    occurred_at: Instant | None = Field(None, description="Left out: now, in the order of the list.")
    value: Value | None = Field(None, description="A rating, for RATED.")


class Who(_Model):
    """A person: exactly one of user_id, account_id, session_id and events."""

    user_id: UserId | None = None
    account_id: AccountId | None = None
    session_id: SessionId | None = None
    events: list[PastEvent] | None = Field(None, min_length=1, max_length=MAX_EVENTS)

    @model_validator(mode="after")
    def _one_person(self) -> Self:
        given = [name for name in ("user_id", "account_id", "session_id", "events") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "say who it is for with exactly one of user_id, account_id, session_id and events, not "
                + (" and ".join(given) or "none of them")
            )
        return self


class RecommendationRequest(Who):
    """What should this person see? Say who with exactly one of user_id, account_id, session_id and events."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"account_id": "movielens:196", "limit": 5},
                {
                    "events": [{"item_id": "movielens:50", "type": "RATED", "value": 5}],
                    "target_platforms": ["movielens"],
                    "filter": '"Comedy" in category and year >= 1990',
                },
            ]
        },
    )

    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    target_platforms: list[PlatformName] | None = Field(None, min_length=1, max_length=100)
    exclude_item_ids: list[ItemId] = Field(default_factory=list, max_length=1000)
    filter: Filter | None = None
    context: Context = Field(
        default_factory=dict,
        description="What is known of the moment: filters ask for it as context.device, the model has no use for it.",
        examples=[{"device": "tv"}],
    )
    scenario: ScenarioName | None = None
    diversity: Diversity | None = None
    explain: bool = True
    cursor: Cursor | None = None


class PathRequest(Who):
    """What is the way to an item, for this person?"""

    goal_item_id: ItemId


class EventIn(_Model):
    """One thing an account or a session did, to be kept. Both together say that the session is the account's."""

    event_id: str = Field(
        pattern=r"^[!-~]{1,256}$",
        examples=["order-7781-1"],
        description="The sender's: the same id again is a duplicate. An export's event is platform:id.",
    )
    type: EventType
    account_id: AccountId | None = None
    session_id: SessionId | None = Field(None, description="Who it was before they logged in, or as they do.")
    item_id: ItemId
    occurred_at: Instant
    value: Value | None = None
    recommendation_id: str | None = Field(None, pattern=r"^[!-~]{1,64}$")
    context: dict[Annotated[str, Field(max_length=64)], Scalar | list[str]] = Field(default_factory=dict, max_length=20)

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.account_id is None and self.session_id is None:
            raise ValueError("say whose it is with account_id, session_id or both, not none of them")
        return self


class EventsRequest(_Model):
    """Events to be kept; each is accepted or rejected by itself."""

    events: list[Any] = Field(
        min_length=1,
        max_length=MAX_EVENTS,
        json_schema_extra={"items": {"$ref": "#/components/schemas/EventIn"}},
    )


class ItemIn(_Model):
    """What is said of an item. A field that is left out stays as the store has it."""

    title: str | None = Field(None, min_length=1, max_length=1000)
    text: str | None = Field(None, min_length=1, max_length=20_000, description="A description, beyond the title.")
    url: str | None = Field(None, max_length=2000)
    created_at: Instant | None = None
    attributes: dict[Annotated[str, Field(min_length=1, max_length=64)], Scalar | list[str]] = Field(
        default_factory=dict, max_length=100, description="What filters can ask for."
    )


class ItemAnswer(_Model):
    """An item. `recommended` says whether it can be in lists now; `degraded`, that the store did not answer."""

    item_id: str
    platform: str
    title: str | None
    text: str | None
    url: str | None
    created_at: str | None
    attributes: dict[str, Any]
    recommended: bool
    degraded: bool


class LinkedAccount(_Model):
    """An account under its pseudonym, and what says whose it is."""

    account: str
    platform: str
    evidence: str
    since: str | None


class UserAnswer(_Model):
    """A person. `degraded` says that the store did not answer, so that accounts are not known."""

    user_id: str
    degraded: bool
    accounts: list[LinkedAccount]


class JobIn(_Model):
    """Long work: import needs mappings, train and retrain take continue and epochs, recommend a name and the rest.

    What retrain makes answers once it is done, if it is not worse than what answers now and nobody chose otherwise.
    """

    kind: Literal["import", "train", "retrain", "recommend"]
    mappings: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.ya?ml$")]] | None = Field(
        None, min_length=1, max_length=100, description="Files in the folder imports of the server's var."
    )
    continue_: bool | None = Field(None, alias="continue", description="Train on from the weights of the run before.")
    epochs: int | None = Field(None, ge=1, le=10_000)
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$",
        description="Everybody's lists are written to recommendations/<name>.parquet in the server's var.",
    )
    limit: int | None = Field(None, ge=1, le=MAX_LIST, description="Items for each person; left out, 20.")
    filter: Filter | None = None
    scenario: ScenarioName | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        of_lists = (self.limit, self.filter, self.scenario)
        if (self.kind == "recommend") != (self.name is not None) or (self.name is None and any(of_lists)):
            raise ValueError("name, limit, filter and scenario are for recommend, which needs a name")
        if (self.kind == "import") != (self.mappings is not None):
            raise ValueError("mappings are for an import, and an import needs some")
        if self.kind not in {"train", "retrain"} and (self.continue_ is not None or self.epochs is not None):
            raise ValueError("continue and epochs are for a training")
        return self


class JobAnswer(_Model):
    """A job. `output` is what it printed last; nothing is left of it for an erasure that is done."""

    job_id: str
    kind: str
    state: Literal["queued", "running", "done", "failed"]
    tries: int
    created_at: str
    started_at: str | None
    ended_at: str | None
    output: str | None


class Reject(_Model):
    """A row that an import did not take."""

    file: str
    line: int
    field: str
    value: str
    rule: str
    detail: str
    advice: str


class RejectsAnswer(_Model):
    """A page of them; `next_cursor` is null on the last one."""

    total: int
    rejects: list[Reject]
    next_cursor: str | None


class VariantFeedback(_Model):
    """What became of the lists of one model under one variant; shares and means are null where there is nothing yet."""

    variant: str
    model_version: str
    recommendations: int = Field(description="Lists that were answered.")
    items: int = Field(description="Items in them.")
    clicked: int = Field(description="Lists that an event of positive weight named.")
    click_through_rate: float | None
    converted: int = Field(description="Lists that an event of weight .7 or more named, ratings aside.")
    conversion_rate: float | None
    ratings: int
    mean_rating: float | None
    survey_answers: int = Field(description="Events that named a list and have a number as `survey` in their context.")
    mean_survey_answer: float | None


class FeedbackAnswer(_Model):
    """Totals since the server's folder was made, by variant and model."""

    variants: list[VariantFeedback]


class RetrainingThresholds(_Model):
    """When training again is proposed: new events are both so many and such a share, or drift is above; and how long
    after one retraining another begins by itself."""

    new_events: int
    new_share: float
    drift: float
    cool_down_s: float


class RetrainingAnswer(_Model):
    """Whether to train again, why, and by which figures; null where something is not known (yet)."""

    proposed: bool
    why: str
    mode: Literal["propose", "start"] = Field(description="Whether a proposed retraining begins by itself.")
    model_version: str | None = Field(description="The bundle that this is about.")
    measured_at: str | None
    trained_on_events: int | None
    new_events: int | None = Field(description="Events that the store has beyond those.")
    new_share: float | None
    drift: dict[str, float] | None = Field(description="Population stability index by platform, type and item.")
    drift_events: int = Field(description="Events over HTTP, since the bundle's snapshot, that drift is told of.")
    thresholds: RetrainingThresholds
    last_job: JobAnswer | None = Field(description="The retraining that was asked for last.")


class FieldError(_Model):
    """Where in the body, and what is wrong there."""

    pointer: str
    detail: str
    position: int | None = Field(None, description="Of a filter: the characters before the mistake.")


class ProblemBody(_Model):
    """An error, as RFC 9457 says."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[FieldError] | None = None
    request_id: str | None = None


class RejectedEvent(_Model):
    """An event that is not kept, and why."""

    index: int
    problem: ProblemBody


class EventsAnswer(_Model):
    """What became of the events; the accepted ones are on disk."""

    accepted: int
    duplicates: int
    rejected: list[RejectedEvent]


class HistoryEvent(_Model):
    """One thing that a person did. `account` is the pseudonym of the account or session that did it."""

    event_id: str
    type: str
    account: str
    item_id: str
    occurred_at: str
    value: float | None
    context: dict[str, Any]


class HistoryAnswer(_Model):
    """What a person did, newest first; `next_cursor` is null on the last page."""

    degraded: bool
    events: list[HistoryEvent]
    next_cursor: str | None


class PathEvent(_Model):
    """An event of the person that spoke for or against an item."""

    item_id: str
    title: str
    type: str
    value: float | None
    at: str


class Path(_Model):
    """A part of a score and where it came from; `event` is null in the one path that sums up the smaller rest."""

    event: PathEvent | None
    relation: str
    via: str | None
    contribution: float


class RecommendedItem(_Model):
    """An item with its score: base and the contributions of paths add up to it (null when explain is false).

    The score is always the model's; rules and diversity change the order of items alone. `rules` says which of the
    scenario's rules touched the item, `reason` says the largest paths in a sentence.
    """

    item_id: str
    platform: str
    title: str
    score: float
    source: Literal["model", "fallback", "similar", "search"]
    rules: list[Literal["pinned", "boosted", "lowered", "buried"]]
    reason: str | None
    base: float | None
    paths: list[Path] | None


class RecommendationAnswer(_Model):
    """Items, best first. `degraded` says that the store did not answer and the newest events alone were used."""

    recommendation_id: str
    model_version: str
    variant: str
    degraded: bool
    items: list[RecommendedItem]
    next_cursor: str | None = Field(description="For the next page of the same list; null where it ends.")


class Step(_Model):
    """An item on the way, after all that it requires; the score is the model's for this person."""

    item_id: str
    platform: str
    title: str
    score: float
    requires: list[str] = Field(description="Items that have to come before it: earlier steps, or known ones.")


class PathAnswer(_Model):
    """The way to an item, first step first, the item itself last; nothing where the person has had it."""

    model_version: str
    degraded: bool
    goal_item_id: str
    known_item_ids: list[str] = Field(description="What is required and the person has had.")
    steps: list[Step]


class SimilarAnswer(_Model):
    """Items like one item, or like what was looked for, best first; the score is a cosine."""

    model_version: str
    items: list[RecommendedItem]


class SimilarPerson(_Model):
    """Somebody like a person: a pseudonym, and the cosine of what both ask for."""

    user_id: str
    similarity: float
    shared_items: int = Field(description="Of the newest 20 that the person wanted.")


class SimilarPeopleAnswer(_Model):
    """People like one person, best first."""

    model_version: str
    users: list[SimilarPerson]


BundleVersion = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$", examples=["39aa3aa97b30"])]


class VariantIn(_Model):
    """A bundle that answers a share of the people, always the same ones."""

    name: str = Field("default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    version: BundleVersion
    share: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)


class ModelsRequest(_Model):
    """What shall answer: one bundle, or several side by side whose shares make 1."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"version": "39aa3aa97b30"},
                {
                    "variants": [
                        {"name": "a", "version": "39aa3aa97b30", "share": 0.9},
                        {"name": "b", "version": "67d1b37c9f56", "share": 0.1},
                    ]
                },
            ]
        },
    )

    version: BundleVersion | None = None
    variants: list[VariantIn] | None = Field(None, min_length=1, max_length=10)
    shadow: BundleVersion | None = Field(None, description="Is asked besides and shown to nobody.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.version is None) == (self.variants is None):
            raise ValueError("say what shall answer with exactly one of version and variants")
        return self


class VariantOut(_Model):
    """A bundle that answers."""

    name: str
    version: str
    share: float


class ActiveModels(_Model):
    """What answers; `chosen` over HTTP, so that it outlives a restart."""

    variants: list[VariantOut]
    shadow: str | None
    chosen: bool


class Model(_Model):
    """A bundle, with what its manifest says of it."""

    version: str
    active: bool
    written_at: str
    snapshot: str | None
    num_items: int
    platforms: list[str]
    validation: dict[str, Any] | None


class ModelsAnswer(_Model):
    """All bundles, the newest first."""

    active: ActiveModels
    models: list[Model]
