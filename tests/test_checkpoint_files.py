"""Files that are no good are each one sentence, and nothing in them runs."""

from __future__ import annotations

import os
import sys
import types
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from napari_activeft.models.checkpoints import CheckpointError, load_checkpoint, save_safetensors
from torch import Tensor


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"stem.weight": torch.randn(64, 3, 3, 3), "classifier.norm.bias": torch.randn(192)}


def refusal_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(path)
    told = str(refusal.value)
    assert str(path) in told
    assert "\n" not in told
    return told


def test_a_missing_file_is_one_sentence(tmp_path):
    assert "cannot be read" in refusal_of(tmp_path / "nowhere.pth")


def test_a_folder_is_one_sentence(tmp_path):
    assert "cannot be read" in refusal_of(tmp_path)


def test_an_empty_file_is_one_sentence(tmp_path):
    (tmp_path / "empty.pth").touch()

    assert "is empty" in refusal_of(tmp_path / "empty.pth")


@pytest.mark.parametrize("form", ["zip", "pickle", "safetensors"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_one_sentence(form, share, state, tmp_path):
    file = tmp_path / "cut"
    if form == "safetensors":
        save_safetensors(state, file)
    else:
        torch.save({"model": state}, file, _use_new_zipfile_serialization=form == "zip")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])

    assert "damaged or cut off" in refusal_of(file)


@pytest.mark.parametrize(
    "content",
    [b"hello, these are no weights at all", b"<!DOCTYPE html><html>sign in</html>", b"\0" * 500],
    ids=["text", "a web page", "zeros"],
)
def test_what_is_no_checkpoint_is_one_sentence(content, tmp_path):
    (tmp_path / "file.pth").write_bytes(content)

    assert "no file of weights" in refusal_of(tmp_path / "file.pth")


def test_another_zip_archive_is_one_sentence(tmp_path):
    with zipfile.ZipFile(tmp_path / "file.pth", "w") as archive:
        archive.writestr("a/constants.pkl", "hello")  # as in torch's scripts

    assert "no file of weights" in refusal_of(tmp_path / "file.pth")


@pytest.mark.parametrize(
    "content", [[1, 2, 3], {}, {"epoch": 3, "lr": 0.1}, torch.zeros(3)], ids=str
)
def test_a_file_without_weights_by_name_is_one_sentence(content, tmp_path):
    torch.save(content, tmp_path / "file.pth")

    assert "holds" in refusal_of(tmp_path / "file.pth")


@pytest.mark.parametrize(
    "odd",
    [torch.eye(3).to_sparse(), torch.zeros(3, device="meta"), torch.zeros(3, dtype=torch.cfloat)],
    ids=["sparse", "without memory", "complex"],
)
def test_tensors_that_are_no_plain_numbers_are_named(odd, state, tmp_path):
    torch.save(state | {"odd.weight": odd}, tmp_path / "file.pth")

    assert "holds odd.weight where weights are needed" in refusal_of(tmp_path / "file.pth")


@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_damaged_bytes_are_one_sentence_or_plain_numbers(form, tmp_path):
    file, rng = tmp_path / "file.pth", np.random.default_rng(0)
    torch.save(
        {"model": {"a.b": torch.zeros(3)}}, file, _use_new_zipfile_serialization=form == "zip"
    )
    sound = np.frombuffer(file.read_bytes(), np.uint8)

    for _ in range(200):
        content = sound.copy()
        content[rng.integers(len(content), size=4)] = rng.integers(256, size=4)
        file.write_bytes(content)
        try:
            load_checkpoint(file)
        except CheckpointError as refusal:
            assert str(file) in str(refusal)  # noqa: PT017 - some damage lies where nobody reads


def test_numbers_that_are_not_finite_are_refused(state, tmp_path):
    bad = state | {"classifier.norm.bias": torch.full((192,), float("nan"))}
    torch.save({"model": bad}, tmp_path / "file.pth")

    assert "not finite, in classifier.norm.bias" in refusal_of(tmp_path / "file.pth")


def test_numbers_of_eight_bits_are_refused(state, tmp_path):
    small = {key: weight.to(torch.float8_e4m3fn) for key, weight in state.items()}
    torch.save({"model": small}, tmp_path / "file.pth")

    told = refusal_of(tmp_path / "file.pth")

    assert "stem.weight as float8_e4m3fn" in told
    assert "float16, bfloat16, float32, float64" in told


# -- files that would run code ---------------------------------------------------------------------


@pytest.fixture
def configuration(monkeypatch) -> type:
    """A class as trainers pickle it; it notes when it is made."""

    class CfgNode(dict):
        ran: ClassVar[list[object]] = []

        def __setstate__(self, held):
            self.ran.append(held)

    module = types.ModuleType("yacs.config")
    module.CfgNode = CfgNode
    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    return CfgNode


@pytest.mark.parametrize("form", ["zip", "pickle"])
@pytest.mark.parametrize(
    ("held", "key"),
    [
        (lambda state: {"model": state}, "['model']"),
        (lambda state: {"epoch": 3, "model": state, "model_ema": dict(state)}, "['model_ema']"),
        (lambda state: {"model": state, "model_ema": None}, "['model']"),
        (lambda state: {"state_dict": state, "meta": {"model": "nano"}}, "['state_dict']"),
    ],
    ids=["model", "averaged", "averaging was off", "a name that is no weights"],
)
def test_a_training_file_with_a_pickled_configuration_is_refused_without_running_it(
    held, key, form, state, tmp_path, configuration
):
    file = tmp_path / "ckpt_epoch_3.pth"
    zipped = form == "zip"
    torch.save(
        {**held(state), "config": configuration()}, file, _use_new_zipfile_serialization=zipped
    )

    told = refusal_of(file)

    assert "holds an object of yacs.config.CfgNode" in told
    assert f"torch.load(FILE, weights_only=False){key}, NEW_FILE)" in told
    first, *later = (told.index(way) for way in ("ask its authors", "add_safe_globals", "computer"))
    assert first < later[0] < later[1]
    assert not configuration.ran


def test_a_class_that_was_called_safe_is_read(state, tmp_path, configuration):
    torch.save({"model": state, "config": configuration()}, tmp_path / "file.pth")

    with torch.serialization.safe_globals([configuration]):
        assert load_checkpoint(tmp_path / "file.pth").keys() == state.keys()


def test_a_file_that_starts_a_program_is_not_advised_to_be_read(state, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, ("exit 3",)

    torch.save({"model": state, "config": Attack()}, tmp_path / "file.pth")

    told = refusal_of(tmp_path / "file.pth")

    assert f"an object of {os.system.__module__}.system" in told
    assert "get the file from its authors again" in told
    assert "torch.load" not in told
