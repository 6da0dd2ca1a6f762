"""The settings of this plugin in napari's preferences."""

from __future__ import annotations

from dataclasses import dataclass

from napari_activeft.project import login_name

PLUGIN = "napari-activeft"


@dataclass(frozen=True)
class Options:
    """What the page in napari's preferences says; see ``napari.yaml``.

    Attributes
    ----------
    annotator
        Name under which masks are stored; the login name if empty.
    lease_minutes
        How long a slice stays with an annotator who gives no sign of life.
    label_others
        Whether strokes on slices that were not asked for count from the start.
    opacity
        Of masks, 0 to 1.
    """

    annotator: str = ""
    lease_minutes: int = 30
    label_others: bool = False
    opacity: float = 0.5

    @classmethod
    def read(cls) -> Options:
        """Return the settings as they are now; the usual ones where napari holds none of them."""
        from napari.settings import get_plugin_settings

        try:
            told = get_plugin_settings(PLUGIN).annotation_session
        except (KeyError, AttributeError):  # the plugin is disabled, or run without its manifest
            return cls()
        return cls(
            annotator=told.annotator,
            lease_minutes=told.lease_minutes,
            label_others=told.label_others,
            opacity=told.opacity,
        )

    @property
    def name(self) -> str:
        """Who annotates."""
        return self.annotator.strip() or login_name()
