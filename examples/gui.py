"""The annotation session in napari, on a project.

    python examples/gui.py FOLDER

opens the project in FOLDER; where there is none, one of the hippocampus volumes that come with the
program is made there, with ten slices to label.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.sample_project import make_sample_project

MISSING = (
    "the viewer cannot start ({}): install it with pip install '.[all]', and on Debian or Ubuntu "
    "the libraries of a desktop, sudo apt-get install libgl1 libegl1 libfontconfig1 libglib2.0-0 "
    "libxkbcommon-x11-0 libxcb-cursor0"
)
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


def main() -> None:
    """Open the session."""
    parser = argparse.ArgumentParser(description="The annotation session in napari.")
    parser.add_argument("folder", type=Path, help="of a project; a sample is made if it is new")
    folder = parser.parse_args().folder
    try:
        import napari

        from napari_activeft.widgets.commands import open_session
    except (ImportError, OSError, RuntimeError) as refusal:
        sys.exit(MISSING.format(str(refusal).partition("\n")[0]))
    if sys.platform == "linux" and not any(os.environ.get(name) for name in SCREENS):
        sys.exit(
            "no screen is here (DISPLAY is not set): start the viewer on a desktop, or over "
            "`ssh -X`, or label on another computer and use the command line here"
        )
    if not (folder / PROJECT_FILE).is_file():
        make_sample_project(folder)
    dock = open_session(napari.Viewer())
    dock.state.open(folder)
    dock.go_to(dock.queue)
    napari.run()


if __name__ == "__main__":
    main()
