"""How good a round's choice is, as figures for the store and as a page for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import NewRound, SliceRow
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.project import Project
from napari_activeft.select_arguments import as_command, as_options
from napari_activeft.selection import SELECTORS, Selection
from napari_activeft.selection.coverage import CoverageFigures, CoverageMeter, ratio
from napari_activeft.selection.coverage_curve import PrefixCurve, prefix_curve
from napari_activeft.settings import SelectSettings
from napari_activeft.slice_pictures import SlicePictures

DRAWN_BASELINES = ("stratified_random", "fixed_interval")
BASELINES = (*DRAWN_BASELINES, "kmeans")
"""What every choice is set against; the first two cost next to nothing."""
# Measuring shall not take longer than choosing: a large pool is compared with fewer draws.
_DRAWS, _FEW_DRAWS, _LARGE = 50, 5, 20_000
_CURVE_DRAWS, _FEW_CURVE_DRAWS = 10, 3
MODEST = 4_000_000
"""Slices times picks up to which the selection is set against others that take their time."""
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class RoundPicture:
    """Coverage of a round's picks together with what was labelled before.

    Attributes
    ----------
    meter
        Of the pool.
    figures
        Of labelled slices and picks together.
    curve
        Of the prefixes of the picks and of the baselines, each beside what was labelled before.
    rw1_beside
        W1 of labelled slices and picks over that of labelled slices and as many random draws;
        None where nothing was labelled.
    against_fresh
        W1 of labelled slices and picks over that of as many slices that the same selector chose
        without regard to labels; None where nothing was labelled or that was not measured.
    remarks
        Sentences about these comparisons, and about those that could not be made.
    """

    meter: CoverageMeter
    figures: CoverageFigures
    curve: PrefixCurve
    rw1_beside: float | None = None
    against_fresh: float | None = None
    remarks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        beside = {} if self.rw1_beside is None else {"rw1_beside": self.rw1_beside}
        return asdict(self.figures) | beside


def measured(
    pool: Sequence[SliceRow],
    vectors: NDArray[np.float32],
    rankings: Mapping[str, NDArray[np.int64]],
    labelled: Sequence[int],
    on_progress: OnProgress = no_progress,
) -> RoundPicture:
    """Measure how well labelled slices and picks stand for the pool, without any label.

    Parameters
    ----------
    pool, vectors
        n slices and what the encoder made of them, (n, d).
    rankings
        Ranked rows by name: first the picks of this round, then those of the baselines.
    labelled
        Rows labelled or asked before.
    on_progress
        Called with (steps done, steps in all); it may raise `Cancelled`.
    """
    few = len(pool) > _LARGE
    meter = CoverageMeter(
        vectors,
        groups=[row.volume_id for row in pool],
        cases=[row.case for row in pool],
        positions=[row.position for row in pool],
        emptiness=np.array([row.emptiness for row in pool]),
        draws=_FEW_DRAWS if few else _DRAWS,
    )
    draws = _FEW_CURVE_DRAWS if few else _CURVE_DRAWS
    curve = prefix_curve(meter, rankings, base=labelled, draws=draws, on_progress=on_progress)
    picks = next(iter(rankings.values()))
    figures = meter.figures([*labelled, *picks.tolist()], on_progress)
    beside = None
    if labelled:
        drawn = meter.random_beside(labelled, len(picks), draws, on_progress)
        beside = ratio(figures.w1, drawn)
    return RoundPicture(meter, figures, curve, beside)


def set_against_fresh(
    shown: RoundPicture,
    fresh: NDArray[np.int64] | None,
    why_not: str,
    on_progress: OnProgress = no_progress,
) -> RoundPicture:
    """Add how close labelled slices and picks come to a fresh selection of as many.

    Parameters
    ----------
    fresh, why_not
        Its rows, or None and the reason.
    """
    total = shown.figures.picks
    if fresh is None:
        remark = f"No fresh selection of {total} slices was made to compare with: {why_not}."
        return replace(shown, remarks=(remark,))
    on_progress(0, 1)
    against = ratio(shown.figures.w1, shown.meter.w1(fresh))
    on_progress(1, 1)
    return replace(shown, against_fresh=against, remarks=(_fresh_remark(total, against),))


def _fresh_remark(total: int, against: float) -> str:
    if abs(against - 1) < 0.0005:
        how = "as near to the pool (W1) as"
    elif against == float("inf"):
        how = "farther from the pool (W1), which they would meet exactly, than"
    else:
        side = "farther from" if against > 1 else "nearer to"
        how = f"{100 * abs(against - 1):.1f} % {side} the pool (W1) than"
    return f"All {total} slices asked so far stand {how} {total} chosen afresh would."


def rendered(
    project: Project,
    number: int,
    asked: NewRound,
    settings: SelectSettings,
    pool: Sequence[SliceRow],
    labelled: Sequence[int],
    selection: Selection,
    vectors: NDArray[np.float32] | None,
    shown: RoundPicture | None,
) -> str:
    """Return the page of a round that is about to be stored under ``number``."""
    from napari_activeft.reports.selection_page import SelectionPage, selection_page

    names = project.store.volume_names()
    return selection_page(
        SelectionPage(
            title=project.store.project().name,
            subtitle=f"round {number}: {len(selection.rows)} of {len(pool)} slices by "
            f"{asked.selector}, {SELECTORS[asked.selector].summary}",
            names=[f"{names[row.volume_id]}, slice {row.position}" for row in pool],
            cases=[row.case for row in pool],
            picks=selection.rows,
            vectors=vectors,
            labelled=labelled,
            figures=shown.figures if shown else None,
            rw1_beside=shown.rw1_beside if shown else None,
            curve=shown.curve if shown else None,
            thumbnail=_thumbnails(project, pool),
            command=as_command(settings, asked.encoder),
            settings=as_options(settings, asked.encoder),
            report={
                key: value
                for key, value in selection.report.items()
                if not isinstance(value, (dict, list)) and key not in {"seed", "selector"}
            },
            hashes={
                "pool checksum": asked.pool_checksum,
                "encoder": asked.encoder or "none",
                "weight hash": asked.weight_hash or "none",
            },
            seed=asked.seed,
            notes=solver_notes(selection.report, settings),
            remarks=shown.remarks if shown else (),
            flatten=settings.map_by,
        )
    )


def write_page(project: Project, number: int, html: str) -> Path:
    """Write the page of a stored round into the project's ``reports`` folder and return it."""
    path = project.folder / "reports" / f"round-{number:03d}.html"
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as refusal:
        raise UserError(
            f"round {number} is stored, but its page {path} cannot be written "
            f"({refusal.strerror}): mend the rights of the folder or free some space"
        ) from refusal
    return path


