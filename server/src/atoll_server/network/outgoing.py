# SPDX-License-Identifier: Apache-2.0
"""A request as a host of secrets gets it: judged by itself, with values in place. What may not go out is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from atoll_server.network.http_body import Body, ChunkedBody, LengthBody, MalformedBody, Sight
from atoll_server.network.http_head import CLOSE, KEEP, WEBSOCKET, Field, Head, render_head
from atoll_server.network.placeholders import Misplaced, Watch, check_head, fill
from atoll_server.network.policy import Flow, Reason, Verdict
from atoll_server.network.secrets import Keyring, Secret

# Compressed, an answer would hide values from whoever looks for them.
_COMPRESSING = (b"accept-encoding", b"sec-websocket-extensions")
_PLAIN = (b"Accept-Encoding", b"identity")


class NotPassed(Exception):
    """Why a request is not passed on."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.verdict = Verdict(False, reason, text)


class Sights:
    """Looks for placeholders of secrets that a host is not to have; `found` is the refusal, once there is one."""

    def __init__(self, kept: tuple[Secret, ...]) -> None:
        self.found: NotPassed | None = None
        self._kept = kept

    def make(self) -> Sight:
        """Looks at one stream, however it is cut."""
        watch = Watch(self._kept)

        def show(piece: bytes) -> None:
            try:
                watch.feed(piece)
            except Misplaced as misplaced:
                self.found = NotPassed(Reason.SECRET, str(misplaced))
                raise MalformedBody(str(misplaced)) from None

        return show


@dataclass(frozen=True)
class Outgoing:
    """A request that may go out: its head, that and as much of its body as was there as the host gets it, and the rest.

    `next` is what came behind it.
    """

    head: Head
    said: bytes = field(repr=False)
    body: Body
    sights: Sights
    next: bytes = field(repr=False)


def prepare(head: Head, rest: bytes, flow: Flow, keyring: Keyring) -> Outgoing:
    """The request with its secrets in place, if it is for whom the connection is, and holds no others so far.

    `rest` came behind its head. Raises `NotPassed`.
    """
    if head.host != flow.name or head.port not in (None, flow.port):
        text = f"the request is for {head.host}, and the connection for {flow.name}"
        raise NotPassed(Reason.HOST_FOREIGN, text)
    kept = keyring.kept_from(flow.name)
    try:
        check_head(head.first, head.fields, kept)
        fields = fill(head.first, head.fields, keyring.meant_for(flow.name))
    except Misplaced as misplaced:
        raise NotPassed(Reason.SECRET, str(misplaced)) from None
    sights = Sights(kept)
    show, show_line = sights.make(), sights.make()
    body: Body = ChunkedBody(show, show_line) if head.body is None else LengthBody(head.body, show)
    try:
        taken = body.take(rest)
    except MalformedBody as fault:
        raise sights.found or NotPassed(Reason.MALFORMED, str(fault)) from None
    return Outgoing(head, _render(head, fields) + taken, body, sights, rest[len(taken) :])


def _render(head: Head, fields: tuple[Field, ...]) -> bytes:
    plain = (*(it for it in fields if it[0].lower() not in _COMPRESSING), _PLAIN)
    if head.websocket_key is not None:
        return render_head(head.first, (*plain, (b"Upgrade", WEBSOCKET)), b"Upgrade")
    return render_head(head.first, plain, KEEP if head.may_keep else CLOSE)
