# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atoll import errors
from atoll.cli import _exits, _values, app
from atoll.cli._app import COMMANDS
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.cli.conftest import Atoll
from tests.unit.sdk import samples

INFO = answer_json(samples.sandbox())
ENDED = answer_json(samples.sandbox(state="terminated"))
NONE = answer_json(samples.page(total=0))
WRITTEN = answer_json({"path": "/workspace/a.txt", "sizeBytes": 3, "created": True})
MISSING = answer_error("FILE_NOT_FOUND", 404)
DIRECTORY = answer_json(
    samples.entry(name="d", path="/workspace/d", type="directory", isDirectory=True)
)


def test_version_is_shown(atoll: Atoll) -> None:
    done = atoll("--version")

    assert (done.exit_code, done.stdout) == (0, "atoll 0.1.0\n")


def test_create_prints_the_id(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json(samples.sandbox(), 201)] * 2

    done = atoll("create", "-m", "team=blue", "-e", "A=1", "--timeout", "1h", "-w", "/w")
    machine = atoll("create", "--json")

    assert (done.exit_code, done.stdout) == (0, "sb_0123456789\n")
    assert json.loads(machine.stdout) == samples.sandbox()
    assert scripted.asked[0].json == {
        "image": "host",
        "metadata": {"team": "blue"},
        "env": {"A": "1"},
        "timeoutMs": 3_600_000,
        "workdir": "/w",
    }


def test_ls_shows_what_is_not_terminated_newest_first(
    atoll: Atoll, scripted: ScriptedServer
) -> None:
    old = samples.sandbox(id="sb_old", createdAt="2026-01-01T00:00:00.000Z")
    new = samples.sandbox(id="sb_new", state="paused", metadata={"evil": "\x1b[2J"})
    scripted.script += [
        NONE,
        answer_json(samples.page(old, total=1)),
        answer_json(samples.page(new, total=1)),
        NONE,
    ]

    done = atoll("ls")

    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["ID", "STATE", "IMAGE"]
    assert [line.split()[0] for line in lines[1:]] == ["sb_new", "sb_old"]
    assert "\x1b" not in done.stdout
    states = [asked.query["state"] for asked in scripted.asked]
    assert states == ["creating", "running", "paused", "failed"]


def test_ls_filters(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json(samples.page(samples.sandbox(), total=1))] * 3

    ids = atoll("ls", "--state", "running", "-m", "team=blue", "-q")
    everything = atoll("ls", "--all", "--json")

    assert ids.stdout == "sb_0123456789\n"
    assert scripted.asked[0].query["metadata[team]"] == "blue"
    assert json.loads(everything.stdout) == [samples.sandbox()]
    assert "state" not in scripted.asked[1].query


def test_rm_goes_on_after_one_that_is_unknown(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_error("SANDBOX_NOT_FOUND", 404), INFO, ENDED]

    done = atoll("rm", "sb_unknown", "sb_0123456789")

    assert done.exit_code == 66
    assert done.stdout == "sb_0123456789\n"
    assert "sb_unknown" in done.stderr


def test_rm_wants_either_ids_or_all(atoll: Atoll) -> None:
    assert atoll("rm").exit_code == 2
    assert atoll("rm", "--all", "sb_1").exit_code == 2


def test_rm_all_ends_what_is_live(atoll: Atoll, scripted: ScriptedServer) -> None:
    page = answer_json(samples.page(samples.sandbox(), total=1))
    scripted.script += [NONE, page, NONE, NONE, INFO, ENDED]

    done = atoll("rm", "--all", "--json")

    assert [one["state"] for one in json.loads(done.stdout)] == ["terminated"]


def test_keys_create_prints_the_key_alone(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json(samples.key(key="rra_live_x"), 201)] * 2

    done = atoll("keys", "create", "--name", "ci", "--scopes", "sandbox:read sandbox:files")
    machine = atoll("keys", "create", "--json")

    assert (done.exit_code, done.stdout) == (0, "rra_live_x\n")
    assert "key_0123456789ab" in done.stderr
    assert scripted.asked[0].json == {"name": "ci", "scopes": ["sandbox:read", "sandbox:files"]}
    assert json.loads(machine.stdout)["key"] == "rra_live_x"


