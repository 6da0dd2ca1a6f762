"""Figures of a prediction against its truth: as MONAI, SimpleITK and scikit-image have them."""

import math
import time

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
)
from monai.metrics.confusion_matrix import compute_confusion_matrix_metric, get_confusion_matrix
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from napari_activeft.training import metrics
from napari_activeft.training.metrics import (
    METRICS,
    TOGETHER,
    compare_volume,
    measure,
)
from napari_activeft.training.surfaces import surface_distances
from napari_activeft.voxels import UNLABELLED

# MONAI 1.6 warns of what it calls itself.
pytestmark = pytest.mark.filterwarnings("ignore:monai.metrics.utils:FutureWarning")

SPACING = (8.0, 1.25, 1.5)
CLASSES = (2, 7)


def blobs(seed, shape=(5, 24, 31)):
    """Return truth and prediction that overlap, with classes 2 and 7."""
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.normal(size=(2, *shape)), (0, 0.6, 3, 3))
    near = fields[0] + 0.4 * fields[1]
    labels = [
        np.select([f > np.quantile(f, 0.9), f > np.quantile(f, 0.75)], [7, 2], 0).astype(np.uint8)
        for f in (fields[0], near)
    ]
    return labels[0], labels[1]


def one_hot(labels, value):
    return torch.from_numpy(np.stack([labels != value, labels == value])[None].astype(np.float32))


def test_overlap_is_that_of_monai_and_simpleitk():
    for seed in range(4):
        truth, prediction = blobs(seed)
        figures = measure(truth, prediction, CLASSES, SPACING)
        itk = sitk.LabelOverlapMeasuresImageFilter()
        itk.Execute(sitk.GetImageFromArray(truth), sitk.GetImageFromArray(prediction))
        for value in CLASSES:
            t, p = one_hot(truth, value), one_hot(prediction, value)
            counts = get_confusion_matrix(p, t, include_background=False)
            wanted = {
                "dice": compute_dice(p, t, include_background=False).item(),
                "iou": compute_iou(p, t, include_background=False).item(),
                **{
                    name: compute_confusion_matrix_metric(name, counts).item()
                    for name in ("sensitivity", "specificity", "accuracy")
                },
            }
            for name, number in wanted.items():
                assert figures[value][name] == pytest.approx(number, abs=1e-6), name
            assert figures[value]["dice"] == pytest.approx(itk.GetDiceCoefficient(value))
            assert figures[value]["iou"] == pytest.approx(itk.GetJaccardCoefficient(value))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spacing=st.tuples(*[st.floats(0.3, 9.0).map(lambda mm: round(mm, 2))] * 3),
)
def test_surface_distances_are_those_of_monai_for_any_spacing(seed, spacing):
    truth, prediction = blobs(seed, (4, 14, 17))
    figures = measure(truth, prediction, CLASSES, spacing)
    for value in CLASSES:
        t, p = one_hot(truth, value), one_hot(prediction, value)
        hd95 = compute_hausdorff_distance(p, t, percentile=95, spacing=list(spacing))
        assd = compute_average_surface_distance(p, t, symmetric=True, spacing=list(spacing))
        assert figures[value]["hd95_mm"] == pytest.approx(hd95.item(), rel=1e-5)
        assert figures[value]["assd_mm"] == pytest.approx(assd.item(), rel=1e-5)


def test_the_farthest_surface_voxel_is_as_far_as_simpleitk_says():
    """Its contours are found another way, and its distances by Maurer's maps."""
    for seed in range(4):
        pair = [labels == 7 for labels in blobs(seed)]
        there, back = surface_distances(*pair, SPACING)
        contours = []
        for mask in pair:
            image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
            image.SetSpacing(SPACING[::-1])
            contours.append(sitk.LabelContour(image, fullyConnected=False))
        itk = sitk.HausdorffDistanceImageFilter()
        itk.Execute(*contours)
        assert max(there.max(), back.max()) == pytest.approx(itk.GetHausdorffDistance(), rel=1e-5)
        mean = (there.mean() + back.mean()) / 2
        assert mean == pytest.approx(itk.GetAverageHausdorffDistance(), rel=1e-5)


def test_a_slice_has_outlines_like_those_of_monai_in_two_axes():
    truth, prediction = (labels[2:3] for labels in blobs(3))
    figures = measure(truth, prediction, (2,), SPACING)[2]
    t, p = one_hot(truth[0], 2), one_hot(prediction[0], 2)
    hd95 = compute_hausdorff_distance(p, t, percentile=95, spacing=list(SPACING[1:]))
    assert figures["hd95_mm"] == pytest.approx(hd95.item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(24, 31), (7, 40), (9, 11)])
