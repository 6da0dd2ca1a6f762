"""Every default of the program, one frozen class per verb.

A setting that is out of its range is refused with a sentence when the class is made.
"""

from napari_activeft.settings.base import Settings
from napari_activeft.settings.choice import (
    ActiveFTSettings,
    Budget,
    ChoiceSettings,
    CompareSettings,
    SelectSettings,
)
from napari_activeft.settings.outcome import (
    DoctorSettings,
    ExportSettings,
    ImportSettings,
    NextSettings,
    SubmitSettings,
)
from napari_activeft.settings.pool import AddSettings, EmbedSettings, InitSettings

__all__ = [
    "ActiveFTSettings",
    "AddSettings",
    "Budget",
    "ChoiceSettings",
    "CompareSettings",
    "DoctorSettings",
    "EmbedSettings",
    "ExportSettings",
    "ImportSettings",
    "InitSettings",
    "NextSettings",
    "SelectSettings",
    "Settings",
    "SubmitSettings",
]
