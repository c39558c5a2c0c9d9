"""Images: generated shapes, folders, archives, the hub's layout; the prepared arrays and their batches."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pldrepro.__main__ import main
from pldrepro.config.data import HubImages, ImageDataSettings, ShapesSettings
from pldrepro.data.batches.images import ImageBatchSampler, augmented
from pldrepro.data.images import balanced_order, open_images, prepare_images
from pldrepro.data.sources.image_files import decode, fit_image
from pldrepro.data.sources.shapes import SHAPES, ShapesSource
from pldrepro.errors import DataError, SettingsError

CIFAR = Path(os.environ.get("PLDREPRO_IMAGES", "shared/data/images"))


def settings(**values: Any) -> ImageDataSettings:
    return ImageDataSettings(kind="images", **values)


def encoded(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def put_tree(root: Path, classes: tuple[str, ...] = ("cat", "ant"), count: int = 3) -> None:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(encoded((label * 100, number, 7)))


def put_zip(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put_tree(tmp_path / "train")
    put_zip(tmp_path / "test.zip", {"cat/b.jpg": encoded((0, 0, 0), kind="JPEG"), "ant/a.png": encoded((9, 9, 9))})
    return tmp_path


def from_files(root: Path, **values: Any) -> ImageDataSettings:
    names = {"train": "train", "validation": "test.zip", **values}
    return settings(source="files", root=str(root), image_size=8, **names)


def test_shapes_are_a_function_of_split_and_index() -> None:
    def images(count: int, split: str = "train") -> list[np.ndarray]:
        source = ShapesSource(ShapesSettings(train_images=count, validation_images=count), 32)
        return [pixels for pixels, _ in source.images(split)]

    assert all(np.array_equal(a, b) for a, b in zip(images(8), images(12), strict=False))
    assert not np.array_equal(images(8)[0], images(12)[10])  # of the same class
    assert not np.array_equal(images(8)[0], images(8, "validation")[0])
    assert images(8)[0].shape == (32, 32, 3)
    assert images(8)[0].dtype == np.uint8


def test_shapes_have_ten_classes_in_turn() -> None:
    source = ShapesSource(ShapesSettings(train_images=21, validation_images=8), 16)
    assert source.classes == (
        "bar", "checks", "cross", "disc", "ell", "frame", "ring", "square", "stripes", "triangle",
    )  # fmt: skip
    assert [label for _, label in source.images("train")] == [*range(10), *range(10), 0]


def test_the_shapes_differ_where_they_are_drawn() -> None:
    line = np.linspace(-1, 1, 41)
    u, v = np.meshgrid(line, line)
    masks = [shape(u, v) for shape in SHAPES.values()]
    for number, mask in enumerate(masks):
        assert mask.mean() > 0.1
        assert all((mask != other).mean() > 0.08 for other in masks[:number])


def test_a_prepared_folder(tmp_path: Path) -> None:
    manifest = prepare_images(settings(shapes=ShapesSettings(train_images=35, validation_images=20)), tmp_path, False)
    images = open_images(tmp_path)
    assert images.train_pixels.shape == (35, 32, 32, 3)
    assert images.validation_pixels.shape == (20, 32, 32, 3)
    assert images.train_labels.dtype == np.int64
    assert np.bincount(images.train_labels).tolist() == [4] * 5 + [3] * 5
    assert manifest.splits["train"].images_by_class == [4] * 5 + [3] * 5
    values = images.train_pixels.reshape(-1, 3) / 255
    assert images.mean == pytest.approx(values.mean(axis=0), rel=1e-12)
    assert images.std == pytest.approx(values.std(axis=0), rel=1e-9)
    assert images.image_size == 32
    assert images.hash == json.loads((tmp_path / "manifest.json").read_text())["hash"] == manifest.hash
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.json", "train_labels.npy", "train_pixels.npy", "validation_labels.npy", "validation_pixels.npy",
    ]  # fmt: skip


def test_what_is_written_does_not_depend_on_the_memory_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = ShapesSettings(train_images=23, validation_images=10)
    manifest = prepare_images(settings(shapes=shapes), tmp_path / "a", False)
    monkeypatch.setattr("pldrepro.data.images.CHUNK_BYTES", 4 * 32 * 32 * 3)
    assert prepare_images(settings(shapes=shapes), tmp_path / "b", False) == manifest


def test_prepared_images_stay_on_disk_and_what_is_on_disk_stays(tmp_path: Path) -> None:
    prepare_images(settings(shapes=ShapesSettings(train_images=12, validation_images=10)), tmp_path, False)
    images = open_images(tmp_path)
    batch = ImageBatchSampler(images.validation_pixels, images.validation_labels, 0, augment=False).validation_batch(4)
    assert isinstance(batch.pixels, np.memmap)
    batch.pixels[:] = 0
    assert open_images(tmp_path).validation_pixels[:4].any()


def test_the_hash_is_of_the_images_alone(tmp_path: Path) -> None:
    def digest(count: int, folder: str) -> str:
        shapes = ShapesSettings(train_images=count, validation_images=10)
        return prepare_images(settings(shapes=shapes), tmp_path / folder, False).hash

    assert digest(12, "a") == digest(12, "b") != digest(13, "c")


def test_a_folder_and_an_archive(root: Path, tmp_path: Path) -> None:
    manifest = prepare_images(from_files(root), tmp_path / "out", False)
    images = open_images(tmp_path / "out")
    assert images.classes == ("ant", "cat")
    # class "cat" was drawn in red 0, "ant" in red 100; the blue channel is 7
    assert {(int(p[0, 0, 0]), int(y)) for p, y in zip(images.train_pixels, images.train_labels, strict=True)} == {
        (0, 1), (100, 0),
    }  # fmt: skip
    assert manifest.source == {"source": "files", "train": "train", "validation": "test.zip"}
    assert str(root) not in json.dumps(manifest.dump())
    assert manifest.std[2] == 1.0  # a channel without contrast


def test_images_are_resized_at_the_shorter_side_and_cropped_at_the_centre() -> None:
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:, 2:6] = 200  # the centre square
    fitted = fit_image(Image.fromarray(pixels), 4)
    assert fitted.shape == (4, 4, 3)
    assert fitted.min() == 200
    assert fit_image(Image.fromarray(pixels), 2).shape == (2, 2, 3)
    assert fit_image(Image.new("L", (5, 3), 77), 6).tolist() == np.full((6, 6, 3), 77).tolist()


def test_both_splits_have_the_same_classes(root: Path) -> None:
    put_tree(root / "other", ("ant", "dog"))
    with pytest.raises(DataError, match=r"other: .*cat, dog"):
        prepare_images(from_files(root, validation="other"), root / "out", False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loose.png", "loose.png"),
        ("cat/deep/a.png", "cat/deep/a.png"),
        ("cat/notes.txt", "cat/notes.txt"),
    ],
)
def test_what_is_no_image_of_a_class_is_refused(root: Path, name: str, message: str) -> None:
    (root / "train" / name).parent.mkdir(exist_ok=True)
    (root / "train" / name).write_bytes(encoded((0, 0, 0)))
    with pytest.raises(DataError, match=message):
        prepare_images(from_files(root), root / "out", False)


def test_hidden_files_are_left_out(root: Path, tmp_path: Path) -> None:
    (root / "train/cat/.DS_Store").write_text("x")
    put_zip(
        root / "test.zip",
        {"__MACOSX/cat/._b.jpg": b"", "cat/b.png": encoded((1, 1, 1)), "ant/a.png": encoded((2, 2, 2))},
    )
    assert prepare_images(from_files(root), tmp_path / "out", False).splits["validation"].images == 2


def test_damage_is_named(root: Path) -> None:
    (root / "train/cat/1.png").write_bytes(encoded((0, 0, 0))[:40])
    with pytest.raises(DataError, match=r"train: cat/1\.png"):
        prepare_images(from_files(root), root / "out", False)
    (root / "train/cat/1.png").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"train: cat/1\.png"):
        prepare_images(from_files(root), root / "out", False)
    assert not list((root / "out").iterdir())  # nothing half done stays
    (root / "test.zip").write_bytes((root / "test.zip").read_bytes()[:60])
    with pytest.raises(DataError, match=r"test\.zip"):
        prepare_images(from_files(root), root / "out", False)


@pytest.mark.parametrize("size", [(20_000, 5_000), (1, 2_000_000)])
def test_an_image_of_too_many_pixels_is_refused(size: tuple[int, int]) -> None:
    """As it is, and with the short side resized: the guard of Pillow against decompression bombs."""
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    with pytest.raises(DataError, match="here"):
        decode(file.getvalue(), 8, "here")


def test_a_file_that_is_too_large_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pldrepro.data.sources.image_files.MAX_FILE_BYTES", 60)
    with pytest.raises(DataError, match=r"train/ant/0\.png"):
        prepare_images(from_files(root), root / "out", False)
    with pytest.raises(DataError, match=r"test\.zip: ant/a\.png"):
        prepare_images(from_files(root, train="test.zip"), root / "out", False)


def test_missing_settings_are_named(root: Path) -> None:
    with pytest.raises(SettingsError, match=r"data.root: missing"):
        prepare_images(settings(source="files"), root / "out", False)
    with pytest.raises(SettingsError, match=r"data.train: missing"):
        prepare_images(settings(source="files", root=str(root)), root / "out", False)
    with pytest.raises(SettingsError, match=r"data\.train: /elsewhere"):
        prepare_images(from_files(root, train="/elsewhere"), root / "out", False)
    with pytest.raises(DataError, match=r"none.zip: no such folder or .zip"):
        prepare_images(from_files(root, train="none.zip"), root / "out", False)
    with pytest.raises(SettingsError, match=r"data.hub: missing"):
        prepare_images(settings(source="hub"), root / "out", False)
    with pytest.raises(SettingsError, match=r"data\.hub\.revision"):
        prepare_images(settings(source="hub", hub=HubImages(path="a/b")), root / "out", False)


def test_earlier_images_are_gone_once_a_preparation_starts(root: Path) -> None:
    prepare_images(from_files(root), root / "out", False)
    (root / "train/cat/1.png").write_bytes(b"hello")
    with pytest.raises(DataError):
        prepare_images(from_files(root), root / "out", False)
    assert not (root / "out/manifest.json").exists()


def test_an_array_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    prepare_images(settings(shapes=ShapesSettings(train_images=12, validation_images=10)), tmp_path, False)
    np.save(tmp_path / "train_labels.npy", np.zeros(11, dtype=np.int64))
    with pytest.raises(DataError, match=r"train_labels\.npy"):
        open_images(tmp_path)
    path = tmp_path / "train_pixels.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train_pixels\.npy: .*`prepare images`"):
        open_images(tmp_path)


def put_parquet(path: Path, labels: list[int], names: list[str] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded((label * 50, 0, 0)), "path": None} for label in labels]
    table = pa.table({"img": images, "label": labels})
    features: dict[str, Any] = {"img": {"_type": "Image"}}
    features["label"] = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(meta), path)


@pytest.mark.parametrize("names", [["low", "high"], None])
def test_the_hubs_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str] | None) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    put_parquet(tmp_path / "set/data/train-00000-of-00001.parquet", [0, 1, 1], names)
    put_parquet(tmp_path / "set/data/test-00000-of-00001.parquet", [1, 0], names)
    hub = HubImages(path=str(tmp_path / "set"))
    manifest = prepare_images(settings(source="hub", hub=hub, image_size=8), tmp_path / "out", False)
    images = open_images(tmp_path / "out")
    assert images.classes == (("low", "high") if names else ("0", "1"))
    assert [int(pixels[0, 0, 0]) for pixels in images.train_pixels] == [50 * label for label in images.train_labels]
    assert manifest.source["path"] == "set"
    assert str(tmp_path) not in json.dumps(manifest.dump())
    other = hub.model_copy(update={"image_column": "picture"})
    with pytest.raises(DataError, match=r"train: .*picture"):
        prepare_images(settings(source="hub", hub=other, image_size=8), tmp_path / "out", False)


def test_every_prefix_is_balanced() -> None:
    labels = np.repeat([0, 1, 2], [100, 100, 50])
    order = balanced_order(labels)
    assert sorted(order) == list(range(250))
    assert np.array_equal(order, balanced_order(labels))
    for count in range(1, 251):
        shares = np.bincount(labels[order[:count]], minlength=3) - count * np.array([0.4, 0.4, 0.2])
        assert np.abs(shares).max() < 2
    assert not np.array_equal(labels[order[:30]], labels[order[30:60]])
    assert (np.diff(order[labels[order] == 0]) < 0).any()  # the images of a class are shuffled, too


def maker(seed: int = 1, augment: bool = False) -> ImageBatchSampler:
    pixels = np.random.default_rng(0).integers(256, size=(10, 16, 16, 3)).astype(np.uint8)
    return ImageBatchSampler(pixels, np.arange(10), seed, augment)


def test_every_image_once_an_epoch() -> None:
    batches = maker()
    first, second = (np.concatenate([batches.batch(e * 2 + i, 5).labels for i in range(2)]) for e in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    assert batches.num_samples == 10
    assert np.array_equal(batches.batch(0, 5).pixels, batches.pixels[batches.batch(0, 5).labels])


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    resumed = maker(augment=True).batch(3, 4)
    batches = maker(augment=True)
    for step in range(4):
        last = batches.batch(step, 4)
    assert np.array_equal(last.pixels, resumed.pixels)
    assert np.array_equal(last.labels, resumed.labels)
    assert not np.array_equal(maker(seed=2, augment=True).batch(3, 4).pixels, resumed.pixels)


def test_micro_batches_are_pieces_of_the_batch() -> None:
    batch = maker(augment=True).batch(0, 5)
    parts = list(batch.micro_batches(2))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert np.array_equal(np.concatenate([part.pixels for part in parts]), batch.pixels)


def test_validation_images_are_the_first_ones_as_they_are() -> None:
    batches = maker(augment=True)
    assert np.array_equal(batches.validation_batch(4).pixels, batches.pixels[:4])
    assert len(batches.validation_batch(99)) == 10


def test_an_augmented_image_is_a_shift_by_at_most_an_eighth_perhaps_mirrored() -> None:
    image = np.arange(16 * 16).reshape(16, 16).astype(np.uint8)
    images = np.repeat(np.repeat(image[None, :, :, None], 3, axis=3), 400, axis=0)
    shifted = augmented(images, np.random.default_rng(0))
    found = set()
    for result in shifted[..., 0]:
        options = [
            (rows, columns, mirror)
            for rows in range(-2, 3)
            for columns in range(-2, 3)
            for mirror in (1, -1)
            if np.array_equal(result[2:-2, ::mirror][:, 2:-2], image[2 + rows : 14 + rows, 2 + columns : 14 + columns])
        ]
        assert len(options) == 1
        found.add(options[0])
    assert len(found) == 50  # every shift, mirrored and not


def test_what_a_shift_leaves_empty_is_a_reflection() -> None:
    line = np.arange(8, dtype=np.uint8)
    images = np.broadcast_to(line[None, None, :, None], (64, 8, 8, 3))
    rows = {tuple(row) for row in augmented(images, np.random.default_rng(0))[:, 0, :, 0].tolist()}
    up, down = (1, 0, 1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7, 6)
    assert rows == {tuple(line.tolist()), up, down, *(tuple(reversed(row)) for row in (tuple(line.tolist()), up, down))}


def test_the_verb(root: Path) -> None:
    text = from_files(root).model_dump_json()
    assert main(["prepare", "images", "--settings", text, "--out", str(root / "out")]) == 0
    assert len(open_images(root / "out").validation_labels) == 2


@pytest.mark.skipif(not (CIFAR / "cifar10_test.zip").is_file(), reason=f"no {CIFAR}/cifar10_test.zip")
def test_real_images(tmp_path: Path) -> None:
    names = {"train": "cifar10_test.zip", "validation": "cifar10_test.zip"}
    manifest = prepare_images(settings(source="files", root=str(CIFAR), **names), tmp_path, False)
    assert manifest.splits["train"].images_by_class == [1000] * 10
    assert manifest.classes[0] == "airplane"
    assert manifest.mean == pytest.approx([0.49, 0.48, 0.45], abs=0.01)
