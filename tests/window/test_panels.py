"""The panels: what they show, what they refuse, and that they stay quick."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QKeySequence, QMouseEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QLineEdit

from napari_activeft.session.pool_list import PoolRow
from napari_activeft.settings import ActiveFTSettings, TrainSettings
from napari_activeft.settings.recipes import RECIPES
from napari_activeft.widgets import commands, keys
from napari_activeft.widgets.forms import SettingsForm
from napari_activeft.widgets.select_dock import SelectDock
from napari_activeft.widgets.session_dock import SessionDock


def test_an_empty_session_says_what_to_do(someone):
    texts = [
        someone.dock.pool.counts.text(),
        someone.dock.queue.box.what.text(),
        someone.dock.train.labelled.text(),
        someone.dock.review.counts.text(),
    ]

    assert texts == ["Open a project first."] * 4


def test_every_control_tells_what_it_is_for(annotator):
    dock = annotator.dock
    inner = ("QTabBar", "QCollapsible", "QTableView", "Table", "QSpinBox", "QComboBox")
    silent = [
        (type(one).__name__, one.objectName(), getattr(one, "text", lambda: "")())
        for kind in (QAbstractButton, QComboBox, QLineEdit)
        for one in dock.findChildren(kind)
        if not one.toolTip()
        and not (isinstance(one, QLineEdit) and one.placeholderText())
        and type(one.parentWidget()).__name__ not in inner
        and not isinstance(one.parentWidget(), QLineEdit)
        and one.objectName() != "qt_spinbox_lineedit"  # its spin box tells
    ]

    assert not silent


def test_the_keys_are_free_of_those_of_napari():
    from napari._app_model import get_app_model
    from napari.utils.shortcuts import default_shortcuts

    taken = {str(one) for ones in default_shortcuts.values() for one in ones}
    for command in get_app_model().keybindings:
        taken.add(str(command.keybinding))
    own = {QKeySequence(key.written).toString() for key in keys.KEYS}
    own |= {f"Alt+{digit}" for digit in range(10)}

    assert not own & {text.replace("Meta", "Ctrl") for text in taken}


def test_no_key_of_the_session_opens_a_menu_of_napari(annotator):
    bar = annotator.viewer.window._qt_window.menuBar()
    letters = {a.text().partition("&")[2][:1].upper() for a in bar.actions() if "&" in a.text()}

    assert not {f"Alt+{letter}" for letter in letters} & {key.written for key in keys.KEYS}


def test_a_table_stays_quick_with_ten_thousand_rows(annotator):
    dock, store = annotator.dock, annotator.dock.state.project.store
    volume = store.volumes()[0]
    rows = [
        PoolRow(
            type(volume)(**{**volume.__dict__, "volume_id": at, "name": f"scan {at % 977} {at}"}),
            "1 x 2 x 3",
            "1 x 1 x 1",
            "",
        )
        for at in range(10_000)
    ]
    dock.go_to(dock.pool)
    began = time.monotonic()
    dock.pool.table.fill(rows)
    dock.pool.table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    dock.pool.search.setText("scan 97")
    QApplication.processEvents()

    assert time.monotonic() - began < 2.0
    assert {row.volume.name.split()[1][:2] for row in dock.pool.table.of.rows} == {"97"}


@pytest.mark.parametrize("settings", [ActiveFTSettings, TrainSettings])
def test_a_form_left_alone_changes_nothing_and_tells_what_each_field_is(someone, settings):
    form = SettingsForm(settings, list(settings.model_fields))

    assert form.values() == {}
    assert all(form.control(name).tooltip for name in settings.model_fields)


def test_every_recipe_is_what_the_form_then_says(someone):
    panel = someone.dock.train
    for at, recipe in enumerate(RECIPES):
        panel.recipe.setCurrentIndex(at)
        made = panel.settings()
        for name, value in recipe.values.items():
            assert getattr(made, name) == value


def test_files_that_are_dropped_are_added(annotator, tmp_path):
    from projectmaking import write_volume
    from qtpy.QtCore import QMimeData, QUrl
    from qtpy.QtGui import QDropEvent

    write_volume(tmp_path / "late" / "scan.nii.gz", (5, 24, 30), seed=99)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "late"))])
    action, none = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(5, 5), action, data, Qt.MouseButton.LeftButton, none)
    annotator.dock.pool.dropEvent(event)

    assert annotator.job() == "done"
    assert len(annotator.dock.state.project.store.volumes()) == 5


def test_layers_of_the_viewer_are_added(annotator):
    data = np.random.default_rng(0).random((5, 20, 22))
    annotator.viewer.add_image(data, name="my scan", scale=(3, 1, 1))
    annotator.dock.pool.add_layers_button.click()
    annotator.settle()

    assert annotator.job() == "done"
    (added,) = [v for v in annotator.dock.state.project.store.volumes() if "my_scan" in v.name]
    assert added.slice_count == 5


def test_a_lasso_on_the_map_asks_for_slices_and_leaves_others_out(annotator):
    dock, store = annotator.dock, annotator.dock.state.project.store
    panel = dock.select
    dock.go_to(panel)
    annotator.settle(0.2)
    found = panel._outlook
    points = np.random.default_rng(0).random((len(found.pool), 2)).astype(np.float32)
    panel.map.show_points(points, found.kinds)
    waiting = [at for at in range(len(found.pool)) if found.kinds[at] == 0]
    row = waiting[0]
    centre = panel.map.place_of(row)
    corners = [(-6, -6), (6, -6), (6, 6), (-6, 6)]
    _lasso(panel.map, [QPointF(centre.x() + dx, centre.y() + dy) for dx, dy in corners])
    assert row in panel.map.chosen
    chosen = [found.pool[at].slice_id for at in panel.map.chosen]
    panel.leave_button.click()
    annotator.settle()

    states = {one.slice_id: one.state for one in store.queries()}
    assert states[found.pool[row].slice_id] == "skipped"
    panel.map.chosen = np.array([row])
    panel.ask_button.setEnabled(True)
    panel.ask_button.click()
    annotator.settle()
    states = {one.slice_id: one.state for one in store.queries()}
    assert states[found.pool[row].slice_id] == "open"
    assert set(chosen) <= states.keys()


def _lasso(view, places) -> None:
    none, left = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
    kinds = [QEvent.Type.MouseButtonPress, *[QEvent.Type.MouseMove] * len(places)]
    for kind, place in zip(kinds, [places[0], *places], strict=True):
        button = left if kind == QEvent.Type.MouseButtonPress else Qt.MouseButton.NoButton
        event = QMouseEvent(kind, place, view.mapToGlobal(place), button, left, none)
        QApplication.sendEvent(view, event)
    end = QEvent.Type.MouseButtonRelease
    at = places[-1]
    event = QMouseEvent(end, at, view.mapToGlobal(at), left, Qt.MouseButton.NoButton, none)
    QApplication.sendEvent(view, event)


def test_a_colleague_s_mask_is_approved_or_refused_with_a_comment(annotator, elsewhere):
    lease = elsewhere.store.lease_next("colleague")
    revision = elsewhere.store.submit(lease.token, np.zeros((24, 30), np.uint8))
    panel = annotator.dock.review
    annotator.wait(lambda: panel.people.of.rows, 20)
    panel.people.choose(revision.revision_id)
    panel.comment.setText("the wall is missing")
    panel.refuse_button.click()
    annotator.settle()

    assert not elsewhere.store.accepted()
    again = elsewhere.store.lease_next("colleague")
    assert again.review_comment == "the wall is missing"


def test_the_selection_works_alone(make_napari_viewer, preferences, folder, said):
    viewer = make_napari_viewer(show=True)
    dock = SelectDock(viewer, preferences=preferences)
    viewer.window.add_dock_widget(dock, name="Select slices")
    try:
        dock.state.open(folder)
        end = time.monotonic() + 20
        while dock.select._outlook is None and time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)
        assert dock.select._outlook.free == 14
    finally:
        dock.shut_down()


def test_the_manifest_names_what_is_there():
    manifest = PluginManifest.from_distribution("napari-activeft")
    manifest.validate_imports()

    assert {one.display_name for one in manifest.contributions.widgets} == {
        "Annotation session", "Select slices",
    }  # fmt: skip


def test_samples_open_as_layers_that_fit_each_other(make_napari_viewer):
    viewer = make_napari_viewer(show=False)
    for sample in (commands.hippocampus, commands.nuclei):
        image, labels = sample()
        assert image[0].shape == labels[0].shape
        assert labels[0].any()
        viewer._add_layer_from_data(*image)
        viewer._add_layer_from_data(*labels)


def test_the_folder_of_a_project_is_read_and_others_are_left_to_others(folder, tmp_path):
    assert commands.get_reader(str(folder)) is not None
    assert commands.get_reader(str(tmp_path)) is None
    assert commands.get_reader([str(Path(tmp_path) / "scan.nii.gz")]) is None


def test_the_example_opens_the_sample_project(make_napari_viewer, tmp_path, monkeypatch):
    import runpy
    import sys

    import napari

    viewer = make_napari_viewer(show=True)
    monkeypatch.setattr(napari, "Viewer", lambda: viewer)
    found = []

    def run() -> None:
        dock = viewer.window._qt_window.findChild(SessionDock)
        end = time.monotonic() + 30
        while not dock.queue.table.of.rows and time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)
        found.append(len(dock.queue.table.of.rows))
        dock.shut_down()

    monkeypatch.setattr(napari, "run", run)
    monkeypatch.setattr(sys, "argv", ["gui.py", str(tmp_path / "a sample")])
    example = Path(__file__).parents[2] / "examples" / "gui.py"
    runpy.run_path(str(example), run_name="__main__")

    assert found == [10]


def test_an_encoder_is_adapted_and_then_offered(annotator):
    box = annotator.dock.select.embedding
    for name, value in (("encoder", "vmamba_nano"), ("minutes", "0.02"), ("device", "cpu")):
        box.form.control(name).value = value
    box.adapt_button.click()
    assert annotator.job() == "done"
    annotator.wait(lambda: box.encoder.currentText() == "own-1", 20)
    box.button.click()
    assert annotator.job() == "done"
    annotator.wait(lambda: box.told.text().startswith("Embedded by own-1"), 20)
