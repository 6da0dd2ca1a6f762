"""The classes to draw with, as a row of buttons in their colours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QButtonGroup, QGridLayout, QToolButton, QWidget

from napari_activeft.annotation_db import ClassRecord
from napari_activeft.widgets.controls import swatch

_A_ROW = 3


class ClassBar(QWidget):
    """One button a class, and one for the background."""

    chosen = Signal(int)  # value

    def __init__(self) -> None:
        super().__init__()
        self._layout = QGridLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4)
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._group.idClicked.connect(self.chosen.emit)
        self.classes: list[ClassRecord] = []
        self.after: QWidget | None = None  # what Tab leads here from
        self.fill([])

    def fill(self, classes: Sequence[ClassRecord]) -> None:
        """Show other classes."""
        if list(classes) == self.classes and self._group.buttons():
            return
        before = self._group.checkedId()
        self.classes = list(classes)
        for one in self._group.buttons():
            self._group.removeButton(one)
            self._layout.removeWidget(one)
            one.deleteLater()
        entries = [(0, "background", "#00000000"), *((c.value, c.name, c.colour) for c in classes)]
        for at, (value, name, colour) in enumerate(entries):
            made = QToolButton()
            made.setText(f"{at if at < 10 else ''} {name}".strip())
            made.setIcon(swatch(colour))
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            made.setCheckable(True)
            # Flat in napari's style, which shows no difference.
            made.setStyleSheet(
                "QToolButton { border: 2px solid transparent; border-radius: 3px; padding: 2px; }"
                "QToolButton:checked { border-color: palette(highlight); font-weight: bold; }"
                "QToolButton:focus { border-color: palette(text); }"
            )
            keys = f" (Alt+{at})" if at < 10 else ""
            made.setToolTip(f"Draw with {name}{keys}")
            made.setSizePolicy(made.sizePolicy().Policy.Expanding, made.sizePolicy().Policy.Fixed)
            self._group.addButton(made, value)
            self._layout.addWidget(made, at // _A_ROW, at % _A_ROW)
        chain = [*([self.after] if self.after is not None else []), *self._group.buttons()]
        for first, then in itertools.pairwise(chain):
            QWidget.setTabOrder(first, then)  # new buttons would come last of all
        self.mark(before if before >= 0 else (classes[0].value if classes else 0))

    def mark(self, value: int) -> None:
        """Show which class is drawn with."""
        found = self._group.button(value)
        if found is not None:
            found.setChecked(True)

    def choose_place(self, place: int) -> None:
        """Choose the background by 0, the first class by 1, and so on."""
        values = [0, *(one.value for one in self.classes)]
        if 0 <= place < len(values):
            self.mark(values[place])
            self.chosen.emit(values[place])
