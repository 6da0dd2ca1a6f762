"""The command line: reads arguments, calls `workflow`, prints. The same verbs, the same order.

Exit codes: 0 done, 1 something the user can mend (one line, no traceback), 2 wrong usage.
"""

from __future__ import annotations

import io
import sys

from napari_activeft.cli import (
    evaluation_verbs,
    job_verbs,
    learning_verbs,
    outcome_verbs,
    pool_verbs,
    prediction_verbs,
    review_verbs,
    round_verbs,
    simulation_verbs,
    weights_verbs,
)
from napari_activeft.cli.app import app, group, register

__all__ = ["app", "main"]

for verb in (
    pool_verbs.init,
    pool_verbs.add,
    pool_verbs.classes,
    learning_verbs.pretrain,
    pool_verbs.embed,
    round_verbs.select,
    round_verbs.compare,
    round_verbs.next_,
    round_verbs.submit,
    round_verbs.import_labels,
    learning_verbs.train,
    prediction_verbs.predict,
    review_verbs.accept,
    review_verbs.reject,
    review_verbs.approve,
    evaluation_verbs.evaluate,
    simulation_verbs.simulate,
    outcome_verbs.export,
    outcome_verbs.info,
    outcome_verbs.doctor,
):
    register(app, verb)

weights = group("weights", "What networks learnt: list, fetch, import and check it.")
for weights_verb in (
    weights_verbs.list_,
    weights_verbs.fetch,
    weights_verbs.import_,
    weights_verbs.verify,
):
    register(weights, weights_verb)

jobs = group("jobs", "Steps that run in the background: list, show, wait for, cancel, resume them.")
for job_verb in (
    job_verbs.list_,
    job_verbs.show,
    job_verbs.wait,
    job_verbs.cancel,
    job_verbs.resume,
):
    register(jobs, job_verb)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A letter that the terminal does not know must not undo what was done.
            stream.reconfigure(errors="backslashreplace")
    app()
