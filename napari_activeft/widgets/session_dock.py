"""The dock widget: all panels in the order of the work."""

from __future__ import annotations

from pathlib import Path

import napari

from napari_activeft.preferences import Preferences
from napari_activeft.session.opening import Opened
from napari_activeft.widgets import keys
from napari_activeft.widgets.desk import Desk
from napari_activeft.widgets.panel_dock import PanelDock
from napari_activeft.widgets.pool_panel import PoolPanel
from napari_activeft.widgets.project_panel import ProjectPanel
from napari_activeft.widgets.queue_panel import QueuePanel
from napari_activeft.widgets.review_panel import ReviewPanel
from napari_activeft.widgets.select_panel import SelectPanel
from napari_activeft.widgets.task_control import TaskControl
from napari_activeft.widgets.train_panel import TrainPanel


class SessionDock(PanelDock):
    """The annotation session.

    Parameters
    ----------
    napari_viewer
        Whose layers it works with; napari gives it.
    project
        Folder of a project to open at once.
    """

    def __init__(
        self,
        napari_viewer: napari.Viewer,
        project: Path | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        super().__init__(napari_viewer, preferences)
        self.desk = Desk(self.state.viewer, self)
        self.task = TaskControl(self.state, self.desk, self)
        self.project = ProjectPanel(self.state)
        self.pool = PoolPanel(self.state)
        self.select = SelectPanel(self.state, self.pictures)
        self.queue = QueuePanel(self.state, self.task, self.pictures)
        self.train = TrainPanel(self.state)
        self.review = ReviewPanel(self.state, self.task, self.pictures)
        self.lay_out(
            [
                ("Project", self.project, "Open a project; its classes, and export"),
                ("Pool", self.pool, "The images there are to choose from"),
                ("Select", self.select, "Choose the few slices that are worth labelling"),
                ("Queue", self.queue, "Label the slices that were chosen"),
                ("Train", self.train, "Train a network on what is labelled"),
                ("Review", self.review, "Accept or correct what the network predicts"),
            ]
        )
        self._bind_keys()
        self.state.project_changed.connect(self._on_project)
        self.task.opened.connect(self._on_opened)
        if project is not None:
            self.state.open(project)

    def _on_project(self) -> None:
        if self.state.project is None:
            self.go_to(self.project)

    def _on_opened(self, found: Opened) -> None:
        self.go_to(self.queue if found.proposal is None else self.review)

    def _bind_keys(self) -> None:
        box, review = self.queue.box, self.review
        keys.bind(
            self,
            {
                "next": self._next,
                "submit": lambda: box.submit() if self.task.current is not None else None,
                "empty": self.task.empty,
                "skip": box.ask_skip,
                "back": self.task.hand_back,
                "others": lambda: self.task.set_others(not self.task.others),
                "return": self.task.go_back,
                "accept": review.accept,
                "reject": review.reject,
                "unsure": review.unsure.toggle,
                "help": lambda: keys.show_help(self),
            },
        )
        keys.bind_classes(self, box.bar.choose_place)

    def _next(self) -> None:
        if self.panel is self.review:
            self.review.next()
        else:
            self.queue.next()

    def end_work(self) -> None:
        """Put all strokes onto the disk and let the slice go."""
        self.task.end()
        self.desk.close()
