# SPDX-License-Identifier: Apache-2.0
"""What is kept with a process, and how a list of processes is chosen."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.agent.messages import MAX_NOTE_BYTES
from atoll_server.engine.ids import process_id, process_number
from atoll_server.engine.model import ProcessFilter, ProcessRecord, ProcessStatus
from atoll_server.engine.notes import Note, choose_page, pack_note, unpack_note

RUNNING = ProcessRecord(
    number=1,
    pid=10,
    tag=None,
    note=pack_note(Note("true", "/", None)),
    started_ns=0,
    ended_ns=None,
    code=None,
    signal=None,
    timed_out=False,
    first_position=0,
    position=0,
    stdout_bytes=0,
    stderr_bytes=0,
    is_stdin_open=False,
    terminal=None,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
RECORDS = st.lists(
    st.builds(
        dataclasses.replace,
        st.just(RUNNING),
        number=st.integers(0, 1000),
        pid=st.integers(1, 3),
        tag=st.sampled_from([None, "a", "b"]),
        code=st.sampled_from([None, 0]),
        timed_out=st.booleans(),
    ),
    unique_by=lambda record: record.number,
    max_size=20,
)


@given(TEXTS | st.lists(TEXTS, min_size=1, max_size=20).map(tuple), TEXTS, st.none() | TEXTS)
def test_note_comes_back_as_it_was(
    command: str | tuple[str, ...], cwd: str, user: str | None
) -> None:
    note = Note(command, cwd, user)
    assert unpack_note(pack_note(note)) == note


@pytest.mark.parametrize(
    "command",
    [
        "x" * 100_000,
        "ä" * 50_000,
        ("x",) * 60_000,
        ("x" * 5000,) * 3,
        ("",) * 60_000,
        ("😀" * 9999, "b"),
    ],
    ids=["long text", "wide text", "many words", "long words", "empty words", "one long word"],
)
def test_command_too_long_for_a_note_keeps_its_beginning(command: str | tuple[str, ...]) -> None:
    packed = pack_note(Note(command, "/" + "ü" * 4096, "u" * 64))
    kept = unpack_note(packed).command

    assert len(packed) <= MAX_NOTE_BYTES
    assert kept[-1].endswith("…")
    assert type(kept) is type(command)
    assert kept[0][:1] == command[0][:1]


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    packed = pack_note(Note(("a\udcff",), "/\udc80", None))
    assert unpack_note(packed) == Note(("a\ufffd",), "/\ufffd", None)


@given(st.binary(max_size=60) | st.none())
def test_whatever_a_sandbox_wrote_there_is_harmless(raw: bytes | None) -> None:
    note = unpack_note(raw)
    assert isinstance(note.cwd, str)


@pytest.mark.parametrize(
    "value", [[1, 2, 3], {}, [b"a", b"b"], [[b"x"] * 5000, b"", None], ["a", 1, 2]]
)
def test_other_notes_are_empty(value: object) -> None:
    assert unpack_note(msgspec.msgpack.encode(value)) == Note("", "", None)


@given(
    RECORDS,
    st.sets(st.sampled_from(ProcessStatus)),
    st.sampled_from([None, "a"]),
    st.sampled_from([None, 2]),
    st.integers(1, 7),
)
def test_pages_together_are_all_that_match_newest_first(
    records: list[ProcessRecord],
    statuses: set[ProcessStatus],
    tag: str | None,
    pid: int | None,
    limit: int,
) -> None:
    wanted = ProcessFilter(frozenset(statuses), tag, pid, limit)
    page = choose_page(records, wanted)
    found = [*page.items]
    while page.next is not None:
        assert len(page.items) == limit
        page = choose_page(records, dataclasses.replace(wanted, cursor=page.next))
        found += page.items

    expected = [
        record.number
        for record in records
        if (not statuses or record.status in statuses)
        and tag in (None, record.tag)
        and pid in (None, record.pid)
    ]
    assert [process_number(process.id) for process in found] == sorted(expected, reverse=True)


def test_cursor_survives_what_happens_between_two_pages() -> None:
    records = [dataclasses.replace(RUNNING, number=number) for number in range(1, 7)]
    first = choose_page(records, ProcessFilter(limit=2))

    later = [*records[1:4], dataclasses.replace(RUNNING, number=7)]
    second = choose_page(later, ProcessFilter(limit=9, cursor=first.next))

    assert [process.id for process in first.items] == ["proc_6", "proc_5"]
    assert [process.id for process in second.items] == ["proc_4", "proc_3", "proc_2"]


@pytest.mark.parametrize(
    ("code", "signal", "timed_out", "status"),
    [
        (None, None, False, "running"),
        (None, None, True, "running"),
        (0, None, False, "exited"),
        (None, 9, False, "killed"),
        (None, 9, True, "timed_out"),
        (0, None, True, "timed_out"),
    ],
)
def test_status_follows_from_the_end(
    code: int | None, signal: int | None, timed_out: bool, status: str
) -> None:
    record = dataclasses.replace(RUNNING, code=code, signal=signal, timed_out=timed_out)
    assert record.status.value == status


@given(st.integers(0, 2**63 - 1))
def test_id_is_the_agents_number(number: int) -> None:
    assert process_number(process_id(number)) == number


@pytest.mark.parametrize(
    "text", ["", "proc_", "proc_01", "proc_-1", "proc_1 ", "proc_٣", f"proc_{2**63}", "1"]
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert process_number(text) is None
