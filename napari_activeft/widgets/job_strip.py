"""What computes in the background: at the foot of the session, and in napari's activity dock."""

from __future__ import annotations

from typing import Any

from napari.utils import progress
from qtpy.QtWidgets import QLabel, QProgressBar, QSizePolicy, QWidget

from napari_activeft.annotation_db import JobRecord
from napari_activeft.job_findings import headline
from napari_activeft.jobs import log_path
from napari_activeft.widgets import notices
from napari_activeft.widgets.controls import button, column, row
from napari_activeft.widgets.session_state import SessionState

_WHOLE = 1000


class JobStrip(QWidget):
    """Shows the job that runs, with a way to stop it, and how the last one ended."""

    def __init__(self, state: SessionState) -> None:
        super().__init__()
        self._state = state
        self._bars: dict[int, Any] = {}  # of napari's activity dock, by job
        self.told = QLabel("Nothing is being computed.")
        self.told.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.bar = QProgressBar()
        self.bar.setRange(0, _WHOLE)
        self.bar.setTextVisible(True)
        self.cancel_button = button("Cancel", "Stop it; what was done before stays", self.cancel)
        self.log_button = button("Log", "Show the log of the last job", self._show_log)
        for one in (self.log_button, self.cancel_button):
            one.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        column(self.told, row(self.bar, self.cancel_button, self.log_button), parent=self, margin=4)
        self._show(None)
        state.jobs_changed.connect(self._on_jobs)
        state.job_ended.connect(self._on_end)
        state.project_changed.connect(self._on_project)

    def cancel(self) -> None:
        """Stop the job that is shown."""
        running = self._state.running
        if running:
            self.told.setText(f"{running[0].verb}: being stopped …")
            self.cancel_button.setEnabled(False)
            self._state.cancel(running[0].job_id)

    def close_bars(self) -> None:
        """Take everything out of napari's activity dock."""
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()

    def _on_project(self) -> None:
        self.close_bars()
        self.told.setText("Nothing is being computed.")
        self._show(None)

    def _on_jobs(self) -> None:
        running = self._state.running
        self._show(running[0] if running else None)
        for job in running:
            self._in_activity_dock(job)

    def _show(self, job: JobRecord | None) -> None:
        # Kept in place while nothing runs, so that the panels above do not jump.
        self.bar.setEnabled(job is not None)
        self.cancel_button.setEnabled(job is not None and job.cancel_asked_at is None)
        self.log_button.setEnabled(bool(self._state.jobs))
        if job is None:
            self.bar.setValue(0)
            self.bar.setFormat("")
            return
        self.told.setText(_in_words(job))
        self.bar.setValue(_WHOLE * job.done // job.total if job.total else 0)
        self.bar.setFormat(f"{job.done:,} of {job.total:,}" if job.total else "")

    def _in_activity_dock(self, job: JobRecord) -> None:
        bar = self._bars.get(job.job_id)
        if bar is None:
            bar = self._bars[job.job_id] = progress(total=job.total or 0, desc=job.verb)
        if job.total:
            bar.total = job.total
            bar.n = job.done
            bar.refresh()

    def _on_end(self, job: JobRecord) -> None:
        bar = self._bars.pop(job.job_id, None)
        if bar is not None:
            bar.close()
        reason = f": {job.reason}" if job.reason else ""
        self.told.setText(f"{job.verb} {job.state}{reason}")
        self.told.setToolTip(self.told.text())
        if job.state == "failed":
            notices.error(f"{job.verb} did not finish{reason}")
        elif job.state == "done":
            self._state.read(
                lambda sitting: headline(sitting.project, job),
                lambda said: notices.tell(said or f"{job.verb} is done"),
            )

    def _show_log(self) -> None:
        project, jobs = self._state.project, self._state.jobs
        if project is None or not jobs:
            return
        from napari_activeft.widgets.log_window import LogWindow

        self._window = LogWindow(log_path(project, jobs[-1]), self)
        self._window.show()


def _in_words(job: JobRecord) -> str:
    if job.state == "queued":
        return f"{job.verb}: waits for its turn"
    return f"{job.verb}, with {job.threads} threads" if job.threads else job.verb
