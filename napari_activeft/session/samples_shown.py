"""Sample images as a viewer takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_activeft.volume import open_volume, read_label_map

LayerData = tuple[Any, ...]
"""Data, what its layer is told, and the kind of layer."""


def shown_sample(image: Path, labels: Path) -> list[LayerData]:
    """Return an image and its label map as layers, in millimetres."""
    volume = open_volume(image)
    label_map = read_label_map(labels, volume.geometry)
    data = volume.data
    scale: tuple[float, ...] = volume.geometry.spacing
    if data.shape[0] == 1:  # a picture
        data, label_map, scale = data[0], label_map[0], scale[1:]
    told = {"name": volume_name(image), "scale": scale}
    return [
        (np.asarray(data), {**told, "metadata": {"affine": volume.geometry.affine}}, "image"),
        (label_map, {**told, "name": f"{told['name']} labels", "opacity": 0.5}, "labels"),
    ]


def volume_name(image: Path) -> str:
    """Return the name of a file without its endings."""
    return image.name.partition(".")[0]
