"""The first panel: which project is open, who works on it, and which classes there are."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QFileDialog,
    QInputDialog,
    QLineEdit,
    QStackedWidget,
    QWidget,
)

from napari_activeft import workflow
from napari_activeft.annotation_db import ClassRecord
from napari_activeft.settings import ExportSettings, InitSettings
from napari_activeft.settings.base import ExportFormat
from napari_activeft.widgets import notices
from napari_activeft.widgets.controls import (
    button,
    choice,
    column,
    heading,
    label,
    row,
    sentence,
    swatch,
)
from napari_activeft.widgets.forms import built
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.widgets.tables import Column, Table

_FORMATS: tuple[tuple[str, ExportFormat, str], ...] = (
    ("NIfTI label maps", "nifti", "one file a volume, in its geometry"),
    ("nnU-Net data set", "nnunet", "ready for nnU-Net's own training"),
    ("COCO", "coco", "polygons and run lengths in one JSON file"),
    ("BIDS", "bids", "derivatives of a brain imaging data set"),
)


class ProjectPanel(QWidget):
    """Opens and makes projects; shows who annotates, the classes, and exports the masks."""

    def __init__(self, state: SessionState) -> None:
        super().__init__()
        self._state = state
        self._pages = QStackedWidget()
        self._pages.addWidget(self._closed_page())
        self._pages.addWidget(self._open_page())
        column(self._pages, parent=self, margin=0)
        state.project_changed.connect(self._show)
        state.content_changed.connect(self._show_classes)
        self._show()

    # Without a project

    def _closed_page(self) -> QWidget:
        page = QWidget()
        welcome = sentence(
            "A project keeps your images' masks, who made them, and all that was trained. "
            "Begin with a new one, or open one that is there."
        )
        self.recent = choice("Projects that were open before")
        self.recent.activated.connect(lambda _: self._open_recent())
        column(
            heading("No project is open"),
            welcome,
            button(
                "New project…", "Make a project in a folder of yours", self._ask_new, strong=True
            ),
            button("Open project…", "Open the folder of a project", self._ask_open),
            heading("Opened before"),
            self.recent,
            heading("Only looking around?"),
            button(
                "Make the sample project…",
                "Make a project of small MRI volumes that come with the program",
                self._ask_sample,
            ),
            None,
            parent=page,
        )
        return page

    def _ask_new(self) -> None:
        name, go = QInputDialog.getText(self, "New project", "Name of the project:")
        if not go or not name.strip():
            return
        place = QFileDialog.getExistingDirectory(self, "Where shall the project's folder be made?")
        if place:
            self.make_project(Path(place) / name.strip(), name.strip())

    def _ask_open(self) -> None:
        place = QFileDialog.getExistingDirectory(self, "Open the folder of a project")
        if place:
            self._state.open(Path(place))

    def _ask_sample(self) -> None:
        place = QFileDialog.getExistingDirectory(self, "Where shall the sample project be made?")
        if place:
            self.make_sample(Path(place) / "hippocampus-sample")

    def _open_recent(self) -> None:
        folder = self.recent.currentData()
        if folder:
            self._state.open(Path(folder))

    def make_project(self, folder: Path, name: str) -> None:
        """Make a project in a new folder and open it."""
        self._state.acts.run(
            lambda: workflow.init(folder, InitSettings(name=name)),
            lambda made: self._state.open(made.folder),
        )

    def make_sample(self, folder: Path) -> None:
        """Make the sample project in a new folder and open it."""
        from napari_activeft.sample_project import make_sample_project

        self._state.acts.run(lambda: make_sample_project(folder), self._state.open)

    # With a project

    def _open_page(self) -> QWidget:
        page = QWidget()
        self.name, self.folder = heading(""), sentence()
        self.annotator = QLineEdit()
        self.annotator.setToolTip("Masks are stored under this name; press Return to change it")
        self.annotator.setAccessibleName("Annotator")
        self.annotator.returnPressed.connect(self._change_annotator)
        self.classes = self._class_table()
        self.new_class = QLineEdit()
        self.new_class.setPlaceholderText("name of a class")
        self.new_class.setToolTip("Write a name and press Return; 5=NAME gives it the value 5")
        self.new_class.returnPressed.connect(self._add_class)
        self.format = choice("What kind of files the accepted masks become", _FORMATS)
        column(
            self.name,
            self.folder,
            row(label("Annotator"), self.annotator),
            heading("Classes"),
            self.classes,
            row(self.new_class, button("Add", "Add a class of this name", self._add_class)),
            row(
                button("Rename…", "Give the chosen class another name", self._rename_class),
                button("Colour…", "Give the chosen class another colour", self._ask_colour),
                button("Remove", "Remove the chosen class", self._remove_class),
            ),
            heading("Export"),
            row(self.format, button("Export masks…", "Write the accepted masks", self._ask_export)),
            None,
            button(
                "Close project", "Close the project; nothing is lost", self._state.close_project
            ),
            parent=page,
        )
        return page

    def _class_table(self) -> Table[ClassRecord]:
        columns: list[Column[ClassRecord]] = [
            Column("Class", lambda one: one.name, width=0, icon=lambda one: swatch(one.colour)),
            Column(
                "Value",
                lambda one: str(one.value),
                key=lambda one: one.value,
                width=60,
                number=True,
                tip="What pixels of this class hold in a mask",
            ),
            Column("Key", self._key_of, width=70, tip="Draws with this class"),
        ]
        table: Table[ClassRecord] = Table(columns, lambda one: one.value, icon=14)
        table.opened.connect(lambda _: self._ask_colour())
        return table

    def _key_of(self, record: ClassRecord) -> str:
        known = (
            sorted(one.value for one in self.classes.of.rows) if hasattr(self, "classes") else []
        )
        at = known.index(record.value) + 1 if record.value in known else 0
        return f"Alt+{at}" if 0 < at < 10 else ""

    def _show(self) -> None:
        project = self._state.project
        self._pages.setCurrentIndex(int(project is not None))
        if project is None:
            self.recent.clear()
            there = self._state.preferences.there
            self.recent.addItem("choose one" if there else "none yet", None)
            for folder in there:
                self.recent.addItem(f"{folder.name}  ({folder.parent})", str(folder))
            self.recent.setEnabled(bool(there))
            return
        self.folder.setText(str(project.folder))
        self.annotator.setText(self._state.annotator)
        self._show_classes()

    def _show_classes(self) -> None:
        def read(sitting: Any) -> tuple[str, list[ClassRecord]]:  # noqa: ANN401
            store = sitting.project.store
            return store.project().name, store.classes()

        def show(got: tuple[str, list[ClassRecord]]) -> None:
            self.name.setText(got[0])
            self.classes.fill(got[1])

        self._state.read(read, show)

    def _change_annotator(self) -> None:
        project, name = self._state.project, self.annotator.text().strip()
        if project is None or name == self._state.annotator:
            return
        if not name:
            self.annotator.setText(self._state.annotator)
            return
        self._state.open(project.folder, name)

    # Classes

    def _add_class(self) -> None:
        written = self.new_class.text().strip()
        if written:
            self.set_classes([written])
            self.new_class.clear()

    def _rename_class(self) -> None:
        record = self._chosen_class()
        if record is not None:
            name, go = QInputDialog.getText(self, "Rename", "Name of the class:", text=record.name)
            if go and name.strip():
                self.set_classes([f"{record.value}={name.strip()}:{record.colour}"])

    def _ask_colour(self) -> None:
        record = self._chosen_class()
        if record is not None:
            colour = QColorDialog.getColor(QColor(record.colour), self, f"Colour of {record.name}")
            if colour.isValid():
                self.set_classes([f"{record.value}={record.name}:{colour.name()}"])

    def _remove_class(self) -> None:
        record = self._chosen_class()
        if record is not None:
            self.set_classes([], remove=[record.value])

    def _chosen_class(self) -> ClassRecord | None:
        record = self.classes.choice
        if record is None:
            notices.warn("no class is chosen: click one in the table first")
        return record

    def set_classes(self, written: list[str], remove: list[int] | None = None) -> None:
        """Add, change or remove classes, as `workflow.classes` takes them."""
        self._state.change(
            lambda sitting: workflow.classes(sitting.project, written, remove=remove or []),
            lambda _: self._show_classes(),
        )

    # Export

    def _ask_export(self) -> None:
        place = QFileDialog.getExistingDirectory(self, "Where shall the export's folder be made?")
        project = self._state.project
        if place and project is not None:
            kind = self.format.currentData(Qt.ItemDataRole.UserRole)
            self.export(Path(place) / f"{project.folder.name}-{kind}")

    def export(self, folder: Path) -> None:
        """Write the accepted masks into a new folder, in the format that is chosen."""
        kind = self.format.currentData(Qt.ItemDataRole.UserRole)
        settings = built(ExportSettings, format=kind, out=folder)
        self._state.start("export", settings, then=partial(_told_export, folder))


def _told_export(folder: Path, _: int) -> None:
    notices.tell(f"the export goes to {folder}")
