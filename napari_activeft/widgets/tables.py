"""Tables that stay quick with ten thousand rows: sorted and filtered in Python's own lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from qtpy.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

Row = TypeVar("Row")
_Index = QModelIndex
AnyIndex = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    Attributes
    ----------
    title, tip
        Of its head.
    text
        What a cell says.
    key
        What rows are sorted by; the text by default.
    icon
        A picture in the cell.
    width
        In pixels; 0 takes what room is left.
    number
        Whether cells are aligned to the right.
    """

    title: str
    text: Callable[[Row], str]
    key: Callable[[Row], Any] | None = None
    icon: Callable[[Row], QIcon | None] | None = None
    width: int = 80
    number: bool = False
    tip: str = ""


class TableModel(QAbstractTableModel, Generic[Row]):
    """Rows of any kind, shown by columns."""

    def __init__(
        self,
        columns: Sequence[Column[Row]],
        name: Callable[[Row], object],
        parent: QObject | None = None,
    ) -> None:
        """Make a table.

        Parameters
        ----------
        columns
            From left to right.
        name
            What makes a row the same row after the table was filled anew.
        """
        super().__init__(parent)
        self.columns, self._name = list(columns), name
        self._all: list[Row] = []
        self.rows: list[Row] = []
        self._passes: Callable[[Row], bool] = lambda _: True
        self._sorted: tuple[int, bool] | None = None

    def fill(self, rows: Sequence[Row]) -> None:
        """Show other rows, sorted and filtered as before."""
        self._all = list(rows)
        self._show()

    def filter(self, passes: Callable[[Row], bool]) -> None:
        """Show only some rows."""
        self._passes = passes
        self._show()

    def _show(self) -> None:
        self.beginResetModel()
        self.rows = [row for row in self._all if self._passes(row)]
        if self._sorted is not None:
            at, falling = self._sorted
            wanted = self.columns[at]
            self.rows.sort(key=wanted.key or wanted.text, reverse=falling)
        self.endResetModel()

    def place_of(self, name: object) -> int | None:
        """Return the place of a row by its name; None where it is not shown."""
        return next((at for at, row in enumerate(self.rows) if self._name(row) == name), None)

    def touch(self, passes: Callable[[Row], bool]) -> None:
        """Draw some rows again: a picture of theirs came."""
        for at, row in enumerate(self.rows):
            if passes(row):
                self.dataChanged.emit(self.index(at, 0), self.index(at, len(self.columns) - 1))

    # What Qt asks

    def rowCount(self, parent: AnyIndex = _Index()) -> int:  # noqa: B008, D102
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: AnyIndex = _Index()) -> int:  # noqa: B008, D102
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: ANN401, D102
        if not index.isValid() or index.row() >= len(self.rows):
            return None
        own, row = self.columns[index.column()], self.rows[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return own.text(row)
        if role == Qt.ItemDataRole.DecorationRole and own.icon is not None:
            return own.icon(row)
        if role == Qt.ItemDataRole.TextAlignmentRole and own.number:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(  # noqa: D102
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:  # noqa: ANN401
        if orientation != Qt.Orientation.Horizontal or section >= len(self.columns):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.columns[section].title
        return self.columns[section].tip if role == Qt.ItemDataRole.ToolTipRole else None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:  # noqa: D102
        self._sorted = (column, order == Qt.SortOrder.DescendingOrder) if column >= 0 else None
        self._show()


class Table(QTableView, Generic[Row]):
    """A table whose rows are chosen whole; the choice outlives filling it anew."""

    chosen = Signal(object)  # a row, or None
    opened = Signal(object)  # a row: it was clicked twice, or Return was pressed on it

    def __init__(
        self, columns: Sequence[Column[Row]], name: Callable[[Row], object], *, icon: int = 0
    ) -> None:
        super().__init__()
        self.of: TableModel[Row] = TableModel(columns, name, self)
        self.setModel(self.of)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideLeft)  # names differ at their ends
        self.setTabKeyNavigation(False)  # Tab goes on to the next control
        self.setShowGrid(False)
        self.setStyleSheet("QTableView::item { padding: 0 5px; }")
        self.setMinimumHeight(110)
        self._lay_out(columns, icon)
        self.setSortingEnabled(True)
        self.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit(self.choice))
        self.doubleClicked.connect(lambda index: self.opened.emit(self.of.rows[index.row()]))

    def _lay_out(self, columns: Sequence[Column[Row]], icon: int) -> None:
        down, across = self.verticalHeader(), self.horizontalHeader()
        down.hide()
        down.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)  # measuring each row takes long
        down.setDefaultSectionSize(max(icon + 4, self.fontMetrics().height() + 8))
        if icon:
            self.setIconSize(QSize(icon, icon))
        across.setMinimumSectionSize(24)
        for at, one in enumerate(columns):
            if one.width:
                self.setColumnWidth(at, one.width)
            else:
                across.setSectionResizeMode(at, QHeaderView.ResizeMode.Stretch)

    @property
    def choice(self) -> Row | None:
        """The row that is chosen."""
        rows = self.selectionModel().selectedRows()
        return self.of.rows[rows[0].row()] if rows else None

    def fill(self, rows: Sequence[Row]) -> None:
        """Show other rows; the same one stays chosen, and in view."""
        self._keeping(lambda: self.of.fill(rows))

    def filter(self, passes: Callable[[Row], bool]) -> None:
        """Show only some rows."""
        self._keeping(lambda: self.of.filter(passes))

    def choose(self, name: object) -> None:
        """Choose a row by its name."""
        place = self.of.place_of(name)
        if place is not None:
            self.selectRow(place)

    def _keeping(self, act: Callable[[], None]) -> None:
        row, at = self.choice, self.verticalScrollBar().value()
        name = None if row is None else self.of._name(row)
        act()
        if name is not None:
            self.choose(name)
        self.verticalScrollBar().setValue(at)

    def keyPressEvent(self, event: Any) -> None:  # noqa: ANN401, D102
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.choice is not None:
            self.opened.emit(self.choice)
            return
        super().keyPressEvent(event)
