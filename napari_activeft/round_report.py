"""How good a round's choice is, as figures for the store and as a page for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import NewRound, SliceRow
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.pool import VolumeCache, normalise, picture, take_slice
from napari_activeft.project import Project
from napari_activeft.selection import SELECTORS, Selection
from napari_activeft.selection import select as choose
from napari_activeft.selection.coverage import CoverageFigures, CoverageMeter, ratio
from napari_activeft.selection.coverage_curve import PrefixCurve, prefix_curve

BASELINES = ("stratified_random", "fixed_interval")
# Measuring shall not take longer than choosing: a large pool is compared with fewer draws.
_DRAWS, _FEW_DRAWS, _LARGE = 50, 5, 20_000
MODEST = 4_000_000
"""Slices times picks up to which the selection is set against others that take their time."""
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class RoundPicture:
    """Coverage of a round's picks together with what was labelled before.

    Attributes
    ----------
    figures
        Of labelled slices and picks together.
    curve
        Of the prefixes of the picks and of the baselines, each beside what was labelled before.
    against_fresh
        W1 of labelled slices and picks over that of as many slices that the same selector chose
        without regard to labels; None where nothing was labelled or that was not measured.
    """

    figures: CoverageFigures
    curve: PrefixCurve
    against_fresh: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        return asdict(self.figures)


def measured(
    pool: Sequence[SliceRow],
    vectors: NDArray[np.float32],
    picks: NDArray[np.int64],
    labelled: Sequence[int],
    fresh: NDArray[np.int64] | None = None,
    on_progress: OnProgress = no_progress,
) -> RoundPicture:
    """Measure how well labelled slices and picks stand for the pool, without any label.

    Parameters
    ----------
    pool, vectors
        n slices and what the encoder made of them, (n, d).
    picks, labelled
        Rows of this round, ranked, and rows labelled or asked before.
    fresh
        As many rows as both, chosen as if nothing had been labelled; None where not chosen.
    on_progress
        Called with (steps done, steps in all); it may raise `Cancelled`.
    """
    meter = CoverageMeter(
        vectors,
        groups=[row.volume_id for row in pool],
        cases=[row.case for row in pool],
        positions=[row.position for row in pool],
        emptiness=np.array([row.emptiness for row in pool]),
        draws=_DRAWS if len(pool) <= _LARGE else _FEW_DRAWS,
    )
    rankings = {"this selection": picks.tolist()} | {
        name: _baseline(name, pool, vectors, len(picks), labelled)
        for name in (*BASELINES, "kmeans")
        if name in BASELINES or len(pool) * len(picks) <= MODEST
    }
    curve = prefix_curve(
        meter,
        rankings,
        base=labelled,
        draws=10 if len(pool) <= _LARGE else 3,
        on_progress=on_progress,
    )
    figures = meter.figures([*labelled, *picks.tolist()], on_progress)
    against = None if fresh is None else ratio(figures.w1, meter.w1(fresh))
    return RoundPicture(figures, curve, against)


def _baseline(
    name: str,
    pool: Sequence[SliceRow],
    vectors: NDArray[np.float32],
    budget: int,
    labelled: Sequence[int],
) -> list[int]:
    rows = choose(
        vectors if SELECTORS[name].needs_vectors else None,
        budget,
        keys=[row.key for row in pool],
        groups=[row.volume_id for row in pool],
        positions=[row.position for row in pool],
        labelled=labelled,
        selector=name,
    ).rows
    return [int(row) for row in rows]


def rendered(
    project: Project,
    number: int,
    asked: NewRound,
    pool: Sequence[SliceRow],
    labelled: Sequence[int],
    selection: Selection,
    vectors: NDArray[np.float32] | None,
    shown: RoundPicture | None,
) -> str:
    """Return the page of a round that is about to be stored under ``number``."""
    from napari_activeft.reports.selection_page import SelectionPage, selection_page

    names = {volume.volume_id: volume.name for volume in project.store.volumes()}
    report = {
        key: value
        for key, value in selection.report.items()
        if not isinstance(value, (dict, list)) and key not in {"seed", "selector"}
    }
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
            curve=shown.curve if shown else None,
            thumbnail=_thumbnails(project, pool),
            settings=_flat({**asked.settings, "seed": None}) | report,
            hashes={
                "pool checksum": asked.pool_checksum,
                "encoder": asked.encoder or "none",
                "weight hash": asked.weight_hash or "none",
            },
            seed=asked.seed,
            notes=[*solver_notes(selection.report), *fresh_notes(shown, len(labelled))],
            flatten="pca",
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


def solver_notes(report: Mapping[str, Any]) -> list[str]:
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
    if not report.get("search_finished", True):
        notes.append(
            "The search for better exchanges stopped at its limit of walks: more walks "
            "(--set walks=N) may still improve the choice."
        )
    if not notes and not report.get("converged", True):
        notes.append("The solver did not reach its tolerance: go by the measured figures.")
    return notes


def _error(stage: Mapping[str, Any]) -> str:
    error = stage.get("marginal_error")
    return f" (marginal error {error:.1e})" if isinstance(error, float) else ""


def fresh_notes(shown: RoundPicture | None, labelled: int) -> list[str]:
    """Say how close labelled slices and picks come to a fresh selection of as many."""
    if shown is None or not labelled:
        return []
    total = shown.figures.picks
    if shown.against_fresh is None:
        return [
            f"No fresh selection of {total} slices was made to compare with: the pool is too "
            "large for that, or the caps do not allow it."
        ]
    return [
        f"All {total} slices asked so far are {shown.against_fresh:.3f} times as far from the pool "
        f"(W1) as a fresh selection of {total} would be; 1 is as near."
    ]


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without nesting."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name} {inner}": held for inner, held in value.items() if held is not None}
        elif value is not None:
            flat[name] = value
    return flat


def _thumbnails(
    project: Project, pool: Sequence[SliceRow]
) -> Callable[[int], NDArray[np.uint8] | None]:
    """Return a way to the picture of a row; None where its image cannot be read."""
    volumes = {volume.volume_id: volume for volume in project.store.volumes()}
    # Not the project's own cache: who labels next wants to know that an image went missing.
    cache = VolumeCache(lambda volume_id: project.open_volume(volumes[volume_id]))

    def thumbnail(row: int) -> NDArray[np.uint8] | None:
        volume = volumes[pool[row].volume_id]
        try:
            data = cache.volume(volume.volume_id).data
        except UserError:
            return None
        ranges = [(low, high) for low, high in volume.intensity_range]
        return picture(normalise(take_slice(data, volume.axis, pool[row].position), ranges))

    return thumbnail
