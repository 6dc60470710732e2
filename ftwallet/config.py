"""Settings: one flat table of keys, from a TOML file and the environment, refused whole when one is wrong.

A wallet that starts with half of what its operator meant is worse than one that does not start: an unknown
key, a bad value or two keys that contradict each other are refused with the file, the key and what is
allowed, and nothing has been touched by then. Precedence, highest first: `--data-dir`, environment variables
`FTWALLET_<KEY>`, the file, the defaults. The file is the one named by `--config`, else by `FTWALLET_CONFIG`,
else `config.toml` where the command runs, else none.

Only the shells (command line, supervisor, node) read this; everything below them is handed plain values.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import annotated_types
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ftwallet.errors import Refused

MEBIBYTE = 1024 * 1024
DAY_S = 86_400.0
ENVIRONMENT_PREFIX = "FTWALLET_"
CONFIG_VARIABLE = "FTWALLET_CONFIG"
DEFAULT_FILE = "config.toml"

Host = Annotated[str, Field(pattern=r"^\S+$")]
Port = Annotated[int, Field(ge=1, le=65_535)]
MinorUnits = Annotated[int, Field(ge=1, le=10**36)]  # the journal holds 128 bits; 10^36 leaves room for sums
Seconds = Annotated[float, Field(gt=0, le=DAY_S, allow_inf_nan=False)]


class Config(BaseModel):
    """Every setting with its default; frozen. Times are seconds, sizes bytes, money minor units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(
        default=Path("data"),
        description="Directory of the ledger: both nodes' journals, the cluster record, logs. "
        "A relative path is relative to this file.",
    )

    http_host: Host = Field(default="127.0.0.1", description="Address on which the primary serves REST.")
    http_port: Port = Field(default=8000, description="TCP port on which the primary serves REST.")
    grpc_host: Host = Field(default="127.0.0.1", description="Address on which both nodes serve gRPC.")
    primary_grpc_port: Port = Field(default=50_051, description="TCP port of the primary's gRPC service PrimaryWallet.")
    backup_grpc_port: Port = Field(default=50_052, description="TCP port of the backup's gRPC service WalletBackup.")

    currency_exponent: int = Field(
        default=2,
        ge=0,
        le=18,
        description="Decimals of the currency: 2 for euro and dollar, 0 for yen, 3 for dinar.",
    )
    max_amount: MinorUnits = Field(
        default=10**18,
        description="Largest amount of one operation, in minor units (cents, with exponent 2).",
    )
    max_balance: MinorUnits = Field(default=10**18, description="Largest balance of an account, in minor units.")
    max_body_bytes: int = Field(
        default=16_384,
        ge=512,
        le=16 * MEBIBYTE,
        description="Largest body of a request, in bytes; a larger one is answered 413.",
    )
    max_batch_body_bytes: int = Field(
        default=4 * MEBIBYTE,
        ge=512,
        le=8 * MEBIBYTE,  # a whole batch may be one block, which must fit a message to the backup
        description="Largest body of a batch (`POST /transactions`), in bytes; a larger one is answered 413 (4 MiB).",
    )

    request_timeout_s: Seconds = Field(
        default=5.0,
        description="Seconds until a request whose outcome is not known yet is answered 503, in doubt.",
    )
    ack_timeout_s: Seconds = Field(
        default=1.0,
        description="Seconds that the primary waits for the backup's ack before it asks to go solo.",
    )
    settle_timeout_s: Seconds = Field(
        default=10.0,
        description="Seconds that a restarted primary waits for its backup before it settles its tail alone.",
    )
    health_interval_s: Seconds = Field(
        default=5.0,
        description="Seconds between two checks of an idle partner's health by the FailoverManager.",
    )

    heartbeat_interval_s: Seconds = Field(
        default=0.25, description="Seconds between two heartbeats from the supervisor to each node."
    )
    hung_after_s: Seconds = Field(
        default=1.0,
        description="Seconds without an answer to heartbeats after which a node is hung and is killed.",
    )
    start_timeout_s: Seconds = Field(
        default=30.0, description="Seconds that a node may take to become ready; `up` gives up after as many."
    )
    stop_timeout_s: Seconds = Field(
        default=10.0, description="Seconds that a node may take for an orderly stop before it is killed."
    )
    on_primary_death: Literal["promote", "restart"] = Field(
        default="promote",
        description="What the supervisor does when the primary dies: promote its backup, or restart it in place.",
    )
    restart_backoff_s: Seconds = Field(
        default=0.5,
        description="Seconds until a node that died before ready is started again; doubled at each death.",
    )
    restart_backoff_max_s: Seconds = Field(
        default=30.0, description="Longest pause between two such starts, in seconds."
    )
    crash_loop_deaths: int = Field(
        default=5,
        ge=1,
        le=1_000,
        description="Deaths before ready in a row after which a node is given up as failed.",
    )

    segment_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=4_096,
        le=4_096 * MEBIBYTE,
        description="Size in bytes after which the journal goes on in a new file (64 MiB).",
    )
    journal_keep_bytes: int = Field(
        default=0,
        ge=0,
        le=1_048_576 * MEBIBYTE,
        description="Bytes of the journal that a node keeps at least, when it removes the oldest segments of it. 0: it "
        "keeps all of it, for whoever has to prove later what happened; a disk for ever is its price.",
    )
    state: Literal["disk", "memory"] = Field(
        default="disk",
        description="Where a node keeps balances and past transactions: on disk, with what is in use in memory, so "
        "that neither memory nor the time of a start grows with them; or all of it in memory.",
    )
    cached_accounts: int = Field(
        default=1_000_000,
        ge=1_000,
        le=1_000_000_000,
        description='Most balances that a node with state = "disk" keeps in memory; about 200 bytes each.',
    )
    checkpoint_records: int = Field(
        default=100_000,
        ge=1,
        le=1_000_000_000,
        description="Journal records between two checkpoints of the state, or two writes of it to the store.",
    )
    readable_records: int = Field(
        default=200_000,
        ge=0,
        le=1_000_000_000,
        description="Most journal records with which an orderly stop also writes the readable files; with more, "
        "`export` does.",
    )
    state_sync_records: int = Field(
        default=200_000,
        ge=0,
        le=1_000_000_000,
        description="Journal records that a checkpoint must save a backup that is behind, to be sent instead of them.",
    )
    min_free_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=0,
        le=1_048_576 * MEBIBYTE,
        description="Free bytes on the data directory's disk below which writes are answered 503 (64 MiB).",
    )
    max_batch: int = Field(
        default=2_048,
        ge=1,
        le=65_536,
        description="Most operations that one journal block, and one fdatasync, takes; an all_or_nothing batch is "
        "never split.",
    )
    max_queue: int = Field(
        default=20_000,
        ge=1,
        le=10_000_000,
        description="Most operations that wait for the journal before new ones are answered 503.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="Form of the log lines; auto is text in a terminal and JSON when piped."
    )

    _config_file: Path | None = PrivateAttr(default=None)

    @property
    def config_file(self) -> Path | None:
        """Absolute path of the file that was read, None when there was none."""
        return self._config_file

    def node_dir(self, node: str) -> Path:
        """Return the data directory of node `a` or `b`."""
        return self.data_dir / node

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: object) -> object:
        # No key is a switch, and Python would take `true` for the number 1.
        if isinstance(value, bool):
            raise ValueError("true and false are no values of this key")
        return value

    @field_validator("data_dir")
    @classmethod
    def _refuse_unusable_path(cls, value: Path) -> Path:
        if str(value) in ("", ".") or "\0" in str(value):
            raise ValueError("a directory of its own is needed")
        return value

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        ports = (self.http_port, self.primary_grpc_port, self.backup_grpc_port)
        if len(set(ports)) < len(ports):
            values = f"{ports[0]}, {ports[1]} and {ports[2]}"
            raise ValueError(
                f"http_port, primary_grpc_port and backup_grpc_port must be different ports (they are {values})"
            )
        for smaller, larger in _ORDERED:
            if getattr(self, smaller) > getattr(self, larger):
                values = f"{getattr(self, smaller)} and {getattr(self, larger)}"
                raise ValueError(f"{smaller} must not be above {larger} (they are {values})")
        return self


