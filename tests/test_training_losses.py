"""Cross entropy and Dice of partly labelled slices."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from napari_activeft.training.losses import SegmentationLoss, Totals, at_stride  # noqa: E402


@pytest.fixture
def example():
    """Logits (3, 4, 16, 16) and targets of which a third is unlabelled."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 16, 16, generator=generator)
    target = torch.randint(-1, 4, (3, 16, 16), generator=generator)
    target[0, :8] = -1
    return logits, target


def share(loss, logits, target):
    totals = Totals(len(target), loss.weight_of(target, len(logits)).tolist())
    return loss(logits, target, totals)


def test_an_unlabelled_pixel_counts_in_neither_part(example):
    logits, target = example
    for over_batch in (True, False):
        loss = SegmentationLoss(4, [True] * 3, over_batch=over_batch)
        other = torch.where(target[:, None] < 0, 100 * torch.randn_like(logits), logits)

        before, after = share(loss, [logits], target), share(loss, [other], target)

        assert before.ce == pytest.approx(float(after.ce))
        assert before.dice == pytest.approx(float(after.dice))


def test_an_unlabelled_pixel_gets_no_gradient(example):
    logits, target = example
    logits.requires_grad_()

    share(SegmentationLoss(4, [True] * 3), [logits], target).loss.backward()

    moved = logits.grad.abs().sum(1) > 0
    assert not moved[target < 0].any()
    assert moved[target >= 0].all()


def test_cross_entropy_is_the_mean_over_labelled_pixels(example):
    logits, target = example
    found = share(SegmentationLoss(4, [True] * 3, dice_weight=0), [logits], target)

    assert float(found.loss) == pytest.approx(
        float(F.cross_entropy(logits, target, ignore_index=-1))
    )


def test_class_weights_are_those_of_torch(example):
    logits, target = example
    weights = [0.5, 1.0, 2.0, 3.0]
    found = share(SegmentationLoss(4, [True] * 3, class_weights=weights), [logits], target)
    wanted = F.cross_entropy(logits, target, torch.tensor(weights), ignore_index=-1)

    assert float(found.ce) == pytest.approx(float(wanted))


@pytest.mark.parametrize("over_batch", [True, False])
def test_dice_of_full_labels_is_the_plain_one(example, over_batch):
    logits, target = example
    target = target.clamp(min=0)
    p, truth = logits.softmax(1)[:, 1:], F.one_hot(target, 4).movedim(-1, 1)[:, 1:]
    axes = (0, 2, 3) if over_batch else (2, 3)
    dice = 2 * (p * truth).sum(axes) / (p.sum(axes) + truth.sum(axes))

    found = share(SegmentationLoss(4, [True] * 3, over_batch=over_batch), [logits], target)

    assert float(found.dice) == pytest.approx(float((1 - dice).mean()), abs=1e-5)


@pytest.mark.parametrize("weights", [None, [0.1, 1.0, 2.0, 3.0]])
def test_parts_of_a_step_add_up_to_it(example, weights):
    logits, target = example
    loss = SegmentationLoss(4, [True] * 3, over_batch=False, class_weights=weights)
    totals = Totals(3, loss.weight_of(target, 1).tolist())

    parts = [loss([logits[i : i + 1]], target[i : i + 1], totals).loss for i in range(3)]

    assert float(sum(parts)) == pytest.approx(float(loss([logits], target, totals).loss))


def test_coarser_outputs_weigh_half_as_much_each(example):
    logits, target = example
    coarse = logits[..., ::2, ::2].contiguous()
    loss = SegmentationLoss(4, [True] * 3)

    both = share(loss, [logits, coarse], target).loss
    fine, halved = share(loss, [logits], target), share(loss, [coarse], at_stride(target, 1))

    assert float(both) == pytest.approx(float(2 * fine.loss + halved.loss) / 3)


def test_a_class_without_labels_has_no_dice(example):
    logits, target = example
    target = torch.where(target == 2, 0, target)
    with_it = share(SegmentationLoss(4, [True, True, True]), [logits], target)
    without = share(SegmentationLoss(4, [True, False, True]), [logits], target)

    assert float(with_it.dice) > float(without.dice)
    assert float(with_it.ce) == pytest.approx(float(without.ce))


def test_nothing_labelled_gives_a_loss_of_zero_and_no_nan():
    target = torch.full((2, 8, 8), -1)
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    found = share(SegmentationLoss(3, [False, False]), [logits], target)
    found.loss.backward()

    assert found.loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
