"""How small masks become, and how fast: our payload against plain zstd, a row predictor, zlib, PNG.

Reads the label maps of the shared data folder beside the repository where it is there, and two
synthetic masks always. Sizes are per cent of one byte (or two) per pixel; speeds are medians over
masks, in MB of class ids a second, one thread. Our figures include the SHA-256 of every mask.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
import zstandard
from napari_activeft.annotation_db import pack, unpack
from numpy.typing import NDArray
from PIL import Image

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Way:
    """One way to store a mask: (h, w) to bytes and back."""

    name: str
    encode: Callable[[NDArray[Any]], Any]
    size: Callable[[Any], int]
    decode: Callable[[Any, NDArray[Any]], NDArray[Any]]


def _raw_back(raw: bytes, mask: NDArray[Any]) -> NDArray[Any]:
    return np.frombuffer(raw, mask.dtype).reshape(mask.shape)


def _to_png(mask: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "png")
    return file.getvalue()


def _from_png(png: bytes, mask: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(png))).astype(mask.dtype)


def _zstd(name: str, level: int) -> Way:
    return Way(
        name,
        lambda mask: zstandard.ZstdCompressor(level=level).compress(mask.tobytes()),
        len,
        lambda packed, mask: _raw_back(zstandard.ZstdDecompressor().decompress(packed), mask),
    )


def _row_xor(mask: NDArray[Any]) -> NDArray[Any]:
    changed = mask.copy()
    np.bitwise_xor(mask[1:], mask[:-1], out=changed[1:])
    return changed


WAYS = (
    Way(
        "payload",
        pack,
        lambda packed: len(packed.payload),
        lambda packed, mask: unpack(packed.payload, packed.checksum, "mask"),
    ),
    _zstd("zstd 3", 3),
    _zstd("zstd 9", 9),
    Way(
        "row XOR, zstd 9",
        lambda mask: zstandard.ZstdCompressor(level=9).compress(_row_xor(mask).tobytes()),
        len,
        lambda packed, mask: np.bitwise_xor.accumulate(
            _raw_back(zstandard.ZstdDecompressor().decompress(packed), mask), axis=0
        ),
    ),
    Way(
        "zlib 6",
        lambda mask: zlib.compress(mask.tobytes(), 6),
        len,
        lambda packed, mask: _raw_back(zlib.decompress(packed), mask),
    ),
    Way("PNG", _to_png, len, _from_png),
)


def _volumes(pattern: str) -> Iterator[NDArray[Any]]:
    for path in sorted(DATA.glob(pattern)):
        volume = np.asarray(nibabel.load(path).dataobj)
        yield from np.moveaxis(volume, 2, 0)


def _pictures(pattern: str) -> Iterator[NDArray[Any]]:
    for path in sorted(DATA.glob(pattern)):
        yield np.asarray(Image.open(path))


def _stacks(pattern: str) -> Iterator[NDArray[Any]]:
    for path in sorted(DATA.glob(pattern)):
        yield from tifffile.imread(path)


def _blobs(side: int, count: int, seed: int) -> NDArray[Any]:
    """Return ``count`` filled ellipses of five classes, shape (side, side)."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    y, x = np.ogrid[:side, :side]
    for _ in range(count):
        centre, radius = rng.uniform(0, side, 2), rng.uniform(side / 50, side / 8, 2)
        inside = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
        mask[inside] = rng.integers(1, 6)
    return mask


def sets(quick: bool) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Yield (name, masks) of every set that is there; every mask is uint8 or uint16."""
    real = {
        "acdc": _volumes("acdc/*/*_gt.nii.gz"),
        "hippocampus": _volumes("msd_hippocampus/labels/*.nii.gz"),
        "totalseg": _volumes("totalseg_fixture/example_seg*.nii.gz"),
        "dsb2018": _pictures("dsb2018_nuclei/labels/*"),
        "vnc": _stacks("vnc_em_stack1/labels*.tif"),
    }
    for name, slices in real.items():
        masks = [_as_mask(one) for _, one in zip(range(20 if quick else 10_000), slices)]  # noqa: B905
        if masks:
            yield name, masks
    yield "blobs 512", [_blobs(512, 20, seed) for seed in range(5 if quick else 50)]
    large = _blobs(4096, 60, 0)
    yield "blobs 4096", [large]
    yield "same, uint16", [large.astype(np.uint16) * 300]


def _as_mask(ids: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(ids, np.uint8 if ids.max() < 256 else np.uint16)


def _seconds(act: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure(way: Way, masks: list[NDArray[Any]], repeats: int) -> tuple[float, float, float]:
    """Return the size in per cent of raw, and the median MB/s of encoding and of decoding."""
    stored, writing, reading = 0, [], []
    for mask in masks:
        packed = way.encode(mask)
        if not np.array_equal(way.decode(packed, mask), mask):
            raise ValueError(f"{way.name} does not give a mask of {mask.shape} back: mend it first")
        stored += way.size(packed)
        writing.append(mask.nbytes / 1e6 / _seconds(lambda: way.encode(mask), repeats))  # noqa: B023
        reading.append(mask.nbytes / 1e6 / _seconds(lambda: way.decode(packed, mask), repeats))  # noqa: B023
    raw = sum(mask.nbytes for mask in masks)
    return 100 * stored / raw, statistics.median(writing), statistics.median(reading)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few masks, one repeat")
    quick = parser.parse_args().quick
    print(
        f"{'set':<13}{'masks':>6}{'shape':>12}{'raw KB':>8}  "
        f"{'way':<16}{'bytes':>8}{'% of raw':>9}{'encode MB/s':>12}{'decode MB/s':>12}"
    )
    for name, masks in sets(quick):
        raw = sum(mask.nbytes for mask in masks) / len(masks)
        middle = sorted(masks, key=lambda mask: mask.nbytes)[len(masks) // 2]
        shape = "x".join(str(side) for side in middle.shape)
        for way in WAYS:
            size, encode, decode = measure(way, masks, 1 if quick else 5)
            print(
                f"{name:<13}{len(masks):>6}{shape:>12}{raw / 1000:>8.0f}  {way.name:<16}"
                f"{raw * size / 100:>8.0f}{size:>9.2f}{encode:>12.0f}{decode:>12.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
