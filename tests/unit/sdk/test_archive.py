# SPDX-License-Identifier: Apache-2.0
"""What a hostile sandbox may put into an archive, and what must come of it: nothing outside the directory."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll._archive import DirectoryDownloaded, Unpacker, pack
from atoll.errors import UnsafeArchive

Member = tuple[tarfile.TarInfo, bytes]
LIMIT = 1 << 20


def _member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object) -> Member:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def _link(name: str, target: str) -> Member:
    return _member(name, kind=tarfile.SYMTYPE, linkname=target)


def _hard(name: str, target: str) -> Member:
    return _member(name, kind=tarfile.LNKTYPE, linkname=target)


def _tar(*members: Member) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _unpack(
    data: bytes, root: Path, *, max_bytes: int = LIMIT, piece: int = 1 << 16
) -> DirectoryDownloaded:
    unpacker = Unpacker(root, max_bytes=max_bytes)
    try:
        for at in range(0, len(data), piece):
            unpacker.feed(data[at : at + piece])
        return unpacker.finish()
    finally:
        unpacker.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory to unpack into; beside it stands what must not be touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("untouched")
    return tmp_path / "root"


def _outside_is_untouched(root: Path) -> bool:
    beside = sorted(path.name for path in root.parent.iterdir())
    return (
        beside in (["outside"], ["outside", "root"])
        and os.listdir(root.parent / "outside") == ["secret"]
        and (root.parent / "outside" / "secret").read_text() == "untouched"
        and stat.S_IMODE((root.parent / "outside" / "secret").stat().st_mode) == 0o644
    )


@pytest.mark.parametrize("piece", [1, 511, 513, 1 << 16])
def test_members_are_made_wherever_the_chunks_break(root: Path, piece: int) -> None:
    long = "d/" + "n" * 200
    data = _tar(
        _member("./", kind=tarfile.DIRTYPE),
        _member("d", kind=tarfile.DIRTYPE, mode=0o700),
        _member("d/f", b"x" * 1000, mode=0o755, mtime=1_000_000_000),
        _member(long, b"long"),
        _member("é", b""),
        _link("d/l", "../é"),
        _hard("h", "d/f"),
    )

    made = _unpack(data, root, piece=piece)

    assert made == DirectoryDownloaded(entries=7, size_bytes=1004, skipped=())
    assert (root / "d" / "f").read_bytes() == b"x" * 1000
    assert stat.S_IMODE((root / "d" / "f").stat().st_mode) == 0o755
    assert (root / "d" / "f").stat().st_mtime == 1_000_000_000
    assert (root / long).read_bytes() == b"long"
    assert os.readlink(root / "d" / "l") == "../é"
    assert (root / "h").samefile(root / "d" / "f")


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../../x", "..", "a/..", "./../x", "//x", "/../outside/secret", "a/./../../x"],
)
@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]
)
def test_names_that_lead_outside_are_refused(root: Path, name: str, kind: bytes) -> None:
    member = _member(name, kind=kind, linkname="f")

    with pytest.raises(UnsafeArchive):
        _unpack(_tar(_member("f", b"f"), member), root)

    assert _outside_is_untouched(root)


@pytest.mark.parametrize(
    "members",
    [
        (_link("l", "."), _member("l/new", b"evil")),
        (_link("l", "."), _link("l/m", "../outside"), _member("l/m/new", b"evil")),
        (_member("d", kind=tarfile.DIRTYPE), _link("d", "x"), _member("d/new", b"evil")),
        (_link("l", "../outside/secret"), _hard("h", "l"), _member("h", b"evil")),
        (_hard("h", "../outside/secret"), _member("h", b"evil")),
        (_hard("h", "nowhere"),),
        (_member("f", b""), _hard("f", "f")),
        (_member("f", b""), _member("f/g", b"")),
        (_member("d/f", b""), _member("d", b"")),
        (_member("d/f", b""), _link("d", "x")),
    ],
)
def test_tricks_with_links_are_refused(root: Path, members: tuple[Member, ...]) -> None:
    with pytest.raises(UnsafeArchive):
        _unpack(_tar(*members), root)

    assert _outside_is_untouched(root)


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "../outside", "d/../..", "s/t/../x", "", "..", "../../x", "a/../../outside"],
)
def test_links_that_lead_outside_are_left_out(root: Path, target: str) -> None:
    made = _unpack(_tar(_member("f", b"f"), _link("l", target)), root)

    assert made.skipped == ("l",)
    assert sorted(os.listdir(root)) == ["f"]


def test_what_goes_through_a_link_that_is_left_out_stays_inside(root: Path) -> None:
    made = _unpack(_tar(_link("l", "../outside"), _member("l/secret", b"mine")), root)

    assert made.skipped == ("l",)
    assert (root / "l" / "secret").read_bytes() == b"mine"
    assert _outside_is_untouched(root)


def test_links_that_stay_inside_are_made(root: Path) -> None:
    made = _unpack(_tar(_link("d/up", "../f"), _link("d/self", "."), _member("f", b"f")), root)

    assert made.skipped == ()
    assert (root / "d" / "up").read_bytes() == b"f"


def test_a_chain_of_links_cannot_step_outside(root: Path) -> None:
    """`s/t` leads to the root; `s/t/..` would be its parent, though the name looks like `s`."""
    made = _unpack(_tar(_link("s/t", ".."), _link("m", "s/t/../outside")), root)

    assert made.skipped == ("m",)
    assert (root / "s" / "t").resolve() == root.resolve()


def test_a_link_of_an_earlier_download_is_not_followed(root: Path) -> None:
    root.mkdir()
    (root / "d").symlink_to("../outside")
    (root / "f").symlink_to("../outside/secret")

    _unpack(_tar(_member("f", b"mine")), root)
    with pytest.raises(UnsafeArchive):
        _unpack(_tar(_member("d/secret", b"evil")), root)

    assert _outside_is_untouched(root)
    assert not (root / "f").is_symlink()


def test_the_directory_itself_may_be_a_link_of_ours(root: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    root.symlink_to("real")

    _unpack(_tar(_member("f", b"f")), root)

    assert (tmp_path / "real" / "f").read_bytes() == b"f"


def test_existing_files_are_replaced_and_not_written_into(root: Path) -> None:
    root.mkdir()
    (root / "f").write_text("old")
    os.link(root / "f", root / "other name")

    _unpack(_tar(_member("f", b"new")), root)

    assert (root / "f").read_text() == "new"
    assert (root / "other name").read_text() == "old"


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V"])
def test_devices_and_pipes_are_left_out(root: Path, kind: bytes) -> None:
    made = _unpack(_tar(_member("dev", kind=kind), _member("f", b"f")), root)

    assert made.skipped == ("dev",)
    assert os.listdir(root) == ["f"]


def test_privileged_bits_are_dropped(root: Path) -> None:
    _unpack(_tar(_member("f", b"f", mode=0o6777), _member("g", b"g", mode=0)), root)

    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o777
    assert stat.S_IMODE((root / "g").stat().st_mode) == 0o600, "ours to read, whatever it says"


@pytest.mark.parametrize("mtime", ["-1", "1e300", "99999999999999999999", "0.5"])
def test_odd_times_do_no_harm(root: Path, mtime: str) -> None:
    _unpack(_tar(_member("f", b"f", pax_headers={"mtime": mtime})), root)

    assert (root / "f").read_bytes() == b"f"


def test_the_size_is_bounded_before_it_is_written(root: Path) -> None:
    with pytest.raises(UnsafeArchive):
        _unpack(_tar(_member("f", bytes(600)), _member("g", bytes(500))), root, max_bytes=1000)

    assert (root / "f").stat().st_size == 600
    assert not (root / "g").exists()


def test_a_file_that_claims_to_be_huge_is_refused_at_once(root: Path) -> None:
    info = tarfile.TarInfo("f")
    info.size = 1 << 50

    with pytest.raises(UnsafeArchive):
        _unpack(info.tobuf(tarfile.PAX_FORMAT), root)


def _raw(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type = kind
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _pax(record: bytes) -> bytes:
    header = _raw(tarfile.XHDTYPE, len(record))
    return header + record + bytes(-len(record) % 512) + _tar(_member("f", b"f"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(511),
        b"x" * 512,
        _raw(tarfile.XHDTYPE, 1 << 30),
        _raw(tarfile.GNUTYPE_LONGNAME, 1 << 30),
        _raw(tarfile.DIRTYPE, 5),
        _raw(tarfile.SYMTYPE, 5),
        _raw(tarfile.GNUTYPE_SPARSE, 5),
        _pax(b"nonsense"),
        _pax(b"99999999 path=a\n"),
        _pax(b"5 a\n"),
        _pax(b"12 path=abc"),
        _pax(b"14 size=lots\n\n"),
        _pax(b"11 size=-5\n"),
        _pax(b"13 mtime=nan\n"),
        _pax(b"13 path=../x\n"),
        _pax(b"22 GNU.sparse.major=1\n"),
        _tar(_member("f", b"f" * 600))[:1000],
    ],
)
def test_malformed_archives_are_refused(root: Path, data: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        _unpack(data, root)

    assert _outside_is_untouched(root)


def test_what_follows_the_end_is_not_looked_at(root: Path) -> None:
    made = _unpack(_tar(_member("f", b"f")) + b"x" * 5000, root)

    assert made.entries == 1


NAMES = st.sampled_from(
    ["a", "b", "a/b", "a/c", "..", "../outside/secret", "a/..", "/x", ".", "b/a/c"]
)
MEMBERS = st.one_of(
    st.builds(lambda name, data: _member(name, data), NAMES, st.binary(max_size=5)),
    st.builds(lambda name: _member(name, kind=tarfile.DIRTYPE), NAMES),
    st.builds(
        _link, NAMES, st.sampled_from(["a", "..", "../outside", ".", "a/..", "b/../..", "/"])
    ),
    st.builds(_hard, NAMES, NAMES),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.lists(MEMBERS, max_size=8), again=st.lists(MEMBERS, max_size=4))
def test_no_archive_touches_what_is_outside(
    root: Path, tmp_path_factory: pytest.TempPathFactory, members: list[Member], again: list[Member]
) -> None:
    place = tmp_path_factory.mktemp("any")
    (place / "outside").mkdir()
    (place / "outside" / "secret").write_text("untouched")
    for archive in (members, again):
        try:
            _unpack(_tar(*archive), place / "root")
        except (UnsafeArchive, OSError):
            pass  # refused: what counts is what it left behind

    assert _outside_is_untouched(place / "root")
    for path in (place / "root").rglob("*"):
        assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(place / "root"))


def _tree(root: Path) -> dict[str, object]:
    def look(path: Path) -> object:
        if path.is_symlink():
            return os.readlink(path)
        if path.is_dir():
            return None
        return path.read_bytes(), stat.S_IMODE(path.stat().st_mode)

    return {str(path.relative_to(root)): look(path) for path in sorted(root.rglob("*"))}


def test_what_is_packed_is_unpacked_the_same(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "deep" / ("n" * 120) / ("m" * 120)).mkdir(parents=True)
    (source / "deep" / ("n" * 120) / ("m" * 120) / "f").write_bytes(b"deep")
    (source / "big").write_bytes(os.urandom(2_500_000))
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (source / "line\nbreak é").write_text("odd name")
    Path(os.fsdecode(os.fsencode(source) + b"/\xff")).write_text("not UTF-8")
    (source / "link").symlink_to("deep")

    blocks = list(pack(source))
    _unpack(b"".join(blocks), root, max_bytes=1 << 30)

    assert _tree(root) == _tree(source)
    assert max(map(len, blocks)) < 3 << 20


def test_pack_leaves_out_what_is_no_file(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    (source / "f").write_text("f")

    _unpack(b"".join(pack(source)), root)

    assert os.listdir(root) == ["f"]


def test_pack_is_understood_by_others(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("content")

    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(source)))) as archive:
        (member,) = archive.getmembers()

    assert (member.name, member.size, member.uid, member.gid) == ("f", 7, 0, 0)


def test_pack_reads_files_one_chunk_at_a_time(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.truncate(64 << 20)

    sizes = [len(block) for block in pack(source)]

    assert max(sizes) <= (1 << 20) + 1024
