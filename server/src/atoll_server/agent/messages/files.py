# SPDX-License-Identifier: Apache-2.0
"""What an agent says of files and directories."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from atoll_server.agent.messages.answers import Answer
from atoll_server.agent.messages.values import Count, Id, Instant, read_text, read_text_or_none
from atoll_server.engine.model import Entry, FileKind


class EntryReply(Struct):
    """Texts are str or bin, which msgspec cannot say in one type; they stay encoded until `read_entry`."""

    name: Raw
    path: Raw
    kind: FileKind = msgspec.field(name="type")
    size: Count
    mode: Annotated[int, Meta(ge=0, le=0o7777)]
    uid: Id
    gid: Id
    user: Raw
    group: Raw
    modified_ns: Instant
    target: Raw


class StatReply(Struct, tag_field="event", tag="done"):
    entry: EntryReply


class EntriesReply(Struct, tag_field="event", tag="entries"):
    entries: list[EntryReply]


class ListedReply(Struct, tag_field="event", tag="done"):
    truncated: bool


class FileReply(Struct, tag_field="event", tag="file"):
    entry: EntryReply


class WrittenReply(Struct, tag_field="event", tag="done"):
    size: Count
    created: bool


class UnpackedReply(Struct, tag_field="event", tag="done"):
    entries: Count


STAT: Final = Answer(StatReply)
LISTING: Final = Answer[EntriesReply | ListedReply](EntriesReply, ListedReply)
FILE: Final = Answer(FileReply)
WRITTEN: Final = Answer(WrittenReply)
UNPACKED: Final = Answer(UnpackedReply)


def read_entry(reply: EntryReply) -> Entry:
    return Entry(
        name=read_text(reply.name),
        path=read_text(reply.path),
        kind=reply.kind,
        size=reply.size,
        mode=reply.mode,
        uid=reply.uid,
        gid=reply.gid,
        user=read_text_or_none(reply.user),
        group=read_text_or_none(reply.group),
        modified_ns=reply.modified_ns,
        target=read_text_or_none(reply.target),
    )