def solver_notes(report: Mapping[str, Any], settings: SelectSettings) -> list[str]:
    """Say which stages of a solver fell short of their tolerance, each by its name."""
    notes = []
    entropic = report.get("entropic")
    if isinstance(entropic, dict) and not entropic.get("converged", True):
        notes.append(
            "The placing of centres (the entropic stage) did not converge to its tolerance"
            f"{_error(entropic)}: it only gives the starting point; the exchanges that follow "
            "work on the exact plan."
        )
    plan = report.get("plan")
    held = plan if isinstance(plan, dict) else report
    error = held.get("marginal_error")
    if isinstance(error, float) and error >= _TOLERANCE:
        notes.append(
            f"The transport plan misses the wanted masses{_error(held)}: the slices are a fair "
            "choice, but go by the measured figures."
        )
    # Who asked for no walks knows that nothing was searched.
    searched = settings.activeft.walks > 0
    if searched and not report.get("search_finished", True):
        notes.append(
            "The search for better exchanges stopped at its limit of walks: more walks "
            "(--set walks=N) may still improve the choice."
        )
    if not notes and searched and not report.get("converged", True):
        notes.append("The solver did not reach its tolerance: go by the measured figures.")
    return notes


def _error(stage: Mapping[str, Any]) -> str:
    error = stage.get("marginal_error")
    return f" (marginal error {error:.1e})" if isinstance(error, float) else ""


def _thumbnails(
    project: Project, pool: Sequence[SliceRow]
) -> Callable[[int], NDArray[np.uint8] | None]:
    """Return a way to the picture of a row; None where its image cannot be read."""
    pictures = SlicePictures(project)
    return lambda row: pictures.of(pool[row].volume_id, pool[row].position)
