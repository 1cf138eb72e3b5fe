# SPDX-License-Identifier: Apache-2.0
"""Sandboxes against a dictionary: whatever is done in whatever order, the server says what the dictionary says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from atoll import Atoll, ResourceExhausted, Sandbox, SandboxNotFound
from tests.support.inventory import find_leftovers
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.isolated

MOST = 3
MEMORY = st.sampled_from([2048, 4096])
WHICH = st.integers(0, 10_000)


@dataclass
class Expected:
    """What the model knows of one sandbox that runs."""

    sandbox: Sandbox
    label: str
    memory_mb: int
    files: dict[str, str] = field(default_factory=dict)


class Sandboxes(RuleBasedStateMachine):
    """Create, exec, limits, delete and the pool's size, in any order, on one server."""

    client: ClassVar[Atoll]
    server: ClassVar[ServerProcess]

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, Expected] = {}
        self.ended: dict[str, Sandbox] = {}

    @rule(label=st.sampled_from("abc"), memory_mb=MEMORY, cpu=st.sampled_from([2, 4, 8]))
    def create(self, label: str, memory_mb: int, cpu: int) -> None:
        wanted = {"cpu": cpu, "memory_mb": memory_mb}
        try:
            sandbox = self.client.sandboxes.create(
                "host", resources=wanted, metadata={"label": label}
            )
        except ResourceExhausted:
            assert len(self.running) == MOST
            return
        assert len(self.running) < MOST
        assert sandbox.id not in self.running
        assert sandbox.id not in self.ended
        resources = sandbox.info.resources
        assert (resources.cpu, resources.memory_mb) == (cpu, memory_mb)
        self.running[sandbox.id] = Expected(sandbox, label, memory_mb)

    @rule(which=WHICH, name=st.sampled_from(["x", "y"]), text=st.text("ab\n", max_size=8))
    def write(self, which: int, name: str, text: str) -> None:
        if (expected := self._pick(which)) is not None:
            expected.sandbox.files.write(name, text)
            expected.files[name] = text

    @rule(which=WHICH)
    def execute(self, which: int) -> None:
        """Each sandbox has its own files, and no other's."""
        if (expected := self._pick(which)) is not None:
            found = expected.sandbox.exec("for f in *; do [ -e $f ] && echo $f; done; true")
            assert found.stdout.split() == sorted(expected.files)
            for name, text in expected.files.items():
                assert expected.sandbox.files.read_text(name) == text

    @rule(which=WHICH, twice=st.booleans())
    def terminate(self, which: int, twice: bool) -> None:
        if (expected := self._pick(which)) is not None:
            sandbox = expected.sandbox
            for _ in range(1 + twice):
                sandbox.terminate()
            del self.running[sandbox.id]
            self.ended[sandbox.id] = sandbox

    @rule(size=st.integers(0, 2))
    def resize_pool(self, size: int) -> None:
        assert self.client.pool().size >= 0
        assert self.client.resize_pool(size).size == size

    @rule(which=WHICH)
    def use_one_that_has_ended(self, which: int) -> None:
        if self.ended:
            sandbox = random.Random(which).choice([*self.ended.values()])
            with pytest.raises(SandboxNotFound):
                sandbox.exec("true")
            assert self.client.sandboxes.get(sandbox.id).state == "terminated"

    @invariant()
    def lists_say_what_the_model_says(self) -> None:
        listed = {it.id for it in self.client.sandboxes.list(state="running")}
        assert listed == self.running.keys()
        for label in "abc":
            found = self.client.sandboxes.list(state="running", metadata={"label": label})
            wanted = {i for i, it in self.running.items() if it.label == label}
            assert {it.id for it in found} == wanted

    def teardown(self) -> None:
        for expected in self.running.values():
            expected.sandbox.terminate()
        self.client.resize_pool(0)
        wait_until(
            lambda: not any(it.idle or it.building for it in self.client.pool().shapes),
            what="an empty pool",
        )
        assert not find_leftovers([*self.running, *self.ended], [self.server.directory])

    def _pick(self, which: int) -> Expected | None:
        if not self.running:
            return None
        return random.Random(which).choice([*self.running.values()])


@contextmanager
def serving(runtime: str) -> Iterator[None]:
    settings = {"ATOLL_RUNTIME": runtime, "ATOLL_MAX_SANDBOXES": str(MOST)}
    with (
        ServerProcess(settings) as server,
        Atoll(server.url, server.api_key, max_retries=0) as client,
    ):
        Sandboxes.client, Sandboxes.server = client, server
        yield


def test_sandboxes_are_what_a_dictionary_says(runtime: str) -> None:
    with serving(runtime):
        run_state_machine_as_test(
            Sandboxes, settings=_settings(50 if runtime == "container" else 12)
        )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_sandboxes_are_what_a_dictionary_says_for_long(runtime: str) -> None:
    with serving(runtime):
        run_state_machine_as_test(Sandboxes, settings=_settings(100))


def _settings(examples: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        stateful_step_count=20,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
