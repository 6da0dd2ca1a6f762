"""What this program is: its version, and which optional parts are installed beside it."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

from napari_activeft import __version__

# Import name, distribution, and the extra that brings it.
_OPTIONAL = (
    ("torch", "torch", "compute"),
    ("monai", "monai", "compute"),
    ("ot", "POT", "compute"),
    ("faiss", "faiss-gpu", "gpu"),
    ("mamba_ssm", "mamba-ssm", "mamba"),
    ("napari", "napari", "gui"),
)


def parts() -> dict[str, str]:
    """Return name and version of the program, Python, the system and each optional part.

    Nothing is imported for it, so that asking costs no time.
    """
    found = {
        "napari-activeft": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for module, distribution, extra in _OPTIONAL:
        if find_spec(module) is None:
            found[module] = f"not installed (pip install 'napari-activeft[{extra}]')"
            continue
        try:
            found[module] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[module] = "installed"
    return found
