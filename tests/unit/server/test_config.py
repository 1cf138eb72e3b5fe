# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from atoll.models import Runtime
from atoll_server.config import ConfigError, load_settings
from atoll_server.settings import Settings


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_without_any_source_everything_is_the_default(tmp_path: Path) -> None:
    settings = load_settings(config=write(tmp_path / "empty.toml", ""), environ={})

    assert settings == Settings()
    assert (settings.host, settings.port, settings.state_dir) == (
        "127.0.0.1",
        7420,
        Path("/var/lib/atoll"),
    )


def test_argument_beats_environment_beats_file(tmp_path: Path) -> None:
    config = write(tmp_path / "c.toml", 'host = "file"\nport = 1\nlog_level = "error"')
    env = {"ATOLL_HOST": "env", "ATOLL_PORT": "2", "ATOLL_CONFIG": config, "OTHER": "x"}

    settings = load_settings(environ=env, host="argument", port=None)

    assert (settings.host, settings.port, settings.log_level) == ("argument", 2, "error")


def test_every_kind_of_setting_can_come_as_text() -> None:
    env = {
        "ATOLL_SOCKET": "/run/a.sock",
        "ATOLL_API_KEY": "one, two",
        "ATOLL_RUNTIME": "container",
        "ATOLL_PRIVATE": "true",
        "ATOLL_TERMINATED_KEEP_DAYS": "1.5",
        "ATOLL_OUTPUT_LIMIT_BYTES": "4096",
        "ATOLL_DEFAULT_IMAGE": "host",
    }

    settings = load_settings(environ=env)

    assert settings.socket == Path("/run/a.sock")
    assert settings.api_keys == ("one", "two")
    assert settings.runtime is Runtime.CONTAINER
    assert settings.private is True
    assert settings.terminated_keep_days == 1.5
    assert settings.output_limit_bytes == 4096
    assert settings.default_image == "host"


def test_empty_environment_variable_counts_as_absent() -> None:
    assert load_settings(environ={"ATOLL_HOST": "", "ATOLL_API_KEY": ""}) == Settings()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"port": "many"}, "setting port: expected a whole number, got 'many'"),
        ({"port": 70000}, "setting port: must be 0 to 65535; got 70000"),
        ({"port": True}, "setting port: expected a whole number"),
        ({"runtime": "docker"}, "setting runtime: expected auto, gvisor or container"),
        ({"log_level": "loud"}, "setting log_level: must be one of debug, info, warning, error"),
        ({"private": "maybe"}, "setting private: expected true or false"),
        ({"private": True}, "setting socket: needed with private"),
        ({"run_dir": "/" + "x" * 48}, "setting run_dir: at most 48 bytes"),
        ({"socket": "/" + "x" * 107}, "setting socket: at most 107 bytes"),
        ({"host": ""}, "setting host: expected text"),
        ({"api_keys": [""]}, "setting api_keys: expected a list of keys"),
        ({"output_limit_bytes": 1}, "setting output_limit_bytes: must be 1024 to"),
        ({"images": "python"}, "setting images: expected NAME=IMAGE or NAME=/DIRECTORY"),
        ({"images": ["a=host", "a=/srv"]}, "setting images: expected NAME=IMAGE"),
        ({"images": "a=host,"}, "setting images: expected"),
        ({"images": "=host"}, "setting images: expected"),
        ({"images": "a="}, "setting images: expected"),
        ({"images": {"a": 1}}, "setting images: expected"),
        ({"images": {"a": "/x\0"}}, "setting images: expected"),
        ({"images": 5}, "setting images: expected"),
        ({"preview_domain": "*.example.com"}, "setting preview_domain: expected a name"),
        ({"preview_domain": "Example.com"}, "setting preview_domain: expected a name"),
        ({"preview_domain": "a..b"}, "setting preview_domain: expected a name"),
        ({"preview_url": "https://example.com/"}, "setting preview_url: expected http"),
        ({"preview_url": "ftp://{port}-{label}.x/"}, "setting preview_url: expected http"),
        ({"preview_url": "https://x/{label}-{port}/"}, "setting preview_url: expected http"),
        ({"preview_url": "https://{port}-{label}.x/p/{port}"}, "setting preview_url: expected"),
        ({"preview_port": 7420}, "setting preview_port: 7420 is the API's"),
    ],
)
def test_setting_that_cannot_be_is_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings(environ={}, **overrides)

    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "no such settings: prot; known: host"),
        ("port = [", "c.toml: "),
        ("port = 99999", "setting port"),
    ],
)
def test_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings(config=write(tmp_path / "c.toml", text), environ={})

    assert message in str(raised.value)


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_settings(config=tmp_path / "none.toml", environ={})


def test_images_are_a_table_or_pairs(tmp_path: Path) -> None:
    wanted = {"python:3.12": "host", "own": "/srv/a=b"}
    file = write(tmp_path / "c.toml", '[images]\n"python:3.12" = "host"\nown = "/srv/a=b"\n')

    assert load_settings(config=file, environ={}).images == wanted
    pairs = "python:3.12=host, own=/srv/a=b"
    assert load_settings(environ={"ATOLL_IMAGES": pairs}).images == wanted
    assert load_settings(environ={}, images=pairs.split(", ")).images == wanted


@pytest.mark.parametrize(
    "url",
    [
        "https://{port}-{label}.preview.example.com/",
        "http://{port}-{label}.localhost:8080/",
        "https://api.example.com:8443/p/{port}-{label}/",
    ],
)
def test_url_of_previews_is_by_host_or_by_path(url: str) -> None:
    assert load_settings(environ={}, preview_url=url).preview_url == url


def test_keys_are_not_shown() -> None:
    settings = load_settings(environ={"ATOLL_API_KEY": "secret"})

    assert "secret" not in repr(settings)
    with pytest.raises(ConfigError) as raised:
        load_settings(environ={"ATOLL_API_KEY": "secret,"})
    assert "secret" not in str(raised.value)


def test_every_setting_says_what_it_means() -> None:
    assert [entry.name for entry in fields(Settings) if not entry.metadata.get("description")] == []
