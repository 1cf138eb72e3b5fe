# SPDX-License-Identifier: Apache-2.0
"""Input that is long, late, from two writers, or not read: attack 44."""

from __future__ import annotations

import hashlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from atoll import Sandbox, StdinClosed, Stdout
from tests.support.processes import resident_mb
from tests.support.server import ServerProcess

MIB = 1 << 20


@pytest.mark.slow
def test_a_hundred_megabytes_come_back_while_they_are_written(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    data = bytes(range(251)) * (100 * MIB // 251)
    process = sandbox.processes.start(["cat"], stdin_open=True)
    before = resident_mb(server.pid)
    writing = threading.Thread(target=process.write_stdin, args=(data,), kwargs={"eof": True})
    writing.start()

    read = hashlib.sha256()
    for event in process.stream():
        if isinstance(event, Stdout):
            read.update(event.data)
    writing.join()

    assert read.digest() == hashlib.sha256(data).digest()
    assert process.exit_code == 0
    assert resident_mb(server.pid) - before < 32


def test_a_hundred_megabytes_pass_though_nobody_reads_what_comes_of_them(sandbox: Sandbox) -> None:
    process = sandbox.processes.start(["cat"], stdin_open=True)

    taken = process.write_stdin(bytes(100 * MIB), eof=True)

    result = process.wait(20_000)
    assert (taken, result.stdout_bytes, result.exit_code) == (100 * MIB, 100 * MIB, 0)
    assert result.truncated


@pytest.mark.parametrize("command", ["head -c 1; exit 3", "exec <&-; sleep 0.5; exit 3"])
def test_input_that_is_not_wanted_any_more_is_refused_and_blocks_nobody(
    sandbox: Sandbox, command: str
) -> None:
    process = sandbox.processes.start(command, stdin_open=True)

    with pytest.raises(StdinClosed):
        process.write_stdin(bytes(100 * MIB))

    assert process.wait(20_000).exit_code == 3


def test_a_process_that_ends_frees_whoever_writes_to_it(sandbox: Sandbox) -> None:
    process = sandbox.processes.start("sleep 0.5", stdin_open=True)

    with pytest.raises(StdinClosed):
        process.write_stdin(bytes(100 * MIB))


def test_input_after_its_end_is_refused(sandbox: Sandbox) -> None:
    process = sandbox.processes.start("cat; read never", stdin_open=True)
    process.write_stdin("all\n", eof=True)

    with pytest.raises(StdinClosed):
        process.write_stdin("late\n")
    with pytest.raises(StdinClosed):
        process.close_stdin()

    assert process.wait(20_000).stdout == "all\n"


def test_of_two_writers_at_once_each_is_heard_whole_and_in_order(sandbox: Sandbox) -> None:
    process = sandbox.processes.start(["cat"], stdin_open=True)
    texts = ["".join(f"{writer}{n:07}" for n in range(200_000)) for writer in "ab"]

    with ThreadPoolExecutor() as pool:
        taken = list(pool.map(process.write_stdin, texts))
    process.close_stdin()
    stdout = process.wait(20_000).stdout

    assert taken == [len(text) for text in texts]
    assert len(stdout) == sum(taken)
    # Pieces of one may come between pieces of the other, cut anywhere.
    digits = "".join(sorted(stdout))
    assert digits == "".join(sorted("".join(texts)))
    for writer, text in zip("ab", texts, strict=True):
        assert is_woven_in(text, stdout), writer


def is_woven_in(text: str, whole: str) -> bool:
    """Whether all of `text` is there in its order, with other things between."""
    rest = iter(whole)
    return all(character in rest for character in itertools.islice(text, 100_000))
