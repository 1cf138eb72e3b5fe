# SPDX-License-Identifier: Apache-2.0
"""Where the settings' values come from: the only place that reads environment variables or configuration files.

A value is taken from the arguments, else from `ATOLL_*`, else from the TOML file, else it is the default.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from atoll.models import Runtime
from atoll_server.settings import Settings

DEFAULT_CONFIG_FILE = Path("/etc/atoll/config.toml")
ENV_PREFIX = "ATOLL_"
CONFIG_FILE_LIMIT = 1024 * 1024
# A unix socket's path is at most 108 bytes; ours lie in `run_dir`, a sandbox id and a name below it.
RUN_DIR_LIMIT = 48
SOCKET_PATH_LIMIT = 107
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_PREVIEW_URL = re.compile(
    r"https?://(\{port\}-\{label\}\.[a-z0-9.-]+(:[0-9]+)?/|[a-z0-9.\[\]:-]+/p/\{port\}-\{label\}/)"
)


class ConfigError(Exception):
    """A setting that cannot be. The message names it and says what is allowed."""


def load_settings(
    *, config: Path | str | None = None, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """Settings from all sources. Overrides that are None count as not given.

    `config` names the TOML file, which then must exist; `ATOLL_CONFIG` does the same.
    """
    env = os.environ if environ is None else environ
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = given.keys() - _TYPES.keys()
    if unknown:
        raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
    values = {**_read_file(config or env.get(ENV_PREFIX + "CONFIG")), **_read_env(env), **given}
    settings = Settings(**{name: _parse(name, value) for name, value in values.items()})
    _check_paths(settings)
    _check_previews(settings)
    return settings


def _read_file(named: Path | str | None) -> dict[str, Any]:
    path = Path(named) if named else DEFAULT_CONFIG_FILE
    try:
        if path.stat().st_size > CONFIG_FILE_LIMIT:
            raise ConfigError(f"{path}: larger than {CONFIG_FILE_LIMIT} bytes")
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if named:
            raise ConfigError(f"{path}: no such configuration file") from None
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    unknown = values.keys() - _TYPES.keys()
    if unknown:
        raise ConfigError(
            f"{path}: no such settings: {', '.join(sorted(unknown))}; known: {', '.join(_TYPES)}"
        )
    return values


def _read_env(env: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: env[ENV_PREFIX + name.upper()]
        for name in _TYPES
        if env.get(ENV_PREFIX + name.upper())
    }
    if env.get(ENV_PREFIX + "API_KEY"):
        values["api_keys"] = env[ENV_PREFIX + "API_KEY"]
    return values


def _parse(name: str, value: Any) -> Any:
    wanted, limits = _TYPES[name], _LIMITS[name]
    try:
        parsed = _PARSERS[wanted](value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"setting {name}: expected {_EXPECTED[wanted]}, got {_shown(name, value)}"
        ) from None
    if limits["one_of"] and parsed not in limits["one_of"]:
        raise ConfigError(
            f"setting {name}: must be one of {', '.join(limits['one_of'])}; got {_shown(name, value)}"
        )
    if limits["least"] is not None and not limits["least"] <= parsed <= limits["most"]:
        raise ConfigError(
            f"setting {name}: must be {limits['least']} to {limits['most']}; got {_shown(name, value)}"
        )
    return parsed


def _shown(name: str, value: Any) -> str:
    return "something else" if name == "api_keys" else repr(value)[:80]


def _parse_text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError
    return value


def _parse_path(value: Any) -> Path:
    return Path(_parse_text(os.fspath(value))).absolute()


def _parse_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _parse_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return float(value)


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
        value.lower()
    ]


def _parse_bool_or_raise(value: Any) -> bool:
    try:
        return _parse_bool(value)
    except (KeyError, AttributeError):
        raise ValueError from None


def _parse_keys(value: Any) -> tuple[str, ...]:
    keys = value.split(",") if isinstance(value, str) else list(value)
    return tuple(_parse_text(key).strip() for key in keys)


def _parse_images(value: Any) -> Mapping[str, str]:
    """A table; or pairs `NAME=SOURCE`, as a list or with commas between them. The engine knows what they may be."""
    if isinstance(value, Mapping):
        return {_parse_text(name): _parse_text(source) for name, source in value.items()}
    images: dict[str, str] = {}
    for pair in value.split(",") if isinstance(value, str) else value:
        name, _, source = (part.strip() for part in _parse_text(pair).partition("="))
        if name in images:
            raise ValueError
        images[_parse_text(name)] = _parse_text(source)
    return images


def _strip_optional(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


_PARSERS: Mapping[Any, Any] = {
    str: _parse_text,
    int: _parse_int,
    float: _parse_float,
    bool: _parse_bool_or_raise,
    Path: _parse_path,
    Runtime: Runtime,
    tuple[str, ...]: _parse_keys,
    Mapping[str, str]: _parse_images,
}
_EXPECTED: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    Runtime: "auto, gvisor or container",
    tuple[str, ...]: "a list of keys, or of addresses, none of them empty",
    Mapping[str, str]: "NAME=IMAGE or NAME=/DIRECTORY, each name once",
}
_TYPES: Mapping[str, Any] = {
    name: _strip_optional(hint) for name, hint in typing.get_type_hints(Settings).items()
}
_LIMITS: Mapping[str, Mapping[str, Any]] = {
    entry.name: entry.metadata for entry in fields(Settings)
}


def _check_previews(settings: Settings) -> None:
    if not _DOMAIN.fullmatch(settings.preview_domain):
        raise ConfigError(
            f"setting preview_domain: expected a name such as preview.example.com; got {settings.preview_domain!r}"
        )
    url = settings.preview_url
    if url is not None and not _PREVIEW_URL.fullmatch(url):
        raise ConfigError(
            "setting preview_url: expected http:// or https://, then {port}-{label} once, as the first of the host "
            f"or the last of the path; got {url!r}"
        )
    if settings.preview_port and settings.preview_port == settings.port:
        raise ConfigError(f"setting preview_port: {settings.port} is the API's; choose another")


def _check_paths(settings: Settings) -> None:
    if len(os.fsencode(settings.run_dir)) > RUN_DIR_LIMIT:
        raise ConfigError(
            f"setting run_dir: at most {RUN_DIR_LIMIT} bytes, because unix sockets lie below it; "
            f"got {str(settings.run_dir)!r}"
        )
    if settings.socket is not None and len(os.fsencode(settings.socket)) > SOCKET_PATH_LIMIT:
        raise ConfigError(
            f"setting socket: at most {SOCKET_PATH_LIMIT} bytes; got {str(settings.socket)!r}"
        )
    if settings.private and settings.socket is None:
        raise ConfigError("setting socket: needed with private")
