"""Several processes that share a run, as torchrun starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from finetunemaking import drawn_slices, quick, spec_of  # noqa: E402
from napari_activeft.models.checkpoint_files import load_checkpoint  # noqa: E402

from napari_activeft.errors import UserError  # noqa: E402
from napari_activeft.training.finetune import finetune  # noqa: E402
from napari_activeft.training.launching import launch  # noqa: E402
from napari_activeft.training.run_files import read_curve  # noqa: E402

RUNS = {
    "slice": {"dice_over": "slice", "accumulate": 2},
    "batch": {"learns": "freeze_low_gradient", "probe_steps": 1, "freeze_below": 0.5},
}
# Loads everything once, then becomes two.
BOTH = """
import os, sys
sys.path.insert(0, sys.argv[2])
import monai.losses.dice, lightning_fabric
import test_training_processes as here
children = []
for rank in "01":
    child = os.fork()
    if not child:
        os.environ.update(RANK=rank, LOCAL_RANK=rank)
        try:
            here.train_all(here.Path(sys.argv[1]), devices=2, strategy="ddp")
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    children.append(child)
ended = [os.waitpid(child, 0)[1] for child in children]
sys.exit(max(ended) and 1)
"""


def train_all(folder, **where):
    fabric = None
    for name, changes in RUNS.items():
        settings = quick(batch=4, steps=2, eps=1e-4, check_every=1, **where, **changes)
        fabric = fabric or launch(settings)
        slices, watched = drawn_slices(4), drawn_slices(2, seed=9, split="val")
        finetune(slices, watched, spec_of("vm_unet_nano"), settings, folder / name, fabric=fabric)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="a process becomes two by fork")
def test_two_processes_give_what_one_gives(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    subprocess.run(
        [sys.executable, "-c", BOTH, str(two), str(Path(__file__).parent)],
        env=shared,
        check=True,
        timeout=300,
    )

    train_all(one)

    for name in RUNS:
        for figure in ("loss", "ce", "dice", "val_dice"):
            mine, theirs = ([row[figure] for row in read_curve(f / name)] for f in (one, two))
            assert theirs == pytest.approx(mine, abs=1e-5), figure
        mine, theirs = (load_checkpoint(f / name / "last.safetensors") for f in (one, two))
        assert max(float((mine[k] - theirs[k]).abs().max()) for k in mine) < 1e-5


def test_more_devices_than_processes_are_refused_with_the_way_to_start_them(tmp_path):
    with pytest.raises(UserError, match="torchrun --nnodes 1 --nproc-per-node 2"):
        finetune(
            drawn_slices(2), None, spec_of("vm_unet_nano"), quick(devices=2, batch=4), tmp_path
        )
