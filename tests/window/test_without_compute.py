"""A viewer where nothing that computes is installed: labelling, review and export work."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
from napari_activeft.annotation_db import UNFINISHED
from projectmaking import assert_sentence

from napari_activeft import extras

ACROSS = [(6, 6), (8, 12), (9, 18)]


class Blocker:
    """Lets nothing that computes be found, as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in extras.COMPUTE and name.partition(".")[0] != "skimage":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def bare(monkeypatch):
    """Hide the extra; napari itself brings scikit-image."""
    monkeypatch.setattr(sys, "meta_path", [Blocker(), *sys.meta_path])
    hidden = set(extras.COMPUTE) - {"skimage"}
    monkeypatch.setattr(
        extras, "find_spec", lambda name: None if name in hidden else find_spec(name)
    )


def test_what_is_missing_is_named_with_the_command_that_brings_it(bare, annotator, said):
    dock = annotator.dock
    dock.select._show()
    dock.train._show()
    annotator.settle()

    for notice in (dock.select.missing, dock.train.missing):
        assert "pip install 'napari-activeft[compute]'" in notice.label.text()
        assert "torch" in notice.label.text()
    assert not dock.select.embedding.button.isEnabled()
    assert not dock.train.train_button.isEnabled()
    dock.train.train()
    annotator.wait(lambda: said)
    assert_sentence(said[0])
    assert "pip install" in said[0]
    assert not dock.state.jobs
    dock.select.selector.setCurrentText("stratified_random")
    assert dock.select.select_button.isEnabled()


def test_labelling_and_export_work(bare, annotator, tmp_path):
    dock, state = annotator.dock, annotator.dock.state
    dock.queue.box.then_next.setChecked(False)
    annotator.next()
    annotator.stroke(ACROSS)
    dock.queue.box.submit_button.click()
    annotator.wait(lambda: dock.task.current is None)
    annotator.settle()
    dock.project.export(tmp_path / "out")
    annotator.wait(lambda: state.jobs and state.jobs[-1].state not in UNFINISHED)

    assert state.jobs[-1].state == "done", state.jobs[-1].reason
    assert list((tmp_path / "out").rglob("*.nii.gz"))


def test_the_viewer_s_process_never_loads_torch(annotator):
    dock = annotator.dock
    for panel in (dock.project, dock.pool, dock.select, dock.queue, dock.train, dock.review):
        dock.go_to(panel)
        annotator.settle()
    annotator.next()
    annotator.stroke(ACROSS)

    assert "torch" not in sys.modules
