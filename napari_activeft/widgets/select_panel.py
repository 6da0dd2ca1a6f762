"""The third panel: slices become vectors, and the few that stand for all become the queue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QLabel, QLineEdit, QWidget

from napari_activeft.extras import missing_compute
from napari_activeft.selection.registry import SELECTORS
from napari_activeft.session.outlook import Outlook, coverage_in_words, outlook
from napari_activeft.settings import ActiveFTSettings, Budget, SelectSettings
from napari_activeft.thumbnails import SIDE
from napari_activeft.widgets import notices
from napari_activeft.widgets.background import EXPECTED
from napari_activeft.widgets.controls import (
    Notice,
    button,
    choice,
    column,
    folded,
    heading,
    label,
    row,
    sentence,
)
from napari_activeft.widgets.embed_box import EmbedBox
from napari_activeft.widgets.forms import SettingsForm, built
from napari_activeft.widgets.map_view import COLOURS, NAMES, MapView
from napari_activeft.widgets.pictures import Pictures
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.wording import counted

_LEFT_OUT = "left out by hand on the map"


class SelectPanel(QWidget):
    """Embeds the pool, selects slices, and shows both on a map."""

    def __init__(self, state: SessionState, pictures: Pictures) -> None:
        super().__init__()
        self._state, self._pictures = state, pictures
        self._outlook: Outlook | None = None
        self._under_pointer: tuple[int, int] | None = None
        self.missing = Notice()
        self.map = MapView()
        self.embedding = EmbedBox(state, self._show)
        column(
            self.missing,
            heading("1. Give every slice a vector"),
            self.embedding,
            heading("2. Choose the slices to label"),
            *self._select_controls(),
            self._advanced(),
            self.select_button,
            self.coverage,
            heading("Map of the pool"),
            *self._map_controls(),
            parent=self,
        )
        state.project_changed.connect(self._show)
        state.content_changed.connect(self._show)
        pictures.made.connect(self._picture_came)
        self._show()

    # The controls

    def _select_controls(self) -> list[Any]:
        self.budget = QLineEdit(str(self._state.preferences.get("budget", "5%")))
        self.budget.setToolTip("A share of the pool such as 5% or 0.05, or a count such as 32")
        self.budget.setAccessibleName("Budget")
        self.budget.setMaximumWidth(80)
        self.budget.textChanged.connect(lambda _: self._show_budget())
        self.in_words = sentence()
        self.selector = choice(
            "How slices are chosen", [(n, n, entry.summary) for n, entry in SELECTORS.items()]
        )
        self.selector.currentTextChanged.connect(lambda _: self._show_selector())
        self.told = sentence()
        self.unsure = choice("Slices of which this run is unsure count more")
        self.select_button = button(
            "Select",
            "Choose the slices and queue them, in the background",
            self.select,
            strong=True,
        )
        self.coverage = sentence()
        return [
            row(label("Budget"), self.budget, None),
            self.in_words,
            row(label("Selector"), self.selector),
            self.told,
            row(label("Unsure by"), self.unsure),
        ]

    def _advanced(self) -> QWidget:
        self.caps = SettingsForm(SelectSettings, ("per_case", "per_volume", "gap", "emptiness"))
        self.activeft = SettingsForm(
            ActiveFTSettings,
            [name for name in ActiveFTSettings.model_fields if name != "cost_weight"],
        )
        inside = QWidget()
        column(
            heading("Limits"),
            self.caps.native,
            heading("The selector activeft"),
            self.activeft.native,
            button("Back to what is usual", "Undo all changes to these settings", self.usual),
            parent=inside,
            margin=0,
        )
        return folded("Advanced", inside, "Limits per case and volume, and how activeft weighs")

    def _map_controls(self) -> list[Any]:
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.legend.setText(
            " ".join(
                f'<span style="color:{COLOURS[kind]}">●</span>&nbsp;{name}&nbsp; '
                for kind, name in NAMES.items()
            )
        )
        self.pointed = sentence("Point at a dot to see its slice, click it to open its volume, "
                                "draw around dots to gather them.")  # fmt: skip
        self.thumbnail = QLabel()
        self.thumbnail.setFixedSize(SIDE + 4, SIDE + 4)
        self.thumbnail.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.ask_button = button("Ask for these", "Queue the gathered slices", self.ask)
        self.leave_button = button(
            "Leave out", "Keep the gathered slices out of this and later selections", self.leave_out
        )
        for one in (self.ask_button, self.leave_button):
            one.setEnabled(False)
        self.map.hovered.connect(self._pointed_at)
        self.map.clicked.connect(self._clicked)
        self.map.gathered.connect(self._gathered)
        return [
            self.legend,
            self.map,
            row(self.thumbnail, self.pointed),
            row(self.ask_button, self.leave_button, None),
        ]

    # What is shown

    def _show(self) -> None:
        self.setEnabled(self._state.project is not None)
        lacking = missing_compute()
        needs = SELECTORS[self.selector.currentText()].needs_vectors
        self.select_button.setEnabled(not lacking or not needs)
        self.missing.say(
            f"Embedding and most selectors cannot run here, as {lacking}. Labelling what is queued "
            "works without, and so do stratified_random, random and fixed_interval."
            if lacking
            else ""
        )
        if self._state.project is None:
            self._outlook = None
            self.embedding.show_outlook(None)
            self.map.show_points(np.empty((0, 2), np.float32), np.empty(0, np.uint8))
            self.coverage.setText("")
            return
        self._state.read(lambda sitting: outlook(sitting.project), self._fill)

    def _fill(self, found: Outlook) -> None:
        self._outlook = found
        self._show_budget()
        self._show_selector()
        self.coverage.setText(coverage_in_words(found))
        self.embedding.show_outlook(found)
        self._fill_runs(found.runs)
        points: NDArray[np.float32] = (
            np.full((len(found.pool), 2), np.nan, np.float32)
            if found.layout is None
            else found.layout.points
        )
        self.map.show_points(points, found.kinds)

    def _fill_runs(self, runs: tuple[int, ...]) -> None:
        wanted = ["nothing", *(f"run {number}" for number in runs)]
        if [self.unsure.itemText(at) for at in range(self.unsure.count())] != wanted:
            before = self.unsure.currentText()
            self.unsure.clear()
            for name, number in zip(wanted, (None, *runs), strict=True):
                self.unsure.addItem(name, number)
            self.unsure.setCurrentText(before if before in wanted else "nothing")

    def _show_budget(self) -> None:
        found = self._outlook
        self.in_words.setText("" if found is None else found.budget_in_words(self.budget.text()))

    def _show_selector(self) -> None:
        name = self.selector.currentText()
        entry = SELECTORS[name]
        needs = [
            *(["embed the pool first"] if entry.needs_vectors and not self._embedded else []),
            *(["choose a run that predicted below"] if entry.needs_scores else []),
        ]
        self.told.setText(entry.summary + (f" ({', '.join(needs)})" if needs else ""))
        self.select_button.setEnabled(not missing_compute() or not entry.needs_vectors)
        self.activeft.native.setEnabled(name == "activeft")

    @property
    def _embedded(self) -> bool:
        return self._outlook is not None and bool(self._outlook.embedded)

    # What is done

    def select(self) -> None:
        """Start choosing the next round."""
        name = self.selector.currentText()

        def settings() -> SelectSettings:
            own = self.activeft.values() if name == "activeft" else {}
            made: SelectSettings = built(
                SelectSettings,
                budget=Budget.parse(self.budget.text()),
                selector=name,
                uncertainty=self.unsure.currentData(),
                activeft=built(ActiveFTSettings, **own),
                **self.caps.values(),
            )
            return made

        self._state.preferences.put("budget", self.budget.text())
        self._start("select", settings, computes=SELECTORS[name].needs_vectors)

    def _start(self, verb: str, settings: Any, *, computes: bool = True) -> None:  # noqa: ANN401
        try:
            self._state.start(verb, settings(), computes=computes)
        except EXPECTED as refusal:
            notices.error(str(refusal))

    def usual(self) -> None:
        """Set the advanced settings to what is usual."""
        self.caps.reset()
        self.activeft.reset()

    # The map

    def _pointed_at(self, at: int) -> None:
        found = self._outlook
        self.thumbnail.clear()
        if found is None or not 0 <= at < len(found.pool):
            return
        one = found.pool[at]
        kind = NAMES.get(found.kinds[at], "")
        self.pointed.setText(f"{found.names[one.volume_id]}, slice {one.position}\n{kind}")
        self._show_picture(self._pictures.of(one.volume_id, one.position))
        self._under_pointer = (one.volume_id, one.position)

    def _picture_came(self, place: object, picture: QPixmap) -> None:
        if place == self._under_pointer:
            self._show_picture(picture)

    def _show_picture(self, picture: QPixmap | None) -> None:
        if picture is not None:
            self.thumbnail.setPixmap(QIcon(picture).pixmap(SIDE, SIDE))

    def _clicked(self, at: int) -> None:
        found = self._outlook
        if found is not None:
            one = found.pool[at]
            self._pictures.look_at(one.volume_id, one.position)

    def _gathered(self, rows: NDArray[np.int64]) -> None:
        for one in (self.ask_button, self.leave_button):
            one.setEnabled(len(rows) > 0)
        self.pointed.setText(f"{counted(len(rows), 'slice')} gathered")

    def _chosen_ids(self) -> list[int]:
        found = self._outlook
        return [] if found is None else [found.pool[at].slice_id for at in self.map.chosen]

    def ask(self) -> None:
        """Queue the slices that the lasso gathered."""
        ids = self._chosen_ids()
        self._by_hand(lambda store, actor: store.ask(ids, actor), "asked for")

    def leave_out(self) -> None:
        """Keep the slices that the lasso gathered from being asked."""
        ids = self._chosen_ids()
        self._by_hand(lambda store, actor: store.leave_out(ids, _LEFT_OUT, actor), "left out")

    def _by_hand(self, act: Any, what: str) -> None:  # noqa: ANN401
        def done(counts: Any) -> None:  # noqa: ANN401
            rest = f", {counts.unchanged} stay as they were" if counts.unchanged else ""
            notices.tell(f"{counted(counts.changed, 'slice')} {what}{rest}")
            self.map.clear_choice()
            self._gathered(self.map.chosen)

        self._state.change(lambda sitting: act(sitting.project.store, sitting.annotator), done)
