"""The open project, shared by all panels: what changes in it, which jobs run, who is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QObject, QTimer, Signal

from napari_activeft import jobs
from napari_activeft.annotation_db import UNFINISHED, JobRecord, StoreError
from napari_activeft.extras import need_compute
from napari_activeft.preferences import Preferences
from napari_activeft.project import Project
from napari_activeft.session.sitting import Sitting
from napari_activeft.settings import Settings
from napari_activeft.widgets import notices
from napari_activeft.widgets.background import Background
from napari_activeft.widgets.options import Options

_TICK_MS = 400
PATIENCE = 2.0
"""Seconds that a window may wait for the disk."""
_LOOK_ANYWAY = 25  # ticks: leases end by themselves
COMPUTES = {
    "embed": "embedding",
    "pretrain": "pre-training",
    "train": "training",
    "predict": "predicting",
    "select": "this selector",
}
"""Verbs that need, or may need, what is installed on request, as the beginning of a sentence."""


class SessionState(QObject):
    """One project at a time, and what its panels have in common.

    Attributes
    ----------
    sitting
        The annotator at the open project; None without one.
    acts, looks
        Threads: for what changes the project, in order, and for what only reads it.
    jobs
        All jobs of the project, oldest first, as they were seen last.
    """

    leaving = Signal()  # the project is about to be closed, and still there
    project_changed = Signal()  # opened or closed
    content_changed = Signal()  # somebody did something, here or elsewhere
    jobs_changed = Signal()
    job_ended = Signal(object)  # JobRecord
    fault_changed = Signal(object)  # str or None: why strokes are not on the disk
    _fault_told = Signal(object)

    def __init__(
        self,
        napari_viewer: napari.Viewer,
        preferences: Preferences | None = None,
        *,
        draws: bool = True,
    ) -> None:
        super().__init__()
        self._draws = draws
        self._opening: tuple[Path, str] | None = None
        self._closed = False
        self.viewer = napari_viewer
        self.preferences = preferences or Preferences.load()
        self.options = Options.read()
        self.sitting: Sitting | None = None
        self.jobs: list[JobRecord] = []
        self.acts, self.looks = Background("acts", self), Background("looks", self)
        self._fingerprint: object = None
        self._event, self._ticks = -1, 0
        self._looking = self._gone = False
        self._fault_told.connect(self._on_fault)
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()

    # The project

    @property
    def project(self) -> Project | None:
        """The open project."""
        return None if self.sitting is None else self.sitting.project

    @property
    def annotator(self) -> str:
        """Who works, or would."""
        name = self.sitting.annotator if self.sitting else None
        return name or self.preferences.get("annotator", "") or self.options.name

    def open(self, folder: Path, annotator: str | None = None) -> None:
        """Open a project in place of the one that is open; what cannot be opened changes nothing.

        Parameters
        ----------
        annotator
            Who works; the one of last time by default.
        """
        name = self.annotator if annotator is None else annotator
        minutes, folder = float(Options.read().lease_minutes), folder.resolve()
        before = self.sitting
        again = before is not None and before.project.folder.resolve() == folder
        same = again and before is not None and before.annotator == name
        if same or self._opening == (folder, name):
            return
        if not self._all_written():
            return
        self._opening = (folder, name)

        def sit() -> Sitting:
            made = Sitting(
                folder, name, on_fault=self._fault_told.emit, minutes=minutes, draws=self._draws
            )
            if self._closed:  # nobody will take it
                made.close()
            return made

        self.acts.run(sit, self._sat_down, self._did_not_open)

    def _did_not_open(self, error: Exception) -> None:
        self._opening = None
        notices.error(str(error))

    def _all_written(self) -> bool:
        """Tell whether the open project may be left; say why not."""
        sitting = self.sitting
        if sitting is None or sitting.journal.flush(PATIENCE):
            return True
        notices.error(
            f"{sitting.journal.unwritten} strokes are not on the disk yet "
            f"({sitting.journal.fault or 'the disk is slow'}), so the project stays open: mend that"
        )
        return False

    def _sat_down(self, sitting: Sitting) -> None:
        self._opening = None
        self._leave()
        self.sitting, self.options = sitting, Options.read()
        self.preferences.opened(sitting.project.folder)
        self.preferences.put("annotator", sitting.annotator)
        for sentence in sitting.project.store.warnings:
            notices.warn(sentence)
        self._event, self._fingerprint, self._gone, self.jobs = -1, None, False, []
        self.project_changed.emit()
        self.look()

    def close_project(self) -> None:
        """Close the project; strokes go onto the disk first."""
        if self.sitting is not None and (self._closed or self._all_written()):
            self._leave()
            self.project_changed.emit()

    def _leave(self) -> None:
        if self.sitting is not None:
            self.leaving.emit()
        sitting, self.sitting, self.jobs = self.sitting, None, []
        if sitting is not None and not sitting.close():
            notices.error(
                f"strokes could not be written to {sitting.project.folder} before it was closed, "
                "and are lost: free some space there, or look at the disk"
            )

    def close(self) -> None:
        """Close the project and end the threads."""
        self._closed = True
        self._timer.stop()
        self.acts.close()
        self.looks.close()
        self.close_project()

    def _on_fault(self, fault: str | None) -> None:
        self.fault_changed.emit(fault)
        if fault is None:
            notices.tell("strokes are on the disk again, nothing is lost")
        else:
            notices.error(
                f"strokes are not on the disk yet, they are kept in memory and tried again: {fault}"
            )

    def finish_acts(self) -> None:
        """Let what was asked come to its end; nothing more is taken on."""
        self._closed = True
        self.acts.close(wait_for_all=True)

    # What goes on in it

    def look(self) -> None:
        """Look what changed in the project, and how far its jobs are."""
        sitting = self.sitting
        if sitting is None or self._looking:
            return
        self._looking = True
        self._ticks += 1
        before = None if self._ticks % _LOOK_ANYWAY == 0 or self.running else self._fingerprint
        self.looks.run(lambda: _seen(sitting.project, before), self._saw, self._did_not_see)

    def _did_not_see(self, error: Exception) -> None:
        self._looking = False
        if not self._gone:
            self._gone = True
            notices.error(str(error))

    def _saw(self, seen: _Seen | None) -> None:
        self._looking = False
        if seen is None or self.sitting is None or seen.project is not self.sitting.project:
            return
        self._gone, self._fingerprint = False, seen.fingerprint
        before, self.jobs = {job.job_id: job.state for job in self.jobs}, seen.jobs
        ended = [j for j in self.jobs if before.get(j.job_id) in UNFINISHED and j.ended_at]
        first, changed = self._event < 0, seen.event != self._event
        self._event = seen.event
        # Panels fill themselves when a project is opened: no need to tell them once more.
        if not first and (changed or self._ticks % _LOOK_ANYWAY == 0):
            self.content_changed.emit()
        self.jobs_changed.emit()
        for job in ended:
            self.job_ended.emit(job)

    # Jobs

    @property
    def running(self) -> list[JobRecord]:
        """Jobs that did not end yet, oldest first."""
        return [job for job in self.jobs if job.state in UNFINISHED]

    def start(
        self,
        verb: str,
        settings: Settings,
        *,
        computes: bool = True,
        then: Any = None,  # noqa: ANN401
    ) -> None:
        """Start a step in processes of its own, which leave one core to the viewer.

        Parameters
        ----------
        computes
            Whether it needs what is installed on request.
        then
            Called with the number of the job.
        """
        project = self.project
        if project is None:
            return

        def begin() -> int:
            project.store.see_in_place()
            if computes and verb in COMPUTES:
                need_compute(COMPUTES[verb])
            return jobs.start_job(project, verb, settings, beside_viewer=True)

        def begun(number: int) -> None:
            if then is not None:
                then(number)
            self._fingerprint = None
            self.look()

        self.acts.run(begin, begun)

    def cancel(self, job_id: int) -> None:
        """Stop a job, which takes up to two seconds."""
        project = self.project
        if project is not None:
            self.looks.run(lambda: jobs.cancel(project, job_id), lambda _: self.look())

    def cancel_all(self) -> None:
        """Stop all jobs, and wait until they have."""
        project = self.project
        for job in self.running:
            if project is None:
                return
            try:
                jobs.cancel(project, job.job_id)
            except StoreError as refusal:
                notices.error(str(refusal))

    def read(self, act: Callable[[Sitting], Any], then: Callable[[Any], object]) -> None:
        """Read something of the project in a thread; an answer that comes too late is dropped."""
        sitting = self.sitting
        if sitting is not None:
            self.looks.run(
                lambda: act(sitting), lambda got: then(got) if self.sitting is sitting else None
            )

    def change(
        self,
        act: Callable[[Sitting], Any],
        then: Callable[[Any], object] | None = None,
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Change something in the project in a thread, after what was asked before."""
        sitting = self.sitting
        if sitting is None:
            return

        def done(got: Any) -> None:  # noqa: ANN401
            if self.sitting is sitting:
                if then is not None:
                    then(got)
                self.look()

        self.acts.run(lambda: act(sitting), done, failed)


class _Seen:
    """A look at a project."""

    def __init__(
        self, project: Project, fingerprint: object, event: int, listed: Sequence[JobRecord]
    ) -> None:
        self.project, self.fingerprint, self.event = project, fingerprint, event
        self.jobs = list(listed)


def _seen(project: Project, before: object) -> _Seen | None:
    """Look at a project; None where its database is as it was."""
    project.store.see_in_place()
    now = project.store.fingerprint()
    if now == before:
        return None
    listed = jobs.poll(project)
    return _Seen(project, now, project.store.last_event(), listed)
