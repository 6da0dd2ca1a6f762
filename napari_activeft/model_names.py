"""Names of what can embed and be trained, known without torch; tests hold them to the registry."""

from __future__ import annotations

from typing import Final

ENCODERS: Final = (
    "auto",
    "pixels_pca",
    "hog",
    "vmamba_micro_medical",
    "vmamba_nano",
    "vmamba_micro",
    "vmamba_tiny_s1l8",
    "vmamba_tiny_s2l5",
    "vmamba_small_s2l15",
    "vmamba_small_s1l20",
    "vmamba_base_s2l15",
    "vmamba_base_s1l20",
    "vmamba_v0_tiny",
    "vmamba_v0_small",
    "vmamba_v0_base",
)
"""The first is one of the others, the next two need neither weights nor a network."""
NETWORKS: Final = (
    "vm_unet_detail_nano",
    "vm_unet_detail_micro",
    "vm_unet_detail",
    "vm_unet_conv_nano",
    "vm_unet_conv_micro",
    "vm_unet_conv",
    "vm_unet_v2_nano",
    "vm_unet_v2_micro",
    "vm_unet_v2",
    "vm_unet_nano",
    "vm_unet_micro",
    "vm_unet",
    "vm_unet_default",
    "vm_unet_s1",
    "basic_unet",
    "dynunet",
)
"""The one that is usual first, then by family."""
