"""No change of a Labels layer goes unseen, whatever made it. Layers need no window."""

from __future__ import annotations

import numpy as np
import pytest

layers = pytest.importorskip("napari.layers")

from napari_activeft.widgets.layer_watch import LayerWatch  # noqa: E402

SHAPE = (4, 9, 11)


@pytest.fixture
def layer():
    return layers.Labels(np.zeros(SHAPE, np.uint8))


@pytest.fixture
def told():
    return []


class Turns:
    """Turns of an event loop: what was put off runs when one is over."""

    def __init__(self):
        self.waiting = []

    def later(self, call):
        self.waiting.append(call)

    def end(self):
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


@pytest.fixture
def turns():
    return Turns()


@pytest.fixture
def watched(told, turns):
    """Watch a layer; what it tells is in ``told``."""
    made = []

    def watch(layer, axis=0):
        made.append(LayerWatch(layer, axis, lambda *change: told.append(change), turns.later))
        return made[-1]

    yield watch
    for one in made:
        one.close()


@pytest.fixture
def watch(layer, watched):
    return watched(layer)


def positions(told):
    return [position for position, _ in told]


def test_a_brush_a_fill_and_a_helper_are_each_seen_once(layer, watch, told, turns):
    layer.paint((2, 4, 4), 1)
    turns.end()
    layer.fill((1, 0, 0), 2)
    turns.end()
    layer.data_setitem((np.array([3]), np.array([5]), np.array([6])), 3)
    turns.end()

    assert positions(told) == [2, 1, 3]
    for position, mask in told:
        assert (mask == layer.data[position]).all()
    assert (watch.mask(1) == 2).all()


def test_the_moves_of_one_stroke_are_one_edit(layer, watch, told, turns):
    with layer.block_history():
        for column in range(2, 9):
            layer.paint((2, 4, column), 1)
            layer.refresh()
            turns.end()
    assert told == []
    turns.end()

    assert positions(told) == [2]
    assert (told[0][1] == layer.data[2]).all()


def test_undo_and_redo_of_the_viewer_are_edits_too(layer, watch, told, turns):
    layer.paint((2, 4, 4), 1)
    turns.end()
    layer.undo()
    layer.redo()

    assert positions(told) == [2, 2, 2]
    assert [mask.any() for _, mask in told] == [True, False, True]


def test_a_stroke_in_three_dimensions_is_an_edit_of_every_slice(layer, watch, told, turns):
    layer.n_edit_dimensions = 3
    layer.brush_size = 3
    layer.paint((1, 4, 4), 1)
    turns.end()

    assert positions(told) == [0, 1, 2]


def test_data_that_are_set_or_written_in_place_are_seen(layer, watch, told):
    layer.data = np.concatenate([layer.data[:3], np.ones((1, 9, 11), np.uint8)])
    assert positions(told) == [3]

    layer.data[1, 2, 3] = 5  # nobody tells of that
    assert positions(told) == [3]
    watch.look()
    assert positions(told) == [3, 1]
    watch.look()
    assert positions(told) == [3, 1]


def test_what_is_displayed_is_looked_at_whenever_the_layer_is_refreshed(layer, watch, told):
    layer.data[0, 2, 3] = 5
    layer.refresh()

    assert positions(told) == [0]


def test_what_is_put_there_is_no_edit_and_may_answer_one(layer, told, turns):
    def take_back(position, mask):
        told.append((position, mask))
        watch.put(position, np.zeros_like(mask))

    watch = LayerWatch(layer, 0, take_back, turns.later)
    watch.put(2, np.full(SHAPE[1:], 4, np.uint8))
    assert told == []
    assert (layer.data[2] == 4).all()

    layer.paint((3, 4, 4), 1)
    turns.end()

    assert positions(told) == [3]
    assert not layer.data[3].any()
    watch.close()
    layer.paint((3, 4, 4), 1)
    turns.end()
    assert positions(told) == [3]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_lie_along_the_axis_of_the_volume(layer, told, turns, watched, axis):
    watched(layer, axis)
    layer.data_setitem((np.array([1]), np.array([5]), np.array([6])), 3)
    turns.end()

    ((position, mask),) = told
    assert position == (1, 5, 6)[axis]
    assert mask.shape == tuple(n for k, n in enumerate(SHAPE) if k != axis)
    assert (mask == 3).sum() == 1


def test_a_picture_is_a_volume_of_one_slice(told, turns, watched):
    layer = layers.Labels(np.zeros((9, 11), np.uint8))
    watch = watched(layer)
    layer.paint((4, 4), 1)
    turns.end()

    ((position, mask),) = told
    assert (position, mask.shape) == (0, (9, 11))
    watch.put(0, np.zeros((9, 11), np.uint8))
    assert not layer.data.any()


def test_an_edit_right_before_the_end_is_not_lost(layer, told, turns):
    watch = LayerWatch(layer, 0, lambda *change: told.append(change), turns.later)
    layer.paint((2, 4, 4), 1)
    watch.close()
    assert positions(told) == [2]


def test_data_of_another_shape_are_left_alone(layer, watch, told):
    layer.data = np.zeros((2, 5, 5), np.uint8)
    assert told == []
