# SPDX-License-Identifier: Apache-2.0
"""What an operator can choose: each setting, its default, what it means and what it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


def setting(
    default: Any,
    description: str,
    *,
    least: float | None = None,
    most: float | None = None,
    one_of: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field of `Settings`. Numbers have a `least` and a `most`; what is `secret` is never shown."""
    said = {"description": description, "least": least, "most": most, "one_of": one_of}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=said)
    return field(default=default, repr=not secret, metadata=said)


@dataclass(frozen=True)
class Settings:
    """Everything an operator can choose."""

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(7420, "TCP port; 0 takes a free one", least=0, most=65535)
    preview_domain: str = setting(
        "localhost",
        "previews of ports answer at `PORT-LABEL.` and this; one that belongs to nothing else",
    )
    preview_url: str | None = setting(
        None,
        "what the URL of a port is made from, with `{port}` and `{label}` in it; without it "
        "`http://{port}-{label}.` with `preview_domain` and the port that previews answer at",
    )
    preview_port: int | None = setting(
        None,
        "a TCP port for previews alone, on `host`; 0 takes a free one; without it they share "
        "`port` with the API, and `private` takes a free one of the loopback",
        least=0,
        most=65535,
    )
    socket: Path | None = setting(None, "unix socket to listen on, besides TCP unless `private`")
    api_keys: tuple[str, ...] = setting(
        (),
        "keys that may do everything; `ATOLL_API_KEY` holds one, or several with commas",
        secret=True,
    )
    state_dir: Path = setting(Path("/var/lib/atoll"), "what must survive a reboot: database, disks")
    run_dir: Path = setting(Path("/run/atoll"), "what need not: sockets, bundles; a short path")
    images: Mapping[str, str] = setting(
        {},
        "images besides `host`: each name stands for another image or for a directory's absolute "
        "path; a table, or `NAME=IMAGE,NAME=/DIRECTORY`",
    )
    default_image: str | None = setting(
        None, "root file system of sandboxes created without `image`"
    )
    runtime: Runtime = setting(
        Runtime.AUTO, "what isolates a sandbox that does not say: auto, gvisor, container"
    )
    output_limit_bytes: int = setting(
        10 * 1024 * 1024,
        "output kept of each stream in a buffered result",
        least=1024,
        most=256 * 1024 * 1024,
    )
    keep_processes: int = setting(
        256,
        "how many processes that have ended each sandbox remembers, with their output",
        least=16,
        most=10_000,
    )
    keep_processes_ms: int = setting(3_600_000, "how long", least=1000, most=MAX_LIFETIME_MS)
    max_lifetime_ms: int = setting(
        MAX_LIFETIME_MS, "longest `timeoutMs` of a sandbox", least=1, most=MAX_LIFETIME_MS
    )
    max_command_timeout_ms: int = setting(
        MAX_COMMAND_TIMEOUT_MS,
        "longest `timeoutMs` of a command",
        least=1,
        most=MAX_COMMAND_TIMEOUT_MS,
    )
    rate_limit_per_second: float = setting(
        0.0, "requests a second of one key, and at once; 0 is no limit", least=0, most=1_000_000
    )
    auth_failures_per_minute: int = setting(
        60,
        "wrong keys a minute from one address, and at once; 0 is no limit",
        least=0,
        most=1_000_000,
    )
    upload_idle_ms: int = setting(
        60_000, "how long a client may fall silent within an upload", least=100, most=3_600_000
    )
    cpu_min: float | None = setting(
        None,
        "least `cpu` of a sandbox, fractions too; 2, 4 and 8 unless it or `cpu_max` is said",
        least=MIN_CPU,
        most=2,
    )
    cpu_max: float | None = setting(None, "most `cpu`", least=2, most=MAX_CPU)
    memory_min_mb: int = setting(
        2048, "least `memoryMb` of a sandbox", least=MIN_MEMORY_MB, most=4096
    )
    memory_max_mb: int = setting(16_384, "most `memoryMb`", least=4096, most=MAX_MEMORY_MB)
    disk_min_mb: int = setting(5120, "least `diskMb` of a sandbox", least=MIN_DISK_MB, most=10_240)
    disk_max_mb: int = setting(51_200, "most `diskMb`", least=10_240, most=MAX_DISK_MB)
    pids_max: int = setting(
        4096,
        "most `pids` of a sandbox, and what one has that does not say",
        least=MIN_PIDS,
        most=MAX_PIDS,
    )
    open_files_max: int = setting(
        65_536,
        "the same for `openFiles`; no more than the server's own hard limit",
        least=MIN_OPEN_FILES,
        most=MAX_OPEN_FILES,
    )
    max_sandboxes: int = setting(
        0, "how many there may be at once; 0 is no limit", least=0, most=1_000_000
    )
    memory_overcommit: float = setting(
        100.0,
        "how many times the host's memory may be promised to sandboxes, all their limits together",
        least=0.01,
        most=100_000,
    )
    memory_reserve_mb: int = setting(
        512, "with less memory free than this, MiB, no sandbox is created", least=0, most=1 << 30
    )
    disk_reserve_mb: int = setting(
        1024, "the same for the disk of `state_dir`", least=0, most=1 << 30
    )
    pool_size: int | None = setting(
        None,
        "sandboxes held ready for whoever asks next; 4, or none with `private`, unless said",
        least=0,
        most=1000,
    )
    pool_min_idle: int = setting(
        1,
        "how many of them at least of each image, runtime and size that was asked for lately",
        least=0,
        most=1000,
    )
    pool_max_idle_ms: int = setting(
        3_600_000, "age at which one that nobody took is replaced", least=1000, most=MAX_LIFETIME_MS
    )
    pool_refill: int = setting(2, "how many are built at once", least=1, most=64)
    sweep_every_ms: int = setting(
        60_000, "how often the host is compared with what is known of it", least=100, most=3_600_000
    )
    name_servers: tuple[str, ...] = setting(
        (),
        "who is asked for the names that sandboxes may reach, `ADDRESS` or `ADDRESS:PORT`; the "
        "host's own unless said",
    )
    network_default: str = setting(
        "allow",
        "what a sandbox may reach that does not say: everything but what is never reached, nothing "
        "yet, or it has no network at all; `none` also where this host gives no networks",
        one_of=("allow", "deny", "none"),
    )
    network_open: tuple[str, ...] = setting(
        (), "private addresses that policies may open nevertheless: `10.1.2.3:5432`, `10.9.0.0/24`"
    )
    network_mb_per_second: float = setting(
        125.0,
        "what one sandbox may send to the network, and receive, in a second, MB; 0 is no limit",
        least=0,
        most=100_000,
    )
    terminated_keep_days: float = setting(
        30.0, "how long records of terminated sandboxes are kept", least=0, most=3650
    )
    terminated_keep_max: int = setting(
        100_000, "how many of them at most", least=0, most=10_000_000
    )
    private: bool = setting(False, "serve one local client on `socket` only, and end with it")
    log_level: str = setting(
        "info", "least level logged", one_of=("debug", "info", "warning", "error")
    )
    log_format: str = setting("text", "how", one_of=("text", "json"))
