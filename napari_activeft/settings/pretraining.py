"""How an encoder learns from the pool without labels: pretrain."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from napari_activeft.settings.base import Name, Precision, Scan, Settings, Share
from napari_activeft.settings.learning import AUTO, ENCODER, RANDOM, absolute_start

Objective = Literal["position", "masked", "distill"]


class PretrainSettings(Settings):
    """How an encoder is adapted to the pool; see `training.pretrain`.

    Attributes
    ----------
    encoder
        The network, such as vmamba_micro.
    objective
        position (slices at the same place of different people get like vectors, those elsewhere
        unlike ones; for stacks of several cases), masked (masked prediction of oriented gradients;
        also for single pictures) or distill (self-distillation of multi-crop views; it needs larger
        batches and more steps).
    start
        Where its weights come from: random, encoder:NAME, encoder:FILE, or auto: the weights that
        come with the program or are kept for this network, else random.
    name
        Under which the result is kept in the project; own-1, own-2, ... by default.
    size
        Side of the pictures that the slices are scaled to, in pixels.
    view
        Side of a large view of them, a multiple of 32; the encoder embeds at this size later.
    locals
        Small views of each slice, of half that side; distill only.
    masked
        Share of the picture that is hidden; position and masked only.
    prototypes
        Among which slices are told apart; distill only.
    smallest
        Share of the picture that a large view shows at least; 0.6 for position, 0.35 for the
        others by default.
    companions
        Whether neighbouring slices, the same place of other volumes of the case, and (position
        only) what lies there and looks alike in other cases, count as the same.
    turns
        Whether views may be mirrored: none or flips. Images of one kind mostly lie the same way,
        and then which side is which tells where a slice is from.
    inverted
        Share of views with dark and bright exchanged: for pools of several modalities.
    steps
        Changes of the weights.
    minutes
        Take so many steps as fit into this time instead, by the pace of the first ones.
    batch
        Slices at once.
    slices
        Of the pool that are learnt from at most, spread evenly: they are held in memory.
    lr, weight_decay, betas, eps
        Of AdamW.
    warm_up
        Share of the steps over which the learning rate rises from 0; then it falls by a cosine.
    last_lr
        Share of ``lr`` that it ends at.
    ema
        Decay per step of the running mean of the weights, which teaches and is kept.
    clip
        Largest norm of a step's gradient; 0 does not clip.
    precision, device, threads, scan
        As in embed.
    check_every
        Steps between two looks at what the vectors are worth.
    checkpoint_every
        Seconds between two checkpoints.
    seed
        Of all that is drawn.
    resume
        Go on with the newest one that was stopped, by its own settings.
    """

    encoder: Name = "vmamba_micro"
    objective: Objective = "position"
    start: Name = AUTO
    name: Name | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    size: int = Field(default=128, ge=32, le=1024)
    view: int = Field(default=64, ge=32, le=1024)
    locals: int = Field(default=4, ge=0, le=16)
    masked: float = Field(default=0.3, gt=0.0, lt=1.0)
    prototypes: int = Field(default=1024, ge=2, le=65536)
    smallest: float | None = Field(default=None, gt=0.0, le=1.0)
    companions: bool = True
    turns: Literal["none", "flips"] = "none"
    inverted: Share = 0.0
    steps: int = Field(default=2000, ge=1)
    minutes: float | None = Field(default=None, gt=0.0, le=100_000.0)
    batch: int = Field(default=32, ge=2, le=4096)
    slices: int = Field(default=20_000, ge=4)
    lr: float = Field(default=1e-3, gt=0.0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.04, ge=0.0, allow_inf_nan=False)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0.0, allow_inf_nan=False)
    warm_up: Share = 0.1
    last_lr: Share = 0.001
    ema: float = Field(default=0.99, ge=0.0, lt=1.0)
    clip: float = Field(default=3.0, ge=0.0, allow_inf_nan=False)
    precision: Precision = "auto"
    device: Name = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    scan: Scan = "auto"
    check_every: int = Field(default=100, ge=1)
    checkpoint_every: float = Field(default=60.0, ge=0.0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    resume: bool = False

    @model_validator(mode="after")
    def _views_that_fit(self) -> PretrainSettings:
        if self.view % 32:
            raise ValueError(f"a view of {self.view} pixels was given: write a multiple of 32")
        if self.view > self.size:
            raise ValueError(
                f"views of {self.view} pixels were asked of pictures of {self.size}: make size "
                "larger or view smaller"
            )
        named = self.start.startswith(ENCODER) and len(self.start) > len(ENCODER)
        if self.start not in (RANDOM, AUTO) and not named:
            raise ValueError(
                f"a start of {self.start!r} was given: write auto, random, encoder:NAME or "
                "encoder:FILE"
            )
        return self

    def absolute(self) -> Self:
        """Return the same with absolute paths, also of the file to start from."""
        return super().absolute().model_copy(update={"start": absolute_start(self.start)})

    # One process on one device: what `training.launching` asks of every run.

    @property
    def devices(self) -> int:
        """How many devices compute."""
        return 1

    @property
    def nodes(self) -> int:
        """On how many computers."""
        return 1

    @property
    def strategy(self) -> str:
        """Of lightning."""
        return "auto"
