"""Folders of files that are images by their names only, and what is found in them."""

from __future__ import annotations

from pathlib import Path

from projectmaking import assert_sentence

from napari_activeft.files import FoundFiles


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def names(found: FoundFiles) -> list[str]:
    return [volume.name for volume in found.volumes]


def labels(found: FoundFiles) -> dict[str, str | None]:
    return {
        volume.name: volume.label_file and volume.label_file.relative_to(found.root).as_posix()
        for volume in found.volumes
    }


def problems(found: FoundFiles) -> dict[str, str]:
    for problem in found.problems:
        assert_sentence(problem.sentence)
    return {Path(problem.path).name: problem.sentence for problem in found.problems}
