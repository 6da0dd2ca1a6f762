"""Small things that all panels are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QBoxLayout,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QLayoutItem,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

MARGIN = 8


def button(text: str, tip: str, act: Callable[[], object], *, strong: bool = False) -> QPushButton:
    """Return a button; a strong one is what most people want next."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setAccessibleName(text)
    made.clicked.connect(lambda _=False: act())
    if strong:
        made.setStyleSheet("QPushButton { font-weight: bold; padding: 6px; }")
    return made


def heading(text: str) -> QLabel:
    """Return the title of a part of a panel."""
    made = QLabel(text)
    made.setStyleSheet("QLabel { font-weight: bold; padding-top: 6px; }")
    return made


def sentence(text: str = "") -> QLabel:
    """Return a text that breaks into lines and can be copied."""
    made = QLabel(text)
    made.setWordWrap(True)
    made.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.LinksAccessibleByMouse
    )
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return made


def label(text: str) -> QLabel:
    """Return the name of a control beside it."""
    made = QLabel(text)
    made.setMinimumWidth(64)
    made.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
    return made


def choice(tip: str, entries: Sequence[tuple[str, object, str]] = ()) -> QComboBox:
    """Return a list to choose from, which may be narrower than its longest entry.

    Parameters
    ----------
    entries
        What is shown, what it stands for, and what it is for.
    """
    made = QComboBox()
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(8)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setToolTip(tip)
    made.setAccessibleName(tip)
    for at, (name, value, told) in enumerate(entries):
        made.addItem(name, value)
        made.setItemData(at, told or None, Qt.ItemDataRole.ToolTipRole)
    return made


class Notice(QFrame):
    """A sentence that asks for attention, with what can be done about it; hidden while empty."""

    def __init__(self) -> None:
        super().__init__()
        self.label = sentence()
        # A colour that both themes carry, and a bar: colour alone would not do.
        self.setObjectName("notice")
        self.setStyleSheet(
            "#notice { border: 0; border-left: 4px solid #d55e00; padding-left: 4px; }"
        )
        self._layout = column(self.label, parent=self, margin=4)
        self.hide()

    def say(self, text: str) -> None:
        """Show a sentence, or nothing if it is empty."""
        self.label.setText(text)
        self.setVisible(bool(text))

    def add(self, widget: QWidget) -> None:
        """Put something below the sentence."""
        self._layout.addWidget(widget)


def row(*items: QWidget | QLayout | None, parent: QWidget | None = None) -> QHBoxLayout:
    """Return a layout of items side by side; None takes what room is left."""
    made = QHBoxLayout()
    if parent is not None:
        parent.setLayout(made)
    _fill(made, items)
    made.setContentsMargins(0, 0, 0, 0)
    return made


def column(
    *items: QWidget | QLayout | None, parent: QWidget | None = None, margin: int = MARGIN
) -> QVBoxLayout:
    """Return a layout of items below each other; None takes what room is left."""
    made = QVBoxLayout()
    if parent is not None:
        parent.setLayout(made)
    _fill(made, items)
    made.setContentsMargins(margin, margin, margin, margin)
    made.setSpacing(6)
    return made


def _fill(layout: QBoxLayout, items: tuple[QWidget | QLayout | None, ...]) -> None:
    for item in items:
        if item is None:
            layout.addStretch(1)
        elif isinstance(item, QWidget):
            layout.addWidget(item)
        elif isinstance(item, (QLayout, QLayoutItem)):
            layout.addLayout(item)


def folded(title: str, content: QWidget, tip: str) -> QCollapsible:
    """Return a part that opens when its title is clicked."""
    made = QCollapsible(title)
    made.setDuration(0)
    made.addWidget(content)
    made.setToolTip(tip)
    made.collapse(animate=False)
    return made


def swatch(colour: str, side: int = 14) -> QIcon:
    """Return a filled square with an edge."""
    picture = QPixmap(side, side)
    picture.fill(QColor(0, 0, 0, 0))
    painter = QPainter(picture)
    painter.setBrush(QColor(colour))
    painter.setPen(QColor("#808080"))
    painter.drawRect(0, 0, side - 1, side - 1)
    painter.end()
    return QIcon(picture)


def minutes_in_words(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
