"""Parts that are installed only on request: what needs one says which command brings it."""

from __future__ import annotations

from importlib.util import find_spec

from napari_activeft.errors import UserError

COMPUTE = ("torch", "safetensors", "sklearn", "skimage", "filelock")


def need_compute(what: str) -> None:
    """See that what computing needs is installed.

    Parameters
    ----------
    what
        That needs it, as the beginning of a sentence.

    Raises
    ------
    UserError
        If something is missing.
    """
    missing = [name for name in COMPUTE if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what} needs the extra 'compute', of which {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install "
            "'napari-activeft[compute]'"
        )
