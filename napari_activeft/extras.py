"""Parts that are installed only on request: what needs one says which command brings it."""

from __future__ import annotations

from importlib.util import find_spec

from napari_activeft.errors import UserError

COMPUTE = ("torch", "safetensors", "sklearn", "skimage", "ot", "monai", "lightning_fabric")


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
    missing = missing_compute()
    if missing:
        raise UserError(f"{what} needs the extra 'compute', of which {missing}")


def missing_compute() -> str:
    """Say what of computing is not installed, and the command that brings it; empty if all is."""
    missing = [name for name in COMPUTE if find_spec(name) is None]
    if not missing:
        return ""
    are = "is" if len(missing) == 1 else "are"
    command = "pip install 'napari-activeft[compute]'"
    return f"{', '.join(missing)} {are} not installed: {command}"


def need_lora() -> None:
    """See that low-rank additions can be made.

    Raises
    ------
    UserError
        If peft is not installed.
    """
    if find_spec("peft") is None:
        raise UserError(
            "learns=lora needs the extra 'lora', of which peft is not installed: pip install "
            "'napari-activeft[lora]'"
        )


def need_map(method: str) -> None:
    """See that a map of the pool can be laid out by this method.

    Raises
    ------
    UserError
        If umap is asked for and umap-learn is not installed.
    """
    if method == "umap" and find_spec("umap") is None:
        raise UserError(
            "a map by umap was asked for, but umap-learn is not installed: pip install umap-learn, "
            "or leave --map-by out"
        )
