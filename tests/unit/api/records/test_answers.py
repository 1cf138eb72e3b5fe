# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from atoll.models import CreateSandbox, Resources, Runtime, Secret
from atoll_server.api.records import render_builtins, render_json

SPEC = CreateSandbox(
    resources=Resources(memory_mb=64),
    runtime=Runtime.CONTAINER,
    env={"SOME_NAME": "x"},
    secrets={"A_KEY": Secret("v", ["a.test"])},
)


def test_names_are_camel_case_and_keys_are_as_they_are() -> None:
    rendered = json.loads(render_json(SPEC))

    assert rendered["resources"]["memoryMb"] == 64
    assert rendered["env"] == {"SOME_NAME": "x"}
    assert rendered["secrets"]["A_KEY"]["hosts"] == ["a.test"]


def test_values_are_those_of_json() -> None:
    assert render_builtins(SPEC) == json.loads(render_json(SPEC))
    assert render_builtins(SPEC)["runtime"] == "container"


@pytest.mark.parametrize(("cpu", "text"), [(2, b'"cpu":2,'), (0.5, b'"cpu":0.5,')])
def test_whole_number_stays_one_where_a_fraction_may_stand(cpu: float, text: bytes) -> None:
    assert text in render_json(Resources(cpu=cpu))
