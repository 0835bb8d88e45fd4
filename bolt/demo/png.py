"""Reading PNG images with the standard library: 8-bit gray and colour, without interlacing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bolt.errors import ModelError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
_LUMA = np.array([0.299, 0.587, 0.114])


def read_gray(path: Path) -> np.ndarray:
    """The image as (height, width) float32 gray values from 0 to 255.

    Raises:
        ModelError: it is no PNG image, or of a kind this reader does not know.
    """
    pixels = decode(path.read_bytes(), str(path)).astype(np.float32)
    return pixels[..., 0] if pixels.shape[2] < 3 else (pixels[..., :3] @ _LUMA).astype(np.float32)


def decode(data: bytes, name: str = "image") -> np.ndarray:
    """The pixels of PNG `data`: uint8 (height, width, channels)."""
    if not data.startswith(_SIGNATURE):
        raise ModelError(f"{name} is no PNG image")
    chunks = list(_chunks(data))
    header = next(body for kind, body in chunks if kind == b"IHDR")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or colour not in _CHANNELS or interlaced:
        raise ModelError(f"{name}: only PNG images of 8 bits, gray or colour, not interlaced, can be read")
    raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    channels = _CHANNELS[colour]
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + width * channels)
    return _unfilter(rows, channels).reshape(height, width, channels)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + size]
        at += size + 12


def _unfilter(rows: np.ndarray, step: int) -> np.ndarray:
    """Undoes the prediction of each row; the first byte of a row names its filter (PNG, section 9)."""
    out = np.zeros((rows.shape[0] + 1, step + rows.shape[1] - 1), np.int32)
    for y, row in enumerate(rows, start=1):
        _FILTERS[int(row[0])](out[y], out[y - 1], row[1:].astype(np.int32), step)
    return out[1:, step:].astype(np.uint8)


def _none(line: np.ndarray, up: np.ndarray, coded: np.ndarray, step: int) -> None:
    line[step:] = coded


def _sub(line: np.ndarray, up: np.ndarray, coded: np.ndarray, step: int) -> None:
    for channel in range(step):
        line[step + channel :: step] = np.cumsum(coded[channel::step]) & 255


def _up(line: np.ndarray, up: np.ndarray, coded: np.ndarray, step: int) -> None:
    line[step:] = (coded + up[step:]) & 255


def _average(line: np.ndarray, up: np.ndarray, coded: np.ndarray, step: int) -> None:
    for i, value in enumerate(coded, start=step):
        line[i] = (value + (line[i - step] + up[i]) // 2) & 255


def _paeth(line: np.ndarray, up: np.ndarray, coded: np.ndarray, step: int) -> None:
    for i, value in enumerate(coded.tolist(), start=step):
        a, b, c = int(line[i - step]), int(up[i]), int(up[i - step])
        p = a + b - c
        line[i] = (value + min((a, b, c), key=lambda near: abs(p - near))) & 255


_FILTERS: tuple[Callable[[np.ndarray, np.ndarray, np.ndarray, int], None], ...] = (
    _none,
    _sub,
    _up,
    _average,
    _paeth,
)
