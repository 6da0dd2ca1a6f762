"""What `predict` prints."""

from __future__ import annotations

from rich.markup import escape

from napari_activeft.results.prediction import PredictResult
from napari_activeft.screen import list_problems, out
from napari_activeft.terminal.showing import show
from napari_activeft.wording import counted


@show.register
def _(result: PredictResult) -> None:
    runs = " and ".join(str(run) for run in result.runs)
    which = "run" if len(result.runs) == 1 else "runs"
    out.print(
        f"predicted {counted(result.slices, 'slice')} of {counted(result.volumes, 'volume')} by "
        f"{which} {runs}: {counted(result.proposed, 'mask')} proposed"
    )
    if result.slices:
        out.print(
            f"  {result.seconds:.1f} s, {result.seconds / result.slices:.3f} s a slice "
            f"({result.device}, {result.precision})"
        )
    if result.uncertainty is not None:
        out.print(
            f"  mean uncertainty of a slice {result.uncertainty:.3f} of 1, each in "
            f"{escape(str(result.table))}"
        )
    if result.nifti:
        out.print(f"  label maps in {escape(str(result.nifti))}")
    for note in result.notes:
        out.print(f"  note: {escape(note)}")
    list_problems(result.problems, "volume")
    if result.proposed:
        out.print("next: `napari-activeft accept` takes what is right, `evaluate` measures")
