"""The second panel: which images there are to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari.layers import Image
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog, QLineEdit, QWidget

from napari_activeft.annotation_db import JobRecord
from napari_activeft.job_findings import problems_of
from napari_activeft.layers_intake import Shown, files_of
from napari_activeft.session.displaying import displayed
from napari_activeft.session.pool_list import PoolRow, pool_rows
from napari_activeft.settings import AddAllSettings
from napari_activeft.widgets import notices
from napari_activeft.widgets.controls import (
    Notice,
    button,
    column,
    folded,
    heading,
    row,
    sentence,
)
from napari_activeft.widgets.desk import add_images
from napari_activeft.widgets.forms import SettingsForm, built
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.widgets.tables import Column, Table
from napari_activeft.wording import counted

_SHOWN_PROBLEMS = 5
_RULES = ("labels", "ignore", "case", "stack", "val_share", "test_share", "split")


class PoolPanel(QWidget):
    """Adds files, folders and layers to the pool, and lists the volumes that are in it."""

    def __init__(self, state: SessionState) -> None:
        super().__init__()
        self._state = state
        self.setAcceptDrops(True)
        self.counts = sentence()
        self.problems = Notice()
        self.rules = SettingsForm(AddAllSettings, _RULES)
        self.table: Table[PoolRow] = Table(_columns(), lambda one: one.volume.volume_id)
        self.table.opened.connect(self._look_at)
        self.search = QLineEdit()
        self.search.setPlaceholderText("find by name or case")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._filter)
        self.add_layers_button = button(
            "Add layers", "Add the image layers that are open in napari", self.add_layers
        )
        column(
            row(
                button(
                    "Add folder…", "Add all images below a folder", self._ask_folder, strong=True
                ),
                button("Add files…", "Add single image files", self._ask_files),
                self.add_layers_button,
            ),
            sentence("or drop files and folders here"),
            folded(
                "How folders are read",
                self.rules.native,
                "Which files are label maps, what makes a case, which cases are kept for testing",
            ),
            self.problems,
            heading("Volumes"),
            self.counts,
            self.search,
            self.table,
            parent=self,
        )
        state.project_changed.connect(self._show)
        state.content_changed.connect(self._show)
        state.job_ended.connect(self._job_ended)
        self._show()

    # Adding

    def _ask_folder(self) -> None:
        place = QFileDialog.getExistingDirectory(self, "Add all images below a folder")
        if place:
            self.add([Path(place)])

    def _ask_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Add image files")
        if names:
            self.add([Path(name) for name in names])

    def add(self, paths: Sequence[Path]) -> None:
        """Add folders and files as a job."""
        if self._state.project is None:
            notices.warn("no project is open: make or open one first, then add images to it")
            return
        self.problems.say("")
        values = {**self.rules.values(), "paths": tuple(paths)}
        if isinstance(values.get("ignore"), str):
            values["ignore"] = tuple(values["ignore"].split())
        self._state.start("add-all", built(AddAllSettings, **values))

    def add_layers(self) -> None:
        """Add the image layers of the viewer; those that have no file are written to one."""
        project = self._state.project
        if project is None:
            notices.warn("no project is open: make or open one first, then add layers to it")
            return
        # Layers of the desk are volumes of the project already.
        images = [
            _shown(one)
            for one in self._state.viewer.layers
            if isinstance(one, Image) and "volume" not in one.metadata
        ]
        if not images:
            notices.warn("no image layer is open in napari: open an image first, or add files")
            return
        self._state.change(lambda sitting: files_of(sitting.project, images), self.add)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: D102
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: D102
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.add(paths)

    def _job_ended(self, job: JobRecord) -> None:
        if job.verb != "add-all" or self._state.project is None:
            return
        self._state.read(lambda sitting: problems_of(sitting.project, job), self._show_problems)

    def _show_problems(self, problems: list[str]) -> None:
        if not problems:
            return
        shown = "\n".join(f"- {one}" for one in problems[:_SHOWN_PROBLEMS])
        more = len(problems) - _SHOWN_PROBLEMS
        rest = f"\n… and {more} more, in the job's log" if more > 0 else ""
        self.problems.say(f"{counted(len(problems), 'file')} passed over:\n{shown}{rest}")

    # The list

    def _show(self) -> None:
        self.setEnabled(self._state.project is not None)
        if self._state.project is None:
            self.table.fill([])
            self.counts.setText("Open a project first.")
            self.problems.say("")
            return
        self._state.read(lambda sitting: pool_rows(sitting.project), self._fill)

    def _fill(self, rows: list[PoolRow]) -> None:
        self.table.fill(rows)
        cases = len({one.volume.case for one in rows})
        slices = sum(one.volume.slice_count for one in rows)
        missing = sum(bool(one.problem) for one in rows)
        lost = f"; the image of {missing} is missing" if missing else ""
        self.counts.setText(
            f"{counted(len(rows), 'volume')} of {counted(cases, 'case')}, "
            f"{counted(slices, 'slice')}{lost}"
            if rows
            else "The pool is empty: add a folder of images. NIfTI, DICOM, NRRD, MHA, TIFF, PNG "
            "and JPEG are read."
        )

    def _filter(self, text: str) -> None:
        wanted = text.casefold()
        self.table.filter(lambda one: wanted in f"{one.volume.name} {one.volume.case}".casefold())

    def _look_at(self, one: PoolRow) -> None:
        """Open a volume as an ordinary image layer."""
        record = one.volume
        self._state.read(
            lambda sitting: displayed(record, sitting.project.cache.volume(record.volume_id)),
            lambda shown: add_images(self._state.viewer, shown),
        )


def _columns() -> list[Column[PoolRow]]:
    return [
        Column("Volume", lambda one: one.volume.name, width=130, tip="Click twice to look at it"),
        Column("Slices", lambda one: str(one.volume.slice_count),
               key=lambda one: one.volume.slice_count, width=44, number=True),
        Column("Size", lambda one: one.size, width=82, tip="Voxels along z, y and x"),
        Column("mm", lambda one: one.spacing, width=64, tip="Millimetres along z, y and x"),
        Column("Split", lambda one: one.volume.split, width=40,
               tip="pool: to choose and learn from; val, test: kept apart"),
        Column("Case", lambda one: one.volume.case, width=100),
        Column("Problem", lambda one: one.problem, width=100),
    ]  # fmt: skip


def _shown(layer: Image) -> Shown:
    """Return an image layer as the pool takes it."""
    path = getattr(layer.source, "path", None)
    file = Path(path) if path and Path(path).exists() else None
    return Shown(layer.name, layer.data, tuple(layer.scale), bool(layer.rgb), file)
