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
from napari_activeft.settings.evaluation import EvaluateSettings
from napari_activeft.settings.learning import TrainSettings
from napari_activeft.settings.outcome import (
    DoctorSettings,
    ExportSettings,
    ImportSettings,
    NextSettings,
    SubmitSettings,
)
from napari_activeft.settings.pool import AddAllSettings, AddSettings, EmbedSettings, InitSettings
from napari_activeft.settings.prediction import PredictSettings
from napari_activeft.settings.pretraining import PretrainSettings
from napari_activeft.settings.review import AcceptSettings, ApproveSettings, RejectSettings
from napari_activeft.settings.simulation import SimulateSettings

__all__ = [
    "AcceptSettings",
    "ActiveFTSettings",
    "AddAllSettings",
    "AddSettings",
    "ApproveSettings",
    "Budget",
    "ChoiceSettings",
    "CompareSettings",
    "DoctorSettings",
    "EmbedSettings",
    "EvaluateSettings",
    "ExportSettings",
    "ImportSettings",
    "InitSettings",
    "NextSettings",
    "PredictSettings",
    "PretrainSettings",
    "RejectSettings",
    "SelectSettings",
    "Settings",
    "SimulateSettings",
    "SubmitSettings",
    "TrainSettings",
]
