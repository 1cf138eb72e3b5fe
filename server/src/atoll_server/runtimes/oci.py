# SPDX-License-Identifier: Apache-2.0
"""Starting a sandbox through an OCI runtime's command line. The drivers differ in flags and configuration only."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from atoll_server import host
from atoll_server.runtimes import kernel
from atoll_server.runtimes.base import Launch, RuntimeFailed, Staged
from atoll_server.runtimes.stage import build_stage, make_backdrop

START_TIMEOUT = 30.0
READY = b"ready\n"

_OUTPUT_LIMIT = 16 * 1024
_NOTHING_MORE: Mapping[str, str] = {}
# Moves itself into each group named before `--`, then becomes the program named after it.
_ENTER_GROUPS = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 70; shift; done; shift; exec "$@"'


@dataclass(frozen=True)
class Paths:
    """Where the drivers find the agent's binary, and keep the runtime's own notes."""

    agent: Path
    state: Path


@dataclass(frozen=True)
class Pace:
    """When what runs in a sandbox gets a processor: its scheduling policy, and how many nanoseconds late its timers may
    be (None is what the host gives to all)."""

    policy: int = os.SCHED_OTHER
    timer_slack: int | None = None

    def set(self) -> None:
        """For the calling thread and every program that it starts from now on."""
        # Many short turns: a sandbox that hardly runs has to wait for the end of those of one that never rests.
        kernel.set_turns(kernel.SHORTEST_TURN_NS, policy=self.policy)
        if self.timer_slack is not None:
            kernel.set_timer_slack(self.timer_slack)


DEFAULT_PACE = Pace()


@dataclass(frozen=True)
class Order:
    """How a driver wants its runtime run: the bundle's configuration, the arguments, what the environment has more.

    The runtime writes the first process's pid to `Staged.pid_file`.
    """

    config: dict[str, Any]
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    pace: Pace = DEFAULT_PACE


class Starter:
    """Starts sandboxes by one runtime's program."""

    def __init__(self, program: str, paths: Paths) -> None:
        self._agent = paths.agent
        self.program = Path(shutil.which(program) or program)
        self._backdrop = make_backdrop(self.program, paths.state)

    def start(self, launch: Launch, prepare: Callable[[Staged], Order]) -> int:
        """Build the root, write the bundle, run the runtime in the group, and wait for the agent."""
        staged = build_stage(launch, agent=self._agent, backdrop=self._backdrop)
        order = prepare(staged)
        (staged.bundle / "config.json").write_bytes(msgspec.json.encode(order.config))
        order.pace.set()
        return launch_in_group(launch, order.argv, staged.pid_file, env=order.env)


def launch_in_group(
    launch: Launch, argv: Sequence[str], pid_file: Path, *, env: Mapping[str, str] = _NOTHING_MORE
) -> int:
    """Run a program that leaves the agent running, wait until that listens, and return the pid from `pid_file`."""
    groups = [str(file) for file in launch.group.entry_files()]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            entering = ["/bin/sh", "-c", _ENTER_GROUPS, "enter", *groups, "--", *argv]
            host.run(entering, timeout=START_TIMEOUT, stdout=writer, env=env)
        except host.HostCommandFailed as error:
            raise RuntimeFailed(f"{error}: {_drain(reader)}") from None
        finally:
            os.close(writer)
        _wait_until_ready(reader)
        return int(pid_file.read_text())
    finally:
        os.close(reader)


def _wait_until_ready(reader: int) -> None:
    """Wait until the agent has written `ready`. End of file means that it died; the pipe says of what."""
    deadline = time.monotonic() + START_TIMEOUT
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    written = b""
    while READY not in written:
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise RuntimeFailed(
                f"the agent was not ready after {START_TIMEOUT:g} s: {_text(written)}"
            )
        piece = os.read(reader, 4096)
        if not piece or len(written) > _OUTPUT_LIMIT:
            raise RuntimeFailed(f"the agent did not start: {_text(written)}")
        written += piece


def _drain(reader: int) -> str:
    """What stands in the pipe now, without waiting for more."""
    os.set_blocking(reader, False)
    try:
        return _text(os.read(reader, _OUTPUT_LIMIT))
    except BlockingIOError:
        return ""


def _text(written: bytes) -> str:
    return written.decode("utf-8", "replace").strip()
