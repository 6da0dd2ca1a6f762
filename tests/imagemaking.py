"""Small images for tests, written by the libraries themselves and never by our own writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from napari_activeft.volume import Source, VolumeError, check_voxels, open_volume

SHARED = Path(__file__).parents[2] / "shared" / "data"


def distinct(shape: Sequence[int], dtype: Any = np.int16) -> NDArray[Any]:
    """Return an array in which no two voxels are alike (as long as the dtype can tell)."""
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def orientations() -> list[NDArray[np.float64]]:
    """Return the 48 affines whose axes run along world axes, each its own spacing, off centre."""
    affines = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = 0
            for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
                affine[row, column] = sign * (0.5, 0.75, 2.5)[column]
            affine[:3, 3] = (-12.5, 30.25, 7.0)
            affines.append(affine)
    return affines


def write_nifti(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[Any] | None = None,
    *,
    slope: float | None = None,
    inter: float = 0.0,
    codes: tuple[int, int] = (1, 1),
    version: int = 1,
    big_endian: bool = False,
) -> Path:
    """Write stored values (x, y, z) with nibabel; ``codes`` are those of sform and qform."""
    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    image_kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    header = kind(endianness=">" if big_endian else "<")
    header.set_data_dtype(data.dtype)
    affine = np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine
    image = image_kind(data, affine, header)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=codes[0])
    image.set_qform(affine, code=codes[1])
    image.header["descrip"] = b"Doe^Jane"
    if slope is not None:
        image.header.set_slope_inter(1, 0)
        image.to_filename(path)
        _patch(path, version, slope, inter)
    else:
        image.to_filename(path)
    return path


def patch_header(path: Path, **fields: Any) -> Path:
    """Overwrite raw fields of an uncompressed NIfTI-1 file, past any check of nibabel's."""
    raw = path.read_bytes()
    header = nib.Nifti1Header(raw[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + raw[348:])
    return path


def _patch(path: Path, version: int, slope: float, inter: float) -> None:
    assert version == 1
    assert path.suffix == ".nii"
    patch_header(path, scl_slope=slope, scl_inter=inter)


def write_itk(
    path: Path,
    data: NDArray[Any],
    *,
    spacing: Sequence[float] | None = None,
    origin: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
    vector: bool = False,
) -> Path:
    """Write (z, y, x) with SimpleITK; spacing and origin are (x, y, z), LPS."""
    image = sitk.GetImageFromArray(data, isVector=vector)
    if spacing is not None:
        image.SetSpacing(spacing)
    if origin is not None:
        image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return path


def write_dicom(
    folder: Path,
    planes: NDArray[Any],
    *,
    positions: Sequence[Sequence[float]] | None = None,
    names: Sequence[str] | None = None,
    series: str = "1.2.3.4",
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    tags: dict[str, str] | None = None,
) -> list[Path]:
    """Write (z, y, x) as one DICOM file per plane: pixels of 0.5 x 0.75 mm, positions in LPS.

    Without names, the files are named against the order of their positions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(planes)
    positions = positions or [(10.0, -20.0, 5.0 + 2.5 * k) for k in range(count)]
    names = names or [f"{series[-1]}_{count - k:03}.dcm" for k in range(count)]
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, (plane, position, name) in enumerate(zip(planes, positions, names, strict=True)):
        image = sitk.GetImageFromArray(plane[None])
        image.SetSpacing((0.5, 0.75, 1.0))
        known = {
            "0008|0060": "CT",
            "0008|0018": f"{series}.{k + 1}",
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{mm:g}" for mm in position),
            "0020|0037": "\\".join(f"{c:.8g}" for c in orientation),
        }
        for tag, value in (known | (tags or {})).items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / name))
        writer.Execute(image)
    return [folder / name for name in names]


def assert_same_points(path: Path, affine: NDArray[Any]) -> None:
    """Compare where SimpleITK, which speaks LPS, sees voxels with where an RAS affine does."""
    image = sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 0, 1), (3, 2, 1)]:
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((-x, -y, z), (affine @ [*index, 1])[:3], atol=1e-4)


def shared(path: str) -> Path:
    """Return a file of the shared data, or skip where they are not mounted."""
    if not SHARED.is_dir():
        pytest.skip("shared/data is not here")
    return SHARED / path


def refusal(action: Callable[[], object], path: Path) -> str:
    """Return the sentence with which an action refuses; it names the file and is one sentence."""
    with pytest.raises(VolumeError) as caught:
        action()
    sentence = str(caught.value)
    assert path.name in sentence
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert "ITK" not in sentence
    assert "0x" not in sentence
    assert ". " not in sentence.replace(str(path), "")
    assert not sentence.endswith(".")
    assert ": " in sentence.replace(str(path) + ": ", "")  # what to do comes after a colon
    return sentence


def refused(path: Path | Source) -> str:
    """Return the sentence with which a source is refused, by its header or by its voxels."""
    source = path if isinstance(path, Source) else Source((path,))
    return refusal(lambda: check_voxels(open_volume(source)), source.paths[-1])


def refused_at_once(path: Path) -> str:
    """Return the sentence with which a source is refused by its header alone."""
    return refusal(lambda: open_volume(path), path)
