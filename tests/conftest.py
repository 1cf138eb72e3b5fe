# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests, and the rule that nothing is skipped where everything must run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support.api import Api
from tests.support.cleanliness import assert_host_is_clean
from tests.support.inventory import find_difference, take_inventory
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    # Imported where used, so that unit tests start without the client.
    from atoll import AsyncAtoll, AsyncSandbox, Atoll, Sandbox

STRICT = os.environ.get("CI", "").lower() in ("1", "true")
HOST_LACKS = "host lacks"
"""A skip whose reason starts with this is allowed everywhere: the kernel has no such feature."""

RUNTIME_PROGRAMS = {"gvisor": ("runsc",), "container": ("crun", "runc")}


# How long a property takes to try says something about the host, nothing about the property.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)


def pytest_configure() -> None:
    """A run that is told to stop takes its fixtures down, and with them its servers and sandboxes."""
    hypothesis.settings.load_profile("untimed")

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if HOST_LACKS not in reason:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: skipped where everything must run: {reason}"
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """One server for the whole run. Where nothing else uses the host, it must leave nothing behind."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = take_inventory()
    process = ServerProcess()
    try:
        process.start()
        yield process
        process.end_sandboxes()
        process.stop()
        left = find_difference(before) if STRICT else frozenset()
        assert not left, f"the server left behind: {sorted(left)}"
    finally:
        process.kill()
        process.remove()


@pytest.fixture(scope="session", params=sorted(RUNTIME_PROGRAMS))
def runtime(request: pytest.FixtureRequest) -> str:
    """Each runtime in turn."""
    name: str = request.param
    if not any(shutil.which(program) for program in RUNTIME_PROGRAMS[name]):
        pytest.skip(f"needs {' or '.join(RUNTIME_PROGRAMS[name])}")
    return name


@pytest.fixture(scope="session")
def api(server: ServerProcess) -> Api:
    return Api(server)


@pytest.fixture(scope="module")
def clean_host(api: Api) -> Iterator[None]:
    """Looks once a module has ended, after its tests' sandboxes are gone: a look costs more than most tests."""
    yield
    assert_host_is_clean(api)


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Atoll]:
    from atoll import Atoll

    with Atoll(api_url=server.url, api_key=server.api_key) as client:
        yield client


@pytest.fixture
async def async_client(server: ServerProcess) -> AsyncIterator[AsyncAtoll]:
    from atoll import AsyncAtoll

    async with AsyncAtoll(api_url=server.url, api_key=server.api_key) as client:
        yield client


@pytest.fixture
def sandbox(client: Atoll, runtime: str) -> Iterator[Sandbox]:
    """A sandbox of the `host` image, this test's own."""
    with client.sandboxes.create(image="host", runtime=runtime) as sandbox:
        yield sandbox


@pytest.fixture
async def async_sandbox(async_client: AsyncAtoll, runtime: str) -> AsyncIterator[AsyncSandbox]:
    """A sandbox of the `host` image, this test's own."""
    async with await async_client.sandboxes.create(image="host", runtime=runtime) as sandbox:
        yield sandbox
