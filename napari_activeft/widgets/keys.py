"""The keys of the session: none of them is one of napari's, and they act wherever the focus is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QMessageBox, QWidget


@dataclass(frozen=True)
class Key:
    """A key: its name in `KEYS`, how Qt writes it, and what it does."""

    name: str
    written: str
    told: str


KEYS: Final = (
    Key("next", "Alt+N", "open the next slice of the queue"),
    Key("submit", "Alt+S", "submit the slice"),
    Key("empty", "Alt+E", "the slice shows no class: clear it"),
    Key("skip", "Alt+K", "skip the slice, with a reason"),
    Key("back", "Alt+B", "hand the slice back for somebody else"),
    Key("others", "Alt+O", "label other slices of this volume too, or no longer"),
    Key("return", "Alt+G", "go to the slice that was asked for"),
    Key("accept", "Alt+A", "accept a prediction as it is now"),
    Key("reject", "Alt+R", "reject a prediction"),
    Key("unsure", "Alt+U", "show where the prediction is unsure, or no longer"),
    Key("help", "F1", "show these keys"),
)
CLASS_KEYS: Final = "Alt+1"
"""The first class; Alt+2 is the second, and so on to Alt+9; Alt+0 draws background."""
_OF_NAPARI: Final = (
    ("Ctrl+Z", "take the last stroke back, on whichever slice; kept over a restart"),
    ("Ctrl+Shift+Z", "do it again"),
    ("2, 4, 1, 5", "napari's own: brush, fill, eraser, pick a class"),
    ("[ and ]", "napari's own: smaller and larger brush"),
    ("Space", "napari's own: hold it to move and zoom"),
)


def bind(owner: QWidget, acts: dict[str, Callable[[], object]]) -> list[QShortcut]:
    """Let keys act while the window of a widget has the focus; they go with the widget.

    Parameters
    ----------
    acts
        By the names in `KEYS`.
    """
    written = {key.name: key.written for key in KEYS}
    return [_shortcut(owner, written[name], act) for name, act in acts.items()]


def bind_classes(owner: QWidget, choose: Callable[[int], object]) -> list[QShortcut]:
    """Let Alt and a digit choose the class of that place, 0 the background."""
    return [_shortcut(owner, f"Alt+{digit}", partial(choose, digit)) for digit in range(10)]


def _shortcut(owner: QWidget, written: str, act: Callable[[], object]) -> QShortcut:
    made = QShortcut(QKeySequence(written), owner)
    made.setContext(Qt.ShortcutContext.WindowShortcut)
    made.activated.connect(act)
    return made


def in_words() -> str:
    """Return all keys as a table in HTML."""
    own = [(key.written, key.told) for key in KEYS]
    own.insert(0, ("Alt+1 … Alt+9", "draw with the first, second … class; Alt+0 erases"))
    lines = "".join(
        f"<tr><td><b>{written}</b>&nbsp;&nbsp;</td><td>{told}</td></tr>"
        for written, told in (*own, *_OF_NAPARI)
    )
    return f"<table cellpadding='3'>{lines}</table>"


def show_help(parent: QWidget) -> None:
    """Show all keys in a window of their own, which does not keep the work waiting."""
    box = QMessageBox(parent)
    box.setWindowTitle("Keys of the annotation session")
    box.setTextFormat(Qt.TextFormat.RichText)
    box.setText(in_words())
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setModal(False)
    box.show()
