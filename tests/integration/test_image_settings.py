# SPDX-License-Identifier: Apache-2.0
"""A server that is told of images that cannot be does not start, and says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.server import ServerProcess


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ATOLL_IMAGES": "a"}, "setting images: expected NAME=IMAGE or NAME=/DIRECTORY"),
        ({"ATOLL_IMAGES": "A b=host"}, "setting images: image 'A b': not a name"),
        ({"ATOLL_IMAGES": "a=b,b=a"}, "setting images: image 'a' stands for itself: a → b"),
        ({"ATOLL_IMAGES": "a=b"}, "setting images: image 'a': 'b' is neither an image nor"),
        ({"ATOLL_IMAGES": "a={tmp}/none"}, "setting images: image 'a': {tmp}/none does not exist"),
        ({"ATOLL_IMAGES": "a={tmp}/link"}, "has a run that is no plain directory"),
        ({"ATOLL_IMAGES": "a=/"}, "holds this server's own files"),
        ({"ATOLL_DEFAULT_IMAGE": "a"}, "setting default_image: no image 'a'; there is host"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_server_refuses_to_start(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "link/usr").mkdir(parents=True)
    (tmp_path / "link/run").symlink_to("/etc")
    told = {name: text.replace("{tmp}", str(tmp_path)) for name, text in settings.items()}
    server = ServerProcess(told)

    try:
        with pytest.raises(RuntimeError) as raised:
            server.start()
    finally:
        server.remove()

    assert message.replace("{tmp}", str(tmp_path)) in str(raised.value)
    assert "Traceback" not in str(raised.value)
