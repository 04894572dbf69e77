"""The configuration: file, then environment, then flags; what is wrong is named."""

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from settings import Settings, SettingsError, read_settings


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A configuration file to write, in a folder that is the working directory, with no ISTHMUS_ variable set."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ISTHMUS_{name.upper()}", raising=False)
    return tmp_path / "isthmus.yaml"


def test_without_any_source_the_graph_is_the_embedded_one_in_var(file):
    assert read_settings().store_url == "sqlite:///var/graph.db"
    assert read_settings(var="elsewhere").store_url == "sqlite:///elsewhere/graph.db"


def test_the_environment_wins_over_the_file_and_flags_over_both(file, monkeypatch):
    file.write_text("port: 1001\nhost: 10.0.0.1\ntext_model: from-file\n")
    monkeypatch.setenv("ISTHMUS_PORT", "1002")
    monkeypatch.setenv("ISTHMUS_TEXT_MODEL", "from-environment")
    settings = read_settings(port=1003, host=None)
    assert (settings.host, settings.text_model, settings.port) == ("10.0.0.1", "from-environment", 1003)


def test_one_training_field_can_come_from_the_environment_beside_those_of_the_file(file, monkeypatch):
    file.write_text("training: {epochs: 3, dim: 16}\n")
    monkeypatch.setenv("ISTHMUS_TRAINING__EPOCHS", "5")
    assert read_settings().training == {"epochs": "5", "dim": 16}


def test_a_named_file_is_read_instead_of_the_default_one(file, tmp_path):
    file.write_text("port: 1001\n")
    (tmp_path / "other.yaml").write_text("port: 1002\n")
    assert read_settings(tmp_path / "other.yaml").port == 1002


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prot: 8000", "unknown key 'prot'"),
        ("port: 80000", "port is 80000"),
        ("port: http", "port is 'http'"),
        ("training: 3", "training is 3"),
        ("- port", "holds a list"),
        ("port: [", "isthmus.yaml, line 1, is not YAML"),
        ("port: \x00", "is not YAML text"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(file, text, sentence):
    file.write_text(text)
    with pytest.raises(SettingsError, match=sentence):
        read_settings()


def test_a_named_file_that_is_missing_is_an_error_and_the_default_one_is_not(file, tmp_path):
    assert read_settings().port == 8000
    with pytest.raises(SettingsError, match=r"other\.yaml is not there"):
        read_settings(tmp_path / "other.yaml")


def test_an_environment_variable_that_is_no_mapping_is_named(file, monkeypatch):
    monkeypatch.setenv("ISTHMUS_TRAINING", "epochs=3")
    with pytest.raises(SettingsError, match="training"):
        read_settings()


def test_secrets_appear_neither_in_errors_nor_when_printed(file):
    file.write_text("store: neo4j://neo4j:geheim@host\npseudonym_key: geheimgeheimgeheim\n")
    assert "geheim" not in repr(read_settings()) + str(read_settings())
    file.write_text("store: {neo4j: geheim}\npseudonym_key: [geheim]\n")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert "geheim" not in str(caught.value)


def test_the_secret_is_made_once_for_its_owner_alone_and_then_kept(file, tmp_path):
    first = read_settings().secrets()
    assert read_settings().secrets() == first
    assert stat.S_IMODE((tmp_path / "var" / "pseudonym.key").stat().st_mode) == 0o600
    (tmp_path / "var" / "pseudonym.key").unlink()
    assert read_settings().secrets() != first


def test_many_who_make_the_secret_at_once_end_with_one(file, tmp_path):
    settings = read_settings()
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: tuple(settings.secrets()), range(64)))
    assert len(set(keys)) == 1
    assert [path.name for path in (tmp_path / "var").iterdir()] == ["pseudonym.key"]


def test_a_configured_secret_is_used_and_none_is_made(file, tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_PSEUDONYM_KEY", "0123456789abcdef")
    assert read_settings().secrets() == [b"0123456789abcdef"]
    assert not (tmp_path / "var").exists()


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    epochs: int = 1
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}: give at least 1")


def test_training_fields_become_the_configuration_that_they_name(file):
    file.write_text("training: {epochs: '3', inner: {depth: 2}}\n")
    assert read_settings().configured(Outer()) == Outer(3, Inner(2))


def test_what_is_not_given_stays_as_it_was(file):
    file.write_text("training: {inner: {depth: 2}}\n")
    assert read_settings().configured(Outer(5, Inner(7))) == Outer(5, Inner(2))


@dataclass(frozen=True)
class Parted:
    split: str = "leave_one_out"
    validation_from: str | None = None
    test_from: str | None = None


def test_a_date_of_the_file_or_of_a_flag_is_the_text_that_it_was(file):
    file.write_text("training: {split: temporal, validation_from: 2024-01-07, test_from: 2024-01-10T00:00:00Z}\n")
    settings = read_settings()
    assert settings.configured(Parted()) == Parted("temporal", "2024-01-07", "2024-01-10T00:00:00+00:00")
    given = settings.with_split(None, validation_from=datetime(2024, 1, 8, 12, tzinfo=UTC), test_from=None)
    assert given.configured(Parted()) == Parted("temporal", "2024-01-08T12:00:00+00:00", "2024-01-10T00:00:00+00:00")


def test_another_split_does_not_take_over_the_instants_of_the_configured_one(file):
    file.write_text("training: {split: temporal, validation_from: 2024-01-07, test_from: 2024-01-10}\n")
    assert read_settings().with_split("newcomers").configured(Parted()) == Parted("newcomers")
    assert read_settings().with_split("temporal").configured(Parted()) == Parted("temporal", "2024-01-07", "2024-01-10")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{epoch: 3}", "training has the unknown key 'epoch': the keys are epochs, inner"),
        ("{inner: {deep: 3}}", "training.inner has the unknown key 'deep'"),
        ("{epochs: many}", "training.epochs is 'many'"),
        ("{epochs: 0}", "epochs is 0: give at least 1"),
    ],
)
def test_a_wrong_training_field_is_named(file, text, sentence):
    file.write_text(f"training: {text}\n")
    with pytest.raises(SettingsError, match=sentence):
        read_settings().configured(Outer())
