"""Where a run computes: one CPU, one GPU, or many by ``torchrun``, all through lightning-fabric."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from napari_activeft.devices import pick_device, pick_precision, use_threads
from napari_activeft.errors import UserError

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric


_FABRIC_NAMES = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


class Computing(Protocol):
    """What the settings of any run say of where it computes; see `TrainSettings`."""

    @property
    def device(self) -> str:
        """Its kind: auto, cpu, cuda or mps."""

    @property
    def devices(self) -> int:
        """How many of them on each computer."""

    @property
    def nodes(self) -> int:
        """How many computers."""

    @property
    def strategy(self) -> str:
        """The name of lightning's strategy."""

    @property
    def precision(self) -> str:
        """The number type: auto, float32, bfloat16 or float16."""

    @property
    def threads(self) -> int:
        """Of the CPU; 0 leaves it to torch."""


def launch(settings: Computing) -> Fabric:
    """Return fabric, launched: this process is then one of all that share the run.

    Raises
    ------
    UserError
        If the device, its number type, or so many processes cannot be had.
    """
    device = pick_device(settings.device)
    precision = number_type(settings, device)
    processes = settings.devices * settings.nodes
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if processes != started:
        raise UserError(
            f"{settings.devices} devices on {settings.nodes} computers were asked, but {started} "
            f"processes run: start with `torchrun --nnodes {settings.nodes} --nproc-per-node "
            f"{settings.devices} -m napari_activeft train ...`, or take one device"
        )
    use_threads(settings.threads)
    with _silence():
        from lightning_fabric import Fabric

        fabric = Fabric(
            accelerator=device.type,
            devices=settings.devices if device.index is None else [device.index],
            num_nodes=settings.nodes,
            strategy=settings.strategy,
            precision=_FABRIC_NAMES[precision],  # type: ignore[arg-type]
        )
        fabric.launch()
    return fabric


@contextmanager
def _silence() -> Iterator[None]:
    """Keep lightning from talking: what it says is for those who write the program."""
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning_fabric  # noqa: F401 - it sets its level when it is loaded

        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)


def number_type(settings: Computing, device: torch.device) -> str:
    """Return float32, bfloat16 or float16.

    Raises
    ------
    UserError
        If the device does not compute in it.
    """
    if settings.precision != "float16":
        return pick_precision(settings.precision, device)
    if device.type != "cuda":
        raise UserError(
            f"float16 was asked on {device.type}, which trains in float32 or bfloat16: take one of "
            "these"
        )
    return "float16"
