"""The fifth panel: what is labelled becomes a network, and the network proposes masks."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QWidget

from napari_activeft.annotation_db import JobRecord
from napari_activeft.extras import missing_compute
from napari_activeft.model_names import NETWORKS
from napari_activeft.session.sitting import Sitting
from napari_activeft.session.tally import ClassTally, Tally
from napari_activeft.session.training_view import (
    Course,
    RunView,
    course_of_job,
    course_of_run,
    growth,
    run_views,
)
from napari_activeft.settings import PredictSettings, TrainSettings
from napari_activeft.settings.recipes import GO_ON, RECIPES, Recipe
from napari_activeft.widgets import notices
from napari_activeft.widgets.background import EXPECTED
from napari_activeft.widgets.chart import Chart, Curve
from napari_activeft.widgets.controls import (
    Notice,
    button,
    choice,
    column,
    folded,
    heading,
    row,
    sentence,
    swatch,
)
from napari_activeft.widgets.forms import SettingsForm, built
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.widgets.tables import Column, Table
from napari_activeft.wording import counted

_ADVANCED = (
    "learns", "steps", "batch", "lr", "pixel_mm", "size", "context", "augmentation", "turns",
    "monitor", "refit", "patience", "precision", "device", "seed",
)  # fmt: skip


class TrainPanel(QWidget):
    """Trains on the accepted masks, shows how it goes, and lets a run predict."""

    def __init__(self, state: SessionState) -> None:
        super().__init__()
        self._state = state
        self._views: list[RunView] = []
        self._shown_run: int | None = None
        self.missing = Notice()
        self._build()
        state.project_changed.connect(self._show)
        state.content_changed.connect(self._show)
        state.jobs_changed.connect(self._follow)
        self._show()

    def _build(self) -> None:
        self.labelled = sentence()
        self.tally: Table[ClassTally] = Table(_tally_columns(), lambda one: one.value, icon=14)
        self.recipe = choice("How to train", [(one.name, one.name, one.told) for one in RECIPES])
        self.recipe.currentIndexChanged.connect(lambda _: self._take_recipe())
        self.told = sentence()
        self.network = choice(
            "What is trained; nano and micro are sizes for CPUs", [(n, n, "") for n in NETWORKS]
        )
        self.form = SettingsForm(TrainSettings, _ADVANCED)
        self.train_button = button(
            "Train", "Train in the background; labelling goes on", self.train, strong=True
        )
        self.loss = Chart("steps", "The loss appears here while a run trains.")
        self.dice = Chart("steps", "Dice on cases held back appears here, where some are.")
        self.runs: Table[RunView] = Table(_run_columns(), lambda one: one.run)
        self.runs.chosen.connect(self._choose_run)
        self.growth = Chart("slices learnt from", "Dice of your runs, as more slices are labelled.")
        self.largest = QCheckBox("largest part only")
        self.largest.setToolTip("Keep only the largest connected part of each class in a volume")
        self.entropy = QCheckBox("keep where it is unsure")
        self.entropy.setToolTip("Keep the uncertainty of every pixel, to be shown in Review")
        self.entropy.setChecked(True)
        self.predict_button = button(
            "Predict", "Propose masks for the whole pool by the chosen run", self.predict
        )
        self._lay_out()

    def _lay_out(self) -> None:
        column(
            self.missing,
            heading("What is labelled"),
            self.labelled,
            self.tally,
            heading("Train"),
            row(self.recipe, self.network),
            self.told,
            folded("Advanced", self.form.native, "Everything that training can be told"),
            self.train_button,
            self.loss,
            self.dice,
            heading("Runs"),
            self.runs,
            self.growth,
            row(self.largest, self.entropy),
            self.predict_button,
            parent=self,
        )
        self.tally.setMaximumHeight(140)
        self.runs.setMaximumHeight(170)

    # What is shown

    def _show(self) -> None:
        self.setEnabled(self._state.project is not None)
        lacking = missing_compute()
        for one in (self.train_button, self.predict_button):
            one.setEnabled(not lacking)
        self.missing.say(
            f"Training and predicting cannot run here, as {lacking}. Labelling, review and export "
            "work without."
            if lacking
            else ""
        )
        if self._state.project is None:
            self.tally.fill([])
            self.runs.fill([])
            for chart in (self.loss, self.dice, self.growth):
                chart.draw([])
            self.labelled.setText("Open a project first.")
            return

        def read(sitting: Sitting) -> tuple[Tally, list[RunView]]:
            return sitting.tallies.count(), run_views(sitting.project)

        self._state.read(read, self._fill)

    def _fill(self, got: tuple[Tally, list[RunView]]) -> None:
        tally, self._views = got
        self.labelled.setText(
            f"{counted(tally.slices, 'slice')} of {counted(tally.cases, 'case')} have a mask that "
            "counts."
            if tally.slices
            else "No slice has a mask yet: label some in the queue first."
        )
        self.tally.fill(tally.classes)
        self.runs.fill(self._views)
        grown = growth(self._views)
        self.growth.draw([Curve(name, points, marked=True) for name, points in grown.items()])
        self._take_recipe(keep=True)

    def _take_recipe(self, *, keep: bool = False) -> None:
        recipe = self._recipe
        missing = recipe.name == GO_ON and self._newest_done is None
        self.told.setText(recipe.told + (" There is no such run yet." if missing else ""))
        if not keep:
            usual = TrainSettings()
            self.form.reset()
            self.form.put(recipe.values)
            self.network.setCurrentText(recipe.values.get("network", usual.network))

    @property
    def _recipe(self) -> Recipe:
        return RECIPES[max(0, self.recipe.currentIndex())]

    @property
    def _newest_done(self) -> RunView | None:
        return next((one for one in self._views if one.state == "done"), None)

    # The course of a run

    def _follow(self) -> None:
        """Show the run that trains now."""
        training = [job for job in self._state.running if job.verb == "train"]
        if training:
            self._state.read(
                lambda sitting: course_of_job(sitting.project, training[0]), self._draw
            )

    def _choose_run(self, one: RunView | None) -> None:
        running = any(job.verb == "train" for job in self._state.running)
        if one is not None and not running and one.run != self._shown_run:
            self._state.read(lambda sitting: course_of_run(sitting.project, one.run), self._draw)

    def _draw(self, course: Course) -> None:
        self._shown_run = course.run
        name = f"run {course.run}" if course.run else "the run"
        phase = ", to find the steps" if course.before else ""
        self.loss.draw([Curve(f"loss of {name}{phase}", course.loss)])
        self.dice.draw([Curve(f"Dice on cases held back, {name}", course.dice, marked=True)])

    # What is done

    def settings(self) -> TrainSettings:
        """Return the settings as they are chosen.

        Raises
        ------
        UserError
            If they do not fit, or the run to go on from is not there.
        """
        unseen = {n: v for n, v in self._recipe.values.items() if n not in _ADVANCED}
        values = {**unseen, **self.form.values(), "network": self.network.currentText()}
        if self._recipe.name == GO_ON and self._newest_done is not None:
            values |= {
                "start": f"run:{self._newest_done.run}", "network": self._newest_done.network
            }  # fmt: skip
        made: TrainSettings = built(TrainSettings, **values)
        return made

    def train(self) -> None:
        """Start training."""
        try:
            self._state.start("train", self.settings())
        except EXPECTED as refusal:
            notices.error(str(refusal))

    def predict(self) -> None:
        """Start predicting the pool by the run that is chosen, the newest one by default."""
        chosen = self.runs.choice or self._newest_done
        if chosen is None:
            notices.warn("there is no run that could predict: train first")
            return
        settings = built(
            PredictSettings,
            runs=(chosen.run,),
            largest=self.largest.isChecked(),
            entropy=self.entropy.isChecked(),
        )
        self._state.start("predict", settings)

    def on_job(self, job: JobRecord) -> None:
        """Show the run of a job that ended."""
        if job.verb == "train":
            self._state.read(lambda sitting: course_of_job(sitting.project, job), self._draw)


def _tally_columns() -> list[Column[ClassTally]]:
    return [
        Column("Class", lambda one: one.name, width=0, icon=lambda one: swatch(one.colour)),
        Column("Slices", lambda one: str(one.slices), key=lambda one: one.slices, number=True,
               width=60, tip="With a mask that shows the class"),
        Column("Cases", lambda one: str(one.cases), key=lambda one: one.cases, number=True,
               width=60),
        Column("Pixels", lambda one: f"{one.pixels:,}", key=lambda one: one.pixels, number=True,
               width=80),
    ]  # fmt: skip


def _run_columns() -> list[Column[RunView]]:
    def score(one: RunView) -> str:
        return "" if one.score is None else f"{one.score:.3f}"

    def slices(one: RunView) -> str:
        return "" if one.slices is None else str(one.slices)

    return [
        Column("Run", lambda one: str(one.run), key=lambda one: one.run, width=40, number=True),
        Column("Network", lambda one: one.network, width=0),
        Column("Slices", slices, key=lambda one: one.slices or 0, width=52, number=True,
               tip="It learnt from"),
        Column("Dice", score, key=lambda one: one.score or 0.0, width=52, number=True,
               tip="Mean over the classes, on cases that it did not learn from"),
        Column("State", lambda one: one.state, width=70),
    ]  # fmt: skip
