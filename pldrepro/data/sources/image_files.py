"""Where labelled images come from: generated shapes, files or an archive, the hub; all behind one interface."""

from __future__ import annotations

import errno
import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pldrepro.config.data import HubImages, ImageDataSettings
from pldrepro.data.sources.hub import check_pinned, load_rows, require_network
from pldrepro.errors import DataError, SettingsError

if TYPE_CHECKING:
    import PIL.Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM")  # no other decoder sees what a file holds, whatever its name
MAX_FILE_BYTES = 64_000_000  # of an encoded image
LabelledImage = tuple[np.ndarray, int]  # (H, W, 3) uint8, and the class


class ImageSource(Protocol):
    """Labelled images, always in the same order."""

    classes: tuple[str, ...]

    def images(self, split: str) -> Iterator[LabelledImage]:
        """The images of train or of validation, all of the same size, with their class 0..C-1."""

    def describe(self) -> dict[str, Any]:
        """What the data are, for the manifest: no path of this machine."""


def open_image_source(settings: ImageDataSettings) -> ImageSource:
    """The source that the settings name."""
    if settings.source == "shapes":
        from pldrepro.data.sources.shapes import ShapesSource

        return ShapesSource(settings.shapes, settings.image_size)
    if settings.source == "files":
        return ImageFilesSource(settings)
    if settings.hub is None:
        raise SettingsError("data.hub: missing; the source 'hub' needs path and revision of a set of images")
    return ImageHubSource(settings.hub, settings.image_size)


def fit_image(image: PIL.Image.Image, side: int) -> np.ndarray:
    """RGB pixels (side, side, 3) uint8: the shorter side resized (bilinear), the longer one cropped at its centre."""
    from PIL import Image

    width, height = image.size
    short = min(width, height)
    size = (max(side, round(width * side / short)), max(side, round(height * side / short)))
    if size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ValueError(f"{width} x {height} pixels are too many with {side} at the short side")
    image = image.convert("RGB")
    if (width, height) != (side, side):
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        image = image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return np.asarray(image)


def decode(content: bytes, side: int, where: str) -> np.ndarray:
    """``fit_image`` of an encoded image; one that cannot be decoded, or is too large, is a DataError that names it."""
    from PIL import Image

    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{where}: {len(content)} bytes; expected at most {MAX_FILE_BYTES} in an image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # more than Image.MAX_IMAGE_PIXELS
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return fit_image(image, side)
    except Exception as error:  # decoders fail on foreign bytes in every way that Python has
        raise DataError(f"{where}: damaged or not an image ({' '.join(FORMATS)}): {error}") from None


class ImageFilesSource:
    """Images in a folder for each class, or in a .zip with ``<class>/<image>`` entries."""

    def __init__(self, settings: ImageDataSettings) -> None:
        if settings.root is None:
            raise SettingsError("data.root: missing; the source 'files' needs the folder of train and validation")
        root = Path(settings.root)
        if not root.is_dir():
            raise DataError(f"{root}: no such folder (data.root)")
        self.side = settings.image_size
        self.names: dict[str, str] = {}
        self.entries: dict[str, dict[str, list[str]]] = {}  # split -> class -> entries, both sorted by name
        self.paths: dict[str, Path] = {}
        for split, name in (("train", settings.train), ("validation", settings.validation)):
            if name is None:
                raise SettingsError(f"data.{split}: missing; the source 'files' needs a folder or .zip below data.root")
            if Path(name).is_absolute():
                raise SettingsError(f"data.{split}: {name}: an absolute path; allowed: a folder or .zip below {root}")
            self.names[split], self.paths[split] = name, root / name
            self.entries[split] = _by_class(root / name)
        self.classes = tuple(self.entries["train"])
        if self.classes != tuple(self.entries["validation"]):
            differing = sorted(set(self.classes) ^ set(self.entries["validation"]))
            raise DataError(
                f"{self.paths['validation']}: not the classes of {self.paths['train']}: {', '.join(differing)} in one "
                "of them only; allowed: the same classes in both"
            )
        if len(self.classes) < 2:
            raise DataError(f"{self.paths['train']}: one class, {self.classes[0]}; allowed: 2 or more")

    def images(self, split: str) -> Iterator[LabelledImage]:
        """Class after class, the images of each sorted by name."""
        path = self.paths[split]
        with _reading(path) as read:
            for label, entries in enumerate(self.entries[split].values()):
                for entry in entries:
                    yield decode(read(entry), self.side, f"{path}: {entry}"), label

    def describe(self) -> dict[str, Any]:
        """Names of the folders or archives, below data.root."""
        return {"source": "files", **self.names}


