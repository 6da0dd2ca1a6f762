"""The annotation session in napari, on a project.

    python examples/gui.py FOLDER

opens the project in FOLDER; where there is none, one of the hippocampus volumes that come with the
program is made there, with ten slices to label.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import napari

from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.sample_project import make_sample_project
from napari_activeft.widgets.commands import open_session


def main() -> None:
    """Open the session."""
    parser = argparse.ArgumentParser(description="The annotation session in napari.")
    parser.add_argument("folder", type=Path, help="of a project; a sample is made if it is new")
    folder = parser.parse_args().folder
    if not (folder / PROJECT_FILE).is_file():
        make_sample_project(folder)
    dock = open_session(napari.Viewer())
    dock.state.open(folder)
    dock.go_to(dock.queue)
    napari.run()


if __name__ == "__main__":
    main()
