"""Which files are images and what belongs to them, as far as names and first bytes tell.

Opens no image: that is the business of `volume.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
TIFF = (".tif", ".tiff")
JPEG = (".jpg", ".jpeg")
PICTURE = (".png", ".bmp", *JPEG)
DICOM = (".dcm", ".ima", ".dicom")
SUFFIXES = (*NIFTI, *ITK, *TIFF, *PICTURE, *DICOM)

# SOP classes that lie beside images in a folder but hold none themselves: directories,
# presentation states, structured reports, encapsulated documents and radiotherapy objects.
_NO_IMAGE_CLASSES = re.compile(r"1\.2\.840\.10008\.(1\.3\.10|5\.1\.4\.1\.1\.(11|88|104|481))(\.|$)")


def suffix_of(path: Path) -> str:
    """Return the known suffix of a file name in lower case (".nii.gz"), or "" where none is."""
    name = path.name.lower()
    return max((s for s in SUFFIXES if name.endswith(s)), key=len, default="")


def stem_of(path: Path) -> str:
    """Return a file name without its known suffix; all other dots stay.

    Examples
    --------
    >>> stem_of(Path("brain.v2.nii.gz"))
    'brain.v2'
    """
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.name


def is_image_name(path: Path) -> bool:
    """Tell whether a file is an image by its name, or by "DICM" where the name says nothing.

    Hidden files, such as the "._" files of macOS, are none.
    """
    if path.name.startswith("."):
        return False
    if suffix_of(path):
        return True
    # DICOM files often have no suffix at all, or end in a number of a UID.
    return (path.suffix == "" or path.suffix[1:].isdigit()) and is_dicom(path)


def why_unknown(path: Path) -> str:
    """Return the sentence about a file whose name is of no kind that can be read."""
    if path.suffix.lower() in (".hdr", ".img"):
        return (
            "it is half of a NIfTI or Analyze pair, and one file is needed: convert it to .nii.gz"
        )
    return f"it is of no kind that can be read ({', '.join(SUFFIXES)}): convert it to one"


def is_dicom(path: Path) -> bool:
    """Tell whether a file has "DICM" at byte 128; a file that cannot be read has not."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def may_hold_dicom_image(path: Path) -> bool:
    """Tell whether a DICOM file is meant to be an image, from the class its first bytes name."""
    with path.open("rb") as file:
        start = file.read(4096)
    # File meta information is always explicit little endian: tag, "UI", length, text.
    tag = start.find(b"\x02\x00\x02\x00UI")
    if tag < 0:
        return True
    length = int.from_bytes(start[tag + 6 : tag + 8], "little")
    sop_class = start[tag + 8 : tag + 8 + length].decode("ascii", "replace").rstrip("\0 ")
    return _NO_IMAGE_CLASSES.match(sop_class) is None


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Return a key that sorts names as people count: img2 before img10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    counted: list[str | int] = [int(p) if i % 2 else p for i, p in enumerate(parts)]
    return counted, path.name


def pictures_in(folder: Path) -> list[Path]:
    """Return the 2-D image files (PNG, JPEG, BMP, TIFF) of a folder in natural order."""
    return sorted(
        (
            path
            for path in folder.iterdir()
            if suffix_of(path) in (*PICTURE, *TIFF)
            and not path.name.startswith(".")
            and path.is_file()
        ),
        key=natural_key,
    )


def data_files(path: Path) -> list[Path]:
    """Return the files that a detached header (.mhd, .nhdr) names as its data, as far as it does.

    A name with a counting pattern stands for every file of the folder that fits it.
    """
    key = {".mhd": r"ElementDataFile\s*=", ".nhdr": r"data ?file:"}.get(suffix_of(path))
    if key is None:
        return []
    # Text first, then perhaps voxels: any byte is a letter in latin-1, yet names may be UTF-8.
    lines = path.read_bytes()[:100_000].decode("utf-8", "surrogateescape").splitlines()
    for number, line in enumerate(lines):
        found = re.match(key, line, re.IGNORECASE)
        if found:
            value = line[found.end() :].strip()
            names = lines[number + 1 :] if value.startswith("LIST") else [value]
            break
    else:
        return []
    found_files: list[Path] = []
    for name in (n.strip() for n in names):
        if "%" in name:
            found_files += sorted(path.parent.glob(re.sub(r"%\d*d", "*", name.split()[0])))
        elif name and name.upper() != "LOCAL":
            found_files.append(path.parent / name)
    return found_files
