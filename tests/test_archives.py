"""Archives of small files: the same files give the same bytes, and damage is an error with the archive's name."""

from __future__ import annotations

import io
import lzma
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pldrepro.archives import read_archive, write_archive
from pldrepro.errors import RecordError

FILES = {"summary.json": b"{}", "parts/a.bin": bytes(range(256)), "empty": b""}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?[.]x", fullmatch=True), st.binary(max_size=2000)))
def test_what_is_written_is_read(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_archive(tmp_path / "one.tar.xz", files)
    assert read_archive(tmp_path / "one.tar.xz") == files


def test_the_same_files_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar.xz", FILES)
    write_archive(tmp_path / "b.tar.xz", dict(reversed(FILES.items())))
    assert (tmp_path / "a.tar.xz").read_bytes() == (tmp_path / "b.tar.xz").read_bytes()


def test_other_programs_read_it(tmp_path: Path) -> None:
    write_archive(tmp_path / "one.tar.xz", FILES)
    with tarfile.open(tmp_path / "one.tar.xz") as archive:
        assert archive.getnames() == sorted(FILES)


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "one.tar.xz"
    write_archive(path, FILES)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RecordError, match=r"one\.tar\.xz"):
            read_archive(path)


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_a_cut_archive_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "one.tar.xz"
    write_archive(path, FILES)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RecordError, match=r"one\.tar\.xz"):
        read_archive(path)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_a_place_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "one.tar.xz").write_bytes(lzma.compress(content.getvalue()))
    with pytest.raises(RecordError, match="outside"):
        read_archive(tmp_path / "one.tar.xz")


def test_a_link_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        about = tarfile.TarInfo("link")
        about.type, about.linkname = tarfile.SYMTYPE, "elsewhere"
        archive.addfile(about)
    (tmp_path / "one.tar.xz").write_bytes(lzma.compress(content.getvalue()))
    with pytest.raises(RecordError, match="link"):
        read_archive(tmp_path / "one.tar.xz")


def test_what_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path / "one.tar.xz", {"zeros": bytes(100_000)})
    monkeypatch.setattr("pldrepro.archives.LARGEST", 50_000)
    with pytest.raises(RecordError, match="50000"):
        read_archive(tmp_path / "one.tar.xz")
