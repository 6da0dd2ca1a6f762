"""Which slices an edit touched, by what napari tells of it, and what is read before it is asked."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_activeft.errors import UserError
from napari_activeft.session.ahead import ReadAhead
from napari_activeft.session.edits import touched_positions

SHAPE = (5, 6, 7)


class Boxed(NamedTuple):
    """An atom as napari's painting tools tell it."""

    slice_key: tuple
    mask: object = None
    old_values: object = None
    new_value: int = 1


@given(
    axis=st.integers(0, 2),
    box=st.tuples(
        *(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).map(sorted) for n in SHAPE)
    ),
)
def test_both_forms_of_an_edit_tell_the_slices_that_it_changed(axis, box):
    key = tuple(slice(low, high + 1) for low, high in box)
    data = np.zeros(SHAPE, np.uint8)
    data[key] = 1
    wanted = np.unique(np.nonzero(data)[axis]).tolist()

    assert touched_positions([Boxed(key)], axis, SHAPE) == wanted
    assert touched_positions([(np.nonzero(data), 0, 1)], axis, SHAPE) == wanted


def test_a_stroke_of_several_parts_is_one():
    atoms = [Boxed((slice(1, 2), slice(0, 6), slice(0, 7))), ((np.array([4, -2]),) * 3, 0, 1)]

    assert touched_positions(atoms, 0, SHAPE) == [1, 3, 4]
    assert touched_positions([Boxed((2, slice(0, 1), slice(None)))], 0, SHAPE) == [2]
    assert touched_positions([Boxed((2,))], 1, SHAPE) == list(range(6))
    assert touched_positions(atoms, 0, (6, 7)) == [0]


def test_napari_tells_edits_in_these_forms():
    labels = pytest.importorskip("napari.layers").Labels(np.zeros(SHAPE, np.uint8))
    told = []
    labels.events.paint.connect(lambda event: told.append(event.value))

    labels.brush_size = 2
    labels.paint((3, 2, 2), 1)
    labels.data_setitem((np.array([1, 1]), np.array([0, 1]), np.array([2, 3])), 2)
    labels.n_edit_dimensions = 3
    labels.fill((0, 5, 6), 3)

    touched = [touched_positions(atoms, 0, SHAPE) for atoms in told]
    assert touched == [[3], [1], [0, 1, 2, 3, 4]]


class Shelf:
    """A cache that notes what is read; volume 9 cannot be."""

    def __init__(self):
        self.read, self.go_on = [], threading.Event()

    def holds(self, volume_id):
        return volume_id in self.read

    def volume(self, volume_id):
        assert self.go_on.wait(10)
        if volume_id == 9:
            raise UserError("no image any more: restore it")
        self.read.append(volume_id)


def test_what_is_expected_is_read_in_its_order_and_what_cannot_be_stops_nothing():
    shelf = Shelf()
    with ReadAhead(shelf) as ahead:
        ahead.expect([1, 2])
        ahead.expect([3, 9, 4])
        shelf.go_on.set()
        assert ahead.wait()
        assert shelf.read in ([3, 4], [1, 3, 4])  # 1 may have begun before it was dropped
        ahead.expect([4, 3])
        assert ahead.wait()
    assert shelf.read[-1] == 4
    assert not [one for one in threading.enumerate() if one.name == "reading ahead"]
