# SPDX-License-Identifier: Apache-2.0
"""Takes values of secrets out of what a host says over a WebSocket, frame by frame. What is no frame is refused. Pure.

Heads of frames stay as they were, as a masked message is as long as it was. Messages are looked at whole, over the
frames that they come in, and nothing of one is held back once it has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from atoll_server.network.placeholders import Mask
from atoll_server.network.secrets import Secret

MAX_WAITING: Final = 64 * 1024
"""Of heads, and of frames between those of a message, that wait for what may be the beginning of a value."""
_EACH: Final = 64
"""What one of them takes besides, however short it is."""

_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_DATA = (_CONTINUED, _TEXT, _BINARY)
_CONTROL = (_CLOSE, _PING, _PONG)
_FINAL, _RESERVED, _KIND = 0x80, 0x70, 0x0F
_IS_MASKED, _LENGTH = 0x80, 0x7F
_MAX_CONTROL = 125
_IN_TWO, _IN_EIGHT = 126, 127
_MOST = 1 << 63


class BadFrames(Exception):
    """A host says what is not frames of a WebSocket without extensions. The text says why."""


class FrameMask:
    """Both ends are servers' ends: frames here are not scrambled. `has_closed` once the last of them has come."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        secrets = tuple(secrets)
        self.has_closed = False
        self._mask, self._control_mask = Mask(secrets), Mask(secrets)
        self._head = bytearray()
        self._control = bytearray()
        self._kind = _CONTINUED
        self._left = 0
        self._is_within = False
        self._is_last = True
        self._is_in_message = False
        # Of one message: how much of it came and was told, and what stands between, each with its place.
        self._taken = self._told = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_size = 0

    def feed(self, piece: bytes) -> bytes:
        """As much as can be told. What follows the last frame is not. Raises `BadFrames`."""
        told, at = bytearray(), 0
        while at < len(piece) and not self.has_closed:
            if not self._is_within:
                at = self._take_head(piece, at)
            else:
                end = min(len(piece), at + self._left)
                told += self._take_data(piece[at:end])
                at = end
            if self._is_within and not self._left:
                told += self._end_frame()
        return bytes(told)

    def finish(self) -> bytes:
        """The rest, once no more comes."""
        return self._give(self._mask.finish())

    def _take_head(self, piece: bytes, at: int) -> int:
        wanted = _head_size(self._head)
        taken = piece[at : at + wanted - len(self._head)]
        self._head += taken
        if len(self._head) == _head_size(self._head):
            self._begin_frame(bytes(self._head))
            self._head.clear()
        return at + len(taken)

    def _begin_frame(self, head: bytes) -> None:
        self._kind, is_last = head[0] & _KIND, bool(head[0] & _FINAL)
        self._left = _read_length(head)
        self._is_within = True
        if head[0] & _RESERVED or self._kind not in (*_DATA, *_CONTROL):
            raise BadFrames("a frame is of an extension, for which nobody has asked")
        if self._kind in _CONTROL:
            if not is_last or self._left > _MAX_CONTROL:
                raise BadFrames("a frame about the connection is too long, or in parts")
            self._control[:] = head
            return
        if self._is_in_message != (self._kind == _CONTINUED):
            raise BadFrames("a message begins within another, or goes on that has not begun")
        self._is_in_message, self._is_last = True, is_last
        self._wait(head)

    def _take_data(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._kind in _CONTROL:
            self._control += data
            return b""
        self._taken += len(data)
        return self._give(self._mask.feed(data))

    def _end_frame(self) -> bytes:
        self._is_within = False
        if self._kind in _CONTROL:
            head, said = bytes(self._control[:2]), bytes(self._control[2:])
            self._wait(head + self._control_mask.feed(said) + self._control_mask.finish())
            self.has_closed = self._kind == _CLOSE
            return self.finish() if self.has_closed else self._give(b"")
        if not self._is_last:
            return self._give(b"")
        told = self.finish()
        self._taken = self._told = 0
        self._is_in_message = False
        return told

    def _wait(self, said: bytes) -> None:
        """Have it told behind all of the message that has come so far."""
        self._waiting.append((self._taken, said))
        self._waiting_size += len(said) + _EACH
        if self._waiting_size > MAX_WAITING:
            raise BadFrames("too many frames are too short to tell what they say")

    def _give(self, masked: bytes) -> bytes:
        """What comes next of a message, and what stands between."""
        given, at = bytearray(), 0
        while self._waiting and self._waiting[0][0] <= self._told + len(masked):
            place, said = self._waiting.popleft()
            self._waiting_size -= len(said) + _EACH
            given += masked[at : place - self._told] + said
            at = place - self._told
        self._told += len(masked)
        return bytes(given + masked[at:])


def _head_size(begun: bytes | bytearray) -> int:
    """How long the head is that begins so, as far as that can be told."""
    if len(begun) < 2:
        return 2
    return 2 + {_IN_TWO: 2, _IN_EIGHT: 8}.get(begun[1] & _LENGTH, 0)


def _read_length(head: bytes) -> int:
    if head[1] & _IS_MASKED:
        raise BadFrames("a host scrambles its frames, as only clients do")
    short = head[1] & _LENGTH
    if short < _IN_TWO:
        return short
    length = int.from_bytes(head[2:])
    if length >= _MOST or length < (_IN_TWO if short == _IN_TWO else 1 << 16):
        raise BadFrames("the length of a frame is written in a way that it must not be")
    return length