@contextmanager
def _reading(path: Path) -> Iterator[Callable[[str], bytes]]:
    """A function that reads an entry of a folder or of a .zip; nothing of an archive is written to disk."""
    if path.is_dir():
        yield lambda entry: _checked_size(path / entry).read_bytes()
        return
    with _open_zip(path) as archive:

        def read(entry: str) -> bytes:
            if archive.getinfo(entry).file_size > MAX_FILE_BYTES:
                raise DataError(f"{path}: {entry}: expected at most {MAX_FILE_BYTES} bytes in an image")
            try:
                return archive.read(entry)
            except (zipfile.BadZipFile, EOFError, RuntimeError, zlib.error) as error:
                raise DataError(f"{path}: {entry}: damaged or not readable: {error}") from None

        yield read


def _checked_size(file: Path) -> Path:
    """A file that may be read into memory as a whole."""
    if file.stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"{file}: expected at most {MAX_FILE_BYTES} bytes in an image")
    return file


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: not a .zip archive, or cut short: {error}") from None


def _by_class(path: Path) -> dict[str, list[str]]:
    """Class -> its entries ``<class>/<image>``, both sorted by name; hidden files are left out."""
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()]
    elif path.is_file():
        with _open_zip(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    else:
        raise DataError(f"{path}: no such folder or .zip")
    classes: dict[str, list[str]] = {}
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        if len(parts) != 2 or not name.lower().endswith(SUFFIXES):
            raise DataError(f"{path}: {name}; expected <class>/<image>, an image being {' '.join(SUFFIXES)}")
        classes.setdefault(parts[0], []).append(name)
    if not classes:
        raise DataError(f"{path}: no image; expected <class>/<image>")
    return dict(sorted(classes.items()))


def _load_split(settings: HubImages, split: str) -> Any:
    """The rows of a split, by number; what ``datasets`` cannot read is a DataError."""
    path = settings.path
    is_local = Path(path).is_dir()
    if not is_local:
        require_network("data.hub.path", streaming=False)
    from datasets.exceptions import DatasetsError

    try:
        return load_rows(path, settings.name, None if is_local else settings.revision, split, streaming=False)
    except (DatasetsError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        place = " ".join(filter(None, (path, settings.name, split)))
        raise DataError(f"{place}: {' '.join(str(error).split())}") from None


def _undecoded(rows: Any, column: str) -> Any:
    """Rows whose images are left encoded: only ``decode`` decides what is an image."""
    from datasets import Image

    return rows.cast_column(column, Image(decode=False)) if isinstance(rows.features.get(column), Image) else rows


class ImageHubSource:
    """Images through ``datasets``: a repository of the hub, or a local directory in its layout."""

    def __init__(self, settings: HubImages, side: int) -> None:
        self.settings, self.side = settings, side
        check_pinned(settings.path, settings.revision, "data.hub", "path", "revision")
        names = {"train": settings.train_split, "validation": settings.validation_split}
        loaded = {split: _load_split(settings, name) for split, name in names.items()}
        self.splits = {split: _undecoded(rows, settings.image_column) for split, rows in loaded.items()}
        for split, rows in self.splits.items():
            absent = {settings.image_column, settings.label_column} - set(rows.column_names)
            if absent:
                raise DataError(
                    f"{settings.path}: {names[split]}: no column {', '.join(sorted(absent))}; columns there: "
                    f"{', '.join(rows.column_names)}"
                )
        self.classes = self._class_names()

    def _class_names(self) -> tuple[str, ...]:
        """What the data set calls its classes; numbers where it has no names."""
        names = getattr(self.splits["train"].features[self.settings.label_column], "names", None)
        if names:
            return tuple(names)
        labels = set(self.splits["train"][self.settings.label_column])
        if labels != set(range(len(labels))):
            raise DataError(
                f"{self.settings.path}: labels in column {self.settings.label_column!r} are not 0, 1, 2, ...; "
                f"found: {', '.join(map(str, sorted(labels, key=str)[:5]))}"
            )
        return tuple(map(str, range(len(labels))))

    def images(self, split: str) -> Iterator[LabelledImage]:
        """The rows in order."""
        settings = self.settings
        for number, row in enumerate(self.splits[split], start=1):
            where = f"{settings.path}: {split}: row {number}"
            image, label = row[settings.image_column], row[settings.label_column]
            if label not in range(len(self.classes)):
                raise DataError(f"{where}: label {label!r}; allowed: 0 to {len(self.classes) - 1}")
            if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
                yield decode(image["bytes"], self.side, where), label
            else:
                raise DataError(f"{where}: no image in column {settings.image_column!r}")

    def describe(self) -> dict[str, Any]:
        """Repository and revision; of a local directory, the name only."""
        values = self.settings.model_dump()
        if Path(self.settings.path).is_dir():
            values |= {"path": Path(self.settings.path).name, "local": True}
        return {"source": "hub", **values}
