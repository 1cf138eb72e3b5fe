# SPDX-License-Identifier: Apache-2.0
"""The verbs of `Watches`, over a list. What changes is what a test says with `happen`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

from atoll_server.engine import errors
from atoll_server.engine.ids import watch_id
from atoll_server.engine.model import (
    ChangeKind,
    ChangesEnd,
    FileChange,
    Watch,
    WatchEnd,
    WatchId,
    WatchRecord,
)
from atoll_server.engine.watches import WATCHES_LIMIT

STARTED_NS = 1_700_000_000_000_000_000


@dataclasses.dataclass
class Kept:
    """One watch and all its changes."""

    record: WatchRecord
    linger: float | None
    changes: list[FileChange] = dataclasses.field(default_factory=list)
    progress: asyncio.Condition = dataclasses.field(default_factory=asyncio.Condition)

    async def happen(self, kind: ChangeKind, path: bytes | None, **fields: bytes) -> None:
        number = self.record.last + 1
        self.changes.append(
            FileChange(number, kind, path, fields.get("from_path"), False, STARTED_NS)
        )
        await self._note(last=number)

    async def end(self, why: WatchEnd) -> None:
        await self._note(ended=why)

    async def _note(self, **fields: object) -> None:
        async with self.progress:
            self.record = dataclasses.replace(self.record, **fields)  # type: ignore[arg-type] # by name
            self.progress.notify_all()


class MemoryWatches:
    """All watches of a sandbox. Directories are those whose path does not begin with `/missing`."""

    def __init__(self) -> None:
        self.kept: dict[WatchId, Kept] = {}

    async def start(self, path: bytes, *, recursive: bool, linger: float | None) -> Watch:
        if path.startswith(b"/missing"):
            raise errors.FileNotFound("no such directory")
        if len(self.kept) == WATCHES_LIMIT:
            raise errors.ResourceExhausted("too many watches")
        number = len(self.kept) + 1
        absolute = path if path.startswith(b"/") else b"/workspace/" + path
        record = WatchRecord(number, absolute, recursive, STARTED_NS, 1, 0, None)
        self.kept[watch_id(number)] = Kept(record, linger)
        return Watch(watch_id(number), record)

    async def list(self) -> tuple[Watch, ...]:
        return tuple(Watch(name, kept.record) for name, kept in self.kept.items())

    async def get(self, wanted: WatchId) -> Watch:
        return Watch(wanted, self._find(wanted).record)

    async def stop(self, wanted: WatchId) -> None:
        await self._find(wanted).end(WatchEnd.STOPPED)
        del self.kept[wanted]

    def changes(self, wanted: WatchId, *, since: int = 0, follow: bool = True) -> MemoryChanges:
        return MemoryChanges(self._find(wanted), since, follow)

    def _find(self, wanted: WatchId) -> Kept:
        if wanted not in self.kept:
            raise errors.WatchNotFound(f"no watch {wanted}")
        return self.kept[wanted]


class MemoryChanges:
    """The changes of a watch after a number."""

    def __init__(self, kept: Kept, since: int, follow: bool) -> None:
        self.since = since
        self._kept = kept
        self._follow = follow
        if since > kept.record.last:
            raise errors.InvalidRequest("no change has that number yet")

    async def __aenter__(self) -> MemoryChanges:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[FileChange | ChangesEnd]:
        kept, told = self._kept, self.since
        while True:
            for change in kept.changes[told:]:
                told = change.number
                yield change
            if kept.record.ended or not self._follow:
                yield ChangesEnd(told, kept.record.ended)
                return
            async with kept.progress:
                while kept.record.last == told and not kept.record.ended:
                    await kept.progress.wait()
