"""The log of a job, as it grows."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QFontDatabase, QTextCursor
from qtpy.QtWidgets import QDialog, QPlainTextEdit, QWidget

from napari_activeft.widgets.controls import column

_MOST_BYTES = 200_000
_EVERY_MS = 1000


class LogWindow(QDialog):
    """Shows the end of a file and follows it."""

    def __init__(self, path: Path, parent: QWidget) -> None:
        super().__init__(parent)
        self._path, self._size = path, -1
        self.setWindowTitle(str(path))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(720, 360)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        column(self.text, parent=self)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._read)
        self._timer.start(_EVERY_MS)
        self._read()

    def _read(self) -> None:
        try:
            size = self._path.stat().st_size
            if size == self._size:
                return
            with self._path.open("rb") as file:
                file.seek(max(0, size - _MOST_BYTES))
                told = file.read().decode("utf-8", errors="replace")
        except OSError as refusal:
            told, size = f"The log cannot be read ({refusal.strerror}).", -1
        self._size = size
        self.text.setPlainText(told)
        self.text.moveCursor(QTextCursor.MoveOperation.End)
