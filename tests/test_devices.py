"""Which device and number type are taken, and what is refused."""

import pytest
import torch

from napari_activeft.devices import free_bytes, pick_device, pick_precision
from napari_activeft.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("amx", "bf16", "taken"),
    [(True, False, "bfloat16"), (False, True, "bfloat16"), (False, False, "float32")],
)
def test_auto_takes_bfloat16_where_the_cpu_computes_in_it(monkeypatch, amx, bf16, taken):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)

    assert pick_precision("auto", CPU) == taken
    assert pick_precision("float32", CPU) == "float32"
    assert pick_precision("bfloat16", CPU) == "bfloat16"


@pytest.mark.parametrize("asked", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused_with_what_there_is(asked):
    with pytest.raises(UserError, match="cpu"):
        pick_device(asked)


def test_the_cpu_is_always_there_and_has_memory():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda")
    assert free_bytes(CPU) > 1 << 20
