"""The selection alone: a project, its pool, and the slices that are worth labelling."""

from __future__ import annotations

import napari

from napari_activeft.preferences import Preferences
from napari_activeft.widgets import notices
from napari_activeft.widgets.panel_dock import PanelDock
from napari_activeft.widgets.pool_panel import PoolPanel
from napari_activeft.widgets.project_panel import ProjectPanel
from napari_activeft.widgets.select_panel import SelectPanel


class SelectDock(PanelDock):
    """Project, pool and selection, without the labelling.

    Parameters
    ----------
    napari_viewer
        napari gives it.
    """

    def __init__(
        self, napari_viewer: napari.Viewer, preferences: Preferences | None = None
    ) -> None:
        super().__init__(napari_viewer, preferences, draws=False)
        self.pictures.look_at = lambda volume_id, position: notices.tell(
            "to look at a slice in its volume, open the annotation session"
        )
        self.project, self.pool = ProjectPanel(self.state), PoolPanel(self.state)
        self.select = SelectPanel(self.state, self.pictures)
        self.lay_out(
            [
                ("Project", self.project, "Open a project"),
                ("Pool", self.pool, "The images there are to choose from"),
                ("Select", self.select, "Choose the few slices that are worth labelling"),
            ]
        )
