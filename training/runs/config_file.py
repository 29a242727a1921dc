"""Configuration files in TOML, which are validated as a whole before anything runs; an unknown key is an error."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

_SHIPPED = Path(__file__).parents[1] / "configs"


class ConfigError(Exception):
    """A configuration is not valid; the message names each wrong key with the reason."""


class Section(BaseModel):
    """A table of a configuration file: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=Section)


def read_values(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file; where `path` does not exist, the shipped one of that name, such as `paper/ddamfn_lstm_va.toml`.

    Each override is `table.key=value`, with the value in TOML, or a bare word or path. Raises ConfigError.
    """
    try:
        values = tomllib.loads((path if path.exists() else _SHIPPED / path).read_text())
        for override in overrides:
            _override(values, override)
    except FileNotFoundError:
        shipped = sorted(str(file.relative_to(_SHIPPED)) for file in _SHIPPED.rglob("*.toml"))
        raise ConfigError(f"{path} does not exist, and what ships is {', '.join(shipped)}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    return values


def checked(kind: type[C], values: Mapping[str, Any], name: str) -> C:
    """Return the values as a configuration of this kind; `name` is for the message. Raises ConfigError."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ConfigError(f"{name}: " + "; ".join(lines)) from None


def _override(values: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    *tables, key = name.strip().split(".")
    if not separator or not tables:
        raise ConfigError(f"--set takes table.key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word or path: a string without its quotes
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {name.strip()}: {table} is a value, not a table")
    values[key] = value
