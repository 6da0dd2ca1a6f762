"""ActiveFT as published, against the published formula written out densely with autograd."""

from __future__ import annotations

import numpy as np
import pytest
from selectionmaking import Pool

from napari_activeft.selection import activeft_cvpr2023 as published
from napari_activeft.selection import neighbours, select
from napari_activeft.selection.activeft_cvpr2023 import EXACT, FAST, FAST_OF_FEW, Steps

torch = pytest.importorskip("torch")
TAU = 0.07


def unit(rng, rows, size=8):
    drawn = rng.normal(size=(rows, size)).astype(np.float32)
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def dense_objective(vectors, free, tau=TAU, balance=1.0):
    """Return J as its formula says, with all tables in memory."""
    centres = torch.nn.functional.normalize(free, dim=1)
    closeness, members = (vectors @ centres.T).max(dim=1)
    negatives = torch.exp(centres.detach() @ centres.T / tau).sum(dim=0)
    attraction = torch.exp(closeness / tau)
    return -torch.log(attraction / (attraction + balance * negatives[members])).mean()


def dense_centres(vectors, start, steps):
    free = start.clone().requires_grad_()
    adam = torch.optim.Adam([free], lr=1e-3)
    for _ in range(steps):
        adam.zero_grad()
        dense_objective(vectors, free).backward()
        adam.step()
    return torch.nn.functional.normalize(free.detach(), dim=1)


@pytest.mark.parametrize("chunk", [2**22, 50])
@pytest.mark.parametrize(("tau", "balance"), [(0.07, 1.0), (0.5, 2.0)])
def test_the_gradient_is_that_of_autograd(rng, monkeypatch, chunk, tau, balance):
    monkeypatch.setattr(neighbours, "CHUNK_FLOATS", chunk)
    monkeypatch.setattr(published, "CHUNK_FLOATS", chunk)
    vectors, centres = unit(rng, 60).double(), unit(rng, 9).double()
    free = centres.clone().requires_grad_()
    dense_objective(vectors, free, tau, balance).backward()
    masses = torch.full((60,), 1 / 60, dtype=torch.float64)

    ours = published.gradient(
        vectors.float(), centres.float(), masses.float(), Steps(temperature=tau, balance=balance)
    ).double()
    # Centres have length 1: along themselves the objective of the free vectors is flat.
    ours -= (ours * centres).sum(dim=1, keepdim=True) * centres

    torch.testing.assert_close(ours, free.grad, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("chunk", [2**22, 50])
def test_the_objective_is_that_of_the_formula(rng, monkeypatch, chunk):
    monkeypatch.setattr(neighbours, "CHUNK_FLOATS", chunk)
    vectors, centres = unit(rng, 60), unit(rng, 9)
    ours = published.objective(vectors, centres, np.full(60, 1 / 60))
    assert ours == pytest.approx(float(dense_objective(vectors, centres)), rel=1e-5)


def test_centres_go_where_the_published_code_brings_them(rng):
    vectors = unit(rng, 120)
    start = vectors[:15].clone()
    ours = published.move_centres(vectors, start, np.full(120, 1 / 120))
    torch.testing.assert_close(ours, dense_centres(vectors, start, 300), atol=2e-4, rtol=0)


def test_picks_are_the_most_similar_rows_not_taken_yet_in_the_order_of_the_centres():
    pool = Pool(40, 40, size=8)
    order = sorted(range(80), key=pool.keys.__getitem__)
    vectors = torch.nn.functional.normalize(torch.from_numpy(pool.vectors[order]), dim=1)
    start_rows = pool.select(12, selector="random", seed=3)
    start = vectors[[order.index(row) for row in start_rows]]
    closeness = (dense_centres(vectors, start, 300) @ vectors.T).numpy()
    picks: list[int] = []
    for of_centre in closeness:
        of_centre[[order.index(row) for row in picks]] = -2
        picks.append(order[int(of_centre.argmax())])

    choice = pool.choose(12, selector="activeft_cvpr2023", seed=3)

    assert choice.rows.tolist() == picks
    assert choice.report["form"] == "exact"
    assert choice.report["objective_centres"] < choice.report["objective_picks"]
    assert choice.report["objective_centres"] < choice.report["objective_start"]
    assert choice.gains.sum() == pytest.approx(1)


def test_a_low_temperature_does_not_overflow(rng):
    vectors = unit(rng, 50)
    steps = Steps(count=5, temperature=0.005)
    centres = published.move_centres(vectors, vectors[:5].clone(), np.full(50, 1 / 50), steps)
    assert torch.isfinite(centres).all()
    assert np.isfinite(published.objective(vectors, centres, np.full(50, 1 / 50), steps))


def test_the_fast_form_reaches_nearly_the_same_objective(rng):
    of = rng.integers(40, size=3000)
    vectors = torch.nn.functional.normalize(unit(rng, 40)[of] + 0.5 * unit(rng, 3000), dim=1)
    weights = np.full(3000, 1 / 3000)
    start = vectors[:30].clone()
    reached = {
        steps.form: published.objective(
            vectors, published.move_centres(vectors, start, weights, steps), weights
        )
        for steps in (EXACT, FAST, FAST_OF_FEW)
    }
    begun = published.objective(vectors, start, weights)
    for form in ("minibatch", "large steps"):
        assert begun - reached[form] > 0.98 * (begun - reached["exact"]), form


@pytest.mark.parametrize(("few", "said"), [(0, ("minibatch", 200)), (60, ("large steps", 70))])
def test_a_large_pool_is_chosen_from_by_a_fast_form_and_the_report_says_so(
    rng, monkeypatch, few, said
):
    monkeypatch.setattr(published, "_PAIRS", 0)
    monkeypatch.setattr(published, "FEW_ROWS", few)
    keys = [f"{row:04}" for row in range(60)]
    choice = select(unit(rng, 60).numpy(), 7, keys=keys, selector="activeft_cvpr2023")
    assert (choice.report["form"], choice.report["steps"]) == said
    assert len(set(choice.rows.tolist())) == 7
