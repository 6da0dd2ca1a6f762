"""How a network learns from accepted masks: train."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from napari_activeft.settings.base import Name, RunNumber, Scan, Settings, Share

Learns = Literal["full", "decoder", "freeze_low_gradient", "lora", "scratch"]
Monitor = Literal["auto", "val", "folds", "none"]
TrainPrecision = Literal["auto", "float32", "bfloat16", "float16"]
Strength = Literal["none", "light", "strong"]
Turns = Literal["none", "flips", "full"]

RANDOM, AUTO = "random", "auto"
ENCODER, RUN = "encoder:", "run:"


def absolute_start(start: str) -> str:
    """Return where weights come from with an absolute path, where it is a file's."""
    file = Path(start.removeprefix(ENCODER))
    named = start.startswith(ENCODER) and file.is_file()
    return f"{ENCODER}{file.absolute()}" if named else start


class TrainSettings(Settings):
    """How a run learns; see `training.finetune`.

    Attributes
    ----------
    network
        A name in `training.networks.NETWORKS`.
    learns
        What of it learns: full, decoder (the encoder stays as it starts), freeze_low_gradient (what
        hardly moves is frozen after ``probe_steps``), lora (low-rank additions to the encoder's
        projections, and the decoder), scratch (full, from random weights).
    start
        Where the weights come from: random, encoder:NAME (kept weights), encoder:FILE, run:N (the
        network of that run), or auto: kept weights that fit the network's encoder, else random.
    pixel_mm
        Side of a pixel in millimetres that slices are brought to; auto is the median of the
        volumes, none leaves them as they are stored.
    size
        Side of a training crop in pixels, a multiple of 32; auto holds the median slice.
    context
        Neighbouring slices on each side that are given as channels.
    steps
        Changes of the weights.
    batch, accumulate
        Slices at once, over all processes, and how many such batches make one step.
    lr, weight_decay, eps, betas
        Of AdamW. The defaults of steps, batch and lr were found for small networks from random
        weights, by case folds (docs/benchmarks.md); a large network that starts from kept weights
        wants a smaller lr, for example 3e-4.
    warm_up
        Share of the steps over which the learning rate rises from 0; then it falls by a cosine.
    last_lr
        Share of ``lr`` that it ends at.
    ema
        Decay per step of the running mean of the weights, which is what is measured and kept; 0
        keeps the weights themselves.
    clip
        Largest norm of a step's gradient; 0 does not clip.
    dice_weight, ce_weight
        Weights of Dice loss and cross entropy.
    dice_over
        Dice over a batch's pixels together, or slice by slice and then averaged.
    deep_supervision
        Let the loss look at coarser outputs, where the network has them.
    class_weights
        Weights of cross entropy, background first; none weighs all alike.
    missing_class
        What happens where a class of the table has no labelled pixel: go-on or stop.
    augmentation
        none, light or strong.
    turns
        How a slice may lie in the scanner: none as it does, flips mirrored too, full by quarter
        turns too. Where classes are told by their side of the body, flips make them one.
    precision
        auto, float32, bfloat16 or float16; weights stay float32. auto is bfloat16 where the device
        computes in it. On a CPU with AVX-512 BF16 and without AMX (one thread, 8 slices of 160 x
        160) a step of vm_unet_detail_nano took 0.36 s for 0.73 s, of vm_unet_v2_micro 0.40 for
        0.55, of basic_unet 0.48 for 1.02, and of vm_unet_conv_nano 0.13 either way.
    device, devices, nodes, strategy
        auto, cpu, cuda or mps; how many of them on each of how many computers, by ``torchrun``, and
        the name of lightning's strategy.
    threads
        Of the CPU; 0 leaves it to torch.
    workers
        Threads that make the next batch meanwhile; 0 makes it in turn.
    scan
        auto, or the selective scan to use.
    monitor
        What the run is measured on meanwhile: val (cases of that split with masks), folds (a share
        of the labelled cases, held back), none; auto is the first of these that can be had.
    fold_share
        Share of the labelled cases that folds holds back, at least one.
    refit
        After folds, train again on all labelled slices for the number of steps that was best.
    check_every
        Steps between two measurements.
    patience
        Measurements without a better one after which the run stops; 0 never does.
    checkpoint_every
        Seconds between two checkpoints, besides those at measurements.
    probe_steps
        Steps after which freeze_low_gradient freezes.
    freeze_below
        Parameters are frozen whose mean gradient, over the norm of their weights, is below this
        share of the median parameter's.
    freeze_most
        Share of all weights that freeze_low_gradient freezes at most.
    lora_rank, lora_alpha
        Rank and scale of the low-rank additions.
    seed
        Of weights, batches and augmentation.
    resume
        Go on with a run that was stopped, by its own settings; all others given beside it are left
        unread.
    run
        Number of the run to go on with; the newest that was stopped by default.
    """

    network: Name = "vm_unet_detail_nano"
    learns: Learns = "full"
    start: Name = AUTO
    pixel_mm: float | Literal["auto"] | None = "auto"
    size: int | Literal["auto"] = "auto"
    context: int = Field(default=0, ge=0, le=4)
    steps: int = Field(default=4000, ge=1, le=1_000_000)
    batch: int = Field(default=4, ge=1, le=4096)
    accumulate: int = Field(default=1, ge=1, le=1024)
    lr: float = Field(default=3e-3, gt=0.0, le=1.0)
    weight_decay: float = Field(default=0.01, ge=0.0, le=1.0)
    eps: float = Field(default=1e-8, gt=0.0, le=1e-2)
    betas: tuple[float, float] = (0.9, 0.999)
    warm_up: Share = 0.05
    last_lr: Share = 0.01
    ema: float = Field(default=0.99, ge=0.0, lt=1.0)
    clip: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    dice_weight: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    ce_weight: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    dice_over: Literal["batch", "slice"] = "batch"
    deep_supervision: bool = True
    class_weights: tuple[float, ...] | None = None
    missing_class: Literal["go-on", "stop"] = "go-on"
    augmentation: Strength = "strong"
    turns: Turns = "flips"
    precision: TrainPrecision = "auto"
    device: Name = "auto"
    devices: int = Field(default=1, ge=1, le=1024)
    nodes: int = Field(default=1, ge=1, le=1024)
    strategy: Name = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    workers: int = Field(default=1, ge=0, le=64)
    scan: Scan = "auto"
    monitor: Monitor = "auto"
    fold_share: float = Field(default=0.2, gt=0.0, le=0.5)
    refit: bool = True
    check_every: int = Field(default=100, ge=1)
    patience: int = Field(default=0, ge=0)
    checkpoint_every: float = Field(default=60.0, ge=0.0, allow_inf_nan=False)
    probe_steps: int = Field(default=50, ge=1)
    freeze_below: float = Field(default=0.1, ge=0.0, allow_inf_nan=False)
    freeze_most: Share = 0.9
    lora_rank: int = Field(default=8, ge=1, le=256)
    lora_alpha: int = Field(default=16, ge=1, le=4096)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    resume: bool = False
    run: RunNumber | None = None

    @model_validator(mode="after")
    def _parts_that_fit(self) -> TrainSettings:
        if self.dice_weight + self.ce_weight == 0:
            raise ValueError(
                "dice_weight and ce_weight are both 0, so nothing is learnt: raise one of them"
            )
        if self.size != "auto" and (self.size < 32 or self.size % 32):
            raise ValueError(f"a size of {self.size} was given: write auto or a multiple of 32")
        if self.pixel_mm not in ("auto", None) and not 0 < float(self.pixel_mm) < 1000:
            raise ValueError(
                f"a pixel of {self.pixel_mm} mm was given: write auto, none or millimetres above 0"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas of {self.betas} were given: each is 0 to below 1")
        if self.class_weights is not None and not all(
            0 <= weight < float("inf") for weight in self.class_weights
        ):
            raise ValueError(f"class weights {self.class_weights} were given: none may be negative")
        return self

    @model_validator(mode="after")
    def _a_start_that_is_known(self) -> TrainSettings:
        known = self.start in (RANDOM, AUTO) or any(
            self.start.startswith(kind) and len(self.start) > len(kind) for kind in (ENCODER, RUN)
        )
        number = self.start.removeprefix(RUN)
        if not known or (self.start.startswith(RUN) and not number.isdecimal()):
            raise ValueError(
                f"a start of {self.start!r} was given: write random, auto, encoder:NAME, "
                "encoder:FILE or run:NUMBER"
            )
        if self.learns == "scratch" and self.start not in (RANDOM, AUTO):
            raise ValueError(
                f"learns=scratch was given beside a start of {self.start!r}: scratch begins with "
                "random weights, take learns=full to go on from others"
            )
        return self

    @model_validator(mode="after")
    def _a_run_that_goes_on(self) -> TrainSettings:
        if self.run is not None and not self.resume:
            raise ValueError(
                f"run {self.run} was given without --resume: add it to go on with that run, or "
                f"write --start run:{self.run} to begin a new one with its weights"
            )
        return self

    def absolute(self) -> Self:
        """Return the same with absolute paths, also of the file to start from."""
        return super().absolute().model_copy(update={"start": absolute_start(self.start)})

    @model_validator(mode="after")
    def _processes_that_share(self) -> TrainSettings:
        processes = self.devices * self.nodes
        if self.batch % processes:
            raise ValueError(
                f"a batch of {self.batch} was given for {processes} processes: take a multiple, "
                "each of them gets its part"
            )
        return self

    @property
    def scan_name(self) -> str | None:
        """The scan that was asked for by name, None for the automatic choice."""
        return None if self.scan == "auto" else self.scan
