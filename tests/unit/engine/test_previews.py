# SPDX-License-Identifier: Apache-2.0
"""Who gets to see which exposed port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_server.clock import ManualClock
from atoll_server.engine.exposures import Exposures
from atoll_server.engine.model import SandboxId
from atoll_server.engine.preview_tokens import PreviewTokens
from atoll_server.engine.previews import Preview, Previews
from atoll_server.engine.store_sqlite import SqliteStore

pytestmark = pytest.mark.anyio

ONE = SandboxId("sb_1")
TOKENS = PreviewTokens(bytes(32), ManualClock())


@pytest.fixture
def exposures(tmp_path: Path) -> Iterator[Exposures]:
    store = SqliteStore(tmp_path / "atoll.db")
    yield Exposures(store, ManualClock())
    store.close()


async def test_public_port_is_open_to_all_and_says_whether_their_token_is_its_own(
    exposures: Exposures,
) -> None:
    exposed = await exposures.expose(ONE, 3000)
    find = Previews(exposures, TOKENS).find

    assert find(3000, exposed.label, None) == Preview(exposed, False, None)
    assert find(3000, exposed.label, "nonsense") == Preview(exposed, False, None)
    assert find(3000, exposed.label, TOKENS.make(exposed, 9.5)) == Preview(exposed, True, 10)


async def test_private_port_is_open_to_its_own_token_alone(exposures: Exposures) -> None:
    exposed = await exposures.expose(ONE, 3000, is_private=True)
    other = await exposures.expose(ONE, 3001, is_private=True)
    find = Previews(exposures, TOKENS).find

    assert find(3000, exposed.label, None) is None
    assert find(3000, exposed.label, TOKENS.make(other)) is None
    assert find(3000, exposed.label, TOKENS.make(exposed)) == Preview(exposed, True, None)


async def test_name_that_nothing_has_opens_nothing_with_any_token(exposures: Exposures) -> None:
    exposed = await exposures.expose(ONE, 3000)

    assert Previews(exposures, TOKENS).find(3000, "x" * 20, TOKENS.make(exposed)) is None
