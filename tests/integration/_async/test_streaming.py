# SPDX-License-Identifier: Apache-2.0
"""Output through callbacks: items 28 to 30 of the checklist, attacks 36, 37 and 45."""

from __future__ import annotations

import os
import time

import pytest

from atoll import AsyncSandbox, CommandFailed
from tests.support.processes import resident_mb
from tests.support.server import ServerProcess

MIB = 1 << 20
ALLOWED_GROWTH_MB = 32
LINE = "atoll " * 170


async def test_lines_arrive_while_the_command_runs(sandbox: AsyncSandbox) -> None:
    """Item 28."""
    arrived: dict[str, float] = {}
    started = time.perf_counter()

    def note(line: str) -> None:
        arrived[line] = time.perf_counter() - started

    await sandbox.exec(
        "echo first; echo error >&2; sleep 1; echo last", on_stdout=note, on_stderr=note
    )

    assert arrived["first"] < arrived["last"] - 0.5
    assert arrived["error"] < arrived["last"] - 0.5


async def test_lines_come_whole_in_order_and_without_their_ends(sandbox: AsyncSandbox) -> None:
    stdout: list[str] = []
    stderr: list[str] = []

    await sandbox.exec(
        r"for n in $(seq 2000); do echo out $n; echo err $n >&2; done; printf 'a\r\nb\n\n'",
        on_stdout=stdout.append,
        on_stderr=stderr.append,
    )

    assert stdout == [*(f"out {n}" for n in range(1, 2001)), "a", "b", ""]
    assert stderr == [f"err {n}" for n in range(1, 2001)]


async def test_a_line_written_in_pieces_comes_as_one(sandbox: AsyncSandbox) -> None:
    lines: list[str] = []

    await sandbox.exec(
        r"printf 'on'; sleep 0.2; printf 'e\ntw'; sleep 0.2; printf 'o\n'", on_stdout=lines.append
    )

    assert lines == ["one", "two"]


async def test_a_character_written_in_pieces_comes_as_one(sandbox: AsyncSandbox) -> None:
    """Attack 45."""
    lines: list[str] = []

    result = await sandbox.exec(
        r"printf '\360\237'; sleep 0.2; printf '\217\235 \303'; sleep 0.2; printf '\274\n'",
        on_stdout=lines.append,
    )

    assert lines == ["🏝 ü"]
    assert result.stdout == "🏝 ü\n"


async def test_every_border_between_pieces_keeps_characters_whole(sandbox: AsyncSandbox) -> None:
    """Attack 45."""
    lines: list[str] = []
    program = (
        "import os\n"
        "data = ('ü🏝é' * 50_000 + '\\n').encode() * 3\n"
        "while data: data = data[os.write(1, data[:4093]):]\n"
    )

    result = await sandbox.exec(["python3", "-c", program], on_stdout=lines.append, check=True)

    assert lines == ["ü🏝é" * 50_000] * 3
    assert result.stdout == ("ü🏝é" * 50_000 + "\n") * 3


async def test_output_without_a_line_end_comes_at_the_end(sandbox: AsyncSandbox) -> None:
    lines: list[str] = []

    result = await sandbox.exec(r"printf 'a\nb'", on_stdout=lines.append)

    assert lines == ["a", "b"]
    assert result.stdout == "a\nb"


async def test_bytes_that_are_not_utf8_stand_as_replacement_characters(
    sandbox: AsyncSandbox,
) -> None:
    lines: list[str] = []

    await sandbox.exec(r"printf 'a\377b\n\303\n'", on_stdout=lines.append)

    assert lines == ["a\ufffdb", "\ufffd"]


async def test_the_final_result_comes_all_the_same(sandbox: AsyncSandbox) -> None:
    """Item 29."""
    lines: list[str] = []

    result = await sandbox.exec("echo one; echo two; echo err >&2; exit 3", on_stdout=lines.append)

    assert lines == ["one", "two"]
    assert (result.stdout, result.stderr, result.exit_code) == ("one\ntwo\n", "err\n", 3)
    assert result.signal is None
    assert isinstance(result.duration_ms, int)


async def test_check_raises_at_the_end(sandbox: AsyncSandbox) -> None:
    lines: list[str] = []

    with pytest.raises(CommandFailed):
        await sandbox.exec("echo one; exit 3", on_stdout=lines.append, check=True)

    assert lines == ["one"]


