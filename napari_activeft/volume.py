"""The one customs office for image files: opens, reads and writes volumes, label maps and masks.

Symbols: arrays are (z, y, x), or (c, z, y, x) with more than one channel; for affines see
`geometry.py`. Whatever a library raises leaves here as a `VolumeError` of one sentence. The
libraries load where they are used: together they take longer than the rest of a start.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft import image_names as names
from napari_activeft import itk_grid, nifti_bytes, opened, picture_layout, voxels
from napari_activeft.geometry import Geometry, spacing_of
from napari_activeft.image_names import is_image_name as is_image_name
from napari_activeft.image_names import stem_of as stem_of
from napari_activeft.image_names import suffix_of as suffix_of
from napari_activeft.opened import Opened, blaming
from napari_activeft.opened import Volume as Volume
from napari_activeft.opened import VolumeError as VolumeError
from napari_activeft.opened import check_voxels as check_voxels

LabelMap = voxels.LabelMap


@dataclass(frozen=True)
class Source:
    """The files that make up one volume.

    Attributes
    ----------
    paths
        One file; one file per channel; one folder of 2-D images, stacked in natural order (img2
        before img10); or one folder that holds a DICOM series.
    series
        Series instance UID, where the folder holds more than one DICOM series.
    """

    paths: tuple[Path, ...]
    series: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read, in a fixed order, so that the source can be hashed."""
        found: list[Path] = []
        for path in self.paths:
            with blaming(path):
                if path.is_dir():
                    found += _pictures_of(path, self.series) or _dicom_files(path, self.series)
                else:
                    found += [path, *names.data_files(path)]
        return tuple(found)


def open_volume(source: Source | Path | str) -> Volume:
    """Read the headers of a source and check them; the voxels are read later.

    Parameters
    ----------
    source
        Several files are channels of one volume and must share shape, spacing and affine.

    Raises
    ------
    VolumeError
        If a file cannot be read, or is no 3-D volume of real numbers on a sound grid.
    """
    source = source if isinstance(source, Source) else Source((Path(source),))
    return Volume(source, _open(source, indices=False))


def dicom_series(folder: Path) -> list[Source]:
    """Return every DICOM image series of this one folder, without the folders in it."""
    with blaming(folder):
        return [Source((folder,), series) for series in _series_of(folder)]


def read_label_map(source: Source | Path, like: Geometry) -> LabelMap:
    """Read the class ids of a volume, shape (z, y, x), as uint8 or, above 255, uint16.

    Parameters
    ----------
    source
        A label map in any format but JPEG; of a palette picture the indices count.
    like
        Geometry of the image. Of pictures and TIFF, which know no patient, only the shape is
        compared.

    Raises
    ------
    VolumeError
        If the label map cannot be read, does not fit the image, or holds anything but whole
        numbers from 0 to 65535.
    """
    source = source if isinstance(source, Source) else Source((Path(source),))
    path = source.paths[0]
    labels = _open_labels(source)
    with blaming(path):
        return opened.label_map_on(labels, like, grid_known=not _knows_no_patient(source))


def read_mask(path: Path, shape: tuple[int, int]) -> LabelMap:
    """Read the class ids of one slice, shape (h, w), as uint8 or, above 255, uint16.

    Parameters
    ----------
    path
        A PNG, BMP, TIFF or .npy file, or a volume of one slice, whose (z, y, x) is squeezed.
    shape
        Height and width of the slice.

    Raises
    ------
    VolumeError
        If the mask cannot be read, has another shape or more than one channel, or holds anything
        but whole numbers from 0 to 65535.
    """
    if path.suffix.lower() != ".npy":
        values = _open_labels(Source((path,))).read
    else:
        values = partial(np.load, path, allow_pickle=False)
    with blaming(path):
        return voxels.fit_mask(voxels.convert(values()), shape)


def write_label_map(path: Path, label_map: LabelMap, like: Geometry) -> None:
    """Write class ids (z, y, x), uint8 or uint16, as .nii or .nii.gz on the grid of ``like``.

    Where ``like`` comes from a NIfTI file, every header field about geometry is that file's.

    Raises
    ------
    VolumeError
        If the dtype, shape or name does not fit, or the disk refuses; an older file stays then.
    """
    if label_map.dtype not in (np.uint8, np.uint16):
        raise VolumeError(
            f"{path}: the label map is {label_map.dtype}, and uint8 or uint16 is needed: convert it"
        )
    write_image(path, label_map, like)


