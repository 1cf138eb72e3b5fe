# SPDX-License-Identifier: Apache-2.0
"""What is kept of a command's output is its end, and begins with a whole character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll_server.engine.tails import Tail


@given(st.lists(st.binary(max_size=30)), st.integers(0, 40))
def test_tail_is_the_end_of_what_came(parts: list[bytes], limit: int) -> None:
    tail = Tail(limit)
    for part in parts:
        tail.append(part)

    whole = b"".join(parts)
    kept = tail.kept()

    assert tail.is_cut == (len(whole) > limit)
    assert whole.endswith(kept)
    expected = whole if not tail.is_cut else whole[len(whole) - limit :]
    cut = len(expected) - len(kept)
    assert cut <= 3
    assert all(byte & 0xC0 == 0x80 for byte in expected[:cut])
    if tail.is_cut and kept and cut < 3:
        assert kept[0] & 0xC0 != 0x80
