# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from atoll import InvalidConfig
from atoll._config import Settings, load_settings, mask_key, merge_create, parse_url

KEY = "rra_live_0123456789abcdef"
SERVER = {"ATOLL_URL": "http://localhost:1", "ATOLL_API_KEY": "env-key"}


def _load(
    options: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    *files: Path,
) -> Settings:
    return load_settings(options or {}, environ=env or {}, files=files)


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _url(settings: Settings) -> str | None:
    return None if settings.endpoint is None else settings.endpoint.url


def test_flat_options_are_taken() -> None:
    settings = _load({"api_url": "http://h:1", "api_key": KEY, "timeout_ms": 5, "max_retries": 0})

    assert (_url(settings), settings.api_key) == ("http://h:1", KEY)
    assert (settings.timeout_ms, settings.max_retries) == (5, 0)


def test_nested_options_are_taken() -> None:
    settings = _load(
        {
            "sandbox": {
                "provider": "runra-sandbox",
                "api_key": KEY,
                "api_url": "http://h:1",
                "defaults": {"image": "host", "resources": {"cpu": 4}},
            },
            "observability": {"provider": "axiom"},
        }
    )

    assert (_url(settings), settings.api_key) == ("http://h:1", KEY)
    assert settings.defaults == {"image": "host", "resources": {"cpu": 4}}


def test_flat_options_win_over_nested_ones() -> None:
    nested = {"api_key": "nested", "api_url": "http://nested:1", "defaults": {"image": "a"}}

    settings = _load(
        {
            "api_key": "flat",
            "api_url": "http://flat:1",
            "sandbox": nested,
            "defaults": {"image": "b"},
        }
    )

    assert (_url(settings), settings.api_key) == ("http://flat:1", "flat")
    assert settings.defaults == {"image": "b"}


def test_options_win_over_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = _file(
        tmp_path / "atoll.toml",
        'api_url = "http://file:1"\napi_key = "file"\ntimeout_ms = 3\nmax_retries = 3\n'
        '[defaults]\nimage = "file"\ntimeout_ms = 3\n[defaults.resources]\ncpu = 2\nmemory_mb = 3\n',
    )
    env = {
        "ATOLL_URL": "http://env:1",
        "ATOLL_API_KEY": "env",
        "ATOLL_DEFAULT_IMAGE": "env",
        "ATOLL_DEFAULT_CPU": "4",
    }

    from_file = _load({}, {}, file)
    from_env = _load({}, env, file)
    from_options = _load(
        {"api_url": "http://option:1", "api_key": "option", "defaults": {"image": "option"}},
        env,
        file,
    )

    assert (_url(from_file), from_file.api_key) == ("http://file:1", "file")
    assert (_url(from_env), from_env.api_key) == ("http://env:1", "env")
    assert (_url(from_options), from_options.api_key) == ("http://option:1", "option")
    assert (from_env.timeout_ms, from_env.max_retries) == (3, 3)
    assert from_env.defaults == {
        "image": "env",
        "timeout_ms": 3,
        "resources": {"cpu": 4, "memory_mb": 3},
    }
    assert from_options.defaults["image"] == "option"


def test_the_first_file_that_exists_is_the_one(tmp_path: Path) -> None:
    first = _file(tmp_path / "first.toml", "max_retries = 1\n")
    second = _file(tmp_path / "second.toml", "max_retries = 2\ntimeout_ms = 9\n")

    settings = _load({}, {}, tmp_path / "none.toml", first, second)

    assert (settings.max_retries, settings.timeout_ms) == (1, 30_000)


def test_names_of_runra_are_fall_backs() -> None:
    runra = {"RUNRA_API_URL": "http://runra:1", "RUNRA_API_KEY": "runra"}

    assert (_url(_load({}, runra)), _load({}, runra).api_key) == ("http://runra:1", "runra")
    both = _load({}, {**runra, **SERVER})
    assert (_url(both), both.api_key) == ("http://localhost:1", "env-key")


def test_empty_variables_count_as_unset() -> None:
    assert _load({}, {"ATOLL_URL": "", "ATOLL_API_KEY": " "}).endpoint is None


def test_without_a_url_there_is_no_endpoint_and_no_key() -> None:
    settings = _load({}, {"ATOLL_API_KEY": KEY})

    assert (settings.endpoint, settings.api_key) == (None, None)