def test_ssim_is_that_of_whole_slices_though_only_the_class_is_looked_at(shape):
    """Also where it touches the rim of the slice."""
    for seed in range(6):
        truth, prediction = blobs(seed, (5, *shape))
        for value in CLASSES:
            wanted = [
                structural_similarity(
                    (t == value).astype(float), (p == value).astype(float), data_range=1.0
                )
                for t, p in zip(truth, prediction, strict=True)
                if (t == value).any() or (p == value).any()
            ]
            figures = measure(truth, prediction, CLASSES, SPACING)
            assert figures[value]["ssim"] == pytest.approx(np.mean(wanted), abs=1e-9)


def test_a_single_pixel_in_any_place_has_the_ssim_of_the_whole_slice():
    for row in (0, 3, 6, 9):
        for column in (0, 2, 8, 12):
            truth, prediction = np.zeros((2, 1, 10, 13), np.uint8)
            truth[0, row, column] = 1
            wanted = structural_similarity(
                truth[0].astype(float), prediction[0].astype(float), data_range=1.0
            )
            figures = measure(truth, prediction, (1,), SPACING)[1]
            assert figures["ssim"] == pytest.approx(wanted, abs=1e-12)


def test_a_slice_smaller_than_a_window_has_no_ssim():
    truth = np.ones((2, 6, 40), np.uint8)
    assert math.isnan(measure(truth, truth, (1,), SPACING)[1]["ssim"])


def test_volumes_are_in_millilitres_and_too_much_is_above_zero():
    truth, prediction = np.zeros((2, 4, 10, 10), np.uint8)
    truth[:, :5] = 1
    prediction[:, :6] = 1
    figures = measure(truth, prediction, (1,), (10.0, 1.0, 2.0))[1]

    assert figures["truth_ml"] == pytest.approx(4 * 50 * 20 / 1000)
    assert figures["predicted_ml"] == pytest.approx(4.8)
    assert figures["volume_error_ml"] == pytest.approx(0.8)
    assert figures["volume_error_percent"] == pytest.approx(20.0)


def test_a_perfect_prediction_is_the_best_there_is():
    truth, _ = blobs(0)
    figures = measure(truth, truth, CLASSES, SPACING)
    for value in (TOGETHER, *CLASSES):
        for name, about in METRICS.items():
            if about.best is not None:
                assert figures[value][name] == about.best, name


# Absence


def test_a_class_in_neither_has_no_overlap_and_no_distance():
    empty = np.zeros((3, 9, 9), np.uint8)
    figures = measure(empty, empty, (1,), SPACING)
    defined = {name for name, number in figures[1].items() if not math.isnan(number)}

    assert defined == {"specificity", "accuracy", "volume_error_ml", "truth_ml", "predicted_ml"}
    assert figures[1]["specificity"] == figures[1]["accuracy"] == 1.0
    assert math.isnan(figures[TOGETHER]["dice"])


def test_the_older_rule_gives_a_class_in_neither_a_dice_of_zero():
    empty = np.zeros((3, 9, 9), np.uint8)
    figures = measure(empty, empty, (1,), SPACING, absent_as_zero=True)
    assert [figures[1][name] for name in ("dice", "iou", "sensitivity")] == [0.0] * 3
    assert figures[TOGETHER]["dice"] == 0.0
    assert math.isnan(figures[1]["hd95_mm"])

    truth, prediction = blobs(1)
    plain = measure(truth, prediction, CLASSES, SPACING)
    assert measure(truth, prediction, CLASSES, SPACING, absent_as_zero=True) == plain


def test_a_class_in_one_of_both_has_dice_zero_and_no_distance():
    empty, full = np.zeros((3, 9, 9), np.uint8), np.ones((3, 9, 9), np.uint8)
    invented, missed = (measure(*pair, (1,), SPACING)[1] for pair in ((empty, full), (full, empty)))

    for figures in (invented, missed):
        assert figures["dice"] == figures["iou"] == 0.0
        assert math.isnan(figures["hd95_mm"])
        assert math.isnan(figures["assd_mm"])
    assert math.isnan(invented["sensitivity"])
    assert math.isnan(invented["volume_error_percent"])
    assert missed["sensitivity"] == 0.0
    assert missed["volume_error_percent"] == -100.0


