# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from atoll._following import PATIENCE_SECONDS, Patience
from atoll.errors import ConnectionLost, Error, Internal, ProcessNotFound, ProtocolError


def test_patience_grows_and_ends() -> None:
    patience = Patience()

    delays = []
    while (delay := patience.plan(ConnectionLost("lost"), 1.0)) is not None:
        delays.append(delay)

    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(delays) == 5.0
    assert sum(delays) == pytest.approx(PATIENCE_SECONDS)
    patience.reset()
    assert patience.plan(Internal("again"), 0.0) == 0.05


@pytest.mark.parametrize("error", [ProcessNotFound("no"), ProtocolError("no")])
def test_there_is_no_patience_with_what_does_not_pass(error: Error) -> None:
    assert Patience().plan(error, 0.5) is None
