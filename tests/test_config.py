"""Settings: the file documents the class, precedence holds, and whatever is wrong is refused by name."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from ftwallet.config import Config, allowed, load
from ftwallet.errors import Refused

ROOT = Path(__file__).parent.parent
KEY = re.compile(r"((?:^#.*\n)+)^([a-z_]+) = (.+)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("FTWALLET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(text: str) -> str:
    Path("config.toml").write_text(text)
    with pytest.raises(Refused) as caught:
        load()
    assert str(Path("config.toml").absolute()) in str(caught.value)
    return str(caught.value)


def test_config_toml_documents_every_key_with_its_default_and_what_is_allowed() -> None:
    text = (ROOT / "config.toml").read_text()
    assert tomllib.loads(text) == {
        key: str(field.default) if key == "data_dir" else field.default for key, field in Config.model_fields.items()
    }
    documented = {
        key: (" ".join(words.replace("#", " ").split()), default) for words, key, default in KEY.findall(text)
    }
    assert list(documented) == list(Config.model_fields)
    for key, field in Config.model_fields.items():
        words, default = documented[key]
        assert words == f"{field.description} Default: {default}. Allowed: {allowed(key)}."


def test_config_toml_itself_loads() -> None:
    config = load(ROOT / "config.toml")
    assert config.config_file == ROOT / "config.toml"
    assert config.data_dir == ROOT / "data"


def test_without_a_file_everything_is_default_and_absolute(tmp_path: Path) -> None:
    config = load()
    assert config.config_file is None
    assert config.data_dir == tmp_path / "data"
    assert config.node_dir("a") == tmp_path / "data" / "a"
    assert config.model_dump(exclude={"data_dir"}) == Config().model_dump(exclude={"data_dir"})


def test_argument_then_environment_then_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "w.toml").write_text('http_port = 9001\nmax_batch = 7\ndata_dir = "ledger"\n')
    monkeypatch.setenv("FTWALLET_CONFIG", "elsewhere/w.toml")
    assert load().data_dir == elsewhere / "ledger"
    monkeypatch.setenv("FTWALLET_HTTP_PORT", "9002")
    monkeypatch.setenv("FTWALLET_DATA_DIR", "by-variable")
    config = load()
    assert (config.http_port, config.max_batch, config.data_dir) == (9002, 7, tmp_path / "by-variable")
    assert load(data_dir=Path("by-argument")).data_dir == tmp_path / "by-argument"


def test_the_argument_config_goes_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.toml").write_text("http_port = 9001")
    monkeypatch.setenv("FTWALLET_CONFIG", "no-such-file.toml")
    assert load(Path("one.toml")).http_port == 9001
    with pytest.raises(Refused, match=r"no-such-file\.toml: cannot be read: No such file"):
        load()


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        load().http_port = 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http_prot = 1", "unknown key 'http_prot': did you mean 'http_port'?"),
        ("[node]\nport = 1", "unknown key 'node'"),
        ("zzz = 1", "allowed are data_dir, http_host"),
        ("http_port = 70000", "http_port = 70000 is not allowed"),
        ("http_port = 70000", "allowed is a whole number from 1 to 65535"),
        ('http_port = "many"', "http_port = 'many' is not allowed"),
        ("http_port = 80.5", "allowed is a whole number"),
        ("http_port = true", "true and false are no values of this key"),
        ("request_timeout_s = nan", "request_timeout_s = nan"),
        ("request_timeout_s = inf", "request_timeout_s = inf"),
        ("ack_timeout_s = 0", "allowed is a number above 0 to 86400"),
        ("data_dir = 5", "data_dir = 5 is not allowed"),
        ('data_dir = ""', "a directory of its own is needed"),
        ('http_host = ""', "allowed is a host name or an address"),
        ('log_level = "loud"', 'allowed is one of "debug", "info", "warning", "error"'),
        ('on_primary_death = "vote"', 'allowed is one of "promote", "restart"'),
        ("http_port = 50051", "must be different ports (they are 50051, 50051 and 50052)"),
        ("ack_timeout_s = 9.0", "ack_timeout_s must not be above request_timeout_s (they are 9.0 and 5.0)"),
        ("max_batch = 30000", "max_batch must not be above max_queue"),
        ("http_port = ", "not valid TOML"),
        ("http_port = 1\nhttp_port = 2", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(text: str, words: str) -> None:
    sentence = refusal(text)
    assert words in sentence
    assert "\n" not in sentence


def test_every_wrong_key_is_named_at_once() -> None:
    sentence = refusal("http_port = 0\nmax_batch = 0")
    assert "http_port = 0" in sentence
    assert "max_batch = 0" in sentence


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FTWALLET_HTTP_PORT", "x", "environment variable FTWALLET_HTTP_PORT = 'x' is not allowed"),
        ("FTWALLET_HTTP_PORT", "", "environment variable FTWALLET_HTTP_PORT = '' is not allowed"),
        ("FTWALLET_HTTP_PROT", "1", "environment variable FTWALLET_HTTP_PROT: unknown key 'http_prot'"),
        ("FTWALLET_ON_PRIMARY_DEATH", "vote", 'allowed is one of "promote", "restart"'),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Refused, match=re.escape(words)):
        load()


def test_a_contradiction_names_the_variables_that_may_have_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.toml").write_text("http_port = 9000\n")
    monkeypatch.setenv("FTWALLET_BACKUP_GRPC_PORT", "9000")
    words = "config.toml, environment variable FTWALLET_BACKUP_GRPC_PORT: http_port, primary_grpc_port"
    with pytest.raises(Refused, match=re.escape(words)):
        load()


def test_bytes_that_are_no_text_are_refused() -> None:
    Path("config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="not valid TOML"):
        load()