def write_image(path: Path, data: NDArray[Any], like: Geometry) -> None:
    """Write voxels (z, y, x) in their own dtype, as `write_label_map` does class ids."""
    if suffix_of(path) not in names.NIFTI or data.shape != like.shape:
        raise VolumeError(
            f"{path}: an array of shape {data.shape} was to be written, and only one of shape "
            f"{like.shape} under a name in .nii or .nii.gz can be: correct the one or the other"
        )
    with blaming(path):
        header = _nifti_header(data.dtype, like)
        stored = data.astype(data.dtype.newbyteorder(header.endianness), order="C", copy=False)
        with nifti_bytes.replacing(path) as file:
            file.write(header.binaryblock + bytes(4))  # four zeros: no extensions follow
            file.write(stored.data)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a grey (h, w) or RGB (h, w, 3) uint8 image as PNG."""
    from imagecodecs import PNG, png_encode

    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise VolumeError(
            f"{path}: the picture is {image.dtype} of shape {image.shape}, and uint8 of (h, w) or "
            "(h, w, 3) is needed: convert it"
        )
    # An annotator waits for it: a sixth of the time of the usual settings, for no more bytes.
    quick = {"level": 1, "strategy": PNG.STRATEGY.RLE, "filter": PNG.FILTER.SUB}
    with blaming(path), nifti_bytes.replacing(path) as file:
        file.write(png_encode(np.ascontiguousarray(image), **quick))


def _open(source: Source, *, indices: bool) -> Opened:
    """Open one file, a folder, or several files as channels."""
    images = []
    for path in source.paths:
        with blaming(path):
            images.append(_open_path(path, source.series, indices=indices))
            images[-1].geometry.check()
    return images[0] if len(images) == 1 else opened.join_channels(source.paths, images)


def _open_labels(source: Source) -> Opened:
    """Open what must be class ids: one channel, and no format that blurs them."""
    with blaming(source.paths[0]):
        opened.refuse_lossy(source.files)
        labels = _open(source, indices=True)
        opened.refuse_channels(labels)
        return labels


def _knows_no_patient(source: Source) -> bool:
    path = source.paths[0]
    if path.is_dir():
        return bool(_pictures_of(path, source.series))
    return suffix_of(path) in (*names.PICTURE, *names.TIFF)


def _open_path(path: Path, series: str | None, *, indices: bool) -> Opened:
    """Open one file or folder by its kind."""
    if path.is_dir():
        pictures = _pictures_of(path, series)
        if not pictures:
            return _open_dicom(_dicom_files(path, series))
        images = [_open_path(picture, None, indices=indices) for picture in pictures]
        return opened.stack_pictures(path, pictures, images)
    with path.open("rb") as file:
        if not file.read(1):
            raise voxels.VoxelError("it is empty (0 bytes): copy or export it again")
    suffix = suffix_of(path)
    if suffix in names.NIFTI:
        return _open_nifti(path)
    if suffix in names.ITK:
        return _open_itk(path)
    if suffix in names.TIFF:
        return _open_tiff(path, indices=indices)
    if suffix in names.PICTURE:
        return _open_picture(path, indices=indices)
    if suffix in names.DICOM or names.is_dicom(path):
        return _open_dicom([path])
    raise voxels.VoxelError(names.why_unknown(path))


def _open_nifti(path: Path) -> Opened:
    raw = nifti_bytes.read_header(path)
    header = _nifti_kind(len(raw))(raw, check=False)
    shape = nifti_bytes.disk_shape(header["dim"], header["pixdim"])[::-1]
    stored = header.get_data_dtype()
    slope, intercept = header.get_slope_inter()
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    offset, count = int(header["vox_offset"]), int(np.prod(shape, dtype=object))
    nifti_bytes.check_length(path, offset + count * stored.itemsize)
    scaled = (slope, intercept) not in ((None, None), (1.0, 0.0))

    def read() -> NDArray[Any]:
        values = nifti_bytes.read_voxels(path, offset, stored, count).reshape(shape)
        return voxels.scale(values, slope, intercept) if scaled else voxels.convert(values)

    dtype = voxels.kept_dtype(stored)
    dtype = np.dtype(np.float32) if scaled else dtype
    return Opened(Geometry(shape, spacing_of(affine), affine, raw), 1, dtype, read)


def _nifti_kind(size: int) -> Any:  # noqa: ANN401 - nibabel is untyped
    """Return the header class of NIfTI-1 (348 bytes) or NIfTI-2 (540)."""
    import nibabel as nib

    return nib.Nifti1Header if size == nifti_bytes.SIZES[0] else nib.Nifti2Header


def _nifti_header(dtype: np.dtype[Any], like: Geometry) -> Any:  # noqa: ANN401 - nibabel is untyped
    """Return a header of this dtype and geometry, neutral in all else."""
    raw = like.nifti_header
    if raw is None:
        header = _nifti_kind(nifti_bytes.SIZES[max(like.shape) >= 2**15])()
        nifti_bytes.set_geometry(header, like)
    else:
        kind = _nifti_kind(len(raw))
        old = kind(raw, check=False)
        header = kind(endianness=old.endianness)
        nifti_bytes.copy_geometry(header, old, like)
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header.single_vox_offset
    return header


@contextmanager
def _itk() -> Iterator[Any]:
    """Hand out SimpleITK, which meanwhile keeps its warnings to itself."""
    import SimpleITK

    sitk: Any = SimpleITK
    loud = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(loud)


def _itk_header(path: Path) -> itk_grid.Header:
    """Read a header in one of the formats of SimpleITK, which must have one number per voxel."""
    with _itk() as sitk:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        dtypes = {getattr(sitk, f"sitk{name}"): name.lower() for name in itk_grid.NUMBERS}
    return itk_grid.Header(
        path=path,
        size=reader.GetSize(),
        origin=reader.GetOrigin(),
        direction=reader.GetDirection(),
        spacing=reader.GetSpacing(),
        dtype=voxels.kept_dtype(np.dtype(dtypes.get(reader.GetPixelIDValue(), "V"))),
    )


def _itk_voxels(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    with _itk() as sitk:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return voxels.convert(values.reshape(shape))


def _open_itk(path: Path) -> Opened:
    header = _itk_header(path)
    geometry = itk_grid.volume_geometry(header)
    return Opened(geometry, 1, header.dtype, partial(_itk_voxels, path, geometry.shape))


def _series_of(folder: Path) -> dict[str, list[Path]]:
    """Return the files of every DICOM series in a folder; folders in it are not entered."""
    with _itk() as sitk:
        reader = sitk.ImageSeriesReader
        return {
            series: [Path(file) for file in reader.GetGDCMSeriesFileNames(str(folder), series)]
            for series in reader.GetGDCMSeriesIDs(str(folder))
        }


def _dicom_files(folder: Path, series: str | None) -> list[Path]:
    return itk_grid.choose_series(folder, _series_of(folder), series)


def _open_dicom(files: list[Path]) -> Opened:
    headers = [_itk_header(file) for file in files]
    geometry, ordered = itk_grid.stack_geometry(headers)
    dtype = voxels.kept_dtype(np.result_type(*(header.dtype for header in headers)))

    def read() -> NDArray[Any]:
        stack = np.empty(geometry.shape, dtype)
        for target, file in zip(stack, ordered, strict=True):
            with blaming(file):
                target[...] = _itk_voxels(file, target.shape)
        return stack

    return Opened(geometry, 1, dtype, read)


def _pictures_of(folder: Path, series: str | None) -> list[Path]:
    return [] if series else names.pictures_in(folder)


@contextmanager
def _tiff(path: Path) -> Iterator[Any]:
    """Open a TIFF file and raise what tifffile would only log, such as pages cut off."""
    import tifffile

    with picture_layout.raising(logging.getLogger("tifffile")), tifffile.TiffFile(path) as tiff:
        yield tiff


def _open_tiff(path: Path, *, indices: bool) -> Opened:
    with _tiff(path) as tiff:
        pages = picture_layout.tiff_pages(tiff, indices=indices)

    def read() -> NDArray[Any]:
        with _tiff(path) as tiff:
            return pages.arrange(tiff.series[0].asarray())

    return Opened(pages.geometry, pages.channels, pages.dtype, read)


@contextmanager
def _picture(path: Path) -> Iterator[Any]:
    """Open a picture, however many pixels it has: medical images are larger than web pictures."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            yield image


def _open_picture(path: Path, *, indices: bool) -> Opened:
    with _picture(path) as image:
        header = picture_layout.picture_header(image, path, indices=indices)

    def read() -> NDArray[Any]:
        with _picture(path) as image:
            return header.arrange(np.asarray(image.convert(header.mode)))

    return Opened(header.geometry, header.channels, header.dtype, read)
