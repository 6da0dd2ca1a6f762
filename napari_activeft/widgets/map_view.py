"""The pool in two dimensions: every slice a dot, to be looked at, opened, gathered by a lasso."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
    QResizeEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QWidget

from napari_activeft.session.outlook import Kind

NAMES: Final = {
    Kind.PICKED: "newest round",
    Kind.ASKED: "asked before",
    Kind.LABELLED: "labelled",
    Kind.LEFT_OUT: "left out",
    Kind.POOL: "pool",
}
# Okabe and Ito; each is also told by its size or shape.
COLOURS: Final = {
    Kind.POOL: "#9aa6b5",
    Kind.LABELLED: "#009e73",
    Kind.ASKED: "#56b4e9",
    Kind.PICKED: "#d55e00",
    Kind.LEFT_OUT: "#5b6675",
}
_RADII: Final = {Kind.POOL: 1, Kind.LABELLED: 4, Kind.ASKED: 3, Kind.PICKED: 4, Kind.LEFT_OUT: 2}
_EDGE, _NEAR, _CLICK = 12, 9, 4  # pixels
_MOST_ZOOM = 200.0


class MapView(QWidget):
    """Shows points; tells which one the pointer is at, which is clicked, which a lasso holds.

    Points are numbered by their row. Dragging draws a lasso, with Shift or the middle button it
    moves the map; the wheel zooms, a double click shows all.
    """

    hovered = Signal(int)  # a row, -1 for none
    clicked = Signal(int)
    gathered = Signal(object)  # rows in the lasso, (k,)

    def __init__(self) -> None:
        super().__init__()
        self._points: NDArray[np.float32] = np.empty((0, 2), np.float32)
        self._kinds: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._middle, self._zoom = np.zeros(2), 1.0
        self._picture: QImage | None = None
        self._lasso: list[QPointF] = []
        self._grip: QPointF | None = None
        self._at = -1
        self.chosen: NDArray[np.int64] = np.empty(0, np.int64)
        self.setMouseTracking(True)
        self.setMinimumHeight(200)
        self.setAccessibleName("Map of the pool")

    def show_points(self, points: NDArray[np.float32], kinds: NDArray[np.uint8]) -> None:
        """Show points (n, 2), NaN where a slice has no place, and what each of them is (n,)."""
        same = len(points) == len(self._points)
        self._points, self._kinds = points, kinds
        self.chosen = self.chosen if same else np.empty(0, np.int64)
        self._at = -1
        self._redraw()

    def clear_choice(self) -> None:
        """Let go of what the lasso gathered."""
        self.chosen = np.empty(0, np.int64)
        self._redraw()

    def place_of(self, row: int) -> QPoint:
        """Return where a row lies in the widget."""
        x, y = self._places()[row]
        return QPoint(round(float(x)), round(float(y)))

    # Where things are

    def _places(self) -> NDArray[np.float64]:
        """Return the points in pixels of the widget, (n, 2); y points down."""
        if not len(self._points):
            return np.empty((0, 2))
        known = self._points[~np.isnan(self._points[:, 0])]
        low, high = (known.min(0), known.max(0)) if len(known) else (np.zeros(2), np.ones(2))
        span = np.where(high - low > 1e-12, high - low, 1.0)
        shares = (self._points - low) / span  # 0..1
        shares[:, 1] = 1 - shares[:, 1]
        sides = np.array([self.width(), self.height()]) - 2 * _EDGE
        whole = _EDGE + shares * sides
        centre = np.array([self.width(), self.height()]) / 2
        return np.asarray((whole - centre - self._middle) * self._zoom + centre, dtype=np.float64)

    def _nearest(self, at: QPointF) -> int:
        places = self._places()
        if not len(places):
            return -1
        away = np.hypot(places[:, 0] - at.x(), places[:, 1] - at.y())
        away = np.where(np.isnan(away), np.inf, away - 2 * (self._kinds != Kind.POOL))
        best = int(np.argmin(away))
        return best if away[best] <= _NEAR else -1

    # Drawing

    def _redraw(self) -> None:
        self._picture = None
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: D102
        super().resizeEvent(event)
        self._redraw()

    def paintEvent(self, _: QPaintEvent) -> None:  # noqa: D102
        painter = QPainter(self)
        if self._picture is None:
            self._picture = self._drawn()
        painter.drawImage(0, 0, self._picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().text().color()
        if self._lasso:
            painter.setPen(QPen(ink, 1, Qt.PenStyle.DashLine))
            painter.drawPolygon(QPolygonF(self._lasso))
        if 0 <= self._at < len(self._points):
            painter.setPen(QPen(ink, 2))
            painter.drawEllipse(QPointF(self.place_of(self._at)), 7, 7)
        painter.end()

    def _drawn(self) -> QImage:
        """Draw all dots into a picture: a hundred thousand of them in some tens of milliseconds."""
        ratio = self.devicePixelRatioF()
        width, height = max(1, round(self.width() * ratio)), max(1, round(self.height() * ratio))
        canvas = np.zeros((height, width, 4), np.uint8)
        places = np.nan_to_num(self._places() * ratio, nan=-1e6)
        for kind in (Kind.POOL, Kind.LEFT_OUT, Kind.LABELLED, Kind.ASKED, Kind.PICKED):
            radius = max(1, round(_RADII[kind] * ratio))
            _dots(canvas, places[self._kinds == kind], radius, QColor(COLOURS[kind]))
        ring = self.palette().text().color()
        _dots(canvas, places[self.chosen], max(1, round(2 * ratio)), ring)
        made = QImage(canvas.data, width, height, 4 * width, QImage.Format.Format_ARGB32).copy()
        made.setDevicePixelRatio(ratio)
        return made

    # The pointer

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: D102
        at = event.position()
        if self._grip is not None:
            moved = at - self._grip
            self._middle -= np.array([moved.x(), moved.y()]) / self._zoom
            self._grip = at
            self._redraw()
        elif self._lasso:
            self._lasso.append(at)
            self.update()
        else:
            self._point_at(self._nearest(at))

    def _point_at(self, row: int) -> None:
        if row != self._at:
            self._at = row
            self.hovered.emit(row)
            self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: D102
        shift = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        if event.button() == Qt.MouseButton.MiddleButton or shift:
            self._grip = event.position()
        elif event.button() == Qt.MouseButton.LeftButton:
            self._lasso = [event.position()]

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: D102
        lasso, self._lasso, self._grip = self._lasso, [], None
        if not lasso:
            return
        drawn = QPolygonF(lasso)
        box = drawn.boundingRect()
        if max(box.width(), box.height()) <= _CLICK:
            row = self._nearest(event.position())
            self.clear_choice()
            if row >= 0:
                self.clicked.emit(row)
            return
        self.chosen = self._inside(drawn, box)
        self._redraw()
        self.gathered.emit(self.chosen)

    def _inside(self, drawn: QPolygonF, box: QRectF) -> NDArray[np.int64]:
        places = self._places()
        x, y = places[:, 0], places[:, 1]
        near = (x >= box.left()) & (x <= box.right()) & (y >= box.top()) & (y <= box.bottom())
        rule = Qt.FillRule.OddEvenFill
        rows = [
            row
            for row in np.flatnonzero(near).tolist()
            if drawn.containsPoint(QPointF(x[row], y[row]), rule)
        ]
        return np.array(rows, dtype=np.int64)

    def mouseDoubleClickEvent(self, _: QMouseEvent) -> None:  # noqa: D102
        self._middle, self._zoom, self._lasso = np.zeros(2), 1.0, []
        self._redraw()

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: D102
        factor = 1.2 ** (event.angleDelta().y() / 120)
        zoom = float(np.clip(self._zoom * factor, 1.0, _MOST_ZOOM))
        centre = np.array([self.width(), self.height()]) / 2
        away = np.array([event.position().x(), event.position().y()]) - centre
        self._middle += away / self._zoom - away / zoom  # what is under the pointer stays there
        if zoom == 1.0:
            self._middle = np.zeros(2)
        self._zoom = zoom
        self._redraw()
        event.accept()

    def leaveEvent(self, event: QEvent) -> None:  # noqa: D102
        super().leaveEvent(event)
        self._point_at(-1)


def _dots(
    canvas: NDArray[np.uint8], places: NDArray[np.float64], radius: int, colour: QColor
) -> None:
    """Draw filled circles into a picture (h, w, 4), blue first."""
    height, width = canvas.shape[:2]
    values = np.array([colour.blue(), colour.green(), colour.red(), 255], np.uint8)
    columns, rows = np.round(places).astype(np.int64).T if len(places) else (np.empty(0, int),) * 2
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            if down * down + across * across > radius * radius + 1:
                continue
            y, x = rows + down, columns + across
            seen = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            canvas[y[seen], x[seen]] = values
