"""The networks that can be trained: all of ours that segment, and two plain U-Nets of MONAI.

Symbols: b batch, k image channels, h w image height and width, n classes with the background.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_activeft.errors import UserError
from napari_activeft.models.registry import MAX_CHANNELS, MODELS, build_model
from napari_activeft.models.segmenter import Segmenter

_NEAR_NAMES = 3
# 1.1 M parameters, widest in the middle as in MONAI's default.
_BASIC_UNET_WIDTHS = (24, 24, 48, 96, 192, 24)
# 5.1 M parameters; strides 1, 2, 4, 8, 16.
_DYNUNET_WIDTHS = (32, 64, 128, 256, 256)
_DYNUNET_SIDES = 2


class PlainUNet(Segmenter):
    """A U-Net of MONAI under the same contract as our networks, see `Segmenter`.

    Parameters
    ----------
    network
        Maps (b, k, h, w), h and w multiples of 32, to logits (b, n, h, w).
    encoder_parts
        Names of those of its parts that make the encoder.
    channels, classes
        ``k`` and ``n``.
    """

    encoder_name = "network"

    def __init__(
        self, network: nn.Module, encoder_parts: Sequence[str], channels: int, classes: int
    ) -> None:
        super().__init__(channels, classes)
        self.network = network
        self.encoder_parts = tuple(encoder_parts)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Map (b, k, h, w) to one item of logits (b, n, h, w)."""
        return [self.network(x)]


class DeepDynUNet(PlainUNet):
    """MONAI's DynUNet; its side outputs stay at their own resolution.

    MONAI enlarges them to the image's, which a loss at stride 2 and 4 does not need.
    """

    deep_supervision = True

    def maps(self, x: Tensor) -> list[Tensor]:
        """Map (b, k, h, w) to logits (b, n, h, w), (b, n, h/2, w/2), (b, n, h/4, w/4)."""
        fine: Tensor = self.network.output_block(self.network.skip_layers(x))  # type: ignore[operator]
        return [fine, *self.network.heads]  # type: ignore[misc]


def basic_unet(channels: int, classes: int) -> PlainUNet:
    """Build MONAI's BasicUNet with about 1 M parameters."""
    from monai.networks.nets.basic_unet import BasicUNet

    network = BasicUNet(
        spatial_dims=2, in_channels=channels, out_channels=classes, features=_BASIC_UNET_WIDTHS
    )
    parts = ("conv_0", "down_1", "down_2", "down_3", "down_4")
    return PlainUNet(network, parts, channels, classes)


def dynunet(channels: int, classes: int) -> DeepDynUNet:
    """Build MONAI's DynUNet with about 5 M parameters, as nnU-Net lays it out."""
    from monai.networks.nets.dynunet import DynUNet

    stages = len(_DYNUNET_WIDTHS)
    network = DynUNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=classes,
        kernel_size=[3] * stages,
        strides=[1] + [2] * (stages - 1),
        upsample_kernel_size=[2] * (stages - 1),
        filters=list(_DYNUNET_WIDTHS),
        deep_supervision=True,
        deep_supr_num=_DYNUNET_SIDES,
    )
    return DeepDynUNet(network, ("input_block", "downsamples", "bottleneck"), channels, classes)


_PLAIN = {"basic_unet": basic_unet, "dynunet": dynunet}
NETWORKS: dict[str, str] = {
    **{card.name: card.summary for card in MODELS.values() if card.kind == "segmenter"},
    "basic_unet": "MONAI's BasicUNet, 1 M parameters",
    "dynunet": "MONAI's DynUNet with deep supervision, 5 M parameters",
}
"""What can be trained, by name, with a line about each."""


def is_plain(name: str) -> bool:
    """Tell whether a network is one of MONAI's, whose encoder has no projections."""
    return name in _PLAIN


def check_network(name: str) -> None:
    """See that there is a network of this name.

    Raises
    ------
    UserError
        If there is none.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, _NEAR_NAMES) or list(NETWORKS)
        raise UserError(f"no network is called {name!r}: take one of {', '.join(near)}")


def build_network(
    name: str, channels: int, classes: int, *, scan: str | None = None, seed: int | None = None
) -> Segmenter:
    """Build a network with fresh weights.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    channels
        Of the input ``k``, 1 to 16.
    classes
        Of the output ``n``, the background included.
    scan
        Name of the selective scan to use; None leaves the choice to the program.
    seed
        Of the fresh weights, which are then the same in every process; None draws from torch's
        generator as it stands.

    Returns
    -------
    network
        Its ``forward`` gives logits (b, n, h, w), its ``forward_deep`` a list of logits at strides
        1, 2, 4 ...: one item where it has no deep supervision.

    Raises
    ------
    UserError
        If there is no such network, or it cannot have so many channels.
    """
    check_network(name)
    if not 1 <= channels <= MAX_CHANNELS:
        raise UserError(
            f"{channels} input channels were asked of {name}, but a network takes 1 to "
            f"{MAX_CHANNELS}: give images of fewer channels, or less context"
        )
    plain = _PLAIN.get(name)
    if plain is None:
        model = build_model(name, channels=channels, classes=classes, scan=scan, seed=seed)
        if not isinstance(model, Segmenter):
            raise TypeError(f"{name} is registered as a network that segments, but is none")
        return model
    if seed is None:
        return plain(channels, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return plain(channels, classes)
