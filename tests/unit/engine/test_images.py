# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from atoll_server.engine.errors import InvalidConfig
from atoll_server.engine.images import Image, ImageRefused, Images, parse_images


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As little as an image needs."""
    (tmp_path / "tree/usr").mkdir(parents=True)
    return tmp_path / "tree"


def open_images(tmp_path: Path, **configured: str) -> Images:
    images = Images(tmp_path / "images", configured)
    images.prepare()
    return images


def test_the_host_image_is_a_small_root_and_the_host_s_usr(tmp_path: Path) -> None:
    root, usr = open_images(tmp_path).resolve("host").trees

    assert (root.target, usr.target, usr.layers) == ("/", "/usr", (Path("/usr"),))
    (skeleton,) = root.layers
    assert (skeleton / "bin").readlink() == Path("usr/bin")
    assert (skeleton / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_the_host_image_holds_no_secret_of_the_host(tmp_path: Path) -> None:
    (root,) = open_images(tmp_path).resolve("host").trees[0].layers

    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert not names & {"etc/shadow", "etc/gshadow", "etc/sudoers", "etc/ssh", "etc/ssl/private"}
    assert not list((root / "root").iterdir())
    # What is copied from /etc was readable by everyone there.
    for path in (root / "etc").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.stat().st_mode & 0o004, path


def test_a_directory_lies_between_our_mount_points_and_our_defaults(
    tmp_path: Path, tree: Path
) -> None:
    (root,) = open_images(tmp_path, debian=str(tree)).resolve("debian").trees

    frame, middle, base = root.layers
    assert (root.target, middle) == ("/", tree)
    assert {str(path.relative_to(frame)) for path in frame.rglob("*")} == {
        "dev",
        "etc",
        "etc/resolv.conf",
        "proc",
        "run",
        "run/atoll",
        "run/atoll/agent",
        "run/atoll/control",
        "sys",
        "tmp",
        "tmp/.X11-unix",
    }
    assert (base / "etc/passwd").is_file()
    # The host's own libraries must not be told to programs of another system.
    assert not (base / "etc/ld.so.cache").exists()


def test_an_alias_stands_for_what_it_names_also_through_others(tmp_path: Path, tree: Path) -> None:
    names = {"a": "b", "b": "example.org:5000/team/debian:12", "python:3.12": "host"}
    configured = {**names, "example.org:5000/team/debian:12": str(tree)}

    images = open_images(tmp_path, **configured)

    assert images.resolve("a") == images.resolve("example.org:5000/team/debian:12")
    assert images.resolve("python:3.12") == images.resolve("host")
    assert images.list()[0] == Image("host")
    assert [image.name for image in images.list()] == ["host", *configured]


def test_preparing_again_finds_what_is_there(tmp_path: Path) -> None:
    open_images(tmp_path)
    before = sorted((tmp_path / "images").iterdir())

    open_images(tmp_path)

    assert sorted((tmp_path / "images").iterdir()) == before


def test_an_unknown_image_is_refused_with_a_list_of_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="'python:9': this server has 'host', 'a'"):
        Images(tmp_path, {"a": "host"}).resolve("python:9")


def test_the_list_in_that_refusal_is_bounded(tmp_path: Path) -> None:
    images = Images(tmp_path, {f"image-{number}": "host" for number in range(1000)})

    with pytest.raises(InvalidConfig, match="'image-18' and 981 more$"):
        images.resolve("python:9")


@pytest.mark.parametrize(
    "name",
    [
        "python",
        "python:3.12-slim_1",
        "library/python",
        "localhost:5000/a/b__c--d:X",
        "Example.org/a.b/c",
        "a@sha256:" + "0" * 64,
    ],
)
def test_names_are_those_of_oci(name: str) -> None:
    assert name in parse_images({name: "host"})


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Python",
            "-a",
            "a-",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            ":a",
            "a b",
            "a\n",
            "../a",
            "..",
            "ä",
        ),
        *("a" * 256, "a" * 100_000, "a:" + "x" * 129, "a@sha256:xyz", ""),
    ],
    ids=lambda name: repr(name)[:20],
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ImageRefused, match="not a name") as raised:
        parse_images({name: "host"})

    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("configured", "message"),
    [
        ({"host": "/srv"}, "'host' is built in"),
        ({"a": "a"}, "'a' stands for itself: a"),
        ({"a": "b", "b": "c", "c": "b"}, "stands for itself"),
        ({"a": "b"}, "'b' is neither an image nor a directory's absolute path"),
        ({"a": "./tree"}, "'./tree' is neither"),
    ],
)
def test_an_alias_that_leads_nowhere_is_refused(configured: dict[str, str], message: str) -> None:
    with pytest.raises(ImageRefused, match=message):
        parse_images(configured)


def test_a_directory_that_is_no_root_file_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")

    for name, message in (
        ("none", "does not exist"),
        ("file", "is no directory"),
        ("empty", "neither bin nor usr"),
        ("loop", "does not exist"),
    ):
        with pytest.raises(ImageRefused, match=f"image 'a': {tmp_path}/{name} .*{message}"):
            open_images(tmp_path, a=str(tmp_path / name))


@pytest.mark.parametrize("directory", ["/", "/../"])
def test_a_directory_that_holds_the_server_s_own_files_is_refused(
    tmp_path: Path, directory: str
) -> None:
    with pytest.raises(ImageRefused, match="holds this server's own files"):
        open_images(tmp_path, a=directory)


@pytest.mark.parametrize("target", ["/etc", "../../..", "etc", "nowhere"])
@pytest.mark.parametrize("name", ["dev", "etc", "proc", "run", "run/atoll", "sys", "tmp"])
def test_a_tree_that_has_a_link_where_we_mount_is_refused(
    tmp_path: Path, tree: Path, name: str, target: str
) -> None:
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).symlink_to(target)

    with pytest.raises(ImageRefused, match=f"has a {name} that is no plain directory"):
        open_images(tmp_path, a=str(tree))


def test_a_tree_that_has_a_file_where_we_mount_is_refused(tmp_path: Path, tree: Path) -> None:
    (tree / "run").touch()

    with pytest.raises(ImageRefused, match="has a run that is no plain directory"):
        open_images(tmp_path, a=str(tree))
