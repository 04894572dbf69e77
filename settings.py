"""The one configuration: a file (isthmus.yaml), then the environment (ISTHMUS_*), then flags; later wins.

It is read once, at the edge, by the command line; inner code takes plain arguments. An example of every key:

    var: var
    store: neo4j://neo4j:password@localhost:7687/neo4j
    text_model: sentence-transformers/all-MiniLM-L6-v2
    port: 8000
    training:
      epochs: 30
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, get_type_hints

import pydantic_settings
import yaml
from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from graph.errors import IsthmusError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DEFAULT_FILE: Final = Path("isthmus.yaml")
"""Read when no other file is named, and when it is there."""


ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


class SettingsError(IsthmusError, ValueError):
    """A configuration that cannot be used."""


class Settings(BaseSettings):
    """What the commands need to know; every field is a key of the file and, in capitals, a variable ISTHMUS_…"""

    model_config = SettingsConfigDict(
        env_prefix="ISTHMUS_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    var: Path = Path("var")
    """The folder of everything that is kept: graph, vectors, snapshots, bundles, outbox, quarantine."""

    store: str | None = Field(None, repr=False)
    """The graph store's URL; unset, the embedded graph.db in `var`. It may hold a password: never print it."""

    pseudonym_key: SecretStr | None = None
    """The secret behind the pseudonyms of accounts; unset, the one in `var`/pseudonym.key, made on first use."""

    former_pseudonym_keys: list[SecretStr] = []
    """The secrets that pseudonym_key has replaced, oldest first (isthmus rotate); in the environment a JSON list."""

    next_pseudonym_key: SecretStr | None = None
    """The secret that isthmus rotate puts in the place of pseudonym_key, where the configuration gives that one."""

    keys: list[str] = []
    """Who may ask over HTTP, beside those in `var`/keys: a line of `isthmus key --print` each."""

    text_model: str | None = None
    """The frozen language model: a folder, a hub name or openai:MODEL@URL; unset, the one of the package index."""

    vectors: list[str] = []
    """Names of vectors of other kinds that training uses beside those of texts (isthmus vectors brings them)."""

    ray_address: str | None = None
    """The Ray cluster to join, such as auto or ray://host:10001; unset, one of this process's own."""

    host: str = "127.0.0.1"
    """The IPv4 address that `serve` listens on; beyond this machine only where there are keys."""

    port: int = Field(8000, ge=1, le=65535)
    """The port that `serve` listens on."""

    workers: int = Field(1, ge=0)
    """Ray workers that train, each with its share of people; 0 trains in the command's process, without a cluster."""

    cpus_per_worker: int = Field(1, ge=1)
    """Cores that each of them takes."""

    scenarios: dict[str, Any] = {}
    """By name, what requests mean that name them: filters, diversity, boosts, pins, quotas … (docs/api.md)."""

    retrain: Literal["propose", "start"] = "propose"
    """What `serve` does when drift or enough new events say so: GET /v1/retraining says it, or training starts too."""

    training: dict[str, Any] = {}
    """Fields of train.loop.LoopConfig by name; ISTHMUS_TRAINING__EPOCHS=30 sets one from the environment."""

    @property
    def store_url(self) -> str:
        """Where the graph is, whether said or not."""
        return self.store or f"sqlite:///{self.var / 'graph.db'}"

    @property
    def pseudonym_file(self) -> Path:
        """Where the secret is when the configuration does not give it."""
        return self.var / "pseudonym.key"

    def secrets(self) -> list[bytes]:
        """The secrets for pseudonyms, the one in use last: as configured, or kept in `var` (made if there is none)."""
        if self.pseudonym_key is not None:
            given = [*self.former_pseudonym_keys, self.pseudonym_key]
            return [each.get_secret_value().encode() for each in given]
        return _kept_secrets(self.pseudonym_file)

    def rotated(self) -> list[bytes]:
        """These secrets and the next one, which is made now if the configuration gives none. Raises: SettingsError."""
        if self.next_pseudonym_key is not None:
            return [*self.secrets(), self.next_pseudonym_key.get_secret_value().encode()]
        if self.pseudonym_key is not None:
            raise SettingsError(
                "next_pseudonym_key is not given: ISTHMUS_PSEUDONYM_KEY is to be replaced, so give the next secret as "
                "ISTHMUS_NEXT_PSEUDONYM_KEY=$(openssl rand -hex 32)"
            )
        return [*self.secrets(), secrets.token_hex(32).encode()]

    def keep(self, rotated: Sequence[bytes]) -> None:
        """Keep these secrets in `var`, the one in use last; the file is replaced in one step."""
        with tempfile.NamedTemporaryFile(
            "wb", prefix=f".{self.pseudonym_file.name}.", dir=self.var, delete=False
        ) as draft:  # made with mode 0600
            draft.write(b"".join(each + b"\n" for each in rotated))
            draft.flush()
            os.fsync(draft.fileno())
        os.replace(draft.name, self.pseudonym_file)

    def with_training(self, **flags: object) -> Self:
        """These settings with training fields that were given as flags; one that is None was not given."""
        given = {name: value for name, value in flags.items() if value is not None}
        return self.model_copy(update={"training": self.training | given})

    def with_split(self, split: str | None, **instants: date | None) -> Self:
        """These settings with a split that was given as a flag, and its instants; None was not given.

        The instants of a configured split by time are not those of another one.
        """
        kept = dict(self.training)
        if split is not None and split != kept.get("split"):
            kept = {name: value for name, value in kept.items() if name not in {"validation_from", "test_from"}}
        return self.model_copy(update={"training": kept}).with_training(split=split, **instants)

    def configured(self, base: ConfigT) -> ConfigT:
        """A training configuration with the fields that `training` gives in the place of its own.

        Raises: SettingsError if a field is unknown or has a wrong value.
        """
        kind: type[Any] = type(base)
        _check_fields(kind, self.training, "training")
        try:
            # YAML and flags make dates of what looks like one; a configuration is text and numbers.
            given = {
                name: value.isoformat() if isinstance(value, date) else value for name, value in self.training.items()
            }
            configured: ConfigT = TypeAdapter(kind).validate_python(_over(asdict(base), given))
        except ValidationError as error:
            raise SettingsError(
                "; ".join(_sentence(problem, None, ("training",)) for problem in error.errors())
            ) from None
        return configured


