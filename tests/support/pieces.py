# SPDX-License-Identifier: Apache-2.0
"""Output that is known beforehand: pieces for both streams, and a program that writes them one after the other."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

WRITER = """
import os, struct, sys, time
data, pause = open(sys.argv[1], 'rb').read(), float(sys.argv[2])
while data:
    number, length = struct.unpack('>BI', data[:5])
    piece, data = data[5:5 + length], data[5 + length:]
    while piece:
        piece = piece[os.write(number, piece):]
    if pause and os.path.exists(sys.argv[1]):
        time.sleep(pause)
sys.exit(7)
"""
EXIT_CODE = 7


@dataclass(frozen=True)
class Pieces:
    """What a program writes, and to which of its streams (1 or 2)."""

    pieces: tuple[tuple[int, bytes], ...]

    @property
    def stdout(self) -> bytes:
        return b"".join(data for number, data in self.pieces if number == 1)

    @property
    def stderr(self) -> bytes:
        return b"".join(data for number, data in self.pieces if number == 2)

    def encode(self) -> bytes:
        """As the program reads them from a file."""
        return b"".join(struct.pack(">BI", n, len(data)) + data for n, data in self.pieces)


def make_pieces(seed: int, count: int, longest: int) -> Pieces:
    """So many pieces of random length: bytes of any value, text whose characters may come apart, and line ends."""
    chance = random.Random(seed)
    return Pieces(tuple((chance.choice((1, 1, 2)), _piece(chance, longest)) for _ in range(count)))


def writer(path: str, pause: float) -> list[str]:
    """The command that writes the pieces in a file, resting `pause` seconds behind each while the file is there."""
    return ["python3", "-c", WRITER, path, str(pause)]


def _piece(chance: random.Random, longest: int) -> bytes:
    size = chance.randint(1, longest)
    kind = chance.randrange(3)
    if kind == 0:
        return chance.randbytes(size)
    if kind == 1:
        text = "aü€🏝\n" * (size // 11 + 1)
        # Cut anywhere, so that the next piece begins in the middle of a character.
        return text.encode()[:size]
    return bytes(chance.choices(b"\n\0x", k=size))
