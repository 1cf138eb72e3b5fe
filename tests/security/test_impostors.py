# SPDX-License-Identifier: Apache-2.0
"""What root inside must not do to the server once it has taken the agent's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll import Atoll, Error, Process, Sandbox, Stdout
from atoll_server.agent.connection import can_refuse_descriptors
from tests.support.api import TIMEOUT, Api

IMPOSTOR = (Path(__file__).parent / "probes" / "impostor.py").read_text()
# Longer than a test waits for an answer, and not for ever.
LINGERS = round(2 * TIMEOUT)

ASKED: dict[str, Callable[[Sandbox], object]] = {
    "a command": lambda sandbox: sandbox.exec("true"),
    "a port, with a socket of the server's": lambda sandbox: sandbox.dial(80),
}


@pytest.mark.parametrize("what", ASKED)
def test_a_socket_that_is_sent_to_the_server_does_not_hold_it_up(
    client: Atoll, api: Api, runtime: str, what: str
) -> None:
    """A descriptor sent along is closed by who gets it, and that may be to wait until the sandbox lets go."""
    with client.sandboxes.create("host", runtime=runtime) as taken:
        impostor = taken.processes.start(["python3", "-c", IMPOSTOR, str(LINGERS)])
        said = _listen(impostor)
        assert next(said) == "there"

        with pytest.raises(Error):
            ASKED[what](taken)
        # Others of the server's parts may ask, too.
        outcome = next(it for it in said if "came along" in it or what == "a command")
        answered = api.call("GET", "/v1/health")

    assert answered.status == 200
    if runtime == "container" and can_refuse_descriptors():
        assert "refused: Operation not permitted" in outcome


def _listen(process: Process) -> Iterator[str]:
    for event in process.stream():
        if isinstance(event, Stdout):
            yield from event.data.decode().splitlines()
