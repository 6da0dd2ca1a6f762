"""How good a round's choice is, as figures for the store and as a page for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import RoundRecord, SliceRow
from napari_activeft.errors import UserError
from napari_activeft.pool import VolumeCache, normalise, picture, take_slice
from napari_activeft.project import Project
from napari_activeft.selection import SELECTORS, Selection
from napari_activeft.selection import select as choose
from napari_activeft.selection.coverage import CoverageFigures, CoverageMeter
from napari_activeft.selection.coverage_curve import PrefixCurve, prefix_curve

BASELINES = ("stratified_random", "fixed_interval")
# Measuring shall not take longer than choosing: a large pool is compared with fewer draws.
_DRAWS, _FEW_DRAWS, _LARGE = 50, 5, 20_000


@dataclass(frozen=True)
class RoundPicture:
    """Coverage of a round's picks together with what was labelled before.

    Attributes
    ----------
    figures
        Of labelled slices and picks together.
    curve
        Of the prefixes of the picks and of the baselines.
    """

    figures: CoverageFigures
    curve: PrefixCurve

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        return asdict(self.figures)


def measured(
    pool: Sequence[SliceRow],
    vectors: NDArray[np.float32],
    picks: NDArray[np.int64],
    labelled: Sequence[int],
) -> RoundPicture:
    """Measure how well labelled slices and picks stand for the pool, without any label."""
    meter = CoverageMeter(
        vectors,
        groups=[row.volume_id for row in pool],
        cases=[row.case for row in pool],
        positions=[row.position for row in pool],
        emptiness=np.array([row.emptiness for row in pool]),
        draws=_DRAWS if len(pool) <= _LARGE else _FEW_DRAWS,
    )
    support = [*labelled, *picks.tolist()]
    rankings = {"this selection": support} | {
        name: _baseline(name, pool, len(support)) for name in BASELINES
    }
    curve = prefix_curve(meter, rankings, draws=10 if len(pool) <= _LARGE else 3)
    return RoundPicture(meter.figures(support), curve)


def _baseline(name: str, pool: Sequence[SliceRow], budget: int) -> list[int]:
    rows = choose(
        None,
        budget,
        keys=[row.key for row in pool],
        groups=[row.volume_id for row in pool],
        positions=[row.position for row in pool],
        selector=name,
    ).rows
    return [int(row) for row in rows]


def write_page(
    project: Project,
    stored: RoundRecord,
    pool: Sequence[SliceRow],
    selection: Selection,
    vectors: NDArray[np.float32] | None,
    shown: RoundPicture | None,
) -> Path:
    """Write the round's page into the project's ``reports`` folder and return it."""
    from napari_activeft.reports.selection_page import SelectionPage, selection_page

    names = {volume.volume_id: volume.name for volume in project.store.volumes()}
    report = {
        key: value for key, value in selection.report.items() if not isinstance(value, (dict, list))
    }
    page = selection_page(
        SelectionPage(
            title=project.store.project().name,
            subtitle=f"round {stored.number}: {len(selection.rows)} of {len(pool)} slices by "
            f"{stored.selector}, {SELECTORS[stored.selector].summary}",
            names=[f"{names[row.volume_id]}, slice {row.position}" for row in pool],
            cases=[row.case for row in pool],
            picks=selection.rows,
            vectors=vectors,
            labelled=sorted(_labelled_before(project, stored, pool)),
            figures=shown.figures if shown else None,
            curve=shown.curve if shown else None,
            thumbnail=_thumbnails(project, pool),
            settings=_flat(stored.settings) | report,
            hashes={
                "pool checksum": stored.pool_checksum,
                "encoder": stored.encoder or "none",
                "weight hash": stored.weight_hash or "none",
            },
            seed=stored.seed,
            notes=_notes(selection),
            flatten="pca",
        )
    )
    path = project.folder / "reports" / f"round-{stored.number:03d}.html"
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as refusal:
        raise UserError(
            f"round {stored.number} is stored, but its page {path} cannot be written "
            f"({refusal.strerror}): mend the rights of the folder or free some space"
        ) from refusal
    return path


def _labelled_before(project: Project, stored: RoundRecord, pool: Sequence[SliceRow]) -> set[int]:
    """Return the rows that earlier rounds asked, or that had a mask."""
    queries = project.store.queries()
    earlier = {q.slice_id for q in queries if q.round_number < stored.number}
    skipped = {q.slice_id for q in queries if q.state == "skipped"}
    had = (earlier - skipped) | {record.slice_id for record in project.store.accepted()}
    return {index for index, row in enumerate(pool) if row.slice_id in had}


def _notes(selection: Selection) -> list[str]:
    if selection.report.get("converged", True):
        return []
    error = selection.report.get("marginal_error")
    return [
        "The transport was not solved to its tolerance"
        + (f" (marginal error {error:.1e})" if isinstance(error, float) else "")
        + ": the slices are a fair choice, but their figures below count, not the method's promise."
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
