# SPDX-License-Identifier: Apache-2.0
"""The only module that starts host programs: an argument vector, a time limit, bounded output, a typed failure."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

OUTPUT_LIMIT = 64 * 1024
MINIMAL_ENV: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}


class HostCommandFailed(Exception):
    """A host program could not be run, took too long, or ended with a status that is not zero."""

    def __init__(self, program: str, why: str, output: str = "") -> None:
        super().__init__(f"{program}: {why}" + (f": {output}" if output else ""))
        self.program = program
        self.why = why
        self.output = output


@dataclass(frozen=True)
class Finished:
    """What a host program wrote, at most the last `OUTPUT_LIMIT` bytes of it."""

    output: str


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdout: int | None = None,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> Finished:
    """Run a program to its end. Blocks: call it from a worker thread.

    With `stdout`, both output streams of the program go to that descriptor and `output` is empty. `env` is added to
    the little that programs get of an environment. `stdin` is what it reads, nothing without.
    """
    with contextlib.ExitStack() as opened:
        source = subprocess.DEVNULL if stdin is None else opened.enter_context(_readable(stdin))
        program = _start(argv, source, stdout, cwd, pass_fds, env)
    return _finish(argv[0], program, timeout)


def _start(
    argv: Sequence[str],
    stdin: int | IO[bytes],
    stdout: int | None,
    cwd: str | None,
    pass_fds: Sequence[int],
    env: Mapping[str, str] | None,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - an argument vector of ours, never a shell
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**MINIMAL_ENV, **(env or {})},
            pass_fds=tuple(pass_fds),
        )
    except OSError as error:
        raise HostCommandFailed(argv[0], error.strerror or "could not start") from None


def _finish(name: str, program: subprocess.Popen[bytes], timeout: float) -> Finished:
    with program:
        try:
            output = _wait(program, timeout)
        except subprocess.TimeoutExpired:
            program.kill()
            raise HostCommandFailed(name, f"no end after {timeout:g} s") from None
        except BaseException:
            # Leaving the block waits for the program, which must not be left to its own time.
            program.kill()
            raise
    text = output.decode("utf-8", "replace").strip()
    if program.returncode != 0:
        raise HostCommandFailed(name, f"status {program.returncode}", text)
    return Finished(text)


def _readable(text: str) -> IO[bytes]:
    """A file in memory that holds this text, to be read from its beginning."""
    file = os.fdopen(os.memfd_create("stdin", os.MFD_CLOEXEC), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


def _wait(program: subprocess.Popen[bytes], timeout: float) -> bytes:
    """Until it ends; what it wrote, if that is ours to read.

    Without a pipe, `subprocess` looks again and again at growing intervals, which made starting a runtime up to twice
    as long. A pidfd says when.
    """
    if program.stdout is not None:
        return _collect(program, program.stdout.fileno(), timeout)
    ended = os.pidfd_open(program.pid)
    try:
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        if not poller.poll(timeout * 1000):
            raise subprocess.TimeoutExpired(program.args, timeout)
    finally:
        os.close(ended)
    program.wait()
    return b""


def _collect(program: subprocess.Popen[bytes], pipe: int, timeout: float) -> bytes:
    """Read until the end of its output, so that it can end, and keep no more than the last of it."""
    deadline = time.monotonic() + timeout
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    kept = b""
    while (left := deadline - time.monotonic()) > 0 and poller.poll(left * 1000):
        piece = os.read(pipe, OUTPUT_LIMIT)
        if not piece:
            program.wait(left)
            return kept
        kept = (kept + piece)[-OUTPUT_LIMIT:]
    raise subprocess.TimeoutExpired(program.args, timeout)


@contextlib.contextmanager
def held(argv: Sequence[str]) -> Iterator[int]:
    """Keep a program running for the length of the `with` block, after it wrote its first line. Yields its pid.

    For programs that exist to hold something, such as a namespace. It is killed at the end.
    """
    with subprocess.Popen(  # noqa: S603 - an argument vector of ours, never a shell
        list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(MINIMAL_ENV)
    ) as program:
        try:
            assert program.stdout is not None
            if not program.stdout.readline():
                raise HostCommandFailed(argv[0], "ended before it was ready")
            yield program.pid
        finally:
            program.kill()


class Background:
    """A program that goes on by itself, in a session of its own, also when this one ends.

    It is there once it has written its first line. Its errors go where this program's go.
    """

    def __init__(
        self, argv: Sequence[str], *, pass_fds: Sequence[int] = (), timeout: float
    ) -> None:
        self._name = argv[0]
        try:
            self._program = subprocess.Popen(  # noqa: S603 - an argument vector of ours, never a shell
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=dict(MINIMAL_ENV),
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except OSError as error:
            raise HostCommandFailed(argv[0], error.strerror or "could not start") from None
        try:
            self._wait_until_ready(timeout)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._program.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._program.poll() is None

    def wait(self, timeout: float) -> None:
        """Return once it has ended. Raises `HostCommandFailed` where it has not in time."""
        try:
            self._program.wait(timeout)
        except subprocess.TimeoutExpired:
            raise HostCommandFailed(self._name, f"no end after {timeout:g} s") from None

    def kill(self) -> None:
        """End it at once, if it has not ended. Repeating it is harmless."""
        self._program.kill()
        self._program.wait()

    def _wait_until_ready(self, timeout: float) -> None:
        assert self._program.stdout is not None
        with self._program.stdout as output:
            poller = select.poll()
            poller.register(output, select.POLLIN)
            if not poller.poll(timeout * 1000) or not output.readline():
                raise HostCommandFailed(self._name, "ended, or took too long, before it was ready")
