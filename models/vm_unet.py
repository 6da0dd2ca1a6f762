"""VM-UNet (Ruan and Xiang 2024): an encoder and a decoder of gated 2-D selective scans.

Symbols: b batch, k image channels, h w image height and width, n classes, c channels of a map;
stage i works on maps of h / (4 2^i) x w / (4 2^i) pixels.

The facts that the paper omits: a skip is the *input* of an encoder stage, it is added before the
decoder's patch expanding, and the first skip (the patch embedding) is not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from .backbone import drop_path_rates
from .card import Card
from .gated_encoder import GatedEncoder, gated_blocks
from .patch_expand import PatchExpand
from .segmenter import Segmenter

CLASSES = 1  # of the skin lesion data sets, for which it was published
DROP_PATH = 0.2
PATCH = 4  # pixels of the image along a side of a token
WIDTHS = (96, 192, 384, 768)


class UpStage(nn.Module):
    """The way up, then blocks at one resolution.

    Parameters
    ----------
    upsample
        What doubles the map; None in the coarsest stage.
    blocks
        Each keeps (b, h, w, c).
    """

    def __init__(self, upsample: PatchExpand | None, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.upsample = nn.Identity() if upsample is None else upsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, 2h, 2w, c/2), in the coarsest stage to (b, h, w, c)."""
        finer: Tensor = self.blocks(self.upsample(x))
        return finer


class GatedUNet(GatedEncoder):
    """The network inside VM-UNet: the encoder, and a decoder that mirrors its widths.

    Parameters
    ----------
    channels, widths, depths, state, drop_path, scan
        As in `GatedEncoder`.
    classes
        Classes ``n``.
    up_depths
        Blocks of every decoder stage, coarsest first.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int],
        depths: Sequence[int],
        up_depths: Sequence[int],
        *,
        state: int,
        drop_path: float,
        scan: str | None,
    ) -> None:
        super().__init__(channels, widths, depths, state=state, drop_path=drop_path, scan=scan)
        upwards = list(widths)[::-1]
        falling = [of_stage[::-1] for of_stage in drop_path_rates(up_depths[::-1], drop_path)][::-1]
        blocks = gated_blocks(upwards, falling, state, scan)
        ways_up = [None] + [PatchExpand(2 * width, width) for width in upwards[1:]]
        self.layers_up = nn.ModuleList(
            UpStage(*parts) for parts in zip(ways_up, blocks, strict=True)
        )
        self.final_up = PatchExpand(widths[0], widths[0] // PATCH, PATCH)
        self.final_conv = nn.Conv2d(widths[0] // PATCH, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, k, h, w) to logits (b, n, h, w)."""
        _, *skips = self.stage_inputs(x)
        x, _ = self.layers[-1](skips[-1])
        x = self.layers_up[0](x)
        for layer, skip in zip(self.layers_up[1:], reversed(skips), strict=True):
            x = layer(x + skip)
        logits: Tensor = self.final_conv(self.final_up(x).permute(0, 3, 1, 2))
        return logits


class VMUNet(Segmenter):
    """VM-UNet, for images of any size and any number of channels and classes.

    Parameters
    ----------
    unet
        The network, which needs sizes that are multiples of 32.
    channels, classes
        What `unet` was made for.
    as_published
        Return probabilities instead of logits for one class, as the publication does.
    """

    encoder_name = "vmunet"

    def __init__(
        self, unet: GatedUNet, channels: int, classes: int, *, as_published: bool = False
    ) -> None:
        super().__init__(channels, classes, as_published=as_published)
        self.vmunet = unet

    def maps(self, x: Tensor) -> list[Tensor]:
        """Map (b, k, h, w), h and w multiples of 32, to one item of logits (b, n, h, w)."""
        return [self.vmunet(x)]


def vm_unet(
    *,
    channels: int = 3,
    classes: int | None = None,
    scan: str | None = None,
    as_published: bool = False,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = (2, 2, 2, 2),
    up_depths: Sequence[int] = (2, 2, 2, 1),
    state: int = 16,
    drop_path: float = DROP_PATH,
) -> VMUNet:
    """Build VM-UNet; what is not given is the ISIC and Synapse configuration of its authors."""
    classes = CLASSES if classes is None else classes
    unet = GatedUNet(
        channels, classes, widths, depths, up_depths, state=state, drop_path=drop_path, scan=scan
    )
    return VMUNet(unet, channels, classes, as_published=as_published)


def vm_unet_default(
    *,
    channels: int = 3,
    classes: int | None = None,
    scan: str | None = None,
    as_published: bool = False,
) -> VMUNet:
    """Build VM-UNet with the depths that its constructor defaults to (nobody trained them)."""
    return vm_unet(
        channels=channels,
        classes=classes,
        scan=scan,
        as_published=as_published,
        depths=(2, 2, 9, 2),
        up_depths=(2, 9, 2, 2),
    )


def vm_unet_nano(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNet:
    """Build a VM-UNet of about 1 M parameters with one state a channel."""
    widths = (20, 40, 80, 160)
    return vm_unet(
        channels=channels, classes=classes, scan=scan, widths=widths, state=1, drop_path=0.0
    )


def vm_unet_micro(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNet:
    """Build a VM-UNet of about 5 M parameters with one state a channel."""
    widths = (40, 80, 160, 320)
    return vm_unet(
        channels=channels, classes=classes, scan=scan, widths=widths, state=1, drop_path=0.1
    )


CARDS = [
    Card("vm_unet", "segmenter", vm_unet, "VM-UNet as its authors trained it, 27 M parameters"),
    Card(
        "vm_unet_default", "segmenter", vm_unet_default, "VM-UNet with more blocks, 44 M parameters"
    ),
    Card(
        "vm_unet_micro", "segmenter", vm_unet_micro, "VM-UNet of 5 M parameters, our size for CPUs"
    ),
    Card("vm_unet_nano", "segmenter", vm_unet_nano, "VM-UNet of 1 M parameters, our size for CPUs"),
]
