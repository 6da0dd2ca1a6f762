"""Curves in the colours of the window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_activeft.reports.plots import nice_ticks
from napari_activeft.reports.shell import PALETTE

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 22, 22
_MOST_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """One line: its name, points (x, y) by rising x, and whether the points are marked."""

    name: str
    points: Sequence[tuple[float, float]]
    marked: bool = False


class Chart(QWidget):
    """Draws curves over one axis.

    Parameters
    ----------
    over
        What the horizontal axis counts.
    empty
        What is said while there is no point.
    """

    def __init__(self, over: str, empty: str) -> None:
        super().__init__()
        self._over, self._empty = over, empty
        self.curves: list[Curve] = []
        self.setMinimumHeight(150)
        self.setAccessibleName(f"curves over {over}")

    def draw(self, curves: Sequence[Curve]) -> None:
        """Show other curves."""
        shown = [Curve(one.name, _thinned(one.points), one.marked) for one in curves]
        shown = [one for one in shown if one.points]
        if shown != self.curves:
            self.curves = shown
            self.update()

    def paintEvent(self, _: QPaintEvent) -> None:  # noqa: D102
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().text().color()
        soft = QColor(ink)
        soft.setAlpha(150)
        painter.setPen(soft)
        if self.curves:
            self._paint(painter, soft)
        else:
            wrap = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect().adjusted(12, 4, -12, -4), wrap, self._empty)
        painter.end()

    def _paint(self, painter: QPainter, soft: QColor) -> None:
        every = [point for one in self.curves for point in one.points]
        ticks = nice_ticks(min(y for _, y in every), max(y for _, y in every), 4)
        last = max(x for x, _ in every) or 1.0
        room = QRectF(_LEFT, _TOP, self.width() - _LEFT - _RIGHT, self.height() - _TOP - _BOTTOM)

        def at(x: float, y: float) -> QPointF:
            share = (y - ticks[0]) / (ticks[-1] - ticks[0])
            return QPointF(
                room.left() + room.width() * x / last, room.bottom() - room.height() * share
            )

        self._axes(painter, soft, room, ticks, last)
        left = float(_LEFT)
        for number, one in enumerate(self.curves):
            colour = QColor(PALETTE[number % len(PALETTE)])
            colour = colour.lighter(150) if soft.lightness() > 128 else colour
            painter.setPen(QPen(colour, 2))
            places = [at(x, y) for x, y in one.points]
            painter.drawPolyline(QPolygonF(places))
            if one.marked or len(places) == 1:
                painter.setBrush(colour)
                for place in places:
                    painter.drawEllipse(place, 3, 3)
            painter.drawText(QPointF(left, _TOP - 8), one.name)
            left += painter.fontMetrics().horizontalAdvance(one.name) + 14

    def _axes(
        self, painter: QPainter, soft: QColor, room: QRectF, ticks: Sequence[float], last: float
    ) -> None:
        faint = QColor(soft)
        faint.setAlpha(60)
        for tick in ticks:
            y = room.bottom() - room.height() * (tick - ticks[0]) / (ticks[-1] - ticks[0])
            painter.setPen(faint)
            painter.drawLine(QPointF(room.left(), y), QPointF(room.right(), y))
            painter.setPen(soft)
            beside = QRectF(0, y - 8, _LEFT - 6, 16)
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(beside, right, f"{tick:g}")
        below = QRectF(room.left(), room.bottom() + 4, room.width(), 16)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, self._over)
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, f"{last:g}")


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return finite points, averaged where there are more than can be seen."""
    known = [(x, y) for x, y in points if math.isfinite(y)]
    each = -(-len(known) // _MOST_POINTS) or 1
    groups = [known[at : at + each] for at in range(0, len(known), each)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
