# SPDX-License-Identifier: Apache-2.0
"""What happens when a part dies: the server, or a sandbox in part or whole. Attacks 40, 41, 90 and 91."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from atoll import Atoll, SandboxFailed, SandboxNotFound
from atoll.errors import Error
from tests.support.inventory import find_leftovers
from tests.support.processes import first_process, host_processes, kill_all, kill_process
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.isolated

NOTICED = 2.0


@pytest.fixture
def own_client(own_server: ServerProcess) -> Iterator[Atoll]:
    """A client without retries, so that what it is told is what happened."""
    with Atoll(own_server.url, own_server.api_key, max_retries=0) as client:
        yield client


def restart(server: ServerProcess) -> None:
    server.kill()
    server.start()


def test_sandboxes_outlive_a_killed_server_with_all_they_hold(
    own_server: ServerProcess, own_client: Atoll, runtime: str
) -> None:
    """Item 70."""
    sandbox = own_client.sandboxes.create(
        "host", runtime=runtime, metadata={"kept": "yes"}, env={"KEPT": "env"}
    )
    sandbox.files.write("kept.txt", "kept")
    sandbox.exec("while :; do date +%N > /tmp/clock; sleep 0.05; done >/dev/null 2>&1 &")
    before = sandbox.info

    restart(own_server)

    adopted = own_client.sandboxes.get(sandbox.id)
    assert adopted.info == before
    assert adopted.files.read_text("kept.txt") == "kept"
    assert adopted.exec("echo $KEPT", check=True).stdout == "env\n"
    clock = adopted.files.read("/tmp/clock")
    wait_until(lambda: adopted.files.read("/tmp/clock") not in (b"", clock), what="a tick")
    adopted.terminate()
    assert adopted.reason == "user"


def test_a_sandbox_that_died_with_the_server_is_reported_lost(
    own_server: ServerProcess, own_client: Atoll, runtime: str
) -> None:
    """Item 70."""
    lost = own_client.sandboxes.create("host", runtime=runtime)
    kept = own_client.sandboxes.create("host", runtime=runtime)

    own_server.kill()
    kill_all(lost.id)
    wait_until(lambda: not host_processes(lost.id), what="the kill")
    own_server.start()

    found = own_client.sandboxes.get(lost.id)
    assert (found.state, found.reason) == ("terminated", "lost")
    assert found.terminated_at is not None
    with pytest.raises(SandboxNotFound):
        found.exec("true")
    assert not find_leftovers([lost.id], [own_server.directory])
    assert kept.exec("echo here").stdout == "here\n"
    kept.terminate()


def test_a_lifetime_goes_on_over_a_restart(
    own_server: ServerProcess, own_client: Atoll, runtime: str
) -> None:
    sandbox = own_client.sandboxes.create("host", runtime=runtime, timeout_ms=4000)

    restart(own_server)

    wait_until(lambda: own_client.sandboxes.get(sandbox.id).state == "terminated", what="the end")
    assert own_client.sandboxes.get(sandbox.id).reason == "timeout"


def test_a_server_killed_while_it_creates_leaves_nothing(
    own_server: ServerProcess, own_client: Atoll, runtime: str
) -> None:
    """Attack 90."""
    outcomes: list[object] = []

    def create() -> None:
        try:
            outcomes.append(own_client.sandboxes.create("host", runtime=runtime))
        except Error as error:
            outcomes.append(error)

    creating = [threading.Thread(target=create) for _ in range(4)]
    for thread in creating:
        thread.start()
    wait_until(lambda: own_client.sandboxes.list(limit=1).total >= 2, what="the creations")
    restart(own_server)
    for thread in creating:
        thread.join()

    # Those whose creator was answered live; the others nobody can know, and they are gone.
    known = {sandbox.id for sandbox in own_client.sandboxes.list(state="running")}
    ended = list(own_client.sandboxes.list(state="terminated"))
    assert own_client.sandboxes.list().total == len(known) + len(ended)
    assert {sandbox.reason for sandbox in ended} <= {"lost"}
    assert not find_leftovers([sandbox.id for sandbox in ended], [own_server.run_dir])
    for sandbox in own_client.sandboxes.list(state="running"):
        assert sandbox.exec("echo here").stdout == "here\n"
        sandbox.terminate()


def test_stopping_the_server_in_order_lets_sandboxes_live(
    own_server: ServerProcess, own_client: Atoll, runtime: str
) -> None:
    sandbox = own_client.sandboxes.create("host", runtime=runtime)

    own_server.stop()
    own_server.start()

    assert sandbox.exec("echo here").stdout == "here\n"
    sandbox.terminate()


def test_a_dead_first_process_fails_the_sandbox_at_once(
    own_server: ServerProcess, own_client: Atoll, runtime: str
) -> None:
    """Attacks 41 and 91."""
    sandbox = own_client.sandboxes.create("host", runtime=runtime)
    other = own_client.sandboxes.create("host", runtime=runtime)

    kill_process(first_process(sandbox.id))

    def state() -> str:
        sandbox.refresh()
        return sandbox.state

    wait_until(lambda: state() == "failed", within=NOTICED, what="the failure")
    assert sandbox.info.reason == "error"
    assert sandbox.info.detail
    with pytest.raises(SandboxFailed) as raised:
        sandbox.exec("true")
    assert raised.value.code == "SANDBOX_FAILED"
    assert raised.value.retryable is False
    with pytest.raises(SandboxFailed):
        sandbox.files.read("/etc/passwd")
    assert other.exec("echo here").stdout == "here\n"
    sandbox.terminate()
    assert (sandbox.state, sandbox.reason) == ("terminated", "error")
    other.terminate()


def test_a_failed_sandbox_leaves_nothing_on_the_host(
    own_server: ServerProcess, own_client: Atoll, runtime: str
) -> None:
    sandbox = own_client.sandboxes.create("host", runtime=runtime)
    sandbox.exec("setsid sleep 1000 >/dev/null 2>&1 &")

    kill_process(first_process(sandbox.id))

    wait_until(lambda: not host_processes(sandbox.id), what="the end of its processes")
    sandbox.terminate()
    assert not find_leftovers([sandbox.id], [own_server.directory])


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_under_way_fails_with_the_sandbox(
    own_server: ServerProcess, own_client: Atoll, runtime: str, streamed: bool
) -> None:
    """Attack 41."""
    sandbox = own_client.sandboxes.create("host", runtime=runtime)
    killer = threading.Timer(0.5, lambda: kill_process(first_process(sandbox.id)))
    killer.start()

    with pytest.raises(SandboxFailed):
        sandbox.exec("echo started; sleep 30", on_stdout=print_nothing if streamed else None)

    killer.join()
    sandbox.terminate()


def print_nothing(_: str) -> None:
    """A callback for a streamed call."""


def test_a_killed_server_is_a_lost_connection_and_not_an_answer(
    own_server: ServerProcess, own_client: Atoll, runtime: str
) -> None:
    """Attack 40, as far as it goes without reattaching."""
    sandbox = own_client.sandboxes.create("host", runtime=runtime)
    killer = threading.Timer(0.5, own_server.kill)
    killer.start()

    with pytest.raises(Error) as raised:
        sandbox.exec("sleep 30")

    killer.join()
    own_server.start()
    assert raised.value.code == "CONNECTION_LOST"
    assert sandbox.exec("echo here").stdout == "here\n"
    sandbox.terminate()


def test_a_server_without_sandboxes_takes_everything_with_it() -> None:
    with ServerProcess() as server:
        with Atoll(server.url, server.api_key) as client:
            client.sandboxes.create("host").terminate()

        server.stop()

        left = [path for path in server.run_dir.rglob("*") if not path.is_dir()]
        assert not left
