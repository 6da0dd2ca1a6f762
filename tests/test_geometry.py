"""Geometry: what an image can have, where slices lie, and how two grids are told apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagemaking import orientations

from napari_activeft.geometry import (
    Geometry,
    GeometryError,
    affine_from_itk,
    has_shear,
    order_slices,
    plain_geometry,
    spacing_of,
    swap_lps_ras,
)


def geometry(affine=None, shape=(4, 5, 6), header=None):
    affine = np.diag([0.5, 0.75, 2.5, 1.0]) if affine is None else affine
    return Geometry(shape, spacing_of(affine), affine, header)


@pytest.mark.parametrize(
    ("shape", "spacing", "words"),
    [
        ((0, 5, 6), (1, 1, 1), "at least one voxel"),
        ((1, 1, 6), (1, 1, 1), "a line or a point is no image"),
        ((1, 1, 1), (1, 1, 1), "a line or a point is no image"),
        ((4, 5, 6), (0, 1, 1), "above 0"),
        ((4, 5, 6), (1, -1, 1), "above 0"),
        ((4, 5, 6), (1, 1, np.nan), "above 0"),
        ((4, 5, 6), (np.inf, 1, 1), "above 0"),
    ],
)
def test_a_geometry_that_no_image_can_have_is_refused(shape, spacing, words):
    with pytest.raises(GeometryError, match=words):
        Geometry(shape, spacing, np.eye(4)).check()


@pytest.mark.parametrize("shape", [(1, 5, 6), (4, 1, 6), (4, 5, 1), (4, 5, 6)])
def test_a_volume_and_a_single_slice_are_images(shape):
    plain_geometry(shape).check()


@pytest.mark.parametrize("broken", ["same axis twice", "zero axis", "nan", "infinite", "flat"])
def test_an_affine_that_cannot_be_inverted_is_refused(broken):
    affine = np.diag([0.5, 0.75, 2.5, 1.0])
    if broken == "same axis twice":
        affine[:3, 1] = affine[:3, 0]
    elif broken == "zero axis":
        affine[:3, 2] = 0
    elif broken == "flat":
        affine = affine[:3]
    else:
        affine[0, 3] = np.nan if broken == "nan" else np.inf
    with pytest.raises(GeometryError, match="affine"):
        Geometry((4, 5, 6), (1, 1, 1), affine).check()


def test_a_voxel_of_a_nanometre_is_no_singular_affine():
    plain_geometry((4, 5, 6), (1e-6, 1e-6, 1e-6)).check()


@given(
    orientation=st.integers(0, 47),
    axis=st.integers(0, 2),
    part=st.floats(0, 0.999),
    row=st.integers(0, 50),
    column=st.integers(0, 50),
)
def test_a_voxel_of_a_slice_lies_where_it_lies_in_the_volume(orientation, axis, part, row, column):
    whole = geometry(orientations()[orientation], shape=(7, 8, 9), header=b"header")
    position = int(part * whole.shape[axis])
    one = whole.slice_geometry(axis, position)

    inside = np.array([row, column])
    of_slice = np.insert(inside, axis, 0)[::-1]
    of_whole = np.insert(inside, axis, position)[::-1]
    np.testing.assert_allclose(
        one.affine @ [*of_slice, 1], whole.affine @ [*of_whole, 1], atol=1e-9
    )
    assert one.shape == tuple(1 if i == axis else n for i, n in enumerate(whole.shape))
    assert one.spacing == whole.spacing
    assert one.nifti_header is None


@pytest.mark.parametrize(("axis", "position"), [(0, 4), (0, -1), (3, 0), (-1, 0)])
def test_a_slice_that_the_volume_has_not_is_refused(axis, position):
    with pytest.raises(GeometryError, match="ask for one that the volume has"):
        geometry().slice_geometry(axis, position)


def test_a_geometry_does_not_differ_from_itself_or_from_its_float32():
    one = geometry(orientations()[13], shape=(300, 512, 512))
    rounded = Geometry(one.shape, one.spacing, one.affine.astype(np.float32).astype(float))
    assert one.difference(one) is None
    assert one.difference(rounded) is None


def test_the_difference_names_the_shape_first_then_spacing_then_affine():
    one = geometry()
    other = geometry(np.diag([0.5, 0.75, 3.0, 1.0]), shape=(4, 5, 7))
    assert "shape (z, y, x) is (4, 5, 6) and not (4, 5, 7)" in one.difference(other)
    other = geometry(np.diag([0.5, 0.75, 3.0, 1.0]))
    assert "spacing (z, y, x) is (2.5, 0.75, 0.5) mm and not (3, 0.75, 0.5)" in one.difference(
        other
    )
    moved = one.affine.copy()
    moved[0, 3] += 0.25
    assert "affine differs" in one.difference(geometry(moved))


@pytest.mark.parametrize("orientation", range(1, 48))
def test_every_other_orientation_of_the_same_grid_is_a_difference(orientation):
    cube = Geometry((5, 5, 5), (1, 1, 1), np.sign(orientations()[0]))
    turned = np.sign(orientations()[orientation])
    assert cube.difference(Geometry((5, 5, 5), (1, 1, 1), turned)) is not None


def test_a_nan_in_an_affine_is_a_difference():
    broken = np.eye(4)
    broken[0, 3] = np.nan
    cube = plain_geometry((5, 5, 5))
    assert cube.difference(Geometry((5, 5, 5), (1, 1, 1), broken)) is not None


def test_a_geometry_comes_back_from_json_as_it_was():
    one = geometry(orientations()[30], header=bytes(range(256)))
    back = Geometry.from_json(one.to_json())
    assert (back.shape, back.spacing, back.nifti_header) == (
        one.shape,
        one.spacing,
        one.nifti_header,
    )
    np.testing.assert_array_equal(back.affine, one.affine)


def test_lps_is_ras_with_two_world_axes_negated_and_back():
    affine = affine_from_itk((1, 2, 3), np.eye(3).ravel(), (4, 5, 6))
    np.testing.assert_array_equal(affine[:3, 3], (-1, -2, 3))
    np.testing.assert_array_equal(np.diag(affine), (-4, -5, 6, 1))
    np.testing.assert_array_equal(swap_lps_ras(swap_lps_ras(affine)), affine)


def test_only_axes_that_lean_are_shear():
    leaning = np.eye(4)
    leaning[0, 2] = 0.2
    assert has_shear(leaning)
    assert not any(has_shear(affine) for affine in orientations())


@given(st.permutations(range(6)), st.floats(0.1, 10), st.floats(-0.5, 0.5))
def test_slices_are_put_in_order_along_their_normal_whatever_the_tilt(shuffled, gap, tilt):
    step = np.array([0, tilt * gap, gap])
    origins = np.array([5.0, 6.0, 7.0]) + np.array(shuffled)[:, None] * step
    order, found = order_slices(origins, np.array([0.0, 0.0, 1.0]))
    assert [shuffled[i] for i in order] == list(range(6))
    np.testing.assert_allclose(found, step, atol=1e-9)


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([0, 1, 2, 4, 5], "run from 1 to 2 mm"),
        ([0, 0, 1, 1, 2, 2], "3 of its 6 images lie where another one lies"),
        ([0, 0], "time series"),
        ([0, 1, 1, 2], "1 of its 4"),
    ],
)
def test_gaps_and_shared_positions_are_refused_with_what_was_found(offsets, words):
    origins = np.array([[0, 0, mm] for mm in offsets], dtype=float)
    with pytest.raises(GeometryError, match=words):
        order_slices(origins, np.array([0.0, 0.0, 1.0]))


def test_slices_that_wander_off_their_line_are_refused():
    origins = np.array([[0, 0, 0], [1, 0, 1], [0, 0, 2], [0, 0, 3]], dtype=float)
    with pytest.raises(GeometryError, match="straight line"):
        order_slices(origins, np.array([0.0, 0.0, 1.0]))
