"""The golden fixtures of ../shared/golden: their weight rule, their inputs, their numbers.

The rules are those of the fixtures' README; nothing here knows a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"

FLOAT32 = 1e-4
FLOAT64 = 1e-9
STORED_AS_FLOAT32 = 1e-6


def needs_golden(name: str) -> Any:
    """Skip a test, by the fixture's name, where the fixture is not there."""
    return pytest.mark.skipif(
        not (GOLDEN / f"{name}.keys.json").exists(), reason=f"the golden fixture {name} is missing"
    )


def golden_names(prefix: str, *, with_numbers: bool = False) -> list[str]:
    """Return the fixtures whose names start so; all, or those that hold numbers."""
    suffix = ".npz" if with_numbers else ".keys.json"
    return sorted(f.name.removesuffix(suffix) for f in GOLDEN.glob(f"{prefix}*{suffix}"))


@cache
def facts(name: str) -> dict[str, Any]:
    """Return what ``<name>.keys.json`` says."""
    return json.loads((GOLDEN / f"{name}.keys.json").read_text(encoding="utf-8"))


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the state dict's names and shapes, without aliases."""
    return {key: tuple(shape) for key, shape, *rest in facts(name)["keys"] if len(rest) < 2}


def golden_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Return the weight that the rule gives a key, float32 (int64 for counters)."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    z = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    return torch.from_numpy(_rule(key, leaf, np.asarray(z)).astype("float32"))


def _rule(key: str, leaf: str, z: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = ("dt_projs_bias", "dt_proj.bias", "dt_proj_b.bias", "dt_proj_s.bias")
    if leaf == "running_mean":
        return 0.1 * z
    if leaf == "running_var":
        return 1 + 0.1 * np.abs(z)
    if leaf in ("A_logs", "A_log", "A_b_log", "A_s_log"):
        return np.log1p(np.arange(z.shape[-1])) + 0.1 * z
    if leaf in ("Ds", "D", "D_b", "D_s"):
        return 1 + 0.1 * z
    if key.endswith(steps):
        return z - 3
    if z.ndim >= 2:
        last = leaf in ("x_proj_weight", "dt_projs_weight")
        fan = z.shape[-1] if last else math.prod(z.shape[1:])
        return (4 if "convs" in key.split(".") else 1) * z / np.sqrt(fan)
    return 1 + 0.1 * z if leaf == "weight" else 0.1 * z


def golden_state(wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the whole state dict that the rule gives."""
    return {key: golden_weight(key, shape) for key, shape in wanted.items()}


def golden_input(shape: tuple[int, ...] | list[int]) -> Tensor:
    """Return the input of a fixture, float32."""
    drawn = np.random.Generator(np.random.PCG64(0)).standard_normal(tuple(shape))
    return torch.from_numpy(drawn.astype("float32"))


def fill(model: nn.Module, state: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    """Put weights into a model, which may have been built on the device ``meta``."""
    wide = {key: w.to(dtype) if w.is_floating_point() else w for key, w in state.items()}
    model.load_state_dict(wide, strict=True, assign=True)
    model.eval()


def golden_arrays(name: str, extra: str = "") -> dict[str, NDArray[Any]]:
    """Return the stored arrays of the main input, or those of an extra one (``rect``, ...)."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        head = f"{extra}." if extra else ""
        extras = tuple(f"{e}." for e in facts(name).get("extra_inputs", {}))
        keys = [
            k for k in stored.files if k.startswith(head) and (extra or not k.startswith(extras))
        ]
        return {k.removeprefix(head): stored[k] for k in keys}


def golden_errors(
    name: str, got: dict[str, Tensor], extra: str = ""
) -> dict[str, tuple[float, bool]]:
    """Return the relative L2 error of every stored array, and whether it is stored as float64.

    A stored array that ``got`` does not hold is an error; ``got`` holds full tensors.
    """
    described = facts(name)["extra_inputs"][extra] if extra else facts(name)
    errors = {}
    for key, stored in golden_arrays(name, extra).items():
        taken = tuple(slice(None, None, step) for step in described["tensors"][key]["strides"])
        assert list(got[key].shape) == described["tensors"][key]["shape"], key
        ours = got[key].detach()[taken].double().numpy()
        wanted = stored.astype("float64")
        error = float(np.linalg.norm(ours - wanted) / np.linalg.norm(wanted))
        errors[key] = (error, stored.dtype == np.float64)
    return errors


def assert_golden(name: str, got: dict[str, Tensor], extra: str = "") -> None:
    """See that all stored arrays are met, at the bounds for the number type of ``got``."""
    wide = all(tensor.dtype == torch.float64 for tensor in got.values())
    errors = golden_errors(name, got, extra)
    assert errors
    for key, (error, stored_wide) in errors.items():
        bound = (FLOAT64 if stored_wide else STORED_AS_FLOAT32) if wide else FLOAT32
        assert error < bound, f"{name} {extra} {key}: {error:.1e}"
