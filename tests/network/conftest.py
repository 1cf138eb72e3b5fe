# SPDX-License-Identifier: Apache-2.0
"""An internet, a proxy in it, and sandboxes' networks. Nothing of them may stay behind."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll_server.network.egress import Egress, EgressSettings
from atoll_server.network.written import parse_policy
from tests.support.inside import Inside
from tests.support.internet import HOST_OWN, NAME_SERVER, Internet
from tests.support.inventory import find_difference, take_inventory
from tests.support.networked import serving_within
from tests.support.server import ServerProcess

PROXY_USER = 65_400
_ids = itertools.count(1)

Attach = Callable[[object], tuple[str, Inside]]


@pytest.fixture(scope="session", autouse=True)
def _clean_host() -> Iterator[None]:
    """Looks once all is over."""
    before = take_inventory()
    yield
    left = {line for line in find_difference(before) if "network-test" in line}
    assert not left, f"left behind: {sorted(left)}"


@pytest.fixture(scope="session")
def internet() -> Iterator[Internet]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in ("ip", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    with Internet() as internet:
        yield internet


@pytest.fixture(scope="module")
def trusting(internet: Internet) -> Iterator[ServerProcess]:
    """A server that lives in the internet of the test, and trusts its authority."""
    with serving_within(internet, {"SSL_CERT_FILE": str(internet.authority)}) as server:
        yield server


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="network-test-") as directory:
        # The proxy has its empty root in there, and must get to it.
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def egress_settings() -> EgressSettings:
    """Overridden where a test wants other limits."""
    return EgressSettings(
        user=PROXY_USER, name_servers=((NAME_SERVER, 53),), own_addresses=(HOST_OWN,)
    )


@pytest.fixture
def egress(
    internet: Internet, directory: Path, egress_settings: EgressSettings
) -> Iterator[Egress]:
    """A proxy whose world is the test's internet, serving nobody yet."""
    egress = Egress(directory, egress_settings)
    internet.questions.clear()
    internet.requests.clear()
    internet.run_within(egress.start)
    try:
        yield egress
    finally:
        for sandbox_id in egress.list():
            egress.detach(sandbox_id)
        egress.stop()


@pytest.fixture
def attach(egress: Egress, internet: Internet) -> Attach:
    """Makes a sandbox's network under a policy: its id, and a program in it."""

    def attach(policy: object) -> tuple[str, Inside]:
        sandbox_id = f"network-test-{next(_ids)}"
        egress.attach(sandbox_id, parse_policy(policy))
        return sandbox_id, Inside(egress.make_inside(sandbox_id), internet.authority)

    return attach
