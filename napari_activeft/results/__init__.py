"""What each verb hands back, to the command line and the viewer alike."""

from __future__ import annotations

from napari_activeft.results.evaluation import EvaluateResult
from napari_activeft.results.outcome import (
    DoctorResult,
    ExportResult,
    InfoResult,
    VerifyResult,
    WeightsResult,
)
from napari_activeft.results.pool import (
    AddAllResult,
    AddResult,
    ClassesResult,
    EmbedResult,
    InitResult,
)
from napari_activeft.results.prediction import PredictResult
from napari_activeft.results.pretraining import PretrainResult
from napari_activeft.results.review import AcceptResult, ApproveResult, RejectResult
from napari_activeft.results.rounds import ImportResult, NextResult, SelectResult, SubmitResult
from napari_activeft.results.simulation import SimulateResult
from napari_activeft.results.training import TrainResult
from napari_activeft.results.work import JobResult, JobsResult
from napari_activeft.results.written import to_json

__all__ = [
    "AcceptResult",
    "AddAllResult",
    "AddResult",
    "ApproveResult",
    "ClassesResult",
    "DoctorResult",
    "EmbedResult",
    "EvaluateResult",
    "ExportResult",
    "ImportResult",
    "InfoResult",
    "InitResult",
    "JobResult",
    "JobsResult",
    "NextResult",
    "PredictResult",
    "PretrainResult",
    "RejectResult",
    "SelectResult",
    "SimulateResult",
    "SubmitResult",
    "TrainResult",
    "VerifyResult",
    "WeightsResult",
    "to_json",
]
