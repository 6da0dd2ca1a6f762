"""Names of the files that a pre-training leaves, known without torch."""

from __future__ import annotations

from typing import Final

WEIGHTS: Final = "weights.safetensors"
RECORD: Final = "encoder.json"
GO_ON: Final = "go on with `napari-activeft pretrain --resume`"
