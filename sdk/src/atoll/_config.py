# SPDX-License-Identifier: Apache-2.0
"""What a client is told, from constructor, environment and file, in that order; the only reader of the last two.

Atoll's own names win over the documented names of Runra (`RUNRA_API_URL` and so on), which are fall-backs.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ._policies import render_network
from .errors import InvalidConfig
from .models import CreateSandbox, Resources

DEFAULT_TIMEOUT_MS = 30_000
DEFAULT_MAX_RETRIES = 2
MAX_RETRIES = 10
MAX_TIMEOUT_MS = 86_400_000
MAX_FILE_BYTES = 1024 * 1024
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

_URL_VARIABLES = ("ATOLL_URL", "RUNRA_API_URL")
_KEY_VARIABLES = ("ATOLL_API_KEY", "RUNRA_API_KEY")
_DEFAULT_VARIABLES = {
    "image": ("ATOLL_DEFAULT_IMAGE", "RUNRA_DEFAULT_IMAGE"),
    "cpu": ("ATOLL_DEFAULT_CPU", "RUNRA_DEFAULT_CPU"),
    "memory_mb": ("ATOLL_DEFAULT_MEMORY_MB", "RUNRA_DEFAULT_MEMORY_MB"),
    "disk_mb": ("ATOLL_DEFAULT_DISK_MB",),
    "timeout_ms": ("ATOLL_DEFAULT_TIMEOUT_MS", "RUNRA_DEFAULT_TIMEOUT_MS"),
}
_RESOURCES = tuple(entry.name for entry in dataclasses.fields(Resources))
_CREATE = tuple(entry.name for entry in dataclasses.fields(CreateSandbox))
_SANDBOX_OPTIONS = ("provider", "api_key", "api_url", "defaults")
_TOP_OPTIONS = (
    "api_key",
    "api_url",
    "timeout_ms",
    "max_retries",
    "defaults",
    "sandbox",
    "observability",
)
_MERGED = ("resources", "env", "metadata", "secrets")


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens. `socket` is set for unix sockets, where host and port only fill the Host header."""

    url: str
    tls: bool = False
    host: str = "localhost"
    port: int | None = None
    socket: str | None = None
    base_path: str = ""


@dataclass(frozen=True)
class Settings:
    """What a client goes by. Without an endpoint it starts a private server."""

    endpoint: Endpoint | None
    api_key: str | None = field(repr=False)
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    max_retries: int = DEFAULT_MAX_RETRIES
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False)


def load_settings(
    options: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    files: tuple[Path, ...] | None = None,
) -> Settings:
    """Settings from the constructor's `options` (those that are None count as not given), environment and file."""
    env = os.environ if environ is None else environ
    given = _flatten("the constructor", {k: v for k, v in options.items() if v is not None})
    from_file, file = _read_first(_default_files(env) if files is None else files)
    url_from_file = "api_url" not in given and _first(env, _URL_VARIABLES) is None
    merged = _merge_sources(given, _from_environment(env), from_file)

    endpoint = None if merged.get("api_url") is None else parse_url(merged["api_url"])
    key = _check_key(merged.get("api_key"))
    if endpoint is None and "api_key" in given:
        raise InvalidConfig(
            "api_key was given without api_url: pass api_url or set ATOLL_URL "
            "(with neither, a private server is started, which makes a key of its own)"
        )
    if endpoint is not None and key is None:
        raise InvalidConfig(f"no API key for {endpoint.url}: pass api_key or set ATOLL_API_KEY")
    if endpoint is not None and url_from_file and "api_key" not in from_file:
        _refuse_foreign_url(endpoint, file)
    return Settings(
        endpoint=endpoint,
        api_key=key if endpoint is not None else None,
        timeout_ms=_check_number(
            "timeout_ms", merged.get("timeout_ms", DEFAULT_TIMEOUT_MS), 1, MAX_TIMEOUT_MS
        ),
        max_retries=_check_number(
            "max_retries", merged.get("max_retries", DEFAULT_MAX_RETRIES), 0, MAX_RETRIES
        ),
        defaults=merged["defaults"],
    )


def merge_create(defaults: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """What to ask for: `call` over `defaults`, mappings key by key. None in `call` counts as not given."""
    said = _check_defaults("create()", {k: v for k, v in call.items() if v is not None})
    return _merge_defaults(defaults, said)


def mask_key(key: str | None) -> str:
    """Enough of a key to tell which, too little to use it."""
    if key is None:
        return "none"
    return f"{key[:4]}…{key[-4:]}" if len(key) >= 20 else "…"


def parse_url(url: str) -> Endpoint:
    """The endpoint that `url` names, or `InvalidConfig`."""
    if not isinstance(url, str):
        raise InvalidConfig(f"api_url must be text, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidConfig(f"api_url {url!r}: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise InvalidConfig("api_url must not hold a user or password: pass api_key")
    if parts.query or parts.fragment:
        raise InvalidConfig(f"api_url {url!r} must not have a query or fragment")
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return Endpoint(url=url, socket=unquote(parts.path))
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
        raise InvalidConfig(
            f"api_url {url!r} is none of http://host, https://host and unix:///path/to.sock"
        )
    return Endpoint(
        url=url.rstrip("/"),
        tls=parts.scheme == "https",
        host=parts.hostname,
        port=port,
        base_path=parts.path.rstrip("/"),
    )


def _default_files(env: Mapping[str, str]) -> tuple[Path, ...]:
    named = env.get("ATOLL_CLIENT_CONFIG")
    if named:
        return (Path(named),)
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or "/nonexistent") / ".config")
    return Path("atoll.toml"), home / "atoll" / "config.toml"


