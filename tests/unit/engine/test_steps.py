# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from atoll_server.engine.steps import Step, run_steps, undo_steps

Record = list[str]


def _step(name: str, *, fails: bool = False, undo_fails: bool = False) -> Step[Record]:
    def do(record: Record) -> None:
        record.append(f"do {name}")
        if fails:
            raise ValueError(name)

    def undo(record: Record) -> None:
        record.append(f"undo {name}")
        if undo_fails:
            raise OSError(name)

    return Step(name, do, undo)


def test_success_undoes_nothing() -> None:
    record: Record = []

    run_steps([_step("a"), _step("b")], record)

    assert record == ["do a", "do b"]


def test_failure_undoes_the_failed_step_and_those_before_it_last_first() -> None:
    record: Record = []

    with pytest.raises(ValueError, match="b"):
        run_steps([_step("a"), _step("b", fails=True), _step("c")], record)

    assert record == ["do a", "do b", "undo b", "undo a"]


def test_an_undo_that_fails_does_not_stop_the_others() -> None:
    record: Record = []

    complete = undo_steps([_step("a"), _step("b", undo_fails=True)], record)

    assert not complete
    assert record == ["undo b", "undo a"]