def test_keys_ls_shows_where_each_is_from(atoll: Atoll, scripted: ScriptedServer) -> None:
    settings = samples.key(id="key_1", name="configured", source="settings", createdAt=None)
    found = samples.keys(settings, samples.key(name="\x1b[2J"))
    scripted.script += [answer_json(found)] * 2

    lines = atoll("keys", "ls").stdout.splitlines()
    machine = atoll("keys", "ls", "--json")

    assert lines[0].split() == ["ID", "NAME", "SCOPES", "FROM", "CREATED"]
    assert lines[1].split() == ["key_1", "configured", "sandbox:read", "settings"]
    assert "\x1b" not in lines[2]
    assert json.loads(machine.stdout) == found["data"]


def test_keys_rm_goes_on_after_one_that_is_unknown(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_error("KEY_NOT_FOUND", 404), Answer(status=204)]

    done = atoll("keys", "rm", "key_0", "key_1")

    assert (done.exit_code, done.stdout) == (66, "key_1\n")
    assert "key_0" in done.stderr


def test_cp_uploads_a_file_with_its_mode(
    atoll: Atoll, scripted: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "run.sh").write_text("abc")
    (tmp_path / "run.sh").chmod(0o755)
    scripted.script += [INFO, MISSING, WRITTEN]

    done = atoll("cp", "run.sh", "sb_0123456789:/workspace/a.txt", "--json")

    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"path": "/workspace/a.txt", "sizeBytes": 3}
    assert scripted.asked[-1].query == {"path": "/workspace/a.txt", "mode": "0755"}
    assert scripted.asked[-1].body == b"abc"


def test_cp_puts_files_into_a_directory(
    atoll: Atoll, scripted: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "a:b").write_text("abc")
    scripted.script += [INFO, DIRECTORY, WRITTEN]

    done = atoll("cp", "./a:b", "sb_0123456789:d")

    assert done.exit_code == 0, done.stderr
    assert scripted.asked[-1].query["path"] == "d/a:b"


def test_cp_downloads_a_file_with_its_mode(
    atoll: Atoll, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.script += [INFO, answer_json(samples.entry(mode="4755")), Answer(body=b"abc")]

    done = atoll("cp", "sb_0123456789:a.txt", ".")

    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "a.txt").read_bytes() == b"abc"
    assert (tmp_path / "a.txt").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("path", ["/", "/..", "/a/..", "/a\\..\\b/"])
def test_cp_takes_no_name_from_a_sandbox_that_is_none(
    atoll: Atoll, scripted: ScriptedServer, tmp_path: Path, path: str
) -> None:
    (tmp_path / "inner").mkdir()
    scripted.script += [INFO, answer_json(samples.entry(path=path)), Answer(body=b"evil")]

    done = atoll("cp", "sb_0123456789:x", "inner")

    assert done.exit_code == 1
    assert os.listdir(tmp_path) == ["inner"]
    assert os.listdir(tmp_path / "inner") == []


