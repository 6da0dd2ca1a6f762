"""What the verbs of `jobs` print."""

from __future__ import annotations

from rich.markup import escape

from napari_activeft.results import JobResult, JobsResult
from napari_activeft.screen import new_table, out, tables
from napari_activeft.terminal.showing import show


@show.register
def _(result: JobResult) -> None:
    out.print(f"job {result.job}: {result.verb}, {result.state}{_progress(result)}")
    if result.reason:
        out.print(f"  {escape(result.reason)}")
    if result.result:
        out.print(f"  result  {escape(str(result.result))}")
    out.print(f"  log     {escape(str(result.log))}")
    for line in result.tail:
        out.print(f"  | {escape(line)}")
    if result.state in ("queued", "running"):
        out.print(f"next: `napari-activeft jobs show {result.job}`, or `jobs cancel {result.job}`")
    elif result.state in ("failed", "cancelled"):
        out.print(f"next: `napari-activeft jobs resume {result.job}` starts it again")


@show.register
def _(result: JobsResult) -> None:
    if not result.jobs:
        out.print("no jobs yet: --background makes one of a step, such as `embed --background`")
        return
    table = new_table("job", "step", "state", "progress", "started (UTC)", "why")
    for job in result.jobs:
        started = f"{job.started_at:%Y-%m-%d %H:%M}" if job.started_at else ""
        progress = _progress(job).removeprefix(", ")
        why = escape(job.reason or "")
        table.add_row(str(job.job), job.verb, job.state, progress, started, why)
    tables.print(table)


def _progress(result: JobResult) -> str:
    return f", {result.done} of {result.total}" if result.total else ""
