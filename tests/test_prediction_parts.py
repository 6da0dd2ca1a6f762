"""Calibration, clean-up, and the table of uncertainty."""

from __future__ import annotations

import errno
import math

import numpy as np
import pytest
import torch
from projectmaking import assert_sentence

from napari_activeft.errors import UserError
from napari_activeft.prediction import uncertainty_table
from napari_activeft.prediction.calibration import HIGHEST, fit_over_slices, fit_temperature
from napari_activeft.prediction.cleaning import CleanUp
from napari_activeft.prediction.uncertainty_table import (
    FILE,
    SliceUncertainty,
    read_uncertainty,
    write_uncertainty,
)

# Calibration


def drawn_by(logits, seed=0):
    """Draw classes by the probabilities of these logits (m, n): such logits are calibrated."""
    draw = torch.Generator().manual_seed(seed)
    return torch.multinomial(logits.softmax(1), 1, generator=draw)[:, 0]


def true_logits(count=40_000, classes=4):
    return 2 * torch.randn(count, classes, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
def test_a_known_temperature_is_found(temperature):
    logits = true_logits()

    found = fit_temperature(temperature * logits, drawn_by(logits))

    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.after <= found.before


def test_labels_that_are_always_right_give_the_surest_temperature_that_is_allowed():
    logits = true_logits(500)
    found = fit_temperature(logits, logits.argmax(1))
    assert found.temperature == pytest.approx(1 / HIGHEST)


def test_labels_that_have_nothing_to_do_with_the_logits_give_the_least_sure_one():
    logits = true_logits(500)
    found = fit_temperature(logits, logits.argmin(1))
    assert found.temperature == pytest.approx(HIGHEST)


def test_logits_that_are_no_numbers_leave_probabilities_as_they_are():
    found = fit_temperature(torch.full((10, 3), math.nan), torch.zeros(10))
    assert found.temperature == 1.0


def test_slices_are_fitted_together_and_unlabelled_pixels_are_left_out():
    logits = true_logits()
    targets = drawn_by(logits)
    outputs = (3 * logits).T.reshape(4, 200, 200)
    truth = targets.reshape(200, 200).clone()
    truth[150:] = -1
    outputs[:, 150:] = 1e4  # would spoil it
    slices = [(outputs[:, :, :100], truth[:, :100]), (outputs[:, :, 100:], truth[:, 100:])]

    found = fit_over_slices(slices)

    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert (found.slices, found.pixels) == (2, 2 * 4096)
    assert fit_over_slices(slices) == found


def test_no_labelled_pixel_is_said():
    with pytest.raises(UserError, match="no labelled pixel") as refusal:
        fit_over_slices([(torch.zeros(3, 4, 4), torch.full((4, 4), -1))])
    assert_sentence(str(refusal.value))


# Clean-up


def label_map():
    """Class 1 in parts of 8, 3 and 1 voxels, class 2 in one of 2 that touches it."""
    made = np.zeros((4, 9, 12), np.uint8)
    made[:2, :2, :2] = 1
    made[0, 5, :3] = 1
    made[3, 8, 11] = 1
    made[2, :1, :2] = 2
    return made


def counts(made):
    return np.bincount(made.ravel(), minlength=3)[1:].tolist()


@pytest.mark.parametrize(
    ("clean_up", "left"),
    [
        (CleanUp(), [12, 2]),
        (CleanUp(largest=True), [8, 2]),
        (CleanUp(smallest_mm3=0.75), [11, 2]),
        (CleanUp(smallest_mm3=1.0), [11, 2]),
        (CleanUp(smallest_mm3=1.01), [11, 0]),
        (CleanUp(largest=True, smallest_mm3=5), [0, 0]),
    ],
)
def test_small_components_go_by_their_volume_and_all_but_the_largest_on_request(clean_up, left):
    before = label_map()
    after = clean_up(before, voxel_mm3=0.5)

    assert counts(after) == left
    np.testing.assert_array_equal(after[after > 0], before[after > 0])
    np.testing.assert_array_equal(before, label_map())


def test_components_that_touch_at_a_corner_are_one():
    made = np.zeros((2, 2, 2), np.uint16)
    made[0, 0, 0] = made[1, 1, 1] = 400
    np.testing.assert_array_equal(CleanUp(largest=True)(made, 1.0), made)


def test_an_empty_label_map_stays_empty():
    assert not CleanUp(largest=True)(np.zeros((2, 3, 4), np.uint8), 1.0).any()


# The table of uncertainty


def of(volume, position, entropy=0.25, bald=None, networks=1):
    return SliceUncertainty(volume, position, entropy, bald, networks)


def test_what_is_written_is_read_again_and_later_lines_take_the_place_of_earlier_ones(tmp_path):
    folder = tmp_path / "runs" / "run-001"
    assert read_uncertainty(folder) == {}

    held = write_uncertainty(folder, {}, [of("b, c", 0), of("a", 10), of("a", 2)])
    held = write_uncertainty(folder, held, [of("a", 2, 0.5, 0.125, 3)])

    assert list(read_uncertainty(folder).values()) == [
        of("a", 2, 0.5, 0.125, 3),
        of("a", 10),
        of("b, c", 0),
    ]
    assert read_uncertainty(folder) == held


def test_a_disk_that_is_full_leaves_the_earlier_table(tmp_path, monkeypatch):
    held = write_uncertainty(tmp_path, {}, [of("a", 1)])

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uncertainty_table, "replacing", full)
    with pytest.raises(UserError, match="cannot be written") as refusal:
        write_uncertainty(tmp_path, held, [of("a", 2)])

    assert_sentence(str(refusal.value))
    assert read_uncertainty(tmp_path) == held


@pytest.mark.parametrize(
    "text", ["volume,position\na,1\n", "volume,position,entropy,bald,networks\na,x,1,,1\n"]
)
def test_a_damaged_table_is_said(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match="is damaged") as refusal:
        read_uncertainty(tmp_path)
    assert_sentence(str(refusal.value))
