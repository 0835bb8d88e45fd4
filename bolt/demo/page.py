"""From a photographed page to what a text recognizer takes, and from its answer back to text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

HEIGHT = 48
"""Height of the lines the recognizer was trained on."""

_WINDOW = 25
"""Side of the neighbourhood a pixel is compared with; the light on a photographed page is uneven."""
_DARKER = 18.0
_SLOPES = np.linspace(-0.06, 0.06, 49)
_INK_SHARE = 0.012
"""A row with ink in a smaller share of its pixels lies between two lines."""
_LEAST_HEIGHT = 7
_TWO_LINES = 1.6
_MARGIN = 3


def text_lines(gray: np.ndarray) -> list[np.ndarray]:
    """The lines of text of a page, top to bottom, as gray images.

    Args:
        gray: (height, width), dark text on a lighter ground, a few degrees askew at most.
    """
    ink = gray < _local_mean(gray) - _DARKER
    slope = max(_SLOPES, key=lambda s: float(np.square(_shear(ink, s).sum(1, dtype=np.float64)).sum()))
    ink, straight = _shear(ink, slope), _shear(gray, slope)
    share = ink.mean(1)
    return [_cut(straight, ink, top, end) for top, end in _apart(list(_runs(share > _INK_SHARE)), share)]


def to_input(line: np.ndarray) -> np.ndarray:
    """A line as the recognizer takes it: float32 (1, 3, 48, width), values from -1 to 1."""
    width = max(8, round(line.shape[1] * HEIGHT / line.shape[0]))
    scaled = resize(line, HEIGHT, width) / 127.5 - 1.0
    return np.repeat(scaled[None, None].astype(np.float32), 3, axis=1)


def alphabet(characters: str, classes: int) -> list[str]:
    """What each class of the recognizer stands for: blank, the model's characters, and a space.

    Args:
        characters: metadata "character" of the model, one per line.
        classes: width of the model's output.
    """
    letters = ["", *characters.split("\n"), " "]
    return letters[:classes] + [""] * (classes - len(letters))


def decode(probabilities: np.ndarray, letters: Sequence[str]) -> str:
    """The text of (steps, classes) probabilities: repeats are one letter, class 0 separates (CTC)."""
    best = probabilities.argmax(1)
    first = np.concatenate([[True], best[1:] != best[:-1]])
    return "".join(letters[i] for i in best[first & (best != 0)])


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize of a (height, width) image, pixel centres aligned."""
    return _stretch(_stretch(image, height).T, width).T


def _stretch(image: np.ndarray, height: int) -> np.ndarray:
    rows = (np.arange(height) + 0.5) * image.shape[0] / height - 0.5
    rows = rows.clip(0, image.shape[0] - 1)
    low = rows.astype(int)
    high = np.minimum(low + 1, image.shape[0] - 1)
    share = (rows - low)[:, None]
    return np.asarray(image[low] * (1 - share) + image[high] * share)


def _local_mean(gray: np.ndarray) -> np.ndarray:
    """Mean of the square around each pixel, by differences of running sums."""
    half = _WINDOW // 2
    padded = np.pad(gray, ((half + 1, half), (half + 1, half)), mode="edge").astype(np.float64)
    sums = padded.cumsum(0).cumsum(1)
    n = 2 * half + 1
    return np.asarray((sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2)


def _shear(image: np.ndarray, slope: float) -> np.ndarray:
    """Columns moved up by `slope` times their distance from the middle; edges repeat."""
    height, width = image.shape
    shift = np.rint((np.arange(width) - width / 2) * slope).astype(int)
    rows = (np.arange(height)[:, None] + shift).clip(0, height - 1)
    return np.asarray(image[rows, np.arange(width)])


def _runs(is_text: np.ndarray) -> Iterator[tuple[int, int]]:
    """[top, end) of each run of rows with ink that is tall enough to be text."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_text, [False]]).astype(int)))
    for top, end in edges.reshape(-1, 2):
        if end - top >= _LEAST_HEIGHT:
            yield int(top), int(end)


def _apart(runs: list[tuple[int, int]], share: np.ndarray) -> Iterator[tuple[int, int]]:
    """The runs, those far taller than usual parted where they have least ink."""
    usual = float(np.median([end - top for top, end in runs])) if runs else 0.0
    for top, end in runs:
        if end - top < _TWO_LINES * usual:
            yield top, end
            continue
        quarter = (end - top) // 4
        middle = top + quarter + int(share[top + quarter : end - quarter].argmin())
        yield from ((top, middle), (middle, end))


def _cut(gray: np.ndarray, ink: np.ndarray, top: int, end: int) -> np.ndarray:
    columns = np.flatnonzero(ink[top:end].any(0))
    left, right = max(0, columns[0] - 2 * _MARGIN), columns[-1] + 2 * _MARGIN
    return gray[max(0, top - _MARGIN) : end + _MARGIN, left:right]
