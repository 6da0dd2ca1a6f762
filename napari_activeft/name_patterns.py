"""Shell globs whose stars say something: what a name is called but for its fixed parts."""

from __future__ import annotations

import re
from fnmatch import translate
from pathlib import Path


def matches(file: Path, root: Path, glob: str) -> bool:
    """Tell whether a glob fits a file.

    Without a ``/`` it is compared with the file's name, with one with the path below ``root``, of
    which it may leave out the first folders.
    """
    return bool(stars_in(file, root, glob))


def stars_in(file: Path, root: Path, glob: str) -> tuple[str, ...]:
    """Return what the stars of a glob may stand for, empty where it does not fit.

    First all that lies between the first star and the last, then what the first star alone covers;
    a glob without a star that fits stands for the empty text.

    Examples
    --------
    >>> stars_in(Path("in/p1_t1_gt.nii"), Path("in"), "*_t*_gt.nii")
    ('p1_t1', 'p1')
    """
    text = file.relative_to(root).as_posix() if "/" in glob else file.name
    # A folder pattern may begin anywhere below the root, as in .gitignore.
    anywhere = "(?:.*/)?" if "/" in glob and not glob.startswith("/") else ""
    body = "(.*)".join(_plain_regex(part) for part in glob.lstrip("/").split("*"))
    found = re.fullmatch(anywhere + body, text, flags=re.DOTALL)
    if found is None:
        return ()
    if not found.re.groups:
        return ("",)
    whole = text[found.start(1) : found.end(found.re.groups)]
    return (whole, found[1]) if found[1] != whole else (whole,)


def _plain_regex(glob: str) -> str:
    # fnmatch wraps its translation in an anchored group that differs between Python versions.
    return re.sub(r"^\(\?s:(.*)\)\\[zZ]$", r"\1", translate(glob), flags=re.DOTALL)