_ORDERED = (
    ("ack_timeout_s", "request_timeout_s"),
    ("heartbeat_interval_s", "hung_after_s"),
    ("restart_backoff_s", "restart_backoff_max_s"),
    ("max_amount", "max_balance"),
    ("max_batch", "max_queue"),
)


class _Layered(Config, BaseSettings):
    """`Config` filled from the environment first and then from the file's values, which are its arguments."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load(config_path: Path | None = None, data_dir: Path | None = None) -> Config:
    """Return the settings that `--config` and `--data-dir`, the environment and the file give.

    `Config.data_dir` and `Config.config_file` are absolute. Reads files only; creates nothing.

    Raises:
        Refused: a file that cannot be read, an unknown key or variable, a bad or contradicting value.
    """
    file = _find_file(config_path)
    values = _read_file(file) if file else {}
    _refuse_unknown_variables()
    try:
        loaded = _Layered(**values)
    except ValidationError as error:
        raise Refused("; ".join(_sentence(file, details) for details in error.errors())) from None
    absolute = _absolute_data_dir(loaded.data_dir, file, data_dir)
    config = Config.model_validate(loaded.model_dump() | {"data_dir": absolute})
    config._config_file = file
    return config


def allowed(key: str) -> str:
    """Return in words which values `key` takes, from the same bounds that check them."""
    field = Config.model_fields[key]
    if get_origin(field.annotation) is Literal:
        choices = ", ".join(f'"{value}"' for value in get_args(field.annotation))
        return f"one of {choices}" if "," in choices else f"only {choices}"
    if field.annotation is Path:
        return "the path of a directory, as a string"
    if field.annotation is str:
        return "a host name or an address, as a string"
    return f"{'a whole number' if field.annotation is int else 'a number'} {_bounds(field)}"


def _bounds(field: FieldInfo) -> str:
    words = []
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            words.append(f"from {bound.ge}")
        elif isinstance(bound, annotated_types.Gt):
            words.append(f"above {bound.gt}")
        elif isinstance(bound, annotated_types.Le):
            words.append(f"to {_number(bound.le)}")
    return " ".join(words)


def _number(value: object) -> str:
    digits = f"{value:.0f}" if isinstance(value, float) else str(value)
    if len(digits) > 7 and digits.strip("0") == "1":
        return f"10^{len(digits) - 1}"
    return digits


def _find_file(config_path: Path | None) -> Path | None:
    if config_path is not None:
        return config_path.absolute()
    if CONFIG_VARIABLE in os.environ:
        return Path(os.environ[CONFIG_VARIABLE]).absolute()
    here = Path(DEFAULT_FILE).absolute()
    return here if here.exists() else None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{file}: cannot be read: {error.strerror}; name another file with --config") from error
    except ValueError as error:
        raise Refused(f"{file}: not valid TOML: {error}") from error
    unknown = [key for key in values if key not in Config.model_fields]
    if unknown:
        raise Refused("; ".join(f"{file}: unknown key {key!r}: {_suggestion(key)}" for key in unknown))
    return values


def _refuse_unknown_variables() -> None:
    known = {ENVIRONMENT_PREFIX + key.upper() for key in Config.model_fields} | {CONFIG_VARIABLE}
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() not in known:
            key = name[len(ENVIRONMENT_PREFIX) :].lower()
            raise Refused(f"environment variable {name}: unknown key {key!r}: {_suggestion(key)}")


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key.lower(), Config.model_fields, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "allowed are " + ", ".join(Config.model_fields)


def _sentence(file: Path | None, details: ErrorDetails) -> str:
    if not details["loc"]:
        variables = [name for name in os.environ if name.upper().startswith(ENVIRONMENT_PREFIX)]
        places = [str(file)] if file else []
        places += [f"environment variable {name}" for name in sorted(variables) if name.upper() != CONFIG_VARIABLE]
        return f"{', '.join(places) or 'configuration'}: {_reason(details)}"
    key = str(details["loc"][0])
    variable = _variable_of(key)
    place = f"environment variable {variable}" if variable else f"{file or 'configuration'}: {key}"
    return f"{place} = {details['input']!r} is not allowed: {_reason(details)}; allowed is {allowed(key)}"


def _variable_of(key: str) -> str | None:
    return next((name for name in os.environ if name.upper() == ENVIRONMENT_PREFIX + key.upper()), None)


def _reason(details: ErrorDetails) -> str:
    own = details.get("ctx", {}).get("error")
    if own is not None:
        return str(own)
    return details["msg"][:1].lower() + details["msg"][1:]


def _absolute_data_dir(loaded: Path, file: Path | None, argument: Path | None) -> Path:
    if argument is not None:
        return argument.absolute()
    # A variable is typed where the command runs, like --data-dir; a key of the file belongs to the file.
    if file is None or _variable_of("data_dir"):
        return loaded.absolute()
    return file.parent / loaded