def _read_first(files: tuple[Path, ...]) -> tuple[dict[str, Any], Path | None]:
    for path in files:
        try:
            with path.open("rb") as file:
                text = file.read(MAX_FILE_BYTES).decode()
            return _flatten(str(path), tomllib.loads(text)), path
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise InvalidConfig(f"{path}: {error}") from None
    return {}, None


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if url := _first(env, _URL_VARIABLES):
        values["api_url"] = url
    if key := _first(env, _KEY_VARIABLES):
        values["api_key"] = key
    defaults: dict[str, Any] = {}
    for name, variables in _DEFAULT_VARIABLES.items():
        text = _first(env, variables)
        if text is None:
            continue
        value = text if name == "image" else _parse_number(variables[0], text, name == "cpu")
        target = defaults.setdefault("resources", {}) if name in _RESOURCES else defaults
        target[name] = value
    values["defaults"] = defaults
    return values


def _first(env: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((env[name].strip() for name in names if env.get(name, "").strip()), None)


def _parse_number(name: str, text: str, fraction: bool) -> float:
    try:
        return float(text) if fraction and not text.isdecimal() else int(text)
    except ValueError:
        kind = "number" if fraction else "whole number"
        raise InvalidConfig(f"{name} must be a {kind}, not {text!r}") from None


def _flatten(source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """One flat mapping of a flat or nested configuration; where both say something, the flat one wins."""
    _refuse_unknown(source, options, _TOP_OPTIONS)
    nested = _check_mapping(source, "sandbox", options.get("sandbox"))
    _refuse_unknown(f"{source}: sandbox", nested, _SANDBOX_OPTIONS)
    flat = {k: v for k, v in nested.items() if k in ("api_key", "api_url") and v is not None}
    flat.update({k: v for k, v in options.items() if k not in ("sandbox", "defaults")})
    flat["defaults"] = _merge_defaults(
        _check_defaults(source, _check_mapping(source, "defaults", nested.get("defaults"))),
        _check_defaults(source, _check_mapping(source, "defaults", options.get("defaults"))),
    )
    return flat


def _merge_sources(*best_first: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for source in reversed(best_first):
        merged.update(source)
        defaults = _merge_defaults(defaults, source.get("defaults", {}))
    merged["defaults"] = defaults
    return merged


def _merge_defaults(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**low, **high}
    for name in _MERGED:
        if name in low and name in high:
            merged[name] = {**low[name], **high[name]}
    return merged


def _check_defaults(source: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    _refuse_unknown(source, defaults, _CREATE)
    checked = dict(defaults)
    for name in _MERGED:
        if name in checked:
            checked[name] = _check_mapping(source, name, checked[name])
    if checked.get("network") is not None:
        checked["network"] = render_network(checked["network"])
    if "resources" in checked:
        _refuse_unknown(f"{source}: resources", checked["resources"], _RESOURCES)
    return checked


def _check_mapping(source: str, name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Resources):
        return dataclasses.asdict(value)
    if not isinstance(value, Mapping):
        raise InvalidConfig(f"{source}: {name} must be a mapping, not {type(value).__name__}")
    return dict(value)


def _refuse_unknown(source: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(str(name) for name in given.keys() - set(known))
    if unknown:
        raise InvalidConfig(f"{source}: unknown {', '.join(unknown)}; known are {', '.join(known)}")


def _check_number(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise InvalidConfig(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    return value


def _check_key(key: object) -> str | None:
    if key is None:
        return None
    # The key itself stays out of the message: messages reach logs.
    if (
        not isinstance(key, str)
        or not key
        or not key.isascii()
        or not key.isprintable()
        or " " in key
    ):
        raise InvalidConfig("api_key must be printable ASCII text without spaces")
    return key


def _refuse_foreign_url(endpoint: Endpoint, file: Path | None) -> None:
    """A file of the working directory may come with somebody's repository, and must not choose who gets the key."""
    if (
        file is None
        or file.is_absolute()
        or endpoint.socket is not None
        or endpoint.host in LOCAL_HOSTS
    ):
        return
    raise InvalidConfig(
        f"{file} in this directory names {endpoint.url}, and the API key comes from elsewhere: "
        "to trust it, set ATOLL_URL or pass api_url"
    )