def test_cp_writes_to_standard_output(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [INFO, answer_json(samples.entry()), Answer(body=b"\x00\xff")]

    done = atoll("cp", "sb_0123456789:a.txt", "-")

    assert done.stdout_bytes == b"\x00\xff"


def test_cp_reads_standard_input(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [INFO, WRITTEN]

    done = CliRunner().invoke(app, ["cp", "-", "sb_0123456789:a.txt"], input=b"piped")

    assert done.exit_code == 0, done.stderr
    assert scripted.asked[-1].body == b"piped"


def test_cp_copies_directories_both_ways(
    atoll: Atoll, scripted: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("content")
    scripted.script += [INFO, MISSING, answer_json({"entries": 1})]
    up = atoll("cp", "d", "sb_0123456789:e")
    scripted.script += [INFO, DIRECTORY, Answer(body=scripted.asked[-1].body)]

    down = atoll("cp", "sb_0123456789:d", "back", "--json")

    assert (up.exit_code, down.exit_code) == (0, 0)
    assert (tmp_path / "back" / "f").read_text() == "content"
    assert json.loads(down.stdout) == {
        "path": "back",
        "entries": 1,
        "sizeBytes": 7,
        "skipped": [],
    }


def test_cp_wants_one_side_in_a_sandbox(atoll: Atoll) -> None:
    assert atoll("cp", "a", "b").exit_code == 2
    assert atoll("cp", "sb_1:a", "sb_2:b").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",),
        ("create",),
        ("keys", "ls"),
        ("exec", "sb_1", "true"),
        ("rm", "sb_1"),
        ("cp", "a", "sb_1:a"),
    ],
)
def test_commands_that_need_a_lasting_server_say_so(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, list(arguments))

    assert done.exit_code in (78, 125)
    assert "atoll serve" in done.stderr


def test_url_and_key_may_be_given(scripted: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    scripted.script += [answer_json(samples.page(total=0))]

    done = CliRunner().invoke(app, ["--url", scripted.url, "--api-key-file", "key", "ls", "--all"])

    assert done.exit_code == 0, done.stderr
    assert scripted.asked[0].headers["authorization"] == "Bearer from-file"


def test_a_key_file_that_is_missing_is_named(scripted: ScriptedServer) -> None:
    done = CliRunner().invoke(app, ["--url", scripted.url, "--api-key-file", "none", "ls"])

    assert done.exit_code == 78
    assert "none" in done.stderr


def test_errors_are_one_line_and_a_status(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_error("UNAUTHORIZED", 401)]

    done = atoll("ls", "--all")

    assert (done.exit_code, done.stdout) == (77, "")
    assert done.stderr == "atoll: it is UNAUTHORIZED\n"


def _tree(root: type[errors.Error]) -> list[type[errors.Error]]:
    return [found for child in root.__subclasses__() for found in (child, *_tree(child))]


def test_every_error_has_an_exit_status() -> None:
    codes = {error_type.code for error_type in _tree(errors.Error)}

    assert codes | {errors.Error.code} == set(_exits._BY_CODE)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("2", 2000),
        ("1.5s", 1500),
    ],
)
def test_times_have_units(text: str, milliseconds: int) -> None:
    assert _values.parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("sb_1:/a", ("sb_1", "/a")),
        ("sb_1:a:b", ("sb_1", "a:b")),
        ("sb_1:", ("sb_1", ".")),
        ("./a:b", (None, "./a:b")),
        ("/a:b", (None, "/a:b")),
        ("C:\\a", (None, "C:\\a")),
        ("-", (None, "-")),
    ],
)
def test_places_are_here_or_in_a_sandbox(text: str, place: tuple[str | None, str]) -> None:
    assert _values.parse_place(text) == place


def test_help_names_every_command(atoll: Atoll) -> None:
    shown = atoll("--help").stdout

    assert [name for name in COMMANDS if f"│ {name} " not in shown] == []


@pytest.mark.parametrize("command", [(), ("run",), ("keys",), ("keys", "create")])
def test_help_says_of_no_flag_that_it_takes_a_value(atoll: Atoll, command: tuple[str, ...]) -> None:
    shown = atoll(*command, "--help").stdout

    assert "--help" in shown
    assert "bool" not in shown.lower()


def test_help_is_as_wide_as_its_terminal(atoll: Atoll, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not as wide as the lines of the source."""
    monkeypatch.setenv("COLUMNS", "200")

    shown = atoll("run", "--help").stdout

    assert "Ends with the command's own status: 124 when its timeout ended it, 126 or 127" in shown


@pytest.mark.parametrize(
    ("written", "hint"), [("rnu", "did you mean `run`?"), ("qqq", "`atoll --help` lists them")]
)
def test_command_that_there_is_not_is_said_with_what_there_is(
    atoll: Atoll, written: str, hint: str
) -> None:
    done = atoll(written)

    assert done.exit_code == 2
    assert f"there is no command `{written}`" in done.stderr
    assert hint in done.stderr


def test_file_of_ours_that_is_missing_is_named_without_numbers(
    atoll: Atoll, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.script += [INFO, MISSING]

    done = atoll("cp", str(tmp_path / "missing"), "sb_0123456789:/tmp/")

    assert done.exit_code == 1
    assert done.stderr.startswith("atoll: no such file or directory: /")
