"""Pools as files: vectors as .npy, and what each row is as .csv beside it."""

import dataclasses

import numpy as np
import pytest

from napari_activeft.comparison import choose_by
from napari_activeft.errors import UserError
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.selection import select
from napari_activeft.settings import SelectSettings


def write(path, vectors, lines=None, head="row,case,volume,position,key"):
    np.save(path, vectors)
    if lines is not None:
        path.with_suffix(".csv").write_text("\n".join([head, *lines]) + "\n")
    return path


def test_a_feature_file_is_read_with_the_table_beside_it(tmp_path):
    lines = ["1,b,v2,4,k1", "0,a,v1,3,k0", "2,b,v2,5,k2"]
    path = write(tmp_path / "feats.npy", np.eye(3, dtype="float64"), lines)

    pool = FeatureSet.read(path, outside=write(tmp_path / "out.npy", np.ones((2, 3))))

    assert pool.name == "feats"
    assert pool.vectors.dtype == np.float32
    assert (pool.keys, pool.cases) == (["k0", "k1", "k2"], ["a", "b", "b"])
    assert (pool.groups, pool.positions) == ([0, 1, 1], [3, 4, 5])
    assert pool.outside.shape == (2, 3)


def test_emptiness_of_a_feature_file_is_read_and_weighs_as_in_select(tmp_path):
    head = "row,case,volume,position,key,emptiness"
    lines = [f"{row},c,v,{row},k{row},{float(row >= 4)}" for row in range(8)]
    vectors = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")

    pool = FeatureSet.read(write(tmp_path / "a.npy", vectors, lines, head))

    assert pool.emptiness.tolist() == [0.0] * 4 + [1.0] * 4
    without = dataclasses.replace(pool, emptiness=None)
    settings = SelectSettings(emptiness=0.99)
    chosen = [set(choose_by("kmeans", settings)(one, 3, 0).tolist()) for one in (pool, without)]
    assert chosen[0] != chosen[1]
    assert chosen[0] == set(
        select(
            vectors,
            3,
            keys=pool.keys,
            groups=pool.groups,
            cases=pool.cases,
            positions=pool.positions,
            weights=1 - 0.99 * pool.emptiness,
            selector="kmeans",
        ).rows.tolist()
    )


@pytest.mark.parametrize("written", ["", "nan", "1.5", "much"])
def test_an_emptiness_that_is_none_is_refused(tmp_path, written):
    head = "row,case,volume,position,key,emptiness"
    with pytest.raises(UserError, match="in row 1: give a number from 0"):
        FeatureSet.read(
            write(tmp_path / "a.npy", np.eye(2), ["1,c,v,1,k1," + written, "0,c,v,0,k0,0.5"], head)
        )


def test_bare_features_are_volumes_of_their_own(tmp_path):
    pool = FeatureSet.read(write(tmp_path / "bare.npy", np.eye(3, dtype="float16")))

    assert len(set(pool.keys)) == len(set(pool.groups)) == len(set(pool.cases)) == 3
    assert len(choose_by("random")(pool, 2, 0)) == 2


@pytest.mark.parametrize(
    ("vectors", "lines", "sentence"),
    [
        (np.ones(3), None, "a row per slice"),
        (np.ones((0, 3)), None, "a row per slice"),
        (np.array([["a"]]), None, "numbers are needed"),
        (np.ones((2, 3)), ["0,a,v,0,k"], "describes 1 rows"),
        (np.ones((1, 3)), ["0,a,v,zero,k"], "no whole number"),
        (np.ones((1, 3)), ["0,a"], "no whole number"),
    ],
    ids=["1-D", "empty", "words", "too few lines", "position", "short line"],
)
def test_feature_files_that_cannot_serve_are_refused(tmp_path, vectors, lines, sentence):
    with pytest.raises(UserError, match=sentence):
        FeatureSet.read(write(tmp_path / "a.npy", vectors, lines))


def test_files_that_are_not_features_are_refused(tmp_path):
    (tmp_path / "a.npy").write_text("hello")
    with pytest.raises(UserError, match=r"cannot be read as \.npy"):
        FeatureSet.read(tmp_path / "a.npy")
    with pytest.raises(UserError, match=r"cannot be read as \.npy"):
        FeatureSet.read(tmp_path / "missing.npy")
    with pytest.raises(UserError, match="has no column 'case'"):
        FeatureSet.read(write(tmp_path / "b.npy", np.ones((1, 2)), ["0,v"], head="row,volume"))
    with pytest.raises(UserError, match="by the same encoder"):
        FeatureSet.read(
            write(tmp_path / "c.npy", np.ones((1, 2))), write(tmp_path / "d.npy", np.ones((1, 3)))
        )
