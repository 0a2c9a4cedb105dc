"""What is read from archives, and what is refused."""

from __future__ import annotations

import errno
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from data.published.archives import DamagedSource, Limits, Source, open_source
from tests.preparation_miniatures import as_folder, as_tar, as_zip
from util.errors import UserError

FILES = {"set/b/2.png": b"two", "set/a/1.png": b"one" * 1000, "set/c.txt": b"text"}


def contents(source: Source) -> dict[str, bytes]:
    return {name: reader.read() for name, reader in source.read(list(source.sizes))}


@pytest.mark.parametrize("pack", [as_folder, as_zip, as_tar], ids=["folder", "zip", "tar"])
def test_every_kind_gives_the_same_files(tmp_path: Path, pack) -> None:
    source = open_source(pack(tmp_path / "packed", FILES))
    assert source.sizes == {name: len(content) for name, content in FILES.items()}
    assert contents(source) == FILES


def test_a_gzipped_tar_is_known_by_its_content(tmp_path: Path) -> None:
    """The authors of Rain100H publish one that is called .gz."""
    path = as_tar(tmp_path / "rain_data_test_Heavy.gz", FILES)
    source = open_source(path)
    assert contents(source) == FILES
    assert source.label == "rain_data_test_Heavy"


def test_only_the_wanted_files_are_opened(tmp_path: Path) -> None:
    for source in (open_source(as_zip(tmp_path / "a.zip", FILES)), open_source(as_tar(tmp_path / "a.tar", FILES))):
        assert [name for name, _ in source.read(["set/c.txt"])] == ["set/c.txt"]


def test_leftovers_of_operating_systems_are_no_files_of_the_set(tmp_path: Path) -> None:
    files = {"__MACOSX/a/._1.png": b"x", "a/.DS_Store": b"x", "a/Thumbs.db": b"x", "a/1.png": b"y"}
    assert list(open_source(as_zip(tmp_path / "a.zip", files)).sizes) == ["a/1.png"]
    assert list(open_source(as_folder(tmp_path / "a", files)).sizes) == ["a/1.png"]


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\evil.png", "a\\..\\..\\e.png"]
)
def test_names_that_lead_out_are_refused_in_zips(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="leads out of it"):
        open_source(as_zip(tmp_path / "a.zip", {"a/1.png": b"x", name: b"x"}))


def tar_with(path: Path, info: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.addfile(info, io.BytesIO(b"\0" * info.size))
    return path


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png"])
def test_names_that_lead_out_are_refused_in_tars(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="leads out of it"):
        open_source(tar_with(tmp_path / "a.tar", tarfile.TarInfo(name)))


@pytest.mark.parametrize(
    ("kind", "word"),
    [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.CHRTYPE, "special"), (tarfile.FIFOTYPE, "special")],
    ids=["symlink", "hardlink", "device", "fifo"],
)
def test_links_and_devices_are_refused_in_tars(tmp_path: Path, kind: bytes, word: str) -> None:
    info = tarfile.TarInfo("a/1.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(UserError, match=f"{word}.*a/1.png"):
        open_source(tar_with(tmp_path / "a.tar", info))


def test_symbolic_links_are_refused_in_zips(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a/1.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"symbolic link 'a/1\.png'"):
        open_source(tmp_path / "a.zip")


@pytest.mark.parametrize("pack", [as_zip, as_tar], ids=["zip", "tar"])
@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(members=2), "more files"),
        (Limits(member_bytes=2999), "larger files"),
        (Limits(total_bytes=3006), "larger files"),
    ],
    ids=["members", "member", "total"],
)
def test_limits(tmp_path: Path, pack, limits: Limits, word: str) -> None:
    path = pack(tmp_path / "packed", FILES)
    open_source(path, Limits(members=3, member_bytes=3000, total_bytes=3007))
    with pytest.raises(UserError, match=word):
        open_source(path, limits)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", b"\0" * 10_000_000)
    with pytest.raises(UserError, match="packed more densely"):
        open_source(tmp_path / "a.zip")


def test_a_few_black_images_are_no_bomb(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.bmp", b"\0" * 1_000_000)
    assert open_source(tmp_path / "a.zip").sizes == {"a/1.bmp": 1_000_000}


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="packed more densely"):
        open_source(as_tar(tmp_path / "a.tar.gz", {"a/1.png": b"\0" * 10_000_000}))


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/1.png", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/1.png", b"y")
    with pytest.raises(UserError, match=r"'a/1\.png' twice"):
        open_source(tmp_path / "a.zip")


@pytest.mark.parametrize("pack", [as_zip, as_tar], ids=["zip", "tar"])
@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["plain", "gz"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_truncated_archive_is_named(tmp_path: Path, pack, suffix: str, share: float) -> None:
    path = pack(tmp_path / f"packed{suffix}", {f"a/{n}.png": bytes(range(256)) * 20 for n in range(9)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DamagedSource, match=rf"packed{suffix}: cannot be read to its end.*download or copy it again"):
        contents(open_source(path))


def test_a_flipped_bit_in_a_zip_is_found(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", FILES)
    path.write_bytes(path.read_bytes().replace(b"oneone", b"onEone", 1))
    with pytest.raises(DamagedSource, match="Bad CRC"):
        contents(open_source(path))


@pytest.mark.parametrize(
    ("name", "head", "advice"),
    [
        ("a.rar", b"Rar!\x1a\x07", "RAR archive.*unrar x"),
        ("a.7z", b"7z\xbc\xaf\x27", "7-Zip archive"),
        ("real_world.zip.00", b"PK\x03\x04", r"join the parts.*cat .*real_world\.zip\.\*"),
        ("a.bin", b"hello", "neither a folder nor"),
        ("a.zip", b"", "is empty"),
    ],
)
def test_what_cannot_be_read_comes_with_advice(tmp_path: Path, name: str, head: bytes, advice: str) -> None:
    (tmp_path / name).write_bytes(head)
    with pytest.raises(UserError, match=advice):
        open_source(tmp_path / name)


def test_an_encrypted_zip_is_named(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"1.png": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the general-purpose flag of the central directory
    path.write_bytes(data)
    with pytest.raises(UserError, match="encrypted"):
        open_source(path)


def test_a_compression_that_python_lacks_is_not_called_damage(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"a/1.png": b"x" * 99})
    content = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.index(header) + offset
        content[at : at + 2] = (9).to_bytes(2, "little")  # Deflate64
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is packed in a way that is not read here .*; unpack it and give the folder"):
        contents(open_source(path))


def test_a_drive_that_fails_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(as_zip(tmp_path / "a.zip", FILES))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(zipfile, "ZipFile", fail)
    with pytest.raises(UserError, match=r"cannot be read \(Input/output error\); check the drive") as caught:
        contents(source)
    assert not isinstance(caught.value, DamagedSource), "what was prepared so far would be thrown away"
