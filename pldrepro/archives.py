"""Archives of few small files, as .tar.xz: the same files give the same bytes, and what is damaged is refused."""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath

from pldrepro.errors import RecordError
from pldrepro.files import atomic_path

SUFFIX = ".tar.xz"
LARGEST = 2**28  # bytes of an archive's content; a recorded run has a thousandth of it


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files, by their places in the archive, sorted and without times or owners."""
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            about = tarfile.TarInfo(name)
            about.size = len(files[name])
            archive.addfile(about, BytesIO(files[name]))
    with atomic_path(path) as temporary:
        temporary.write_bytes(lzma.compress(content.getvalue(), preset=9))


def read_archive(path: Path) -> dict[str, bytes]:
    """The files of an archive by their places; one that is damaged, or has another kind of member, is a RecordError."""
    found, decompressor = {}, lzma.LZMADecompressor()
    try:
        content = decompressor.decompress(path.read_bytes(), max_length=LARGEST)
        if not decompressor.eof:
            raise RecordError(f"{path}: cut off, or more than {LARGEST} bytes")
        with tarfile.open(fileobj=BytesIO(content)) as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                if not member.isfile() or place.is_absolute() or ".." in place.parts:
                    raise RecordError(f"{path}: {member.name}: allowed: plain files of one folder")
                found[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    except (lzma.LZMAError, tarfile.TarError, EOFError) as error:
        raise RecordError(f"{path}: not an archive as it was written: {error}") from None
    return found
