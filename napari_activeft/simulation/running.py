"""All chains of a simulation, by one process or by several side by side in one folder.

Each chain has a lock that the system takes back when a process dies, so that two processes never
make the same cell, and what a killed one was at is taken up by the next that comes by.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from napari_activeft import __version__
from napari_activeft.encoder_sources import start_by_file
from napari_activeft.errors import Cancelled, OnProgress, Problem, UserError, no_progress
from napari_activeft.extras import need_compute
from napari_activeft.project import Project
from napari_activeft.results.simulation import SimulateResult
from napari_activeft.settings.simulation import SimulateSettings
from napari_activeft.simulation.cells import AGAIN, Known, Tables
from napari_activeft.simulation.chain import ChainWork
from napari_activeft.simulation.curves import (
    Curves,
    as_csv,
    curves_of,
    difference_lines,
    point_lines,
)
from napari_activeft.simulation.material import Material
from napari_activeft.simulation.plan import Chain, Conditions, chains, conditions, see_selectors
from napari_activeft.simulation.progress import Watched
from napari_activeft.simulation.study import REPORTED, differences
from napari_activeft.training.whole_files import write_text, write_whole

PAGE = "index.html"
_LOCKS = ".chains"
_WAIT = 1.0  # seconds between two looks at what other processes are at


def simulate_project(
    project: Project, settings: SimulateSettings, on_progress: OnProgress = no_progress
) -> SimulateResult:
    """Make all cells that are not there yet, and write tables, pictures and a page.

    Parameters
    ----------
    on_progress
        Called with hundredths of cells done and to do; a `SimulationWatcher` is told more. Where
        it raises `Cancelled`, the cells so far stay, and the training under way goes on from there
        the next time.

    Raises
    ------
    UserError
        If there is nothing to choose from or to test, a setting cannot be met, or no cell at all
        could be made.
    """
    need_compute("simulating")
    start = start_by_file(settings.train.start, project.folder)
    train = settings.train.model_copy(update={"start": start})
    settings = settings.model_copy(update={"train": train})
    see_selectors(settings)
    _see_networks(settings)
    material = Material(project, settings)
    plan = chains(material, settings)
    out = settings.out or project.folder / "reports" / "simulation"
    return _Simulation(project, settings, material, plan, out).run(on_progress)


def _see_networks(settings: SimulateSettings) -> None:
    from napari_activeft.training.networks import check_network

    for name in settings.trained:
        check_network(name)


class _Simulation:
    """One call of `simulate_project`."""

    def __init__(
        self,
        project: Project,
        settings: SimulateSettings,
        material: Material,
        plan: Sequence[Chain],
        out: Path,
    ) -> None:
        self._settings, self._material, self._plan = settings, material, plan
        self._title = project.store.project().name
        self._conditions: Conditions = conditions(material, settings)
        self._tables = Tables(out, self._conditions.code, trust=settings.trust)
        self._problems: list[Problem] = []
        self._refused: list[UserError] = []

    def run(self, on_progress: OnProgress) -> SimulateResult:
        """Make all chains, in the order of the plan as far as they are free."""
        watched = Watched(on_progress, sum(chain.rounds for chain in self._plan))
        waiting = list(self._plan)
        known = self._tables.read()
        reused = sum(plan in known.cells for plan in self._cells())
        while waiting:
            left = [chain for chain in waiting if not self._is_over(chain, watched)]
            if len(left) == len(waiting):  # all of them are at other processes
                watched.look(0, 0)
                time.sleep(_WAIT)
            waiting = left
        known = self._tables.read()
        if self._refused and not any(plan in known.cells for plan in self._cells()):
            raise self._refused[0]
        return replace(self._report(known, draw=True), reused=reused)

    def _is_over(self, chain: Chain, watched: Watched) -> bool:
        """Make a chain unless another process is at it; return whether it needs no more looks."""
        known = self._tables.read()
        plans = self._plans_of(chain)
        if all(plan in known.cells for plan in plans):
            watched.done_elsewhere(len(plans))
            return True
        with self._lock(plans[-1]) as is_ours:
            if not is_ours:
                return False
            watched.chain(chain.told())
            self._make(chain, watched)
        watched.chain("")
        self._report(self._tables.read())  # so that there is something to look at meanwhile
        return True

    def _make(self, chain: Chain, watched: Watched) -> None:
        before = watched.cells
        work = ChainWork(
            self._material,
            self._settings,
            self._conditions,
            self._tables,
            chain,
            self._tables.read(),
            watched,
        )
        try:
            work.run()
        except Cancelled:
            raise
        except UserError as refusal:  # such as a loss that became NaN, which stops no other
            self._problems.append(Problem(chain.told(), str(refusal)))
            self._refused.append(refusal)
            watched.say(f"{chain.told()}: {refusal}")
            watched.done_elsewhere(chain.rounds - (watched.cells - before))

    @contextmanager
    def _lock(self, name: str) -> Iterator[bool]:
        """Give True where no other process holds this chain, until it is left."""
        from filelock import FileLock, Timeout

        folder = self._tables.folder / _LOCKS
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / f"{name}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _plans_of(self, chain: Chain) -> list[str]:
        return [self._conditions.plan_of(chain, at + 1) for at in range(chain.rounds)]

    def _cells(self) -> list[str]:
        return [plan for chain in self._plan for plan in self._plans_of(chain)]

    def _by_budgets_asked(self, known: Known) -> Known:
        """Return cells that each bear their budget as it was asked for this time.

        A share and a count may come to the same slices, and so to one cell.
        """
        asked = {
            plan: replace(known.cells[plan], budget=chain.budget)
            for chain in self._plan
            for plan in self._plans_of(chain)
            if plan in known.cells
        }
        return replace(known, cells={**known.cells, **asked})

    def _report(self, known: Known, *, draw: bool = False) -> SimulateResult:
        """Write all that follows from the cells; PNG files, which take longer, on demand."""
        known = self._by_budgets_asked(known)
        settings, material, folder = self._settings, self._material, self._tables.folder
        names = {one.value: one.name for one in material.classes}
        curves = curves_of(
            known,
            self._cells(),
            list(names),
            reference=settings.reference,
            networks=settings.trained,
            seed=settings.plan_seed,
        )
        there = [known.cells[plan] for plan in self._cells() if plan in known.cells]
        result = SimulateResult(
            cells=len(there),
            reused=0,
            total=len(self._cells()),
            points=point_lines(curves.points, names),
            differences=difference_lines(curves.differences),
            recipe=settings.recipe,
            differs=self._differs([cell.start for cell in there]),
            folder=folder,
            page=folder / PAGE,
            pictures=_pictures(folder, curves) if draw else (),
            notes=self._notes({cell.code for cell in there}, [cell.start for cell in there]),
            problems=self._problems,
        )
        write_text(folder / "curves.csv", as_csv(result.points))
        write_text(folder / "differences.csv", as_csv(result.differences))
        write_text(folder / "summary.json", self._summary(result))
        write_text(folder / PAGE, self._page(result, curves, names))
        return result

    def _differs(self, starts: Sequence[str]) -> tuple[str, ...]:
        if self._settings.recipe != "study":
            return ()
        cases = len({row.case for row in self._material.pool})
        return differences(cases, len(self._material.pool), self._settings.epochs, starts)

    def _notes(self, codes: set[str], starts: Sequence[str]) -> tuple[str, ...]:
        settings, notes = self._settings, [*self._material.notes, *self._material.about_values()]
        if codes - {self._conditions.code}:
            notes.append(
                "Some cells were made by other code than this program's, and are trusted as asked."
            )
        if settings.rounds > 1:
            notes.append(
                "Each round trains from first weights. How uncertain a network is of a slice is "
                "not calibrated: no case is put aside for that here."
            )
        if settings.folds is not None:
            notes.append(
                f"Measured inside the pool: each of {settings.folds} parts of its cases by "
                "networks that saw only the others. No case of the split test was read."
            )
        if len(set(starts)) > 1:
            notes.append(f"First weights were not the same everywhere: {'; '.join(set(starts))}.")
        return tuple(notes)

    def _summary(self, result: SimulateResult) -> str:
        told = {
            "version": __version__,
            "data": self._conditions.data,
            "recipe_hash": self._conditions.recipe,
            "code": self._conditions.code,
            "settings": json.loads(self._settings.model_dump_json()),
            "cells": result.cells,
            "total": result.total,
            "points": result.points,
            "differences": result.differences,
            "reported_by_the_study": dict(REPORTED) if result.differs else None,
            "differs_from_the_study": list(result.differs),
            "notes": list(result.notes),
            "problems": [vars(problem) for problem in result.problems],
        }
        return json.dumps(told, indent=2, allow_nan=False) + "\n"

    def _page(self, result: SimulateResult, curves: Curves, names: dict[int, str]) -> str:
        from napari_activeft.reports.simulation_page import SimulationPage, simulation_page

        return simulation_page(
            SimulationPage(
                title=self._title,
                curves=curves,
                class_names=names,
                reference=self._settings.reference,
                cells=result.cells,
                total=result.total,
                recipe=self._recipe_told(),
                differs=result.differs,
                reported=REPORTED if result.differs else (),
                notes=result.notes,
                problems=[(one.path, one.sentence) for one in result.problems],
            )
        )

    def _recipe_told(self) -> list[tuple[str, str]]:
        """Return how every network was trained and measured, as pairs of name and value."""
        settings, own = self._settings, self._settings.train
        steps = f"{settings.epochs} epochs" if settings.recipe == "study" else str(own.steps)
        tested = (
            "a tenth of the slices, over all patients"
            if settings.recipe == "study"
            else f"{settings.folds} folds of the pool's cases"
            if settings.folds
            else f"cases of the split {settings.test_split}"
        )
        shown = ("batch", "lr", "pixel_mm", "size", "context", "ema", "augmentation", "turns")
        return [
            ("recipe", settings.recipe),
            ("tested on", tested),
            ("steps", steps),
            *((name, str(getattr(own, name))) for name in shown),
            ("test-time augmentation", settings.tta),
            ("only the largest component of each class", "yes" if settings.largest else "no"),
            ("hashes: recipe, data, code", " ".join(vars(self._conditions).values())),
        ]


def _pictures(folder: Path, curves: Curves) -> tuple[Path, ...]:
    """Write each learning curve as PNG."""
    from napari_activeft.reports.learning_curves import as_png, charts

    made = []
    for chart in charts(curves):
        path, content = folder / f"{chart.file_name}.png", as_png(chart)

        def save(part: Path, content: bytes = content) -> None:
            part.write_bytes(content)

        write_whole(path, save, AGAIN)
        made.append(path)
    return tuple(made)
