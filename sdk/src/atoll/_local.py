# SPDX-License-Identifier: Apache-2.0
"""The private server: one a process, for clients that were told of no other.

It is a program of its own that ends, with its sandboxes, when its standard input closes. That pipe is held only here,
so that it ends with this process however that comes about.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ._config import Endpoint, parse_url
from .errors import ConnectFailed, Error, InvalidConfig

START_SECONDS = 60.0
STOP_SECONDS = 15.0
MAX_READY_BYTES = 65536
MAX_QUOTED_BYTES = 2000
PREFIX = "atoll-private-"
OWNER = "owner"


@dataclass(frozen=True, eq=False)
class Lease:
    """The right to use the running private server, until it is released."""

    endpoint: Endpoint
    api_key: str = field(repr=False)


class PrivateServer:
    """Starts the server for the first lease, ends it after the last. `command` stands in for Atoll's own in tests."""

    def __init__(self, command: tuple[str, ...] | None = None) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._leases: set[Lease] = set()
        self._watches_forks = False

    def acquire(self) -> Lease:
        """A lease for one client. Blocks until the server is ready; raises `ConnectFailed` where it does not start."""
        with self._lock:
            if self._running is not None and self._running.process.poll() is not None:
                self._running.stop()
                self._running = None
            if self._running is None:
                self._running = _start(self._command or _find_command())
                self._watch_process()
            lease = Lease(self._running.endpoint, self._running.api_key)
            self._leases.add(lease)
            return lease

    def release(self, lease: Lease) -> None:
        """Gives a lease back; with the last one the server ends. May be repeated."""
        with self._lock:
            self._leases.discard(lease)
            last = not self._leases
        if last:
            self.stop()

    def stop(self) -> None:
        """Ends the server whoever still uses it. May be repeated."""
        with self._lock:
            running, self._running = self._running, None
            self._leases.clear()
            atexit.unregister(self.stop)
            if running is not None:
                running.stop()

    def _watch_process(self) -> None:
        atexit.register(self.stop)
        if not self._watches_forks and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)
            self._watches_forks = True

    def _forget(self) -> None:
        """In a forked child: the server is the parent's, and must not outlive it through this copy of the pipe."""
        self._lock = threading.Lock()
        running, self._running = self._running, None
        self._leases.clear()
        atexit.unregister(self.stop)
        if running is not None:
            running.abandon()


shared = PrivateServer()
"""The one of this process. Nothing is started before somebody asks."""


@dataclass(frozen=True)
class _Running:
    process: subprocess.Popen[bytes]
    directory: Path
    owner: int
    endpoint: Endpoint
    api_key: str = field(repr=False)

    def stop(self) -> None:
        _end(self.process)
        os.close(self.owner)
        _remove(self.directory)

    def abandon(self) -> None:
        os.close(self.owner)
        for pipe in _pipes(self.process):
            os.close(pipe.fileno())
        # It is no child of ours; without this, Popen would complain that it still runs.
        self.process.returncode = 0


def _find_command() -> tuple[str, ...]:
    if importlib.util.find_spec("atoll_server") is None:
        raise InvalidConfig(
            "no server to talk to: set ATOLL_URL and ATOLL_API_KEY (or pass api_url and api_key), "
            "or install atoll-server, which is then started as needed"
        )
    # -P: the working directory, which may be anybody's, is no place to import the server from.
    return sys.executable, "-P", "-m", "atoll_server"


def _start(command: tuple[str, ...]) -> _Running:
    directory = _make_directory()
    _sweep(directory.parent, command)
    owner = _own(directory)
    log = directory / "server.log"
    process: subprocess.Popen[bytes] | None = None
    try:
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own program, an argument vector
                [*command, "--private", *_place(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Ctrl-C is for us; we then end the server in order.
                start_new_session=True,
            )
        url, key = _parse_ready(_read_ready(process))
        return _Running(process, directory, owner, parse_url(url), key)
    except BaseException as error:
        if process is not None:
            process.kill()
            _end(process)
        said = _read_end(log)
        os.close(owner)
        _remove(directory)
        if isinstance(error, OSError | Error | ValueError):
            raise ConnectFailed(
                f"the private server did not start: {error}{said}", retryable=False
            ) from None
        raise


def _make_directory() -> Path:
    # Not /tmp: that is often memory, and the sandboxes' disks lie below.
    for parent in ("/var/tmp", None):
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    raise ConnectFailed("no directory for temporary files can be written")


def _own(directory: Path) -> int:
    """Marks the directory as in use, for as long as this process lives; the descriptor is the mark."""
    import fcntl

    owner = os.open(directory / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)
    return owner


def _sweep(parent: Path, command: tuple[str, ...]) -> None:
    """Removes what processes that were killed have left, once their servers have ended too, in order or not."""
    for directory in parent.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):  # somebody else's, or just now removed by another
            ours = directory.lstat().st_uid == os.getuid() and not directory.is_symlink()
            if ours and _is_free(directory / OWNER) and _is_free(directory / "state" / "lock"):
                _end_sandboxes(directory, command)
                _remove(directory)


def _end_sandboxes(directory: Path, command: tuple[str, ...]) -> None:
    """Has another server end those of one that was killed: by themselves they would go on, past their lifetimes."""
    if not _has_mounts(directory):
        return
    with contextlib.suppress(subprocess.TimeoutExpired):  # whoever comes next tries again
        subprocess.run(  # noqa: S603 - our own program, an argument vector
            [*command, "--private", *_place(directory)],
            input=b"",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=START_SECONDS,
            check=False,
        )


def _is_free(lock: Path) -> bool:
    """Whether nobody holds a lock file that is there."""
    import fcntl

    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
    return True


def _place(directory: Path) -> list[str]:
    """All that the server keeps is in one directory, so that several on one host do not meet."""
    return [
        *("--socket", str(directory / "atoll.sock")),
        *("--state-dir", str(directory / "state")),
        *("--run-dir", str(directory / "run")),
    ]


def _remove(directory: Path) -> None:
    """Removes the server's directory, unless it died so badly that something is still mounted there."""
    with contextlib.suppress(OSError):
        if not _has_mounts(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _has_mounts(directory: Path) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    return f" {directory}/" in mounts


def _read_ready(process: subprocess.Popen[bytes]) -> bytes:
    stdout = _stream(process.stdout)
    deadline = time.monotonic() + START_SECONDS
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise ConnectFailed(f"not ready after {START_SECONDS:.0f} s")
            chunk = os.read(stdout.fileno(), MAX_READY_BYTES)
            if not chunk or len(line) > MAX_READY_BYTES:
                raise ConnectFailed("it ended at once")
            line += chunk
    return line


def _parse_ready(line: bytes) -> tuple[str, str]:
    try:
        said = json.loads(line)
        return str(said["url"]), str(said["api_key"])
    except (ValueError, KeyError, TypeError):
        raise ConnectFailed("it did not say where it listens") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):  # it may be gone already
        _stream(process.stdin).close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in _pipes(process):
        pipe.close()


def _pipes(process: subprocess.Popen[bytes]) -> list[IO[bytes]]:
    pipes = (process.stdin, process.stdout)
    return [pipe for pipe in pipes if pipe is not None and not pipe.closed]


def _stream(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "started with pipes"
    return pipe


def _read_end(log: Path) -> str:
    try:
        text = log.read_bytes()[-MAX_QUOTED_BYTES:].decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f"\n{text}" if text else ""
