"""What the program remembers of its user between sessions: recent projects, small habits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import platformdirs

from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.nifti_bytes import replacing

_FILE: Final = "session.json"
_MOST_RECENT: Final = 8


@dataclass
class Preferences:
    """What is remembered; whatever cannot be read or written is forgotten without a word.

    Attributes
    ----------
    path
        The file.
    recent
        Folders of projects, the one opened last first.
    values
        Other things by name, as JSON holds them.
    """

    path: Path
    recent: list[Path] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path | None = None) -> Preferences:
        """Read the preferences of this user.

        Parameters
        ----------
        folder
            Where they lie; the usual place of this system by default.
        """
        folder = folder or Path(platformdirs.user_config_dir("napari-activeft", appauthor=False))
        made = cls(folder / _FILE)
        try:
            told = json.loads(made.path.read_text(encoding="utf-8"))
            made.recent = [Path(one) for one in told["recent"]]
            made.values = dict(told["values"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls(folder / _FILE)
        return made

    @property
    def there(self) -> list[Path]:
        """Recent projects that are where they were."""
        return [one for one in self.recent if _is_project(one)]

    def opened(self, project: Path) -> None:
        """Note that a project was opened."""
        others = [one for one in self.recent if one != project]
        self.recent = [project, *others][:_MOST_RECENT]
        self._write()

    def get(self, name: str, usual: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Return what is remembered under a name."""
        return self.values.get(name, usual)

    def put(self, name: str, value: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Remember something under a name."""
        if name not in self.values or self.values[name] != value:
            self.values[name] = value
            self._write()

    def _write(self) -> None:
        told = {"recent": [str(one) for one in self.recent], "values": self.values}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as file:
                file.write(json.dumps(told, indent=2).encode())
        except OSError:
            return  # a home that cannot be written shall not keep anybody from work


def _is_project(folder: Path) -> bool:
    try:
        return (folder / PROJECT_FILE).is_file()
    except OSError:  # a folder that may no longer be read
        return False
