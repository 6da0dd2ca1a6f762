"""What this program is: its version, which optional parts are installed, and its scans."""

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


def scans() -> dict[str, str]:
    """Return each selective scan by name, with what it serves or why it cannot run here.

    Empty without torch, which is imported for it: only a kernel that was loaded is there for sure.
    """
    if find_spec("torch") is None:
        return {}
    from napari_activeft.models.scan_backends import scan_report

    reasons, served = scan_report()
    found = {name: "here" if reason is None else reason for name, reason in reasons.items()}
    for one in served:
        if one.scan is None:
            found[f"on {one.device}"] = one.why
        else:
            found[one.scan] = f"serves the device {one.device} ({one.why})"
    return found
