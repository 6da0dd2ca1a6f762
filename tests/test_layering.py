"""What each part may import, see docs/architecture.md. Every part is loaded in a fresh process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "napari_activeft"
QT = {"napari", "qtpy", "PySide6", "PyQt6", "magicgui", "vispy"}
DATABASE = {"sqlalchemy", "alembic"}
COMMAND_LINE = {"typer", "click"}
IMAGE_LIBRARIES = {"nibabel", "SimpleITK", "tifffile", "PIL", "imageio", "imagecodecs"}
# They know the store, everything else beside them does not.
SERVICE = {
    "answering",
    "calibrating",
    "choosing",
    "class_table",
    "comparison_pools",
    "evaluating",
    "evaluation_pictures",
    "evaluation_sources",
    "examination",
    "exporting",
    "handing_out",
    "intake",
    "job_findings",
    "job_processes",
    "job_steps",
    "job_task",
    "job_worker",
    "jobs",
    "label_maps",
    "layers_intake",
    "labels_import",
    "overview",
    "pool_map",
    "pool_features",
    "pool_stacks",
    "predicting",
    "pretraining",
    "program",
    "project",
    "results",
    "reviewing",
    "round_report",
    "sample_project",
    "session",
    "simulation",
    "slice_pictures",
    "slice_scores",
    "thumbnails",
    "ticket",
    "trained_runs",
    "training_data",
    "training_round",
    "vectors",
    "volume_choice",
    "workflow",
}
DOORS = {"cli", "screen", "terminal", "__main__"}


def modules(folder: Path, name: str) -> list[str]:
    files = sorted(folder.rglob("*.py"))
    relative = [file.relative_to(folder).with_suffix("") for file in files]
    return [
        ".".join((name, *path.parts)).removesuffix(".__init__")
        for path in relative
        # Run by alembic only, never imported.
        if "migrations" not in path.parts
    ]


def core_modules() -> list[str]:
    found = modules(PACKAGE, "napari_activeft")
    outside = SERVICE | DOORS
    return [
        name
        for name in found
        if not outside & {name.removeprefix("napari_activeft.").split(".")[0]}
        and ".widgets" not in name
    ]


def loaded_by(*modules: str) -> set[str]:
    """Load modules in one fresh process: torch takes more than a second each time."""
    script = (
        f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_models_know_nothing_of_ours_and_no_window_and_no_database():
    found = modules(REPOSITORY / "models", "napari_activeft.models")

    assert not loaded_by(*found) & (QT | DATABASE | COMMAND_LINE)


def test_the_store_knows_no_network_and_no_window():
    loaded = loaded_by("napari_activeft.annotation_db")

    assert "sqlalchemy" in loaded
    assert not loaded & (QT | COMMAND_LINE | IMAGE_LIBRARIES | {"torch"})


def test_the_core_knows_no_database_no_window_and_no_command_line():
    found = core_modules()

    assert "napari_activeft.pool" in found
    assert not loaded_by(*found) & (QT | DATABASE | COMMAND_LINE)


def test_workflow_loads_neither_torch_nor_a_window_nor_the_command_line():
    assert not loaded_by("napari_activeft.workflow") & (QT | COMMAND_LINE | {"torch"})


def test_the_widgets_load_no_torch():
    found = modules(PACKAGE / "widgets", "napari_activeft.widgets")

    assert "napari_activeft.widgets.layer_watch" in found
    assert not loaded_by(*found, "napari_activeft.session.labelling") & {"torch", "typer"}


def test_the_command_line_loads_nothing_slow_to_show_its_help():
    slow = QT | DATABASE | IMAGE_LIBRARIES | {"torch", "numpy"}

    assert not loaded_by("napari_activeft.cli") & slow


def test_the_bare_package_loads_nothing():
    loaded = loaded_by("napari_activeft")

    assert not loaded & (QT | DATABASE | IMAGE_LIBRARIES | {"torch", "numpy", "pydantic"})


def imports_of(file: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere, functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def source_files() -> list[Path]:
    folders = (PACKAGE, REPOSITORY / "models", REPOSITORY / "annotation_db")
    return [file for folder in folders for file in sorted(folder.rglob("*.py"))]


# Who may import what even inside a function, where sys.modules would not show it.
@pytest.mark.parametrize(
    ("libraries", "allowed"),
    [
        (IMAGE_LIBRARIES, {"napari_activeft/volume.py"}),
        (COMMAND_LINE, {"napari_activeft/cli/"}),
        (DATABASE, {"annotation_db/"}),
        ({"pycocotools"}, {"napari_activeft/exports/"}),
        (QT, {"napari_activeft/widgets/"}),
        ({"safetensors"}, {"models/"}),
    ],
    ids=["image libraries", "typer", "sqlalchemy", "pycocotools", "Qt", "safetensors"],
)
def test_each_outside_world_has_one_customs_office(libraries, allowed):
    trespassers = [
        file.relative_to(REPOSITORY).as_posix()
        for file in source_files()
        if imports_of(file) & libraries
        and not any(file.relative_to(REPOSITORY).as_posix().startswith(place) for place in allowed)
    ]

    assert not trespassers


@pytest.mark.parametrize("folder", ["models", "annotation_db"])
def test_models_and_store_import_nothing_of_the_package_around_them(folder):
    for file in sorted((REPOSITORY / folder).rglob("*.py")):
        assert "napari_activeft" not in imports_of(file), file


def test_nobody_imports_the_two_folders_by_their_bare_names():
    for file in source_files():
        assert not imports_of(file) & {"models", "annotation_db"}, file


def test_print_stays_out_of_the_package():
    for file in source_files():
        calls = [
            node
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
        ]
        assert not calls, file