def test_the_mean_of_the_classes_leaves_out_those_that_are_not_there():
    truth, prediction = blobs(2)
    figures = measure(truth, prediction, (*CLASSES, 9), SPACING)
    wanted = np.mean([figures[value]["dice"] for value in CLASSES])
    assert figures[TOGETHER]["dice"] == pytest.approx(wanted)


def test_accuracy_of_all_classes_is_the_part_of_pixels_with_the_right_one():
    truth, prediction = blobs(2)
    figures = measure(truth, prediction, CLASSES, SPACING)
    assert figures[TOGETHER]["accuracy"] == pytest.approx((truth == prediction).mean())


# Where nobody labelled


def test_pixels_that_nobody_labelled_count_neither_for_nor_against():
    truth, prediction = blobs(4)
    part = truth.astype(np.uint16)
    part[:, :, 15:] = UNLABELLED
    cut = measure(truth[:, :, :15], prediction[:, :, :15], CLASSES, SPACING)
    figures = measure(part, prediction, CLASSES, SPACING)

    for value in (TOGETHER, *CLASSES):
        for name in ("dice", "iou", "sensitivity", "specificity", "accuracy"):
            assert figures[value][name] == pytest.approx(cut[value][name]), name
        for name in ("ssim", "hd95_mm", "assd_mm", "volume_error_ml", "truth_ml"):
            assert math.isnan(figures[value][name]), name


def test_what_is_wrong_where_nobody_labelled_changes_nothing():
    truth, prediction = blobs(4)
    part = truth.astype(np.uint16)
    part[:, 10:] = UNLABELLED
    worse = prediction.copy()
    worse[:, 10:] = 7
    plain = measure(part, prediction, CLASSES, SPACING)
    np.testing.assert_equal(measure(part, worse, CLASSES, SPACING), plain)


def test_a_truth_without_one_labelled_pixel_says_nothing():
    truth = np.full((2, 9, 9), UNLABELLED, np.uint16)
    figures = measure(truth, np.ones((2, 9, 9), np.uint8), (1,), SPACING, absent_as_zero=True)
    assert all(math.isnan(number) for number in (*figures[1].values(), *figures[0].values()))


# Volumes and their slices


def test_a_volume_is_measured_only_where_each_of_its_slices_has_truth():
    truth, prediction = blobs(5)
    whole = compare_volume(dict(enumerate(truth)), prediction, CLASSES, SPACING)
    some = compare_volume({3: truth[3], 1: truth[1]}, prediction, CLASSES, SPACING)

    assert whole.volume == measure(truth, prediction, CLASSES, SPACING)
    assert list(whole.slices) == [0, 1, 2, 3, 4]
    assert some.volume is None
    assert list(some.slices) == [1, 3]
    np.testing.assert_equal(some.slices[3], whole.slices[3])


def test_a_volume_is_measured_in_less_than_a_third_of_a_second_of_one_core():
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=(10, 200, 200)), (1, 14, 14))
    steps = np.quantile(field, (0.8, 0.9, 0.95))
    truth = np.digitize(field, steps).astype(np.uint8)
    prediction = np.roll(truth, 3, axis=2)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        compare_volume(dict(enumerate(truth)), prediction, (1, 2, 3), SPACING)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"prediction": np.zeros((3, 9, 8), np.uint8)}, "on one grid"),
        ({"truth": np.zeros((9, 9), np.uint8), "prediction": np.zeros((9, 9), np.uint8)}, "grid"),
        ({"truth": np.zeros((3, 9, 9), np.float32)}, "whole numbers"),
        ({"class_values": ()}, "name one"),
        ({"class_values": (1, 1)}, "once"),
        ({"class_values": (UNLABELLED,)}, "from 1 to 65534"),
        ({"spacing": (1.0, 0.0, 1.0)}, "above 0"),
        ({"spacing": (1.0, 1.0)}, "three lengths"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, what):
    asked = {
        "truth": np.zeros((3, 9, 9), np.uint8),
        "prediction": np.zeros((3, 9, 9), np.uint8),
        "class_values": (1,),
        "spacing": SPACING,
    }
    with pytest.raises(ValueError, match=what):
        metrics.measure(**(asked | change))


def test_truth_of_a_slice_that_is_not_predicted_is_refused():
    mask = np.zeros((9, 9), np.uint8)
    with pytest.raises(ValueError, match="slice 3, and 3 slices"):
        compare_volume({3: mask}, np.zeros((3, 9, 9), np.uint8), (1,), SPACING)
