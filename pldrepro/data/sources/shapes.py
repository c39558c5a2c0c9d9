"""Generated images: ten classes of coloured shapes and patterns on noisy backgrounds, without a download.

An image is a function of (seed, split, index). Colours, place, size and tilt are drawn; the shape is lighter than its
background, by little or by much, and noise is added to both, so that a small model soon leaves chance behind and does
not get all of them right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pldrepro.config.data import ShapesSettings

SMALLEST, LARGEST = 0.6, 0.9  # half size of a shape, in units of half a side
CONTRAST = (0.3, 0.9)  # distance in colour between shape and background; colours are in [0, 1]^3
TILT = 0.4  # largest rotation, in radians
NOISE = (0.03, 0.2)  # standard deviation of a pixel


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v))


# Where a shape is, in coordinates in which it fills about [-1, 1]^2.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "bar": lambda u, v: (np.abs(u) < 1.1) & (np.abs(v) < 0.35),
    "checks": lambda u, v: (_square(u, v) < 0.9) & (np.sin(3.5 * u) * np.sin(3.5 * v) > 0),
    "cross": lambda u, v: (np.minimum(np.abs(u), np.abs(v)) < 0.28) & (_square(u, v) < 1.0),
    "disc": lambda u, v: u * u + v * v < 0.8,
    "ell": lambda u, v: (_square(u, v) < 0.9) & ((u < -0.3) | (v < -0.3)),
    "frame": lambda u, v: (_square(u, v) < 0.9) & (_square(u, v) > 0.5),
    "ring": lambda u, v: (u * u + v * v < 1.0) & (u * u + v * v > 0.35),
    "square": lambda u, v: _square(u, v) < 0.8,
    "stripes": lambda u, v: (_square(u, v) < 0.9) & (np.sin(7.0 * u) > 0),
    "triangle": lambda u, v: (v > -0.6) & (v < 1.1 - 1.9 * np.abs(u)),
}

SEED = 0  # of the images: with another one they are others


class ShapesSource:
    """The ten classes in turn (``pldrepro.data.sources.image_files.ImageSource``)."""

    def __init__(self, settings: ShapesSettings, side: int) -> None:
        self.settings, self.side = settings, side
        self.classes = tuple(SHAPES)

    def images(self, split: str) -> Iterator[tuple[np.ndarray, int]]:
        """Image i is of class i mod 10."""
        count = self.settings.train_images if split == "train" else self.settings.validation_images
        for index in range(count):
            label = index % len(self.classes)
            stream = [SEED, 0 if split == "train" else 1, index]
            yield draw_shape(label, self.side, np.random.default_rng(stream)), label

    def describe(self) -> dict[str, Any]:
        """What is generated."""
        return {"source": "shapes", **self.settings.model_dump()}


def draw_shape(label: int, side: int, generator: np.random.Generator) -> np.ndarray:
    """One image of a class, (side, side, 3) uint8."""
    size = generator.uniform(SMALLEST, LARGEST)
    background = generator.uniform(0.0, 0.6, size=3)
    image = np.broadcast_to(background, (side, side, 3))
    image = image + _slope(side, generator)[..., None] * generator.uniform(-0.2, 0.2, size=3)
    where = list(SHAPES.values())[label](*_coordinates(side, size, generator))
    image = np.where(where[..., None], _lighter_than(background, generator), image)
    image = image + generator.normal(0.0, generator.uniform(*NOISE), size=image.shape)
    return np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels' coordinates in [-1, 1]; two arrays (side, side)."""
    line = (np.arange(side) + 0.5) * (2 / side) - 1
    return np.broadcast_to(line[:, None], (side, side)), np.broadcast_to(line[None, :], (side, side))


def _coordinates(side: int, scale: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The pixels in the coordinates of a shape of that half size, placed inside the image and rotated at random."""
    rows, columns = _grid(side)
    reach = 1.0 - scale
    row, column = generator.uniform(-reach, reach, size=2)
    angle = generator.uniform(-TILT, TILT)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    down, right = rows - row, columns - column
    return cosine * right + sine * down, cosine * down - sine * right


def _slope(side: int, generator: np.random.Generator) -> np.ndarray:
    """A plane through the image in a random direction, in [-1.5, 1.5]; shape (side, side)."""
    rows, columns = _grid(side)
    angle = generator.uniform(0.0, 2 * np.pi)
    return np.cos(angle) * rows + np.sin(angle) * columns


def _lighter_than(colour: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A colour that is above in every channel, at a distance within CONTRAST, clipped to 1."""
    direction = np.abs(generator.normal(size=3))
    return np.minimum(colour + direction / np.linalg.norm(direction) * generator.uniform(*CONTRAST), 1.0)
