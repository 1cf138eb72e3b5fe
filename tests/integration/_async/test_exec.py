# SPDX-License-Identifier: Apache-2.0
"""Commands and their results: items 21 to 27 and 35 to 40 of the checklist, attacks 43 to 46."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from atoll import (
    AsyncAtoll,
    AsyncSandbox,
    CommandFailed,
    CommandNotStarted,
    InvalidRequest,
    TooLarge,
)
from tests.support.concurrency import async_at_once

MIB = 1 << 20
ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
ARGUMENTS = "import json, sys; print(json.dumps(sys.argv[1:]))"


async def test_result_has_output_exit_code_and_duration(sandbox: AsyncSandbox) -> None:
    """Item 21."""
    result = await sandbox.exec("echo 'Hello, world!'; sleep 0.2")

    assert (result.stdout, result.stderr) == ("Hello, world!\n", "")
    assert result.exit_code == 0
    assert result.signal is None
    assert isinstance(result.duration_ms, int)
    assert 200 <= result.duration_ms < 2000
    assert result.ok
    assert (result.timed_out, result.oom_killed, result.truncated) == (False, False, False)


@pytest.mark.parametrize("code", [1, 2, 42, 126, 127, 137, 143, 255])
async def test_failing_is_a_result_with_its_exit_code(sandbox: AsyncSandbox, code: int) -> None:
    """Item 22."""
    result = await sandbox.exec(f"echo out; echo err >&2; exit {code}")

    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", code)
    assert result.signal is None
    assert not result.ok


async def test_shell_reports_what_it_cannot_run(sandbox: AsyncSandbox) -> None:
    """Item 23."""
    await sandbox.files.write("plain", "#!/bin/sh\n")

    unknown = await sandbox.exec("no-such-command-anywhere")
    plain = await sandbox.exec("./plain")
    directory = await sandbox.exec("/tmp")

    assert unknown.exit_code == 127
    assert "no-such-command-anywhere" in unknown.stderr
    assert (plain.exit_code, directory.exit_code) == (126, 126)


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("printf 'b\\na\\n' | sort | head -n 1", "a\n"),
        ("true && echo yes || echo no", "yes\n"),
        ("false; echo $?", "1\n"),
        ("echo \"a  b\" 'c  d' e\\ \\ f", "a  b c  d e  f\n"),
        ("echo one > /tmp/redirected; echo two >> /tmp/redirected; cat < /tmp/redirected", "one\ntwo\n"),
        ("{ echo out; echo err >&2; } 2>&1", "out\nerr\n"),
        ("A=1; echo ${A:-2}${B:-2}", "12\n"),
        ("echo $((6 * 7))", "42\n"),
        ("for n in 1 2 3; do echo $n; done", "1\n2\n3\n"),
        ("cat <<END\nhere $((1+1))\nEND", "here 2\n"),
        ("echo first\necho second", "first\nsecond\n"),
        ("f() { echo $1; }; f called", "called\n"),
        ("[[ abc == a* ]] && echo bash", "bash\n"),
        ("echo {1..3} <(true) | cut -c 1-5", "1 2 3\n"),
        ("echo ${BASH_VERSION:+bash}", "bash\n"),
        ("", ""),
        ("# nothing", ""),
    ],
)  # fmt: skip
async def test_text_is_a_bash_script(sandbox: AsyncSandbox, command: str, output: str) -> None:
    """Item 24."""
    result = await sandbox.exec(command)

    assert (result.stdout, result.exit_code) == (output, 0)


async def test_a_list_runs_as_it_is(sandbox: AsyncSandbox) -> None:
    words = ["$HOME", "*", "a  b", "'", '"', "\\", "", "`id`", "-n", "ü", "\n"]

    result = await sandbox.exec(["python3", "-c", ARGUMENTS, *words], check=True)

    assert json.loads(result.stdout) == words


async def test_a_list_is_found_through_the_path_of_its_environment(sandbox: AsyncSandbox) -> None:
    await sandbox.files.write("/opt/tools/greet", "#!/bin/sh\necho greeted\n", mode=0o755)

    result = await sandbox.exec(["greet"], env={"PATH": "/opt/tools:/usr/bin:/bin"})

    assert result.stdout == "greeted\n"


async def test_shell_is_sh_where_the_image_has_no_bash(client: AsyncAtoll, runtime: str) -> None:
    async with await client.sandboxes.create("host", runtime=runtime) as sandbox:
        await sandbox.exec("mv $(readlink -f /bin/bash) /root/hidden", check=True)

        result = await sandbox.exec("echo ${BASH_VERSION:-sh} $((1 + 1))")

    assert result.stdout == "sh 2\n"


async def test_directory_is_the_workdir_unless_the_call_says_another(
    client: AsyncAtoll, sandbox: AsyncSandbox, runtime: str
) -> None:
    """Item 25."""
    here = await sandbox.exec("pwd")
    there = await sandbox.exec("pwd", cwd="/usr/bin")
    relative = await sandbox.exec("mkdir -p deep/er && pwd", cwd="../tmp")
    async with await client.sandboxes.create("host", workdir="/data/ä b", runtime=runtime) as other:
        own = await other.exec("pwd")
        listed = await other.exec(["pwd"])

    assert here.stdout == "/workspace\n"
    assert there.stdout == "/usr/bin\n"
    assert relative.stdout == "/tmp\n"
    assert own.stdout == listed.stdout == "/data/ä b\n"


async def test_calls_share_files_and_nothing_else(sandbox: AsyncSandbox) -> None:
    """Item 26."""
    await sandbox.exec("cd /tmp; export LOST=1; alias lost=true; umask 0; echo kept > kept")

    result = await sandbox.exec("pwd; echo [$LOST]; type lost; umask; cat /tmp/kept")

    assert result.stdout == "/workspace\n[]\n0022\nkept\n"


async def test_environment_of_the_sandbox_and_of_the_call(client: AsyncAtoll, runtime: str) -> None:
    """Item 27."""
    async with await client.sandboxes.create(
        "host", env={"A": "sandbox", "B": "sandbox"}, runtime=runtime
    ) as sandbox:
        plain = await sandbox.exec("echo $A $B $C")
        with_call = await sandbox.exec("echo $A $B $C", env={"B": "call", "C": "call"})
        again = await sandbox.exec(["sh", "-c", "echo $A $B $C"])

    assert plain.stdout == again.stdout == "sandbox sandbox\n"
    assert with_call.stdout == "sandbox call call\n"


async def test_environment_holds_any_text(sandbox: AsyncSandbox) -> None:
    """Attack 46."""
    env = {
        "LINES_": "one\ntwo=2\n",
        "EQUALS": "=a=b=",
        "EMPTY": "",
        "ÜMLAUT": "ü 🏝",
        "QUOTES": "'\"`$(id)\\",
        "LONG": "x" * 100_000,
        "with space": "1",
    }

    result = await sandbox.exec(["python3", "-c", ENVIRONMENT], env=env, check=True)

    seen = json.loads(result.stdout)
    assert {name: seen.get(name) for name in env} == env


async def test_environment_without_any_wish_is_small_and_known(sandbox: AsyncSandbox) -> None:
    """Item 98: nothing of the server's own environment."""
    result = await sandbox.exec(["python3", "-c", ENVIRONMENT], check=True)

    seen = json.loads(result.stdout)
    assert seen.pop("PATH").startswith("/")
    seen.pop("LC_CTYPE", None)  # python's own doing
    assert seen == {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash"}


@pytest.mark.parametrize("words", [["x" * 131_071], ["y" * 1023] * 512], ids=["one", "many"])
async def test_arguments_may_be_as_long_as_linux_takes(
    sandbox: AsyncSandbox, words: list[str]
) -> None:
    """Attack 46."""
    result = await sandbox.exec(["python3", "-c", ARGUMENTS, *words])

    assert json.loads(result.stdout) == words


async def test_arguments_longer_than_linux_takes_are_a_command_that_cannot_start(
    sandbox: AsyncSandbox,
) -> None:
    with pytest.raises(CommandNotStarted):
        await sandbox.exec(["echo", "x" * 200_000])


@pytest.mark.parametrize("name", ["user", "run_as"])
async def test_user_runs_it_with_its_own_rights_and_home(sandbox: AsyncSandbox, name: str) -> None:
    who: dict[str, Any] = {name: "user"}

    result = await sandbox.exec(
        "id -u; id -g; id -G; cd; pwd; echo $USER; touch /root/no 2>&1 || echo refused", **who
    )

    assert result.stdout.split("\n")[:5] == ["1000", "1000", "1000", "/home/user", "user"]
    assert result.stdout.endswith("refused\n")


async def test_user_may_be_a_number_nobody_has(sandbox: AsyncSandbox) -> None:
    result = await sandbox.exec("id -u; id -g; id -G", user="4321")

    assert result.stdout.split() == ["4321", "4321", "4321"]


async def test_user_is_root_unless_said(sandbox: AsyncSandbox) -> None:
    result = await sandbox.exec("id -u; id -g; id -G")

    assert result.stdout.split() == ["0", "0", "0"]


async def test_two_different_users_are_refused(sandbox: AsyncSandbox) -> None:
    with pytest.raises(InvalidRequest):
        await sandbox.exec("id", user="root", run_as="user")


@pytest.mark.parametrize(
    "stdin",
    ["", "text\n", "no end", "ü\n" * 10, b"\x00\xff\xfe\n", bytes(range(256)) * 4096],
    ids=["empty", "line", "no-end", "unicode", "bytes", "megabyte"],
)
async def test_stdin_reaches_the_command_whole(sandbox: AsyncSandbox, stdin: str | bytes) -> None:
    """Item 39."""
    expected = stdin if isinstance(stdin, bytes) else stdin.encode()

    await sandbox.exec("cat > /tmp/stdin", stdin=stdin, check=True)

    assert await sandbox.files.read("/tmp/stdin") == expected


async def test_without_stdin_there_is_end_of_file(sandbox: AsyncSandbox) -> None:
    result = await sandbox.exec("cat; echo ended", timeout_ms=5000)

    assert result.stdout == "ended\n"


async def test_stdin_that_nobody_reads_hurts_nobody(sandbox: AsyncSandbox) -> None:
    """Attack 44."""
    data = b"x" * (4 * MIB)

    ignored = await sandbox.exec("true", stdin=data, timeout_ms=10_000)
    closed = await sandbox.exec("exec <&-; sleep 0.2; echo here", stdin=data, timeout_ms=10_000)
    left = await sandbox.exec("head -c 1", stdin=data, timeout_ms=10_000)

    assert (ignored.exit_code, closed.stdout, left.stdout) == (0, "here\n", "x")


async def test_stdin_over_the_limit_of_a_request_is_too_large(sandbox: AsyncSandbox) -> None:
    with pytest.raises(TooLarge):
        await sandbox.exec("cat > /dev/null", stdin=b"x" * (17 * MIB))


@pytest.mark.parametrize(
    ("name", "code"), [("KILL", 137), ("TERM", 143), ("INT", 130), ("SEGV", 139), ("HUP", 129)]
)
async def test_death_by_signal_is_reported_as_such(
    sandbox: AsyncSandbox, name: str, code: int
) -> None:
    """Attack 43."""
    by_shell = await sandbox.exec(f"echo out; kill -{name} $$")
    by_list = await sandbox.exec(
        [
            "python3",
            "-c",
            f"import signal as s; s.signal(2, s.SIG_DFL); s.raise_signal(s.SIG{name})",
        ]
    )

    assert (by_shell.exit_code, by_shell.signal) == (code, f"SIG{name}")
    assert by_shell.stdout == "out\n"
    assert (by_list.exit_code, by_list.signal) == (code, f"SIG{name}")
    assert not by_list.timed_out


@pytest.mark.parametrize(
    ("command", "fields", "reason"),
    [
        (["no-such-program-anywhere"], {}, "not_found"),
        (["/no/such/program"], {}, "not_found"),
        ([""], {}, "not_found"),
        (["/etc/passwd"], {}, "not_executable"),
        (["/tmp"], {}, "not_executable"),
        (["true"], {"cwd": "/no/such/directory"}, "bad_directory"),
        ("true", {"cwd": "/etc/passwd"}, "bad_directory"),
        (["true"], {"user": "nobody-of-this-name"}, "unknown_user"),
        ("true", {"user": "nobody-of-this-name"}, "unknown_user"),
    ],
)
async def test_what_cannot_start_is_another_error_than_what_failed(
    sandbox: AsyncSandbox, command: str | list[str], fields: dict[str, str], reason: str
) -> None:
    options: dict[str, Any] = dict(fields)
    for on_stdout in (None, len):
        with pytest.raises(CommandNotStarted) as raised:
            await sandbox.exec(command, on_stdout=on_stdout, **options)

        assert (raised.value.code, raised.value.reason) == ("COMMAND_NOT_STARTED", reason)
        assert raised.value.retryable is False


async def test_check_raises_for_what_failed_with_the_whole_result(sandbox: AsyncSandbox) -> None:
    with pytest.raises(CommandFailed) as raised:
        await sandbox.exec("echo out; echo 'what went wrong' >&2; exit 3", check=True)

    assert raised.value.result.exit_code == 3
    assert raised.value.result.stdout == "out\n"
    assert "3" in raised.value.message
    assert "what went wrong" in raised.value.message
    assert (await sandbox.exec("true", check=True)).ok


async def test_check_raises_for_a_signal_and_a_timeout(sandbox: AsyncSandbox) -> None:
    with pytest.raises(CommandFailed, match="SIGKILL"):
        await sandbox.exec("kill -9 $$", check=True)
    with pytest.raises(CommandFailed, match="time limit") as raised:
        await sandbox.exec("sleep 30", check=True, timeout_ms=100)

    assert raised.value.result.timed_out


async def test_bytes_that_are_not_utf8_stand_as_replacement_characters(
    sandbox: AsyncSandbox,
) -> None:
    """Attack 45."""
    result = await sandbox.exec(r"printf 'a\377\376b\303'; printf '\360\237' >&2")

    assert result.stdout == "a\ufffd\ufffdb\ufffd"
    assert set(result.stderr) == {"\ufffd"}


async def test_output_without_a_line_end_comes_as_it_is(sandbox: AsyncSandbox) -> None:
    result = await sandbox.exec("printf no-end; printf neither >&2")

    assert (result.stdout, result.stderr) == ("no-end", "neither")


async def test_buffered_output_keeps_its_last_ten_mebibytes(sandbox: AsyncSandbox) -> None:
    result = await sandbox.exec(
        f"head -c {11 * MIB} /dev/zero | tr '\\0' x; echo the end; echo err >&2; exit 7"
    )

    assert result.truncated
    assert len(result.stdout) == 10 * MIB
    assert result.stdout.endswith("xxxthe end\n")
    assert result.stderr == "err\n"
    assert result.exit_code == 7


async def test_output_of_exactly_the_limit_is_whole(sandbox: AsyncSandbox) -> None:
    result = await sandbox.exec(f"head -c {10 * MIB} /dev/zero | tr '\\0' x")

    assert not result.truncated
    assert len(result.stdout) == 10 * MIB


async def test_a_cut_never_leaves_half_a_character(sandbox: AsyncSandbox) -> None:
    result = await sandbox.exec(["python3", "-c", f"print('ü' * {6 * MIB}, end='x')"], check=True)

    assert result.truncated
    assert set(result.stdout[:-1]) == {"ü"}
    assert len(result.stdout.encode()) in (10 * MIB, 10 * MIB - 1)


@pytest.mark.parametrize(
    "background",
    [
        "sleep 61 &",
        "nohup sleep 61 &",
        "setsid sleep 61 &",
        "(sleep 61 &)",
        "sh -c 'while :; do echo; sleep 0.05; done' &",
    ],
)
async def test_a_background_child_does_not_hold_the_call_and_lives_on(
    sandbox: AsyncSandbox, background: str
) -> None:
    """Items 35 and attack 38."""
    pattern = "sleep 61|while"
    started = time.perf_counter()
    result = await sandbox.exec(f"{background}\necho started", timeout_ms=20_000)
    took = time.perf_counter() - started

    await sandbox.exec("sleep 0.3")
    alive = await sandbox.exec(["pkill", "-f", pattern])
    assert "started\n" in result.stdout
    assert result.exit_code == 0
    assert took < 3
    assert alive.exit_code == 0, "the child was gone"


async def test_a_command_that_closes_its_output_is_waited_for(sandbox: AsyncSandbox) -> None:
    """Attack 38."""
    result = await sandbox.exec("exec >&- 2>&-; sleep 0.5; exit 5")

    assert result.exit_code == 5
    assert result.duration_ms >= 500


async def test_a_background_server_is_reached_listed_and_killed(sandbox: AsyncSandbox) -> None:
    """Items 36 and 93."""
    ask = "import urllib.request as u; print(u.urlopen('http://localhost:8123/', timeout=5).status)"
    await sandbox.exec("python3 -m http.server 8123 >/dev/null 2>&1 &")

    asked = await sandbox.exec(
        f'for n in $(seq 50); do python3 -c "{ask}" && break; sleep 0.1; done'
    )
    listed = await sandbox.exec("ps ax -o args")
    killed = await sandbox.exec("pkill -f 'http[.]server'; sleep 0.3; pgrep -f 'http[.]server'")

    assert asked.stdout == "200\n"
    assert "python3 -m http.server 8123" in listed.stdout
    assert killed.stdout == ""


async def test_background_processes_and_concurrent_calls_coexist(sandbox: AsyncSandbox) -> None:
    """Item 37."""
    for number in range(3):
        await sandbox.exec(f"while :; do date +%N >> /tmp/tick{number}; sleep 0.02; done &")

    results = await async_at_once(
        [lambda n=n: sandbox.exec(f"sleep 0.2; tail -n 1 /tmp/tick{n % 3}") for n in range(9)]  # type: ignore[misc] # bound now
    )
    later = await sandbox.exec("sleep 0.1; tail -n 1 /tmp/tick0")
    await sandbox.exec(["pkill", "-f", "date"])

    assert all(result.ok and result.stdout for result in results)
    assert later.stdout != results[0].stdout


async def test_a_hundred_commands_at_once_all_answer(sandbox: AsyncSandbox) -> None:
    """Attack 42."""
    started = time.perf_counter()
    results = await async_at_once(
        [lambda n=n: sandbox.exec(["sh", "-c", f"sleep 0.5; echo {n}"]) for n in range(100)]  # type: ignore[misc] # bound now
    )
    took = time.perf_counter() - started

    assert [result.stdout for result in results] == [f"{number}\n" for number in range(100)]
    assert took < 25, "they ran one after the other"


async def test_out_of_memory_is_reported_as_what_it_is(client: AsyncAtoll, runtime: str) -> None:
    """Item 38."""
    async with await client.sandboxes.create("host", memory_mb=2048, runtime=runtime) as sandbox:
        result = await sandbox.exec(["python3", "-c", "held = b'x' * (3 << 30)"])

        assert (result.exit_code, result.signal) == (137, "SIGKILL")
        assert result.oom_killed
        assert not result.timed_out
        assert (await sandbox.exec("echo here")).stdout == "here\n"
