"""What a job that ended has to tell, read from the file that it left."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from napari_activeft.annotation_db import JobRecord
from napari_activeft.jobs import log_path
from napari_activeft.project import Project
from napari_activeft.wording import counted

_OTHER_VERSION = (KeyError, TypeError, AttributeError, ValueError)
"""What a file of another version makes of the code here."""


def result_of(project: Project, job: JobRecord) -> dict[str, Any]:
    """Return what the step handed back, as its ``--json`` prints it; empty where it did not end."""
    try:
        told = json.loads(log_path(project, job).with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def problems_of(project: Project, job: JobRecord) -> list[str]:
    """Return a sentence for each file that a job passed over."""
    result = result_of(project, job)
    try:
        parts = [result, *result["paths"].values()] if "paths" in result else [result]
        return [
            problem["sentence"]
            if problem["path"] in problem["sentence"]
            else f"{problem['path']}: {problem['sentence']}"
            for part in parts
            for problem in part.get("problems", [])
        ]
    except _OTHER_VERSION:
        return []


def headline(project: Project, job: JobRecord) -> str:
    """Say in a sentence what came out of a job; empty where there is nothing to say."""
    told = result_of(project, job)
    try:
        return _HEADLINES[job.verb](told) if told and job.verb in _HEADLINES else ""
    except _OTHER_VERSION:
        return ""


def _added(told: dict[str, Any]) -> str:
    added = sum(one["added"] for one in told["paths"].values())
    known = sum(one["known"] + one["moved"] for one in told["paths"].values())
    more = f", {known} were known" if known else ""
    passed = sum(len(one["problems"]) for one in told["paths"].values())
    bad = f", {counted(passed, 'file')} passed over" if passed else ""
    return f"{counted(added, 'volume')} added{more}{bad}"


def _trained(told: dict[str, Any]) -> str:
    score = "" if told["score"] is None else f", Dice {told['score']:.3f} on cases held back"
    return f"run {told['run']} learnt from {counted(told['slices'], 'slice')}{score}"


_HEADLINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "add-all": _added,
    "embed": lambda told: f"{counted(told['embedded'], 'slice')} embedded by {told['encoder']}",
    "select": lambda told: f"round {told['round']}: {counted(told['selected'], 'slice')} queued",
    "train": _trained,
    "predict": lambda told: (
        f"{counted(told['proposed'], 'mask')} proposed, in {counted(told['volumes'], 'volume')}"
    ),
    "export": lambda told: f"{counted(told['files'], 'file')} written to {told['folder']}",
}
