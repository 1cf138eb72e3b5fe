# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from tests.support.scripted_server import ScriptedServer, answer_json
from tests.unit.cli.conftest import Atoll

IMAGES = [
    {"name": "host", "kind": "host", "aliasOf": None},
    {"name": "python", "kind": "alias", "aliasOf": "host"},
    {"name": "own:1", "kind": "directory", "aliasOf": None},
]
ANSWER = answer_json(
    {"data": IMAGES, "pagination": {"total": 3, "limit": 3, "offset": 0, "hasMore": False}}
)
TABLE = """\
NAME    WHAT
host    the programs of the server's host
python  the same as host
own:1   a directory of the server's operator
"""


def test_images_shows_what_each_is(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [ANSWER, ANSWER]

    shown = atoll("images")
    machine = atoll("images", "--json")

    assert (shown.exit_code, shown.stdout) == (0, TABLE)
    assert json.loads(machine.stdout) == IMAGES