def read_settings(file: Path | None = None, **flags: object) -> Settings:
    """Read the configuration; a flag that is None was not given.

    Raises: SettingsError if the file is missing or broken, or a key or value is wrong.
    """
    source = file or DEFAULT_FILE
    if file is not None and not file.is_file():
        raise SettingsError(f"{file} is not there: give --config an existing YAML file")
    kept = _read_yaml(source) if source.is_file() else {}

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, kept)

    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        return Sourced(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(problem, source) for problem in error.errors())) from None
    except pydantic_settings.SettingsError as error:
        raise SettingsError(f'{error}: a mapping in the environment is JSON, such as {{"epochs": 30}}') from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(f"{file}, line {line}, is not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise SettingsError(f"{file} is not YAML text: write one `key: value` a line, such as port: 8000") from None
    if values is not None and not isinstance(values, dict):
        raise SettingsError(f"{file} holds a {type(values).__name__}: write one `key: value` a line, as port: 8000")
    return {str(key): value for key, value in (values or {}).items()}


def _over(base: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A nested dictionary with what is given in the place of its own."""
    return base | {
        name: _over(base[name], value) if isinstance(base.get(name), dict) and isinstance(value, dict) else value
        for name, value in given.items()
    }


def _check_fields(kind: Any, values: Mapping[str, Any], where: str) -> None:
    """Raise SettingsError for a key that is no field of the dataclass or of one inside it."""
    known, types = {field.name for field in fields(kind)}, get_type_hints(kind)
    for name, value in values.items():
        if name not in known:
            raise SettingsError(f"{where} has the unknown key {name!r}: the keys are {', '.join(sorted(known))}")
        if is_dataclass(types[name]) and isinstance(value, dict):
            _check_fields(types[name], value, f"{where}.{name}")


_SECRET: Final = {"store", "pseudonym_key", "former_pseudonym_keys", "next_pseudonym_key"}


def _sentence(problem: Any, source: Path | None, within: tuple[str, ...] = ()) -> str:
    name = ".".join(str(part) for part in (*within, *problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{source} has the unknown key {name!r}: the keys are {', '.join(sorted(Settings.model_fields))}"
    if problem["type"] == "value_error":
        return f"{name}: {problem['msg'].removeprefix('Value error, ')}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    shown = (
        ""
        if name in {"store", "pseudonym_key", "former_pseudonym_keys", "next_pseudonym_key"}
        else f" is {problem['input']!r}"
    )
    variable = f"ISTHMUS_{name.upper().replace('.', '__')}"
    return f"{name}{shown}: {message} (set it in {source or DEFAULT_FILE}, as {variable}, or with a flag)"


def _kept_secrets(file: Path) -> list[bytes]:
    """Read the secrets, one a line, making the first if need be; two processes at once end with the same one."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", prefix=f".{file.name}.", dir=file.parent) as draft:  # made with mode 0600
            draft.write(secrets.token_hex(32) + "\n")
            draft.flush()
            with contextlib.suppress(FileExistsError):
                os.link(draft.name, file)
    return [line.strip() for line in file.read_bytes().splitlines() if line.strip()]
