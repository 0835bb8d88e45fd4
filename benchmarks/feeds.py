"""Inputs of the workloads: seeded, and close enough to real data that detectors and softmaxes have work.

Plain noise would be a bad input: a text detector answers 1e-4 everywhere, a saturated softmax hides errors.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.workloads import Tensor, Workload

Recipe = Callable[[np.random.Generator, Sequence[int], Sequence[float]], np.ndarray]


def feeds(workload: Workload, case: int) -> dict[str, np.ndarray]:
    """The inputs of one case, always the same."""
    return {name: _array(t, f"{workload.name} {case} {name}") for name, t in workload.cases[case].items()}


def _array(tensor: Tensor, seed: str) -> np.ndarray:
    kind, *arguments = tensor.recipe.split(":")
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    return RECIPES[kind](rng, tensor.shape, [float(a) for a in arguments]).astype(tensor.dtype)


def _uniform(rng: np.random.Generator, shape: Sequence[int], _: Sequence[float]) -> np.ndarray:
    return rng.random(shape)


def _normal(rng: np.random.Generator, shape: Sequence[int], arguments: Sequence[float]) -> np.ndarray:
    return rng.standard_normal(shape) * arguments[0]


def _integers(rng: np.random.Generator, shape: Sequence[int], arguments: Sequence[float]) -> np.ndarray:
    low, high = arguments
    return rng.integers(int(low), int(high), shape)


def _constant(rng: np.random.Generator, shape: Sequence[int], arguments: Sequence[float]) -> np.ndarray:
    return np.full(shape, arguments[0])


def _scene(rng: np.random.Generator, shape: Sequence[int], arguments: Sequence[float]) -> np.ndarray:
    """Pictures: seed, what is added to values from 0 to 1, and what the sum is multiplied by."""
    seed, add, multiply = arguments
    channels_last = shape[-1] in (1, 3) and shape[1] > 4
    height, width = shape[1:3] if channels_last else shape[2:4]
    pictures = np.stack([picture(height, width, int(seed) + i) for i in range(shape[0])])
    values = (pictures + add) * multiply
    return values if channels_last else values.transpose(0, 3, 1, 2)


RECIPES: Mapping[str, Recipe] = {
    "uniform": _uniform,
    "normal": _normal,
    "integers": _integers,
    "constant": _constant,
    "scene": _scene,
}


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """A drawn RGB picture (height, width, 3) from 0 to 1: uneven light, discs and boxes, lines of strokes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / width * (2 + c) + c) * np.cos(y / height * (3 - c)) for c in range(3)]
    image = 0.55 + 0.25 * np.stack(waves, axis=-1)
    for index in range(6):
        image[_shape(rng, y, x, index % 2 == 0)] = rng.random(3)
    for top in range(20, height - 8, 64):
        _strokes(rng, image, top)
    return np.clip(image + rng.standard_normal((height, width, 1)) * 0.01, 0, 1)


def _shape(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, is_disc: bool) -> np.ndarray:
    height, width = y.shape
    dy, dx = np.abs(y - rng.random() * height), np.abs(x - rng.random() * width)
    size = (0.08 + 0.2 * rng.random()) * min(height, width)
    return np.asarray(np.hypot(dy, dx) < size if is_disc else np.maximum(dy, dx / 1.4) < size)


def _strokes(rng: np.random.Generator, image: np.ndarray, top: int) -> None:
    """A light band with dark strokes, as text has them."""
    left, right = int(image.shape[1] * 0.08), int(image.shape[1] * 0.85)
    image[top : top + 30, left:right] = 0.95
    for at in range(left + 3, right - 14, 14):
        for offset in rng.integers(0, 9, 3):
            image[top + 5 : top + rng.integers(15, 26), at + offset : at + offset + 2] = 0.05
        bar = top + rng.integers(6, 22)
        image[bar : bar + 2, at : at + 9] = 0.05
