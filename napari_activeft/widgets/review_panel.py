"""The sixth panel: predictions are accepted, corrected or refused, and so are colleagues' masks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QCheckBox, QLineEdit, QWidget

from napari_activeft.session.opening import entropy_of, open_proposal, open_slice
from napari_activeft.session.review_list import (
    Proposal,
    Submitted,
    masks_of_people,
    proposals,
)
from napari_activeft.session.sitting import Sitting
from napari_activeft.session.volume_work import VolumeWork
from napari_activeft.thumbnails import SIDE
from napari_activeft.widgets import notices
from napari_activeft.widgets.controls import Notice, button, choice, column, heading, row, sentence
from napari_activeft.widgets.pictures import Pictures
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.widgets.tables import Column, Table
from napari_activeft.widgets.task_control import Follow, TaskControl
from napari_activeft.wording import counted

_ICON = SIDE // 2
_ORDERS = (
    ("least sure first", "entropy"),
    ("most disagreement first", "disagreement"),
    ("asked slices first", "queue"),
)


class ReviewPanel(QWidget):
    """Opens what a run proposes, in the order in which it is worth a look."""

    def __init__(self, state: SessionState, task: TaskControl, pictures: Pictures) -> None:
        super().__init__()
        self._state, self._task, self._pictures = state, task, pictures
        self._listed: list[Proposal] = []
        self._build()
        state.project_changed.connect(self._show)
        state.content_changed.connect(self._show)
        task.changed.connect(self._show_task)
        task.noticed.connect(self.notice.say)
        task.opened.connect(lambda _: self.show_entropy())
        pictures.made.connect(self._picture_came)
        self._show()
        self._show_task()

    def _build(self) -> None:
        self.run = choice("Whose predictions are reviewed")
        self.order = choice("In which order", [(name, value, "") for name, value in _ORDERS])
        self.run.currentIndexChanged.connect(lambda _: self._list())
        self.order.currentIndexChanged.connect(lambda _: self._list())
        self.only_new = QCheckBox("only new ones")
        self.only_new.setToolTip("Leave out what was accepted, rejected or labelled since")
        self.only_new.setChecked(True)
        self.only_new.toggled.connect(lambda _: self._filter())
        self.counts, self.what = sentence(), sentence()
        self.notice = Notice()
        self.table: Table[Proposal] = Table(
            self._columns(), lambda one: one.revision_id, icon=_ICON
        )
        self.table.opened.connect(self.open)
        self.next_button = button(
            "Next", "Open the next prediction of the list", self.next, strong=True
        )
        self.unsure = QCheckBox("Show where it is unsure")
        self.unsure.setToolTip("A layer that is bright where the network hesitates (Alt+U)")
        self.unsure.toggled.connect(lambda _: self.show_entropy())
        self.accept_button = button(
            "Accept", "The mask counts, with what you changed in it (Alt+A)", self.accept,
            strong=True,
        )  # fmt: skip
        self.reject_button = button("Reject", "The prediction is no mask (Alt+R)", self.reject)
        self._build_people()
        column(
            heading("Predictions"),
            row(self.run, self.order),
            row(self.next_button, self.only_new),
            self.what,
            self.notice,
            row(self.accept_button, self.reject_button),
            self.unsure,
            self.counts,
            self.table,
            heading("Masks of colleagues"),
            self.people_told,
            self.people,
            self.comment,
            row(self.approve_button, self.refuse_button, self.look_button),
            parent=self,
        )

    def _build_people(self) -> None:
        self.people_told = sentence()
        self.people: Table[Submitted] = Table(_people_columns(), lambda one: one.revision_id)
        self.people.opened.connect(self.look_at)
        self.people.chosen.connect(lambda _: self._show_people_buttons())
        self.comment = QLineEdit()
        self.comment.setPlaceholderText("comment, for the one who made it")
        self.approve_button = button("Approve", "A second opinion: the mask is right", self.approve)
        self.refuse_button = button(
            "Refuse", "The mask counts no longer and the slice is asked again", self.refuse
        )
        self.look_button = button("Look", "Open the mask in its volume", self._look_at_chosen)

    def _columns(self) -> list[Column[Proposal]]:
        def icon(one: Proposal) -> QIcon | None:
            return self._pictures.icon_of(one.volume_id, one.position)

        return [
            Column("", lambda _: "", icon=icon, width=_ICON + 8),
            Column("Volume", lambda one: one.volume, width=0,
                   key=lambda one: (one.volume, one.position), tip="Click twice to open the slice"),
            Column("Slice", lambda one: str(one.position), key=lambda one: one.position, width=44,
                   number=True),
            Column("Unsure", lambda one: _share(one.entropy), key=lambda one: one.entropy,
                   width=50, number=True, tip="0 sure, 1 all is open"),
            Column("Differ", lambda one: _share(one.disagreement), width=50, number=True,
                   key=lambda one: one.disagreement, tip="How far several networks disagree"),
            Column("State", lambda one: one.state, width=64),
        ]  # fmt: skip

    # What is shown

    def _show(self) -> None:
        self.setEnabled(self._state.project is not None)
        if self._state.project is None:
            self._listed = []
            self.table.fill([])
            self.people.fill([])
            self.run.clear()
            self.counts.setText("Open a project first.")
            return

        def read(sitting: Sitting) -> tuple[list[int], list[Submitted]]:
            store = sitting.project.store
            runs = [run.run_id for run in reversed(store.runs()) if run.checkpoint or run.ended_at]
            return runs, masks_of_people(sitting.project, sitting.annotator)

        self._state.read(read, self._fill)

    def _fill(self, got: tuple[list[int], list[Submitted]]) -> None:
        runs, people = got
        known = [self.run.itemData(at) for at in range(self.run.count())]
        if known != runs:
            before = self.run.currentData()
            self.run.blockSignals(True)
            self.run.clear()
            for number in runs:
                self.run.addItem(f"run {number}", number)
            self.run.setCurrentIndex(runs.index(before) if before in runs and known else 0)
            self.run.blockSignals(False)
        self.people.fill(people)
        new = sum(one.state == "new" for one in people)
        self.people_told.setText(
            f"{counted(len(people), 'mask')} of others, {new} not reviewed yet."
            if people
            else "Nobody else submitted a mask yet."
        )
        self._show_people_buttons()
        self._list()

    def _list(self) -> None:
        run, order = self.run.currentData(), self.order.currentData()
        if run is None:
            self._listed = []
            self.table.fill([])
            self.counts.setText("No run predicted yet: train one, then press Predict there.")
            return
        self._state.read(lambda sitting: proposals(sitting.project, run, order), self._fill_list)

    def _fill_list(self, listed: list[Proposal]) -> None:
        self._listed = listed
        self._filter()
        new = sum(one.state == "new" for one in listed)
        self.counts.setText(
            f"{counted(len(listed), 'prediction')}, {new} new"
            if listed
            else f"Run {self.run.currentData()} predicted nothing yet: press Predict in Train."
        )

    def _filter(self) -> None:
        only = self.only_new.isChecked()
        self.table.of.filter(lambda one: not only or one.state == "new")
        self.table.fill(self._listed)

    def _show_task(self) -> None:
        proposal = self._proposal
        for one in (self.accept_button, self.reject_button, self.unsure):
            one.setEnabled(proposal is not None and not self._task.busy)
        self.next_button.setEnabled(not self._task.busy)
        current = self._task.current
        if proposal is None or current is None:
            self.what.setText("No prediction is open: press Next, or click one of the list twice.")
            return
        changed = current.task.drawing.changed_pixels
        self.what.setText(
            f"Slice {proposal.position} of {proposal.volume}: "
            + (f"corrected by {changed:,} pixels" if changed else "as it was predicted")
        )
        self.accept_button.setText("Accept corrected" if current.work.changed else "Accept")

    @property
    def _proposal(self) -> Proposal | None:
        return None if self._task.current is None else self._task.current.proposal

    def _picture_came(self, place: tuple[int, int], _: object) -> None:
        self.table.of.touch(lambda one: (one.volume_id, one.position) == place)

    # Predictions

    def next(self) -> None:
        """Open the first prediction of the list that nobody looked at."""
        at = self._proposal.revision_id if self._proposal is not None else None
        waiting = [one for one in self.table.of.rows if one.state == "new"]
        others = [one for one in waiting if one.revision_id != at]
        if not others:
            notices.tell("no prediction of this run waits for a look any more")
            return
        place = waiting.index(next(one for one in waiting if one.revision_id == at)) if (
            at is not None and len(waiting) > len(others)
        ) else -1  # fmt: skip
        self.open(waiting[(place + 1) % len(waiting)])

    def open(self, one: Proposal) -> None:
        """Open a prediction, to be corrected in the viewer."""
        listed = list(self._listed)
        self._task.open(lambda sitting: open_proposal(sitting, one, listed))

    def accept(self) -> None:
        """Let the prediction count: as it is, or as it was corrected."""
        current, proposal = self._task.current, self._proposal
        if current is None or proposal is None:
            return
        self._task.desk.look()
        # Strokes of a session before may be of another mask than the one that was proposed.
        if current.work.changed or current.task.drawing.base != proposal.revision_id:
            self._task.submit(self.following())
            return
        self._review(proposal, "approve", "")

    def reject(self) -> None:
        """Let the prediction count for nothing; it is kept."""
        proposal = self._proposal
        if proposal is not None:
            self._review(proposal, "reject", "")

    def _review(self, proposal: Proposal, verdict: str, comment: str) -> None:
        sitting = self._state.sitting
        if sitting is None:
            return
        store, reviewer = sitting.project.store, sitting.annotator

        def act(_: VolumeWork) -> None:
            store.see_in_place()
            store.review(proposal.revision_id, verdict, reviewer, comment)

        self._task.answer(act, self.following())

    def following(self) -> Follow:
        """Return what goes on with the next prediction, once the list says which that is."""
        run, order = self.run.currentData(), self.order.currentData()

        def go_on(listed: list[Proposal]) -> None:
            self._fill_list(listed)
            if any(one.state == "new" for one in listed):
                self.next()
            else:
                self._task.desk.leave()
                notices.tell("all predictions of this run were looked at")

        def failed(error: Exception) -> None:
            self._task.desk.leave()
            notices.error(str(error))

        return Follow(lambda sitting: proposals(sitting.project, run, order), go_on, failed)

    def show_entropy(self) -> None:
        """Show where the prediction is unsure, if that is wished."""
        current, run = self._task.current, self.run.currentData()
        if current is None or current.proposal is None or run is None:
            return
        if not self.unsure.isChecked():
            self._task.desk.show_entropy(None)
            return

        def show(entropy: NDArray[np.uint8] | None) -> None:
            if self._task.current is not current:
                return
            if entropy is None:
                self.notice.say(
                    "Where this run is unsure was not kept: predict again with 'keep where it is "
                    "unsure' switched on."
                )
            self._task.desk.show_entropy(entropy)

        self._state.read(lambda sitting: entropy_of(sitting, run, current), show)

    # Masks of people

    def _show_people_buttons(self) -> None:
        for one in (self.approve_button, self.refuse_button, self.look_button):
            one.setEnabled(self.people.choice is not None)

    def approve(self) -> None:
        """Approve the mask that is chosen."""
        self._judge("approve")

    def refuse(self) -> None:
        """Reject the mask that is chosen."""
        self._judge("reject")

    def _judge(self, verdict: str) -> None:
        chosen = self.people.choice
        if chosen is None:
            return
        comment = self.comment.text().strip()

        def act(sitting: Sitting) -> None:
            sitting.project.store.review(chosen.revision_id, verdict, sitting.annotator, comment)

        self.comment.clear()
        self._state.change(act)

    def look_at(self, one: Submitted) -> None:
        """Open a mask in its volume; what is drawn there is a correction."""
        self._task.open(lambda sitting: open_slice(sitting, one.volume_id, one.position))

    def _look_at_chosen(self) -> None:
        if self.people.choice is not None:
            self.look_at(self.people.choice)


def _people_columns() -> list[Column[Submitted]]:
    def told(one: Submitted) -> str:
        return one.state if one.reviewer is None else f"{one.state} by {one.reviewer}"

    return [
        Column("Volume", lambda one: one.volume, width=0,
               key=lambda one: (one.volume, one.position)),
        Column("Slice", lambda one: str(one.position), key=lambda one: one.position, width=44,
               number=True),
        Column("By", lambda one: one.author, width=80),
        Column("State", told, width=110),
    ]  # fmt: skip


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
