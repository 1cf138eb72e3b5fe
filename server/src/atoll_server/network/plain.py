# SPDX-License-Identifier: Apache-2.0
"""Requests in the clear, one after the other on a connection. Each is read strictly, and for the host of the first.

What is answered is not looked at: which answer belongs to which request does not matter, as all are of one host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from atoll_server.network.http_body import Body, ChunkedBody, LengthBody, MalformedBody, Sight
from atoll_server.network.http_head import MAX_HEAD, Head, read_head
from atoll_server.network.outcomes import Incomplete, Refused
from atoll_server.network.placeholders import Misplaced, Watch, check_head
from atoll_server.network.policy import Reason, Verdict
from atoll_server.network.secrets import Secret

MAX_REQUESTS: Final = 1000
"""On one connection."""


class Requests:
    """`first` was judged already. No placeholder of `secrets` passes. `is_done` once nothing more may be sent.

    `refusal` is why a request that followed is not sent, once there is one; `note` is told of it, and of why the body
    of one is not sent further.
    """

    def __init__(
        self, first: Head, secrets: Iterable[Secret], note: Callable[[Verdict], None]
    ) -> None:
        self.is_done = False
        self.refusal: Verdict | None = None
        self._host = (first.host, first.port)
        self._secrets = tuple(secrets)
        self._note = note
        self._begun = bytearray()
        self._left = MAX_REQUESTS
        self._begin(first)

    @property
    def may_end(self) -> bool:
        """Whether nothing is under way."""
        return self._body.is_done and not self._begun

    def begin(self, rest: bytes) -> bytes:
        """What is sent of the first request, `rest` having come with its head. Raises `MalformedBody`."""
        return self._head.forwarded + self.take(rest)

    def take(self, data: bytes) -> bytes:
        """What is sent of what came next. Raises `MalformedBody`."""
        said, at = bytearray(), 0
        while at < len(data) and not self.is_done:
            # Small pieces: what follows is not to be copied for every request.
            piece = data[at : at + MAX_HEAD]
            if self._body.is_done:
                size, sent = self._take_head(piece)
            else:
                sent = self._body.take(piece)
                size = len(sent)
                self._look_at_end()
            said += sent
            at += size
        return bytes(said)

    def _take_head(self, piece: bytes) -> tuple[int, bytes]:
        """How much of it is of a head, and what is sent once that is whole."""
        had = len(self._begun)
        self._begun += piece
        head = read_head(self._begun)
        if isinstance(head, Incomplete):
            return len(piece), b""
        refusal = self._judge(head)
        if refusal is None and isinstance(head, Head):
            self._begun.clear()
            self._begin(head)
            return head.size - had, self._head.forwarded
        self.refusal = refusal
        self.is_done = True
        return len(piece), b""

    def _judge(self, head: Head | Refused) -> Verdict | None:
        """The refusal of a request that follows another, if there is one."""
        verdict = self._find_fault(head)
        if verdict is not None:
            self._note(verdict)
        return verdict

    def _find_fault(self, head: Head | Refused) -> Verdict | None:
        if isinstance(head, Refused):
            return Verdict(False, Reason.MALFORMED, head.why)
        if (head.host, head.port) != self._host:
            text = f"the request is for {head.host}, and the connection for {self._host[0]}"
            return Verdict(False, Reason.HOST_FOREIGN, text)
        return find_secret(head, bytes(self._begun), self._secrets)

    def _begin(self, head: Head) -> None:
        self._left -= 1
        self._head = head if self._left else replace(head, may_keep=False)
        show, lines = self._make_sight(), self._make_sight()
        self._body: Body = (
            ChunkedBody(show, lines) if head.body is None else LengthBody(head.body, show)
        )
        self._look_at_end()

    def _look_at_end(self) -> None:
        self.is_done = self._body.is_done and not self._head.may_keep

    def _make_sight(self) -> Sight | None:
        """Looks for placeholders in what goes out in the clear."""
        if not self._secrets:
            return None
        watch = Watch(self._secrets)

        def show(piece: bytes) -> None:
            try:
                watch.feed(piece)
            except Misplaced as misplaced:
                self._note(Verdict(False, Reason.SECRET, str(misplaced)))
                raise MalformedBody(str(misplaced)) from None

        return show


def find_secret(head: Head, seen: bytes, secrets: tuple[Secret, ...]) -> Verdict | None:
    """The refusal of a request in the clear that carries a placeholder, to whatever host; None if none was seen."""
    try:
        check_head(head.first, head.fields, secrets)
        Watch(secrets).feed(seen)
    except Misplaced as misplaced:
        return Verdict(False, Reason.SECRET, str(misplaced))
    return None
