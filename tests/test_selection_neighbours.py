"""Nearest neighbours by chunks, and with faiss where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_activeft.selection import neighbours

torch = pytest.importorskip("torch")


def unit(rng: np.random.Generator, rows: int, size: int):
    drawn = rng.normal(size=(rows, size)).astype(np.float32)
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def table(queries, points) -> np.ndarray:
    return ((queries.double()[:, None] - points.double()[None]) ** 2).sum(dim=2).numpy()


@pytest.fixture(params=[2**22, 64])
def chunk(request, monkeypatch):
    """Work in one piece, and in many."""
    monkeypatch.setattr(neighbours, "CHUNK_FLOATS", request.param)
    return request.param


def test_the_nearest_point_is_that_of_the_full_table(rng, chunk):
    queries, points = unit(rng, 50, 6), 0.3 * unit(rng, 21, 6)
    found, distances = neighbours.nearest(queries, points)
    full = table(queries, points)
    np.testing.assert_array_equal(found, full.argmin(axis=1))
    np.testing.assert_allclose(distances, full.min(axis=1), atol=1e-6)


def test_of_points_equally_near_the_first_is_taken(chunk):
    points = torch.eye(3).repeat(4, 1)
    found, distances = neighbours.nearest(torch.eye(3), points)
    assert found.tolist() == [0, 1, 2]
    assert distances.tolist() == [0, 0, 0]


def searchers() -> list[bool]:
    return [False, True]


@pytest.mark.parametrize("faiss", searchers(), ids=["torch", "faiss"])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_lists_hold_the_nearest_in_order(rng, chunk, faiss, count):
    if faiss:
        pytest.importorskip("faiss", reason="faiss is not installed")
    queries, points = unit(rng, 30, 6), unit(rng, 40, 6)
    found, distances = neighbours.nearest_lists(queries, points, count, faiss=faiss)
    full = table(queries, points)
    np.testing.assert_array_equal(found, full.argsort(axis=1, kind="stable")[:, :count])
    np.testing.assert_allclose(distances, np.sort(full, axis=1)[:, :count], atol=1e-6)


def test_lists_name_equal_points_in_their_order(chunk):
    points = torch.eye(2).repeat(3, 1)
    found, distances = neighbours.nearest_lists(points[:2], points, 6, faiss=False)
    assert found.tolist() == [[0, 2, 4, 1, 3, 5], [1, 3, 5, 0, 2, 4]]
    assert distances.tolist() == [[0, 0, 0, 2, 2, 2]] * 2


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 1000])
def test_chunks_cover_all_rows_once(rows):
    parts = [np.arange(rows)[part] for part in neighbours.chunks(rows, 2**16)]
    np.testing.assert_array_equal(np.concatenate([[], *parts]), np.arange(rows))


def test_of_the_best_up_to_rounding_the_first_is_taken():
    assert neighbours.first_best(np.array([0.0, 1.0 - 1e-9, 1.0, 0.5]), 1e-6) == 1
    assert neighbours.first_best(np.array([0.0, 1.0 - 1e-3, 1.0, 0.5]), 1e-6) == 2