async def test_a_background_child_does_not_hold_a_streamed_call(sandbox: AsyncSandbox) -> None:
    lines: list[str] = []
    started = time.perf_counter()

    await sandbox.exec("sleep 62.5 & echo started", on_stdout=lines.append)

    took = time.perf_counter() - started
    killed = await sandbox.exec("pkill -f 'sleep 62.5'")
    assert lines == ["started"]
    assert took < 3
    assert killed.exit_code == 0


async def test_an_error_in_a_callback_ends_the_command(sandbox: AsyncSandbox) -> None:
    def refuse(line: str) -> None:
        raise LookupError(line)

    with pytest.raises(LookupError, match="first"):
        await sandbox.exec("echo first; sleep 63.5", on_stdout=refuse)

    gone = await sandbox.exec(
        "for n in $(seq 50); do pgrep -f 'sleep 63[.]5' || break; sleep 0.1; done; pgrep -f 'sleep 63[.]5'"
    )
    assert gone.exit_code == 1


async def test_a_slow_callback_slows_the_command(sandbox: AsyncSandbox) -> None:
    """Attack 36: what is not taken is not produced."""
    program = (
        "import os, time\n"
        "start = time.monotonic()\n"
        "for n in range(64): os.write(1, b'x' * 1048575 + b'\\n')\n"
        "print(f'took {time.monotonic() - start:.2f}')\n"
    )
    lines: list[str] = []

    def dawdle(line: str) -> None:
        if len(lines) < 10:
            rested_until = time.perf_counter() + 0.15
            while time.perf_counter() < rested_until:
                os.sched_yield()
        lines.append(line[-12:])

    await sandbox.exec(["python3", "-c", program], on_stdout=dawdle, check=True)

    assert len(lines) == 65
    assert float(lines[-1].split()[-1]) > 0.5


async def _stream_with_flat_memory(
    server: ServerProcess, sandbox: AsyncSandbox, size_mib: int, command: str
) -> None:
    """Run a command that writes so much; sampled all the way, neither side's memory may grow with it."""
    await sandbox.exec(command.format(size=32 * MIB), on_stdout=len, check=True)  # warm
    before = resident_mb(os.getpid()), resident_mb(server.pid)
    most = list(before)
    seen = 0

    def take(line: str) -> None:
        nonlocal seen
        if seen // (8 * MIB) != (seen + len(line) + 1) // (8 * MIB):
            most[:] = map(max, most, (resident_mb(os.getpid()), resident_mb(server.pid)))
        seen += len(line) + 1

    result = await sandbox.exec(
        command.format(size=size_mib * MIB), on_stdout=take, timeout_ms=300_000, check=True
    )

    # A line end more for the last line, and for each piece of one that has none.
    assert 0 <= seen - size_mib * MIB <= size_mib
    assert result.truncated
    assert len(result.stdout) == 10 * MIB
    assert most[0] - before[0] < ALLOWED_GROWTH_MB, "the client's memory grew"
    assert most[1] - before[1] < ALLOWED_GROWTH_MB, "the server's memory grew"


async def test_a_quarter_gigabyte_through_callbacks_keeps_memory_flat(
    server: ServerProcess, sandbox: AsyncSandbox
) -> None:
    """Item 30, in short."""
    await _stream_with_flat_memory(server, sandbox, 256, f"yes '{LINE}' | head -c {{size}}")


async def test_a_quarter_gigabyte_without_line_ends_keeps_memory_flat(
    server: ServerProcess, sandbox: AsyncSandbox
) -> None:
    """Attack 37, in short."""
    await _stream_with_flat_memory(server, sandbox, 256, "tr '\\0' x < /dev/zero | head -c {size}")


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_gigabyte_through_callbacks_keeps_memory_flat(
    server: ServerProcess, sandbox: AsyncSandbox
) -> None:
    """Item 30."""
    await _stream_with_flat_memory(server, sandbox, 1024, f"yes '{LINE}' | head -c {{size}}")


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_gigabyte_without_line_ends_keeps_memory_flat(
    server: ServerProcess, sandbox: AsyncSandbox
) -> None:
    """Attack 37."""
    await _stream_with_flat_memory(server, sandbox, 1024, "tr '\\0' x < /dev/zero | head -c {size}")
