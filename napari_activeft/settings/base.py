"""What all settings share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
FileValue = Annotated[int, Field(ge=0, le=65535)]
Plane = Literal["auto", "z", "y", "x"]
Precision = Literal["auto", "float32", "bfloat16"]
Scan = Literal["auto", "reference", "torch", "c", "triton", "mamba_ssm"]
MapBy = Literal["pca", "umap"]
ExportFormat = Literal["nifti", "nnunet", "coco", "bids"]


class Settings(BaseModel):
    """What all settings share: they do not change, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
