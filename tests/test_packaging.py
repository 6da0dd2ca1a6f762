"""What an installed copy holds: a package left out of the list would vanish without a word."""

import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MAPPED = {"models": "napari_activeft.models", "annotation_db": "napari_activeft.annotation_db"}


def packages_in_folders() -> set[str]:
    found = set()
    for top in ("napari_activeft", *MAPPED):
        for init in (REPOSITORY / top).rglob("__init__.py"):
            parts = init.parent.relative_to(REPOSITORY / top).parts
            found.add(".".join((MAPPED.get(top, top), *parts)))
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build from a copy, so that neither stale files nor the editable install take part."""
    import shutil

    copy = tmp_path_factory.mktemp("source")
    for name in ("napari_activeft", "models", "annotation_db"):
        shutil.copytree(
            REPOSITORY / name,
            copy / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"),
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(out), str(copy)], check=True)
    return next(out.glob("*.whl"))


def test_every_package_folder_is_listed():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())

    assert set(project["tool"]["setuptools"]["packages"]) == packages_in_folders()


def test_every_folder_of_code_is_a_package():
    for top in ("napari_activeft", *MAPPED):
        for file in (REPOSITORY / top).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), file


def test_the_wheel_holds_every_source_file_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    # The C kernel is there where a compiler was.
    inside = {n for n in names if ".dist-info/" not in n and not n.endswith((".so", ".pyd"))}
    expected = {
        (
            Path(MAPPED.get(top, top).replace(".", "/")) / file.relative_to(REPOSITORY / top)
        ).as_posix()
        for top in ("napari_activeft", *MAPPED)
        for file in (REPOSITORY / top).rglob("*")
        if file.is_file()
        and not {"__pycache__", "csrc"} & set(file.parts)
        and file.suffix not in (".so", ".pyd")
    }

    assert inside == expected


def test_the_wheel_installs_no_top_level_name_but_ours(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"napari_activeft"}


def test_the_installed_wheel_runs_and_migrates_without_the_repository(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import napari_activeft; from napari_activeft.annotation_db import Store;"
        "assert napari_activeft.__file__.startswith(sys.argv[1]), napari_activeft.__file__;"
        "print(Store.create(Path(sys.argv[2]) / 'p.sqlite', 'p', {}).project().name)"
    )
    # -P and an empty folder: neither the repository nor its tests are on the path.
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(site), str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "p"


def test_base_install_needs_neither_torch_nor_napari(wheel):
    archive = zipfile.ZipFile(wheel)
    name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(archive.read(name).decode())
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]

    assert any(line.startswith("nibabel") for line in base)
    for heavy in ("torch", "napari", "magicgui", "qtpy", "PySide6", "monai", "mamba", "faiss"):
        assert not [line for line in base if line.lower().startswith(heavy.lower())]
    assert {"all", "compute", "gpu", "gui", "lora", "mamba"} <= set(
        metadata.get_all("Provides-Extra")
    )


# npe2's own models are written for an older pydantic.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_manifest_is_found_and_valid():
    from importlib.metadata import entry_points

    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(REPOSITORY / "napari_activeft" / "napari.yaml")

    assert manifest.name == "napari-activeft"
    points = entry_points(group="napari.manifest", name="napari-activeft")
    assert [point.value for point in points] == ["napari_activeft:napari.yaml"]


def test_version_is_the_same_everywhere():
    import napari_activeft

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    assert project["version"] == napari_activeft.__version__
    assert f"## {project['version']}" in (REPOSITORY / "CHANGELOG.md").read_text()
