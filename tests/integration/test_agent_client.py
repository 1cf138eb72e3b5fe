# SPDX-License-Identifier: Apache-2.0
"""Commands and files through the real agent, which runs here as a plain process, without a sandbox around it."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.messages import StartRequest
from atoll_server.engine import commands, errors
from atoll_server.engine.commands import ProcessDefaults
from atoll_server.engine.files import Files
from atoll_server.engine.model import Command, Completed, Exit, FileKind, Output, SandboxId
from tests.support.commands import execute

AGENT = Path(__file__).parents[2] / "server" / "src" / "atoll_server" / "_bin" / "atoll-agent"
ME = getpass.getuser()


@pytest.fixture
def agent_process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    if not AGENT.exists():
        pytest.skip("needs the agent: make agent")
    (tmp_path / "work").mkdir()
    command = [str(AGENT), "--socket", str(tmp_path / "agent.sock")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield process
        process.kill()


@pytest.fixture
async def agent(agent_process: subprocess.Popen[bytes], tmp_path: Path) -> AgentClient:
    client = AgentClient(str(tmp_path / "agent.sock"))
    await client.hello(5)
    return client


@pytest.fixture
def defaults(tmp_path: Path) -> ProcessDefaults:
    return ProcessDefaults(str(tmp_path / "work"), {})


@pytest.fixture
def files(agent: AgentClient, tmp_path: Path) -> Files:
    return Files(agent, str(tmp_path / "work"), SandboxId("sb"))


async def run(
    agent: AgentClient, defaults: ProcessDefaults, line: str | tuple[str, ...], **options: object
) -> Completed:
    command = Command(line, user=ME, **options)  # type: ignore[arg-type]  # the tests' own words
    return await execute(agent, command, defaults=defaults)


async def chunks(data: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(files: Files, path: str, **options: int) -> bytes:
    async with files.read(path, **options) as (_, content):
        return b"".join([chunk async for chunk in content])


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def commands_running() -> list[bytes]:
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            lines.append(process.read_bytes())
    return lines


def is_there(path: Path) -> bool:
    return path.exists()


def pid_in(note: Path) -> int | None:
    """The number in a file, once it is written there whole."""
    text = note.read_text() if note.exists() else ""
    return int(text) if text.endswith("\n") else None


def kill_all(agent: subprocess.Popen[bytes]) -> None:
    """What the kernel does in a sandbox, where the agent is PID 1."""
    threads = Path(f"/proc/{agent.pid}/task").glob("*/children")
    children = [int(pid) for thread in threads for pid in thread.read_text().split()]
    for pid in (agent.pid, *children):
        os.kill(pid, signal.SIGKILL)


async def wait_until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # nobody tells of these
            await asyncio.sleep(0.01)


async def wait_gone(*pids: int) -> None:
    await wait_until(lambda: not any(map(is_alive, pids)))


# Commands


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 137, 255])
async def test_exit_code_is_reported_as_it_is(
    agent: AgentClient, defaults: ProcessDefaults, code: int
) -> None:
    completed = await run(agent, defaults, ("sh", "-c", f"exit {code}"))
    assert (completed.exit.code, completed.exit.signal) == (code, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
async def test_signal_is_reported_as_it_is(
    agent: AgentClient, defaults: ProcessDefaults, number: int
) -> None:
    completed = await run(agent, defaults, ("sh", "-c", f"kill -{number:d} $$"))
    assert (completed.exit.code, completed.exit.signal) == (None, number)


async def test_streams_are_apart_and_counted(agent: AgentClient, defaults: ProcessDefaults) -> None:
    completed = await run(agent, defaults, "printf out; printf error >&2")

    assert (completed.stdout, completed.stderr) == (b"out", b"error")
    assert (completed.exit.stdout_bytes, completed.exit.stderr_bytes) == (3, 5)


@pytest.mark.parametrize(
    ("line", "options", "reason"),
    [
        (("/no/such",), {}, "not_found"),
        (("no-such-program",), {}, "not_found"),
        (("/etc/passwd",), {}, "not_executable"),
        (("/",), {}, "not_executable"),
        (("true",), {"cwd": "/no/such"}, "bad_directory"),
        (("true",), {"cwd": "/etc/passwd"}, "bad_directory"),
    ],
)
async def test_command_that_cannot_start_is_told_from_one_that_failed(
    agent: AgentClient,
    defaults: ProcessDefaults,
    line: tuple[str, ...],
    options: dict[str, str],
    reason: str,
) -> None:
    with pytest.raises(errors.CommandNotStarted) as raised:
        await run(agent, defaults, line, **options)
    assert raised.value.reason == reason


async def test_unknown_user_cannot_start(agent: AgentClient, defaults: ProcessDefaults) -> None:
    with pytest.raises(errors.CommandNotStarted) as raised:
        await execute(agent, Command("true", user="nobody-here"), defaults=defaults)
    assert raised.value.reason == "unknown_user"


async def test_empty_argv_is_invalid(agent: AgentClient, defaults: ProcessDefaults) -> None:
    with pytest.raises(errors.InvalidRequest):
        await run(agent, defaults, ())


async def test_words_and_environment_arrive_byte_for_byte(
    agent: AgentClient, defaults: ProcessDefaults
) -> None:
    words = ("a b", "", "ä€😀", "\udcff\udc80", "line\nline", "x" * 100_000)
    value = "=with\nlines=\udcfe"

    said = await run(agent, defaults, ("printf", "%s\\0", *words))
    told = await run(agent, defaults, ("sh", "-c", 'printf %s "$V"'), env={"V": value})

    expected = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
    assert said.stdout == expected
    assert told.stdout == value.encode("utf-8", "surrogateescape")


async def test_much_stdin_flows_while_output_comes_back(
    agent: AgentClient, defaults: ProcessDefaults
) -> None:
    stdin = os.urandom(1 << 20) * 32

    completed = await run(agent, defaults, ("cat",), stdin=stdin)

    assert completed.exit.stdout_bytes == len(stdin)
    assert completed.stdout == stdin[-commands.OUTPUT_LIMIT :].lstrip(b"")[-len(completed.stdout) :]


@pytest.mark.parametrize("line", ["true", "head -c 1000 >/dev/null", "exec <&-; sleep 0.05"])
async def test_command_may_leave_its_stdin_unread(
    agent: AgentClient, defaults: ProcessDefaults, line: str
) -> None:
    completed = await run(agent, defaults, line, stdin=b"x" * (8 << 20))
    assert completed.exit.code == 0


async def test_timeout_ends_the_whole_tree(agent: AgentClient, defaults: ProcessDefaults) -> None:
    begun = time.monotonic()

    line = "(setsid sleep 1000 & echo $!); sleep 1000 & echo $!; wait"
    completed = await run(agent, defaults, line, timeout=0.3)

    assert completed.exit.timed_out
    assert completed.exit.signal == signal.SIGTERM
    assert time.monotonic() - begun < 2
    await wait_gone(*map(int, completed.stdout.split()))


async def test_background_child_does_not_hold_the_command_and_lives_on(
    agent: AgentClient, defaults: ProcessDefaults
) -> None:
    begun = time.monotonic()

    completed = await run(agent, defaults, "sleep 1000 & echo $!")

    pid = int(completed.stdout)
    assert time.monotonic() - begun < 2
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    await wait_gone(pid)


async def test_leaving_early_kills_the_whole_tree(
    agent: AgentClient, defaults: ProcessDefaults
) -> None:
    line = Command("setsid sleep 1000 & echo $!; echo $$; exec sleep 1000", timeout=None)
    text = b""

    async with commands.start(agent, line, defaults=defaults) as running:
        while text.count(b"\n") < 2:
            event = await anext(running)
            assert isinstance(event, Output)
            text += event.data

    await wait_gone(*map(int, text.split()))


@pytest.mark.parametrize(
    "line",
    ["echo $$ >pid; exec yes", "echo $$ >pid; exec sleep 1000"],
    ids=["full output", "full input"],
)
async def test_cancelled_command_is_killed_however_full_its_pipes_are(
    agent: AgentClient, defaults: ProcessDefaults, line: str
) -> None:
    command = Command(line, stdin=b"x" * (8 << 20), timeout=None)
    note = Path(defaults.workdir, "pid")

    async with commands.start(agent, command, defaults=defaults):
        await wait_until(lambda: pid_in(note))
        await asyncio.sleep(0.05)
        pid = pid_in(note)
        assert pid
        assert is_alive(pid)

    await wait_gone(pid)


async def test_command_cancelled_while_it_starts_does_not_run_on(
    agent: AgentClient, defaults: ProcessDefaults
) -> None:
    mark = f"{os.getpid()}.5"
    before = len(os.listdir("/proc/self/fd"))

    for pause in range(20):
        running = asyncio.ensure_future(run(agent, defaults, ("sleep", mark), timeout=None))
        await asyncio.sleep(pause * 0.0002)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    await wait_until(lambda: f"sleep\0{mark}\0".encode() not in commands_running())
    # Each connection lingers until the agent has heard its last words.
    await wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_output_beyond_the_limit_keeps_its_end(
    agent: AgentClient, defaults: ProcessDefaults
) -> None:
    command = Command("seq 1 300000", user=ME)

    completed = await execute(agent, command, defaults=defaults, limit=1000)

    assert completed.truncated
    assert completed.stdout == "".join(f"{n}\n" for n in range(1, 300001)).encode()[-1000:]
    assert completed.exit.code == 0


async def test_slow_reader_slows_the_command(agent: AgentClient, defaults: ProcessDefaults) -> None:
    command = Command("head -c 50000000 /dev/zero; touch finished", user=ME)
    finished = Path(defaults.workdir, "finished")
    count = 0

    async with commands.start(agent, command, defaults=defaults) as running:
        await anext(running)
        await asyncio.sleep(0.3)
        was_held = not is_there(finished)
        async for event in running:
            count += len(event.data) if isinstance(event, Output) else 0

    assert was_held
    assert is_there(finished)
    assert count > 49_000_000


async def test_many_commands_at_once_all_answer(
    agent: AgentClient, defaults: ProcessDefaults
) -> None:
    lines = [("sh", "-c", f"printf {number}") for number in range(200)]

    results = await asyncio.gather(*(run(agent, defaults, line) for line in lines))

    assert [int(result.stdout) for result in results] == list(range(200))


async def test_killed_agent_is_noticed_at_once(
    agent: AgentClient, agent_process: subprocess.Popen[bytes], defaults: ProcessDefaults
) -> None:
    async with asyncio.timeout(2):
        async with commands.start(agent, Command("sleep 5"), defaults=defaults) as running:
            kill_all(agent_process)
            with pytest.raises(errors.SandboxFailed):
                await anext(running)
        with pytest.raises(errors.SandboxFailed):
            await run(agent, defaults, "true")


async def test_process_answers_signals(agent: AgentClient, defaults: ProcessDefaults) -> None:
    request = StartRequest(program=("sleep", "1000"), cwd="/")
    async with agent.start(request) as process:
        assert await process.signal(signal.SIGINT) >= 1
        event = await anext(process)

    assert isinstance(event, Exit)
    assert event.signal == signal.SIGINT


# Files


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 3_000_000])
async def test_bytes_come_back_as_they_went(files: Files, size: int) -> None:
    data = os.urandom(size)

    written = await files.write("deep/er/file", chunks(data), size=size)

    assert (written.size, written.created) == (size, True)
    assert await read(files, "deep/er/file") == data


async def test_part_of_a_file_is_read(files: Files) -> None:
    await files.write("a", chunks(b"0123456789"))

    assert await read(files, "a", offset=3, length=4) == b"3456"
    assert await read(files, "a", offset=8) == b"89"
    assert await read(files, "a", offset=20) == b""


async def test_append_adds_and_write_replaces(files: Files) -> None:
    await files.write("a", chunks(b"one"))
    appended = await files.write("a", chunks(b"two"), append=True)
    assert (await read(files, "a"), appended.created) == (b"onetwo", False)

    await files.write("a", chunks(b"three"))
    assert await read(files, "a") == b"three"


async def test_names_may_be_any_bytes(files: Files) -> None:
    await files.write(b"\xff\n \x01", chunks(b"x"))

    listing = await files.list(".")

    assert [entry.name for entry in listing.entries] == [b"\xff\n \x01"]
    assert await files.exists(b"\xff\n \x01")


async def test_stat_tells_what_is_there(files: Files, tmp_path: Path) -> None:
    await files.write("a", chunks(b"abc"), mode=0o640)
    (tmp_path / "work" / "link").symlink_to("a")

    entry = await files.stat("a")
    link = await files.stat("link", follow=False)
    followed = await files.stat("link")

    assert (entry.kind, entry.size, entry.mode) == (FileKind.FILE, 3, 0o640)
    assert entry.uid == os.getuid()
    assert abs(entry.modified_ns / 1e9 - time.time()) < 60
    assert (link.kind, link.target) == (FileKind.SYMLINK, b"a")
    assert (followed.kind, followed.size) == (FileKind.FILE, 3)


async def test_listing_is_sorted_deep_and_limited(files: Files) -> None:
    for name in ("b/2", "b/1", "a", "c"):
        await files.write(name, chunks(b""))

    flat = await files.list(".")
    deep = await files.list(".", depth=2)
    limited = await files.list(".", depth=2, limit=3)

    assert [entry.name for entry in flat.entries] == [b"a", b"b", b"c"]
    assert [entry.name for entry in deep.entries] == [b"a", b"b", b"b/1", b"b/2", b"c"]
    assert (len(limited.entries), limited.truncated) == (3, True)


async def test_long_listing_comes_in_many_frames(files: Files, tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / "work" / f"{number:04}").touch()

    listing = await files.list(".", limit=10_000)

    assert [int(entry.name) for entry in listing.entries] == list(range(1500))


async def test_directories_are_made_moved_copied_and_removed(files: Files) -> None:
    await files.mkdir("a/b", mode=0o750)
    await files.write("a/b/file", chunks(b"x"))
    await files.copy("a", "copied")
    await files.move("a", "x/moved")

    assert await read(files, "copied/b/file") == await read(files, "x/moved/b/file") == b"x"
    assert (await files.stat("x/moved/b")).mode == 0o750
    assert not await files.exists("a")

    with pytest.raises(errors.FileError) as full:
        await files.remove("copied")
    await files.remove("copied", recursive=True)
    assert full.value.reason == "not_empty"
    assert not await files.exists("copied")


async def test_modes_are_changed(files: Files) -> None:
    await files.write("d/file", chunks(b""))

    await files.chmod("d", 0o700, recursive=True)

    assert (await files.stat("d")).mode == (await files.stat("d/file")).mode == 0o700


async def test_owner_is_changed(files: Files) -> None:
    await files.write("a", chunks(b""))

    await files.chown("a", ME)

    assert (await files.stat("a")).uid == os.getuid()
    with pytest.raises(errors.FileError) as unknown:
        await files.chown("a", "nobody-here")
    assert unknown.value.reason == "unknown_user"


async def test_missing_file_is_not_found(files: Files) -> None:
    with pytest.raises(errors.FileNotFound):
        await read(files, "no")
    with pytest.raises(errors.FileNotFound):
        await files.stat("no")
    with pytest.raises(errors.FileNotFound):
        await files.list("no")
    assert not await files.exists("no")
    assert not await files.exists("/etc/passwd/no")


@pytest.mark.parametrize(("path", "reason"), [("/", "is_a_directory"), ("/dev/zero", "not_a_file")])
async def test_only_regular_files_are_read(files: Files, path: str, reason: str) -> None:
    with pytest.raises(errors.FileError) as raised:
        await read(files, path)
    assert raised.value.reason == reason


async def test_interrupted_upload_leaves_everything_as_it_was(files: Files, tmp_path: Path) -> None:
    await files.write("a", chunks(b"before"))

    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ConnectionResetError

    for path in ("a", "new"):
        with pytest.raises(ConnectionResetError):
            await files.write(path, failing())
    with pytest.raises(errors.EngineError):
        await files.write("a", chunks(b"short"), size=100)

    await wait_until(lambda: os.listdir(tmp_path / "work") == ["a"])
    assert await read(files, "a") == b"before"


async def test_full_disk_is_told_as_such(files: Files) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    with pytest.raises(errors.FileError) as raised:
        await files.write("/dev/full", endless(), append=True)
    assert raised.value.reason in ("no_space", "not_a_file")


async def test_tree_travels_as_a_tar(files: Files, tmp_path: Path) -> None:
    await files.write("tree/a/file", chunks(b"x" * 1_000_000), mode=0o600)
    (tmp_path / "work" / "tree" / "link").symlink_to("a/file")
    await files.write(b"tree/" + b"n" * 200, chunks(b"long"))

    async with files.pack("tree") as content:
        archive = b"".join([chunk async for chunk in content])
    count = await files.unpack("copy", chunks(archive))

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert len(tar.getnames()) == count
    assert await read(files, "copy/a/file") == b"x" * 1_000_000
    assert (await files.stat("copy/a/file")).mode == 0o600
    assert (await files.stat("copy/link", follow=False)).target == b"a/file"
    assert await read(files, "copy/" + "n" * 200) == b"long"


async def test_archive_reaching_outside_is_invalid(files: Files, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("../outside")
        tar.addfile(member)

    with pytest.raises(errors.InvalidRequest):
        await files.unpack("inside", chunks(archive.getvalue()))

    assert not (tmp_path / "work" / "outside").exists()


async def test_missing_directory_is_no_archive(files: Files) -> None:
    with pytest.raises(errors.FileNotFound):
        async with files.pack("no"):
            pytest.fail("nothing was promised")


async def test_reader_that_leaves_does_not_disturb_the_agent(files: Files) -> None:
    await files.write("a", chunks(b"x" * 5_000_000))

    for _ in range(20):
        async with files.read("a") as (_, content):
            await anext(content)

    with contextlib.suppress(errors.FileNotFound):
        await files.remove("missing")
    assert await files.exists("a")
