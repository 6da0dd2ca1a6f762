"""Jobs for tests: verbs whose work is a few lines of the test, in real processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from textwrap import indent
from typing import Any

from napari_activeft.annotation_db import UNFINISHED, JobRecord

from napari_activeft import jobs
from napari_activeft.project import Project
from napari_activeft.settings import DoctorSettings, EmbedSettings

_TASK = """
import os, signal, sys, time
from pathlib import Path
from napari_activeft import job_task, workflow
from napari_activeft.errors import UserError, no_progress
from napari_activeft.project import Project
from napari_activeft.results import ClassesResult
from napari_activeft.settings import {settings}

def verb(project: Project, settings: {settings} = {settings}(), on_progress=no_progress):
{body}
    return ClassesResult(project.store.classes())

verb.__module__ = workflow.__name__
workflow.{name} = verb
job_task.main()
"""
_WATCH = "from napari_activeft import job_worker as j; j.TASK = ('-c', {task!r}); j.main()"
_SETTINGS = {"doctor": DoctorSettings, "embed": EmbedSettings}


def start_doing(
    project: Project, body: str, monkeypatch: Any, verb: str = "doctor", **how: Any
) -> int:
    """Start a job whose verb does what ``body`` says; "embed" is a heavy one, "doctor" a light."""
    settings = _SETTINGS[verb]
    body = indent(body.strip(), "    ")
    task = _TASK.format(settings=settings.__name__, body=body, name=verb)
    monkeypatch.setattr(jobs, "WORKER", ("-c", _WATCH.format(task=task)))
    return jobs.start_job(project, verb, settings(), **how)


def wait_until(
    project: Project, job_id: int, holds: Callable[[JobRecord], object], seconds: float = 90.0
) -> JobRecord:
    """Return a job once something holds of it."""
    deadline = time.monotonic() + seconds
    while not holds(job := jobs.poll_job(project, job_id)):
        assert time.monotonic() < deadline, job
        assert job.state in UNFINISHED, job
        time.sleep(0.02)
    return job