def test_a_key_without_a_url_is_a_mistake() -> None:
    with pytest.raises(InvalidConfig, match="api_url"):
        _load({"api_key": KEY})


def test_a_url_without_a_key_is_a_mistake() -> None:
    with pytest.raises(InvalidConfig, match="ATOLL_API_KEY"):
        _load({"api_url": "http://h:1"})


@pytest.mark.parametrize(
    "options",
    [
        {"api_url": "ftp://h"},
        {"api_url": "h:1"},
        {"api_url": ""},
        {"api_url": "http://"},
        {"api_url": "http://u:p@h"},
        {"api_url": "http://h?x=1"},
        {"api_url": "http://h:99999"},
        {"api_url": "unix://relative"},
        {"api_url": "unix:"},
        {"api_url": "http://h\u00e9"},
        {"api_url": 5},
        {"api_key": ""},
        {"api_key": "two words"},
        {"api_key": "line\nbreak"},
        {"api_key": "schl\u00fcssel"},
        {"api_key": 5},
        {"timeout_ms": 0},
        {"timeout_ms": True},
        {"timeout_ms": "5"},
        {"max_retries": -1},
        {"max_retries": 11},
        {"sandbox": {"colour": "red"}},
        {"sandbox": "host"},
        {"defaults": {"size": 1}},
        {"defaults": {"resources": {"gpu": 1}}},
        {"defaults": {"resources": 5}},
        {"defaults": {"env": ["A=1"]}},
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig):
        _load({"api_url": "http://h:1", "api_key": KEY, **options})


@pytest.mark.parametrize("text", ["nonsense", 'colour = "red"', "[defaults]\nsize = 1", "\udcff"])
def test_a_file_that_cannot_be_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "atoll.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(InvalidConfig, match=r"atoll\.toml"):
        _load({}, {}, file)


def test_a_number_in_the_environment_must_be_one() -> None:
    with pytest.raises(InvalidConfig, match="ATOLL_DEFAULT_CPU"):
        _load({}, {"ATOLL_DEFAULT_CPU": "many"})


def test_messages_do_not_show_the_key() -> None:
    with pytest.raises(InvalidConfig) as caught:
        _load({"api_url": "http://h:1", "api_key": "geheim geheim"})

    assert "geheim" not in caught.value.message


def test_settings_do_not_show_the_key() -> None:
    assert KEY not in repr(_load({"api_url": "http://h:1", "api_key": KEY}))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [("https://elsewhere.example", False), ("http://localhost:1", True), ("unix:///s", True)],
)
def test_a_file_of_the_directory_does_not_choose_who_gets_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, allowed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    _file(Path("atoll.toml"), f'api_url = "{url}"\n')
    env = {"ATOLL_API_KEY": KEY}

    if allowed:
        assert _url(_load({}, env, Path("atoll.toml"))) == url
    else:
        with pytest.raises(InvalidConfig, match="ATOLL_URL"):
            _load({}, env, Path("atoll.toml"))
    assert _url(_load({"api_url": url}, env, Path("atoll.toml"))) == url


def test_unix_urls_name_a_socket() -> None:
    endpoint = parse_url("unix:///run/a%20b.sock")

    assert (endpoint.socket, endpoint.tls, endpoint.base_path) == ("/run/a b.sock", False, "")


def test_urls_may_have_a_base_path() -> None:
    endpoint = parse_url("https://h.example:8443/team/")

    assert (endpoint.tls, endpoint.host, endpoint.port) == (True, "h.example", 8443)
    assert endpoint.base_path == "/team"


def test_short_keys_are_masked_whole() -> None:
    assert mask_key(KEY) == "rra_…cdef"
    assert mask_key("short") == "…"
    assert mask_key(None) == "none"


def test_defaults_merge_key_by_key_and_the_call_wins() -> None:
    defaults = {"image": "a", "env": {"A": "1", "B": "1"}, "resources": {"cpu": 2}}
    call = {"image": None, "env": {"B": "2"}, "resources": {"memory_mb": 5}, "workdir": "/w"}

    assert merge_create(defaults, call) == {
        "image": "a",
        "env": {"A": "1", "B": "2"},
        "resources": {"cpu": 2, "memory_mb": 5},
        "workdir": "/w",
    }
    assert defaults["env"] == {"A": "1", "B": "1"}
