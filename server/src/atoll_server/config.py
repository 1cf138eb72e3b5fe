# SPDX-License-Identifier: Apache-2.0
"""The server's settings, and the only place that reads environment variables or configuration files.

A value is taken from the arguments, else from `ATOLL_*`, else from the TOML file, else it is the default.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from atoll.models import (
    MAX_COMMAND_TIMEOUT_MS,
    MAX_CPU,
    MAX_DISK_MB,
    MAX_LIFETIME_MS,
    MAX_MEMORY_MB,
    MAX_OPEN_FILES,
    MAX_PIDS,
    MIN_CPU,
    MIN_DISK_MB,
    MIN_MEMORY_MB,
    MIN_OPEN_FILES,
    MIN_PIDS,
    Runtime,
)

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


@dataclass(frozen=True)
class Settings:
    """Everything an operator can choose. Each field's metadata says what it means."""

    host: str = field(default="127.0.0.1", metadata={"description": "address to listen on"})
    port: int = field(
        default=7420, metadata={"description": "TCP port; 0 takes a free one", "ge": 0, "le": 65535}
    )
    preview_domain: str = field(
        default="localhost",
        metadata={
            "description": "previews of ports answer at `PORT-LABEL.` and this; one that belongs to nothing else"
        },
    )
    preview_url: str | None = field(
        default=None,
        metadata={
            "description": "what the URL of a port is made from, with `{port}` and `{label}` in it; without it "
            "`http://{port}-{label}.` with `preview_domain` and the port that previews answer at"
        },
    )
    preview_port: int | None = field(
        default=None,
        metadata={
            "description": "a TCP port for previews alone, on `host`; 0 takes a free one; without it they share `port` "
            "with the API, and `private` takes a free one of the loopback",
            "ge": 0,
            "le": 65535,
        },
    )
    socket: Path | None = field(
        default=None,
        metadata={"description": "unix socket to listen on, besides TCP unless `private`"},
    )
    api_keys: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata={
            "description": "keys that may do everything; `ATOLL_API_KEY` holds one, or several with commas"
        },
    )
    state_dir: Path = field(
        default=Path("/var/lib/atoll"),
        metadata={"description": "what must survive a reboot: database, disks"},
    )
    run_dir: Path = field(
        default=Path("/run/atoll"),
        metadata={"description": "what need not: sockets, bundles; a short path"},
    )
    images: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "description": "images besides `host`: each name stands for another image or for a directory's absolute "
            "path; a table, or `NAME=IMAGE,NAME=/DIRECTORY`"
        },
    )
    default_image: str | None = field(
        default=None,
        metadata={"description": "root file system of sandboxes created without `image`"},
    )
    runtime: Runtime = field(
        default=Runtime.AUTO,
        metadata={
            "description": "what isolates a sandbox that does not say: auto, gvisor, container"
        },
    )
    output_limit_bytes: int = field(
        default=10 * 1024 * 1024,
        metadata={
            "description": "output kept of each stream in a buffered result",
            "ge": 1024,
            "le": 256 * 1024 * 1024,
        },
    )
    keep_processes: int = field(
        default=256,
        metadata={
            "description": "how many processes that have ended each sandbox remembers, with their output",
            "ge": 16,
            "le": 10_000,
        },
    )
    keep_processes_ms: int = field(
        default=3_600_000,
        metadata={"description": "how long", "ge": 1000, "le": MAX_LIFETIME_MS},
    )
    max_lifetime_ms: int = field(
        default=MAX_LIFETIME_MS,
        metadata={
            "description": "longest `timeoutMs` of a sandbox",
            "ge": 1,
            "le": MAX_LIFETIME_MS,
        },
    )
    max_command_timeout_ms: int = field(
        default=MAX_COMMAND_TIMEOUT_MS,
        metadata={
            "description": "longest `timeoutMs` of a command",
            "ge": 1,
            "le": MAX_COMMAND_TIMEOUT_MS,
        },
    )
    rate_limit_per_second: float = field(
        default=0.0,
        metadata={
            "description": "requests a second of one key, and at once; 0 is no limit",
            "ge": 0,
            "le": 1_000_000,
        },
    )
    auth_failures_per_minute: int = field(
        default=60,
        metadata={
            "description": "wrong keys a minute from one address, and at once; 0 is no limit",
            "ge": 0,
            "le": 1_000_000,
        },
    )
    upload_idle_ms: int = field(
        default=60_000,
        metadata={
            "description": "how long a client may fall silent within an upload",
            "ge": 100,
            "le": 3_600_000,
        },
    )
    cpu_min: float | None = field(
        default=None,
        metadata={
            "description": "least `cpu` of a sandbox, fractions too; 2, 4 and 8 unless it or `cpu_max` is said",
            "ge": MIN_CPU,
            "le": 2,
        },
    )
    cpu_max: float | None = field(
        default=None, metadata={"description": "most `cpu`", "ge": 2, "le": MAX_CPU}
    )
    memory_min_mb: int = field(
        default=2048,
        metadata={"description": "least `memoryMb` of a sandbox", "ge": MIN_MEMORY_MB, "le": 4096},
    )
    memory_max_mb: int = field(
        default=16_384,
        metadata={"description": "most `memoryMb`", "ge": 4096, "le": MAX_MEMORY_MB},
    )
    disk_min_mb: int = field(
        default=5120,
        metadata={"description": "least `diskMb` of a sandbox", "ge": MIN_DISK_MB, "le": 10_240},
    )
    disk_max_mb: int = field(
        default=51_200,
        metadata={"description": "most `diskMb`", "ge": 10_240, "le": MAX_DISK_MB},
    )
    pids_max: int = field(
        default=4096,
        metadata={
            "description": "most `pids` of a sandbox, and what one has that does not say",
            "ge": MIN_PIDS,
            "le": MAX_PIDS,
        },
    )
    open_files_max: int = field(
        default=65_536,
        metadata={
            "description": "the same for `openFiles`; no more than the server's own hard limit",
            "ge": MIN_OPEN_FILES,
            "le": MAX_OPEN_FILES,
        },
    )
    max_sandboxes: int = field(
        default=0,
        metadata={
            "description": "how many there may be at once; 0 is no limit",
            "ge": 0,
            "le": 1_000_000,
        },
    )
    memory_overcommit: float = field(
        default=100.0,
        metadata={
            "description": "how many times the host's memory may be promised to sandboxes, all their limits together",
            "ge": 0.01,
            "le": 100_000,
        },
    )
    memory_reserve_mb: int = field(
        default=512,
        metadata={
            "description": "with less memory free than this, MiB, no sandbox is created",
            "ge": 0,
            "le": 1 << 30,
        },
    )
    disk_reserve_mb: int = field(
        default=1024,
        metadata={
            "description": "the same for the disk of `state_dir`",
            "ge": 0,
            "le": 1 << 30,
        },
    )
    pool_size: int | None = field(
        default=None,
        metadata={
            "description": "sandboxes held ready for whoever asks next; 4, or none with `private`, unless said",
            "ge": 0,
            "le": 1000,
        },
    )
    pool_min_idle: int = field(
        default=1,
        metadata={
            "description": "how many of them at least of each image, runtime and size that was asked for lately",
            "ge": 0,
            "le": 1000,
        },
    )
    pool_max_idle_ms: int = field(
        default=3_600_000,
        metadata={
            "description": "age at which one that nobody took is replaced",
            "ge": 1000,
            "le": MAX_LIFETIME_MS,
        },
    )
    pool_refill: int = field(
        default=2,
        metadata={"description": "how many are built at once", "ge": 1, "le": 64},
    )
    sweep_every_ms: int = field(
        default=60_000,
        metadata={
            "description": "how often the host is compared with what is known of it",
            "ge": 100,
            "le": 3_600_000,
        },
    )
    name_servers: tuple[str, ...] = field(
        default=(),
        metadata={
            "description": "who is asked for the names that sandboxes may reach, `ADDRESS` or `ADDRESS:PORT`; "
            "the host's own unless said"
        },
    )
    network_open: tuple[str, ...] = field(
        default=(),
        metadata={
            "description": "private addresses that policies may open nevertheless: `10.1.2.3:5432`, `10.9.0.0/24`"
        },
    )
    terminated_keep_days: float = field(
        default=30.0,
        metadata={
            "description": "how long records of terminated sandboxes are kept",
            "ge": 0,
            "le": 3650,
        },
    )
    terminated_keep_max: int = field(
        default=100_000,
        metadata={"description": "how many of them at most", "ge": 0, "le": 10_000_000},
    )
    private: bool = field(
        default=False,
        metadata={"description": "serve one local client on `socket` only, and end with it"},
    )
    log_level: str = field(
        default="info",
        metadata={
            "description": "least level logged",
            "one_of": ("debug", "info", "warning", "error"),
        },
    )
    log_format: str = field(
        default="text", metadata={"description": "how", "one_of": ("text", "json")}
    )


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
    if "one_of" in limits and parsed not in limits["one_of"]:
        raise ConfigError(
            f"setting {name}: must be one of {', '.join(limits['one_of'])}; got {_shown(name, value)}"
        )
    if "ge" in limits and not limits["ge"] <= parsed <= limits["le"]:
        raise ConfigError(
            f"setting {name}: must be {limits['ge']} to {limits['le']}; got {_shown(name, value)}"
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
